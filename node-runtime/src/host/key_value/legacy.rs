//! `fermyon:spin/key-value`: the interface of the first components, in which a store is a number.

use wasmtime::component::{ComponentType, Linker, Lower};

use super::RuntimeContext;

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/key-value";

/// Its `error`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(super) enum Error {
    /// Too much is open.
    #[component(name = "store-table-full")]
    StoreTableFull,
    /// The runtime does not know the store.
    #[component(name = "no-such-store")]
    NoSuchStore,
    /// The component may not use it.
    #[component(name = "access-denied")]
    AccessDenied,
    /// The handle is not open.
    #[component(name = "invalid-store")]
    InvalidStore,
    /// The key has no value.
    #[component(name = "no-such-key")]
    NoSuchKey,
    /// Anything else.
    #[component(name = "io")]
    Io(String),
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        match error {
            super::Error::StoreTableFull => Self::StoreTableFull,
            super::Error::NoSuchStore => Self::NoSuchStore,
            super::Error::AccessDenied => Self::AccessDenied,
            super::Error::Other(message) => Self::Io(message),
        }
    }
}

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface.func_wrap("open", |mut store, (name,): (String,)| {
        Ok((store.data_mut().open_store(&name).map_err(Error::from),))
    })?;
    interface.func_wrap_async("get", |store, (handle, key): (u32, String)| {
        let bucket = store.data().bucket(handle).ok_or(Error::InvalidStore);
        Box::new(async move {
            let value: Result<Vec<u8>, Error> = async { bucket?.get(key).await?.ok_or(Error::NoSuchKey) }.await;
            Ok((value,))
        })
    })?;
    interface.func_wrap_async("set", |store, (handle, key, value): (u32, String, Vec<u8>)| {
        let bucket = store.data().bucket(handle).ok_or(Error::InvalidStore);
        Box::new(async move {
            let done: Result<(), Error> = async { Ok(bucket?.set(key, value).await?) }.await;
            Ok((done,))
        })
    })?;
    interface.func_wrap_async("delete", |store, (handle, key): (u32, String)| {
        let bucket = store.data().bucket(handle).ok_or(Error::InvalidStore);
        Box::new(async move {
            let done: Result<(), Error> = async { Ok(bucket?.delete(key).await?) }.await;
            Ok((done,))
        })
    })?;
    interface.func_wrap_async("exists", |store, (handle, key): (u32, String)| {
        let bucket = store.data().bucket(handle).ok_or(Error::InvalidStore);
        Box::new(async move {
            let exists: Result<bool, Error> = async { Ok(bucket?.exists(key).await?) }.await;
            Ok((exists,))
        })
    })?;
    interface.func_wrap_async("get-keys", |store, (handle,): (u32,)| {
        let bucket = store.data().bucket(handle).ok_or(Error::InvalidStore);
        Box::new(async move {
            let keys: Result<Vec<String>, Error> = async { Ok(bucket?.keys().await?) }.await;
            Ok((keys,))
        })
    })?;
    interface.func_wrap("close", |mut store, (handle,): (u32,)| {
        store.data_mut().buckets.remove(handle);
        Ok(())
    })
}

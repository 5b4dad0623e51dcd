//! `wasi:keyvalue@0.2.0-draft2`: `store`, `batch` and `atomics`.
//!
//! A `cas` remembers what the value was when it was made, or when its `current` was last asked for; `swap` writes only if it
//! still is that, whoever has written in between.

use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType},
};

use super::{Bucket, Fingerprint, Pair, RuntimeContext, fingerprint};
use crate::host::handles::Handles;

/// The interface of single keys.
pub(super) const STORE: &str = "wasi:keyvalue/store@0.2.0-draft2";
/// The interface of many keys at once.
pub(super) const BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft2";
/// The interface of what is done in one step.
pub(super) const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft2";

/// `store`'s `error`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    /// The runtime does not know the store.
    #[component(name = "no-such-store")]
    NoSuchStore,
    /// The component may not use it.
    #[component(name = "access-denied")]
    AccessDenied,
    /// Anything else.
    #[component(name = "other")]
    Other(String),
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        match error {
            super::Error::NoSuchStore => Self::NoSuchStore,
            super::Error::AccessDenied => Self::AccessDenied,
            other @ (super::Error::StoreTableFull | super::Error::Other(_)) => Self::Other(other.to_string()),
        }
    }
}

/// `store`'s `key-response`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
struct KeyResponse {
    /// All keys.
    #[component(name = "keys")]
    keys: Vec<String>,
    /// Where the next keys would begin.
    #[component(name = "cursor")]
    cursor: Option<String>,
}

/// `atomics`' `cas-error`.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum CasError {
    /// The store failed.
    #[component(name = "store-error")]
    StoreError(Error),
    /// The value is another: here is a handle that knows it.
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

/// What the resource `bucket` is here.
struct OpenBucket;

/// What the resource `cas` is here: a key, and what its value was.
#[derive(Debug, Clone)]
pub(crate) struct Cas {
    bucket: Bucket,
    key: String,
    seen: Option<Fingerprint>,
}

/// The `cas` handles of an instance.
pub(crate) type Swaps = Handles<Cas>;

/// Defines all three.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    link_store(&mut linker.instance(STORE)?)?;
    link_batch(&mut linker.instance(BATCH)?)?;
    link_atomics(&mut linker.instance(ATOMICS)?)
}

/// The store that a resource stands for.
fn bucket(store: &StoreContextMut<'_, RuntimeContext>, resource: &Resource<OpenBucket>) -> Result<Bucket, Error> {
    store.data().bucket(resource.rep()).ok_or(Error::NoSuchStore)
}

fn link_store(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.resource("bucket", ResourceType::host::<OpenBucket>(), |mut store, handle| {
        store.data_mut().buckets.remove(handle);
        Ok(())
    })?;
    interface.func_wrap("open", |mut store, (label,): (String,)| {
        let opened = store.data_mut().open_store(&label);
        Ok((opened.map(Resource::<OpenBucket>::new_own).map_err(Error::from),))
    })?;
    interface.func_wrap_async("[method]bucket.get", |store, (this, key): (Resource<OpenBucket>, String)| {
        let bucket = bucket(&store, &this);
        Box::new(async move {
            let value: Result<Option<Vec<u8>>, Error> = async { Ok(bucket?.get(key).await?) }.await;
            Ok((value,))
        })
    })?;
    interface.func_wrap_async(
        "[method]bucket.set",
        |store, (this, key, value): (Resource<OpenBucket>, String, Vec<u8>)| {
            let bucket = bucket(&store, &this);
            Box::new(async move {
                let done: Result<(), Error> = async { Ok(bucket?.set(key, value).await?) }.await;
                Ok((done,))
            })
        },
    )?;
    interface.func_wrap_async("[method]bucket.delete", |store, (this, key): (Resource<OpenBucket>, String)| {
        let bucket = bucket(&store, &this);
        Box::new(async move {
            let done: Result<(), Error> = async { Ok(bucket?.delete(key).await?) }.await;
            Ok((done,))
        })
    })?;
    interface.func_wrap_async("[method]bucket.exists", |store, (this, key): (Resource<OpenBucket>, String)| {
        let bucket = bucket(&store, &this);
        Box::new(async move {
            let exists: Result<bool, Error> = async { Ok(bucket?.exists(key).await?) }.await;
            Ok((exists,))
        })
    })?;
    interface.func_wrap_async(
        "[method]bucket.list-keys",
        |store, (this, cursor): (Resource<OpenBucket>, Option<String>)| {
            let bucket = bucket(&store, &this);
            Box::new(async move { Ok((list_keys(bucket, cursor).await,)) })
        },
    )
}

async fn list_keys(bucket: Result<Bucket, Error>, cursor: Option<String>) -> Result<KeyResponse, Error> {
    if cursor.is_some() {
        return Err(Error::Other("list-keys: there are no cursors, all keys are listed at once".to_owned()));
    }
    Ok(KeyResponse { keys: bucket?.keys().await?, cursor: None })
}

fn link_batch(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.func_wrap_async("get-many", |store, (this, keys): (Resource<OpenBucket>, Vec<String>)| {
        let bucket = bucket(&store, &this);
        Box::new(async move {
            let pairs: Result<Vec<Pair>, Error> = async { Ok(bucket?.get_many(keys).await?) }.await;
            Ok((pairs,))
        })
    })?;
    interface.func_wrap_async("set-many", |store, (this, pairs): (Resource<OpenBucket>, Vec<(String, Vec<u8>)>)| {
        let bucket = bucket(&store, &this);
        Box::new(async move {
            let done: Result<(), Error> = async { Ok(bucket?.set_many(pairs).await?) }.await;
            Ok((done,))
        })
    })?;
    interface.func_wrap_async("delete-many", |store, (this, keys): (Resource<OpenBucket>, Vec<String>)| {
        let bucket = bucket(&store, &this);
        Box::new(async move {
            let done: Result<(), Error> = async { Ok(bucket?.delete_many(keys).await?) }.await;
            Ok((done,))
        })
    })
}

fn link_atomics(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.resource("cas", ResourceType::host::<Cas>(), |mut store, handle| {
        store.data_mut().swaps.remove(handle);
        Ok(())
    })?;
    interface.func_wrap_async("[static]cas.new", |mut store, (this, key): (Resource<OpenBucket>, String)| {
        Box::new(async move {
            let bucket = bucket(&store, &this);
            let made: Result<Resource<Cas>, Error> = async { watch(&mut store, bucket?, key).await }.await;
            Ok((made,))
        })
    })?;
    interface.func_wrap_async("[method]cas.current", |mut store, (this,): (Resource<Cas>,)| {
        Box::new(async move { Ok((current(&mut store, &this).await,)) })
    })?;
    interface.func_wrap_async("increment", |store, (this, key, delta): (Resource<OpenBucket>, String, i64)| {
        let bucket = bucket(&store, &this);
        Box::new(async move {
            let sum: Result<i64, Error> = async { Ok(bucket?.increment(key, delta).await?) }.await;
            Ok((sum,))
        })
    })?;
    interface.func_wrap_async("swap", |mut store, (this, value): (Resource<Cas>, Vec<u8>)| {
        Box::new(async move { Ok((swap(&mut store, &this, value).await,)) })
    })
}

/// A handle that knows what the value of `key` is now.
async fn watch(
    store: &mut StoreContextMut<'_, RuntimeContext>,
    bucket: Bucket,
    key: String,
) -> Result<Resource<Cas>, Error> {
    let seen = bucket.get(key.clone()).await?.as_deref().map(fingerprint);
    let handle = store.data_mut().swaps.insert(Cas { bucket, key, seen });
    handle.map(Resource::new_own).ok_or_else(|| Error::Other("too many cas handles are open".to_owned()))
}

/// The value now, which the handle then knows.
async fn current(
    store: &mut StoreContextMut<'_, RuntimeContext>,
    this: &Resource<Cas>,
) -> Result<Option<Vec<u8>>, Error> {
    let closed = || Error::Other("the cas handle is not open".to_owned());
    let Cas { bucket, key, .. } = store.data().swaps.get(this.rep()).cloned().ok_or_else(closed)?;
    let value = bucket.get(key).await?;
    if let Some(cas) = store.data_mut().swaps.get_mut(this.rep()) {
        cas.seen = value.as_deref().map(fingerprint);
    }
    Ok(value)
}

async fn swap(
    store: &mut StoreContextMut<'_, RuntimeContext>,
    this: &Resource<Cas>,
    value: Vec<u8>,
) -> Result<(), CasError> {
    // The guest has given the handle away: nobody else closes it.
    let cas = store.data_mut().swaps.remove(this.rep());
    let closed = || CasError::StoreError(Error::Other("the cas handle is not open".to_owned()));
    let Cas { bucket, key, seen } = cas.ok_or_else(closed)?;
    let swapped = bucket.swap(key.clone(), seen, value).await;
    if swapped.map_err(|error| CasError::StoreError(error.into()))? {
        return Ok(());
    }
    Err(watch(store, bucket, key).await.map_or_else(CasError::StoreError, CasError::CasFailed))
}

//! The interfaces in which a store is a resource: `fermyon:spin/key-value@2.0.0` and `spin:key-value/key-value@3.0.0`.
//!
//! They say the same; in the second every function is `async`, and `get-keys` returns a stream and how it ended.

use wasmtime::{
    StoreContextMut,
    component::{Accessor, FutureReader, Linker, LinkerInstance, Resource, ResourceType, StreamReader},
};

use super::{Bucket, Error, RuntimeContext};
use crate::host::{limits::Held, rows};

/// The interface of Spin 2.
pub(super) const SPIN_2: &str = "fermyon:spin/key-value@2.0.0";
/// The interface of Spin 4.
pub(super) const SPIN_3: &str = "spin:key-value/key-value@3.0.0";

/// What the resource `store` is here.
struct Store;

/// The keys, and how it ended.
type Streamed = (StreamReader<String>, FutureReader<Result<(), Error>>);

/// Defines both.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    let mut spin_2 = linker.instance(SPIN_2)?;
    link_resource(&mut spin_2)?;
    link_blocking(&mut spin_2)?;
    let mut spin_3 = linker.instance(SPIN_3)?;
    link_resource(&mut spin_3)?;
    link_concurrent(&mut spin_3)
}

fn link_resource(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.resource("store", ResourceType::host::<Store>(), |mut store, handle| {
        store.data_mut().buckets.remove(handle);
        Ok(())
    })
}

/// A guest has a resource only while it is open.
#[derive(Debug, thiserror::Error)]
#[error("the guest's store is not open")]
struct Closed;

fn bucket(store: &StoreContextMut<'_, RuntimeContext>, resource: &Resource<Store>) -> Result<Bucket, Closed> {
    store.data().bucket(resource.rep()).ok_or(Closed)
}

fn link_blocking(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.func_wrap("[static]store.open", |mut store, (label,): (String,)| {
        Ok((store.data_mut().open_store(&label).map(Resource::<Store>::new_own),))
    })?;
    interface.func_wrap_async("[method]store.get", |store, (this, key): (Resource<Store>, String)| {
        let bucket = bucket(&store, &this);
        Box::new(async move { Ok((bucket?.get(key).await,)) })
    })?;
    interface.func_wrap_async(
        "[method]store.set",
        |store, (this, key, value): (Resource<Store>, String, Vec<u8>)| {
            let bucket = bucket(&store, &this);
            Box::new(async move { Ok((bucket?.set(key, value).await,)) })
        },
    )?;
    interface.func_wrap_async("[method]store.delete", |store, (this, key): (Resource<Store>, String)| {
        let bucket = bucket(&store, &this);
        Box::new(async move { Ok((bucket?.delete(key).await,)) })
    })?;
    interface.func_wrap_async("[method]store.exists", |store, (this, key): (Resource<Store>, String)| {
        let bucket = bucket(&store, &this);
        Box::new(async move { Ok((bucket?.exists(key).await,)) })
    })?;
    interface.func_wrap_async("[method]store.get-keys", |store, (this,): (Resource<Store>,)| {
        let bucket = bucket(&store, &this);
        Box::new(async move { Ok((bucket?.keys().await,)) })
    })
}

fn concurrent(accessor: &Accessor<RuntimeContext>, resource: &Resource<Store>) -> Result<Bucket, Closed> {
    accessor.with(|mut access| access.data_mut().bucket(resource.rep())).ok_or(Closed)
}

fn link_concurrent(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.func_wrap_concurrent("[static]store.open", |accessor, (label,): (String,)| {
        let opened = accessor.with(|mut access| access.data_mut().open_store(&label));
        Box::pin(async move { Ok((opened.map(Resource::<Store>::new_own),)) })
    })?;
    interface.func_wrap_concurrent("[method]store.get", |accessor, (this, key): (Resource<Store>, String)| {
        let bucket = concurrent(accessor, &this);
        Box::pin(async move { Ok((bucket?.get(key).await,)) })
    })?;
    interface.func_wrap_concurrent(
        "[method]store.set",
        |accessor, (this, key, value): (Resource<Store>, String, Vec<u8>)| {
            let bucket = concurrent(accessor, &this);
            let held = accessor.with(|mut access| access.data_mut().hold(&[&key, &value]));
            Box::pin(async move {
                let _held = held?;
                Ok((bucket?.set(key, value).await,))
            })
        },
    )?;
    interface.func_wrap_concurrent("[method]store.delete", |accessor, (this, key): (Resource<Store>, String)| {
        let bucket = concurrent(accessor, &this);
        Box::pin(async move { Ok((bucket?.delete(key).await,)) })
    })?;
    interface.func_wrap_concurrent("[method]store.exists", |accessor, (this, key): (Resource<Store>, String)| {
        let bucket = concurrent(accessor, &this);
        Box::pin(async move { Ok((bucket?.exists(key).await,)) })
    })?;
    interface.func_wrap_concurrent("[method]store.get-keys", |accessor, (this,): (Resource<Store>,)| {
        let bucket = concurrent(accessor, &this);
        Box::pin(async move {
            let keys = bucket?.keys().await.and_then(|keys| {
                let held = accessor.with(|mut access| access.data_mut().hold(&[&keys]));
                Ok((keys, held.map_err(|error| Error::Other(error.to_string()))?))
            });
            let (keys, held, end) = match keys {
                Ok((keys, held)) => (keys, held, Ok(())),
                Err(error) => (Vec::new(), Held::default(), Err(error)),
            };
            accessor.with(|mut access| {
                let keys = rows::give_all(&mut access, keys, held)?;
                let end = FutureReader::new(&mut access, std::future::ready(Ok::<_, wasmtime::Error>(end)))?;
                let streamed: Streamed = (keys, end);
                Ok((streamed,))
            })
        })
    })
}

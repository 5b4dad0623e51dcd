//! The core import `key-value`: `open(name, name-length, result)`, `get`, `delete` and `exists(store, key, key-length, result)`,
//! `set(store, key, key-length, value, value-length, result)`, `get-keys(store, result)`, `close(store)`.
//!
//! A result is 16 bytes: u8 tag at 0. 1 (error): u8 kind at 4 (0 too many stores, 1 no such store, 2 access denied, 3 invalid
//! store, 4 no such key, 5 other), a message's pointer at 8 and length at 12. 0: the store at 4 (`open`), a u8 at 4
//! (`exists`), a list's pointer at 4 and length at 8 (`get`, `get-keys`), nothing (`set`, `delete`).

use wasmtime::{Caller, Linker};

use super::{RuntimeContext, legacy::Error};
use crate::host::guest_memory::{GuestHeap, GuestMemory};

/// The import's module.
const MODULE: &str = "key-value";
/// The size of a result.
const RESULT: u32 = 16;

/// What a call returns to the guest.
enum Answer {
    Number(u32),
    Bytes(Vec<u8>),
    Strings(Vec<String>),
}

/// What is asked about one key.
#[derive(Debug, Clone, Copy)]
enum About {
    Get,
    Delete,
    Exists,
}

/// The arguments of what is asked about one key, in their order.
type Keyed = (u32, u32, u32, u32);
/// The arguments of `set`, in their order.
type Set = (u32, u32, u32, u32, u32, u32);

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "open", |caller, (name, size, result): (u32, u32, u32)| {
        Box::new(open(caller, name, size, result))
    })?;
    for (name, about) in [("get", About::Get), ("delete", About::Delete), ("exists", About::Exists)] {
        linker
            .func_wrap_async(MODULE, name, move |caller, arguments: Keyed| Box::new(keyed(caller, arguments, about)))?;
    }
    linker.func_wrap_async(MODULE, "set", |caller, arguments: Set| Box::new(set(caller, arguments)))?;
    linker.func_wrap_async(MODULE, "get-keys", |caller, (store, result): (u32, u32)| {
        Box::new(get_keys(caller, store, result))
    })?;
    linker.func_wrap(MODULE, "close", |mut caller: Caller<'_, RuntimeContext>, store: u32| {
        caller.data_mut().buckets.remove(store);
    })?;
    Ok(())
}

async fn open(mut caller: Caller<'_, RuntimeContext>, name: u32, size: u32, result: u32) -> wasmtime::Result<()> {
    let heap = GuestHeap::of(&mut caller)?;
    let (memory, context) = memory(&heap, &mut caller, result)?;
    let opened = context.open_store(memory.string("name of a store", name, size)?);
    answer(&heap, caller, result, opened.map(Answer::Number).map_err(Error::from)).await
}

async fn keyed(mut caller: Caller<'_, RuntimeContext>, arguments: Keyed, about: About) -> wasmtime::Result<()> {
    let (store, key, size, result) = arguments;
    let heap = GuestHeap::of(&mut caller)?;
    let (memory, context) = memory(&heap, &mut caller, result)?;
    let key = memory.string("key", key, size)?.to_owned();
    let bucket = context.bucket(store);
    let done = async {
        let bucket = bucket.ok_or(Error::InvalidStore)?;
        Ok(match about {
            About::Get => Answer::Bytes(bucket.get(key).await?.ok_or(Error::NoSuchKey)?),
            About::Delete => bucket.delete(key).await.map(|()| Answer::Number(0))?,
            About::Exists => Answer::Number(bucket.exists(key).await?.into()),
        })
    };
    let done = done.await;
    answer(&heap, caller, result, done).await
}

async fn set(mut caller: Caller<'_, RuntimeContext>, arguments: Set) -> wasmtime::Result<()> {
    let (store, key, key_size, value, value_size, result) = arguments;
    let heap = GuestHeap::of(&mut caller)?;
    let (memory, context) = memory(&heap, &mut caller, result)?;
    let key = memory.string("key", key, key_size)?.to_owned();
    let value = memory.slice("value", value, value_size.into())?.to_vec();
    let done = match context.bucket(store) {
        Some(bucket) => bucket.set(key, value).await.map(|()| Answer::Number(0)).map_err(Error::from),
        None => Err(Error::InvalidStore),
    };
    answer(&heap, caller, result, done).await
}

async fn get_keys(mut caller: Caller<'_, RuntimeContext>, store: u32, result: u32) -> wasmtime::Result<()> {
    let heap = GuestHeap::of(&mut caller)?;
    let (_, context) = memory(&heap, &mut caller, result)?;
    let keys = match context.bucket(store) {
        Some(bucket) => bucket.keys().await.map(Answer::Strings).map_err(Error::from),
        None => Err(Error::InvalidStore),
    };
    answer(&heap, caller, result, keys).await
}

/// The guest's memory, in which there is room for a result: that is checked before anything is done.
fn memory<'a>(
    heap: &GuestHeap,
    caller: &'a mut Caller<'_, RuntimeContext>,
    result: u32,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut RuntimeContext)> {
    let (bytes, context) = heap.memory.data_and_store_mut(caller);
    let memory = GuestMemory(bytes);
    memory.slice("result", result, RESULT.into())?;
    Ok((memory, context))
}

/// Writes the result.
async fn answer(
    heap: &GuestHeap,
    mut caller: Caller<'_, RuntimeContext>,
    result: u32,
    done: Result<Answer, Error>,
) -> wasmtime::Result<()> {
    let words = match done {
        Ok(Answer::Number(number)) => [0, number, 0, 0],
        Ok(Answer::Bytes(bytes)) => {
            let (at, size) = heap.give(&mut caller, &bytes, 1).await?;
            [0, at, size, 0]
        }
        Ok(Answer::Strings(strings)) => {
            let (at, count) = heap.give_strings(&mut caller, strings).await?;
            [0, at, count, 0]
        }
        Err(Error::Io(message)) => {
            let (at, size) = heap.give(&mut caller, message.as_bytes(), 1).await?;
            [1, 5, at, size]
        }
        Err(Error::StoreTableFull) => [1, 0, 0, 0],
        Err(Error::NoSuchStore) => [1, 1, 0, 0],
        Err(Error::AccessDenied) => [1, 2, 0, 0],
        Err(Error::InvalidStore) => [1, 3, 0, 0],
        Err(Error::NoSuchKey) => [1, 4, 0, 0],
    };
    heap.write_words(&mut caller, "result", result, &words)
}

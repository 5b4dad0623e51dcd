//! The core import `spin-config`: `get-config(key, key-length, result)`.
//!
//! The result is 16 bytes: u8 tag at 0. 0 (value): pointer at 4, length at 8. 1 (error): u8 kind at 4 (0 provider, 1
//! invalid key, 2 invalid schema, 3 other), the message's pointer at 8 and length at 12.

use wasmtime::{Caller, Linker};

use super::{Absent, RuntimeContext};
use crate::host::guest_memory::{GuestHeap, GuestMemory};

const RESULT_SIZE: u32 = 16;
const PROVIDER: u32 = 0;
const INVALID_KEY: u32 = 1;
const OTHER: u32 = 3;

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async("spin-config", "get-config", |caller, (key, size, result): (u32, u32, u32)| {
        Box::new(get_config(caller, key, size, result))
    })?;
    Ok(())
}

async fn get_config(mut caller: Caller<'_, RuntimeContext>, key: u32, size: u32, result: u32) -> wasmtime::Result<()> {
    let heap = GuestHeap::of(&mut caller)?;
    let (bytes, context) = heap.memory.data_and_store_mut(&mut caller);
    let memory = GuestMemory(bytes);
    memory.slice("result", result, RESULT_SIZE.into())?;
    let key = memory.slice("key", key, size.into())?;
    let key =
        std::str::from_utf8(key).map_err(|_| Absent::Name(String::from_utf8_lossy(key).into_owned(), "use UTF-8"));
    let (key, read) = (key.map(str::to_owned), context.read_variable());
    let value = match key {
        Ok(key) => read.get(&key).await,
        Err(wrong) => Err(wrong),
    };
    let words = match value {
        Ok(value) => {
            let (at, size) = heap.give(&mut caller, value.as_bytes(), 1).await?;
            [0, at, size, 0]
        }
        Err(absent) => {
            let kind = match absent {
                Absent::Name(..) => INVALID_KEY,
                Absent::Undefined(_) => OTHER,
                Absent::Provider { .. } => PROVIDER,
            };
            let (at, size) = heap.give(&mut caller, absent.to_string().as_bytes(), 1).await?;
            [1, kind, at, size]
        }
    };
    heap.write_words(&mut caller, "result", result, &words)
}

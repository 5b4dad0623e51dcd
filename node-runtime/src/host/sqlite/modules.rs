//! The core import `sqlite`: `open(name, name-length, result)`, `execute(connection, statement, statement-length, parameters,
//! parameter-count, result)`, `close(connection)`.
//!
//! A result begins with a u8 tag. 1 (error): u8 kind at 4 (0 no such database, 1 access denied, 2 invalid connection, 3
//! database full, 4 other), a message's pointer at 8 and length at 12. 0: for `open`, the connection at 4; for `execute`,
//! the columns' pointer at 4 and count at 8 (a string each), the rows' pointer at 12 and count at 16 (a list of values each).
//!
//! A value is 16 bytes: u8 tag at 0 (0 integer, 1 real, 2 text, 3 blob, 4 null), its number, or pointer and length, at 8.

use wasmtime::{Caller, Linker};

use super::{Error, QueryResult, RowResult, RuntimeContext, Value};
use crate::host::guest_memory::{GuestHeap, GuestMemory, MemoryError};

/// The import's module.
const MODULE: &str = "sqlite";
/// The result of `open`.
const OPEN_RESULT: u32 = 16;
/// The result of `execute`.
const EXECUTE_RESULT: u32 = 20;
/// A value.
const VALUE: u32 = 16;

/// The arguments of `execute`, in their order.
type Execute = (u32, u32, u32, u32, u32, u32);

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "open", |caller, (name, size, result): (u32, u32, u32)| {
        Box::new(open(caller, name, size, result))
    })?;
    linker.func_wrap_async(MODULE, "execute", |caller, arguments: Execute| Box::new(execute(caller, arguments)))?;
    linker.func_wrap(MODULE, "close", |mut caller: Caller<'_, RuntimeContext>, connection: u32| {
        caller.data_mut().connections.remove(connection);
    })?;
    Ok(())
}

async fn open(mut caller: Caller<'_, RuntimeContext>, name: u32, size: u32, result: u32) -> wasmtime::Result<()> {
    let heap = GuestHeap::of(&mut caller)?;
    let (bytes, context) = heap.memory.data_and_store_mut(&mut caller);
    let memory = GuestMemory(bytes);
    memory.slice("result", result, OPEN_RESULT.into())?;
    let words = match context.open_database(memory.string("name of a database", name, size)?) {
        Ok(connection) => [0, connection, 0, 0],
        Err(error) => failure(&heap, &mut caller, error).await?,
    };
    heap.write_words(&mut caller, "result", result, &words)
}

async fn execute(mut caller: Caller<'_, RuntimeContext>, arguments: Execute) -> wasmtime::Result<()> {
    let (connection, statement, size, parameters, count, result) = arguments;
    let heap = GuestHeap::of(&mut caller)?;
    let (bytes, context) = heap.memory.data_and_store_mut(&mut caller);
    let memory = GuestMemory(bytes);
    // Before anything is run.
    memory.slice("result", result, EXECUTE_RESULT.into())?;
    let statement = memory.string("statement", statement, size)?.to_owned();
    let limit = context.grants().services.sqlite.result;
    let answer = match read(memory, parameters, count, limit)? {
        Some(parameters) => match context.database(connection) {
            Ok(opened) => opened.execute(statement, parameters).await,
            Err(error) => Err(error),
        },
        None => Err(Error::Io(format!("the parameters have more than {limit} bytes"))),
    };
    match answer {
        Ok(QueryResult { columns, rows }) => {
            let (columns, column_count) = heap.give_strings(&mut caller, columns).await?;
            let (rows, row_count) = give_rows(&heap, &mut caller, rows).await?;
            heap.write_words(&mut caller, "result", result, &[0, columns, column_count, rows, row_count])
        }
        Err(error) => {
            let words = failure(&heap, &mut caller, error).await?;
            heap.write_words(&mut caller, "result", result, &words)
        }
    }
}

/// The parameters; `None` if they are too large together: a guest may name the same bytes many times.
fn read(memory: GuestMemory<'_>, list: u32, count: u32, limit: usize) -> Result<Option<Vec<Value>>, MemoryError> {
    // Before the loop, so that a huge count costs nothing.
    memory.slice("parameters", list, u64::from(count) * u64::from(VALUE))?;
    let (mut values, mut size) = (Vec::new(), 0_usize);
    for index in 0..count {
        let at = list + index * VALUE;
        let tag = memory.slice("parameter", at, 1)?.first().copied().unwrap_or_default();
        let bytes = |what| memory.slice(what, memory.u32(what, at, 8)?, memory.u32(what, at, 12)?.into());
        let number = || {
            let (low, high) = (memory.u32("parameter", at, 8)?, memory.u32("parameter", at, 12)?);
            Ok::<u64, MemoryError>(u64::from(high) << 32 | u64::from(low))
        };
        size += size_of::<Value>() + if matches!(tag, 2 | 3) { bytes("parameter")?.len() } else { 0 };
        if size > limit {
            return Ok(None);
        }
        values.push(match tag {
            0 => Value::Integer(number()?.cast_signed()),
            1 => Value::Real(f64::from_bits(number()?)),
            2 => {
                let text = std::str::from_utf8(bytes("parameter")?).map_err(|_| MemoryError::NotUtf8("parameter"))?;
                Value::Text(text.to_owned())
            }
            3 => Value::Blob(bytes("parameter")?.to_vec()),
            4 => Value::Null,
            tag => return Err(MemoryError::Case { what: "parameter", tag: tag.into() }),
        });
    }
    Ok(Some(values))
}

/// Copies rows. Returns the list's pointer and count.
async fn give_rows(
    heap: &GuestHeap,
    caller: &mut Caller<'_, RuntimeContext>,
    rows: Vec<RowResult>,
) -> wasmtime::Result<(u32, u32)> {
    let count = u32::try_from(rows.len())?;
    let mut list = Vec::with_capacity(rows.len() * 8);
    for RowResult { values } in rows {
        let value_count = u32::try_from(values.len())?;
        let mut row = Vec::with_capacity(values.len() * 16);
        for value in values {
            let (tag, payload) = match value {
                Value::Integer(number) => (0, number.to_le_bytes()),
                Value::Real(number) => (1, number.to_le_bytes()),
                Value::Text(text) => (2, pair(heap.give(&mut *caller, text.as_bytes(), 1).await?)),
                Value::Blob(blob) => (3, pair(heap.give(&mut *caller, &blob, 1).await?)),
                Value::Null => (4, [0; 8]),
            };
            row.extend_from_slice(&u64::to_le_bytes(tag));
            row.extend_from_slice(&payload);
        }
        let (at, _) = heap.give(&mut *caller, &row, 8).await?;
        list.extend_from_slice(&pair((at, value_count)));
    }
    let (at, _) = heap.give(&mut *caller, &list, 4).await?;
    Ok((at, count))
}

/// A pointer and a length, as they are in memory.
fn pair((at, size): (u32, u32)) -> [u8; 8] {
    (u64::from(size) << 32 | u64::from(at)).to_le_bytes()
}

/// An error as the words of a result.
async fn failure(
    heap: &GuestHeap,
    caller: &mut Caller<'_, RuntimeContext>,
    error: Error,
) -> wasmtime::Result<[u32; 4]> {
    let kind = match error {
        Error::NoSuchDatabase => 0,
        Error::AccessDenied => 1,
        Error::InvalidConnection => 2,
        Error::DatabaseFull => 3,
        Error::Io(message) => {
            let (at, size) = heap.give(caller, message.as_bytes(), 1).await?;
            return Ok([1, 4, at, size]);
        }
    };
    Ok([1, kind, 0, 0])
}

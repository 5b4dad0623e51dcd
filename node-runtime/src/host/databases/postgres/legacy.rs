//! The core import `outbound-pg`: `query` and `execute`, laid out as `rdbms/lower.rs` says.
//!
//! The result of `execute` is 24 bytes: u8 tag at 0; 0: u64 (rows changed) at 8; 1 (error): u8 kind at 8, the message's pointer
//! at 12 and length at 16.

use wasmtime::{Caller, Linker};

use crate::host::{
    RuntimeContext,
    databases::{
        modules::begin,
        rdbms::lower::{Asked, QUERY_RESULT, finish_query, give_failure, read},
    },
};

const MODULE: &str = "outbound-pg";
const EXECUTE_RESULT: u32 = 24;

/// Defines it.
pub(in super::super) fn link_modules(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "query", |guest, asked: Asked| Box::new(query(guest, asked)))?;
    linker.func_wrap_async(MODULE, "execute", |guest, asked: Asked| Box::new(execute(guest, asked)))?;
    Ok(())
}

async fn query(mut guest: Caller<'_, RuntimeContext>, asked: Asked) -> wasmtime::Result<()> {
    let (.., result) = asked;
    let (heap, mut arguments, asker) = begin(&mut guest, result, QUERY_RESULT)?;
    let (address, statement, parameters) = read(&mut arguments, &asked)?;
    let rows = asker.query_postgres(&address, &statement, parameters).await;
    finish_query(&heap, guest, result, rows).await
}

async fn execute(mut guest: Caller<'_, RuntimeContext>, asked: Asked) -> wasmtime::Result<()> {
    let (.., result) = asked;
    let (heap, mut arguments, asker) = begin(&mut guest, result, EXECUTE_RESULT)?;
    let (address, statement, parameters) = read(&mut arguments, &asked)?;
    let words = match asker.execute_postgres(&address, &statement, parameters).await {
        Ok(changed) => {
            let [a, b, c, d, e, f, g, h] = changed.to_le_bytes();
            [0, 0, u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]), 0, 0]
        }
        Err(failure) => {
            let (kind, at, size) = give_failure(&heap, &mut guest, &failure).await?;
            [1, 0, kind, at, size, 0]
        }
    };
    heap.write_words(guest, "result", result, &words)
}

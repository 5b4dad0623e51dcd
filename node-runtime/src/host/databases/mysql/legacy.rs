//! The core import `outbound-mysql`: `query` and `execute`, laid out as `rdbms/lower.rs` says.
//!
//! The result of `execute` is 16 bytes: u8 tag at 0; 1 (error): u8 kind at 4, the message's pointer at 8 and length at 12.

use wasmtime::{Caller, Linker};

use crate::host::{
    RuntimeContext,
    databases::{
        modules::begin,
        rdbms::lower::{Asked, QUERY_RESULT, finish_query, give_failure, read},
    },
};

const MODULE: &str = "outbound-mysql";
const EXECUTE_RESULT: u32 = 16;

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
    let rows = asker.query_mysql(&address, &statement, parameters).await;
    finish_query(&heap, guest, result, rows).await
}

async fn execute(mut guest: Caller<'_, RuntimeContext>, asked: Asked) -> wasmtime::Result<()> {
    let (.., result) = asked;
    let (heap, mut arguments, asker) = begin(&mut guest, result, EXECUTE_RESULT)?;
    let (address, statement, parameters) = read(&mut arguments, &asked)?;
    let words = match asker.execute_mysql(&address, &statement, parameters).await {
        Ok(()) => [0; 4],
        Err(failure) => {
            let (kind, at, size) = give_failure(&heap, &mut guest, &failure).await?;
            [1, kind, at, size]
        }
    };
    heap.write_words(guest, "result", result, &words)
}

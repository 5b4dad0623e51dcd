//! `fermyon:spin/sqlite`: the interface of the first components, in which a connection is a number.

use wasmtime::component::Linker;

use super::{Error, QueryResult, RuntimeContext, Value};

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/sqlite";

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(INTERFACE)?;
    interface
        .func_wrap("open", |mut store, (database,): (String,)| Ok((store.data_mut().open_database(&database),)))?;
    interface.func_wrap_async("execute", |store, (connection, statement, parameters): (u32, String, Vec<Value>)| {
        let opened = store.data().database(connection);
        Box::new(async move {
            let result: Result<QueryResult, Error> = match opened {
                Ok(opened) => opened.execute(statement, parameters).await,
                Err(error) => Err(error),
            };
            Ok((result,))
        })
    })?;
    interface.func_wrap("close", |mut store, (connection,): (u32,)| {
        store.data_mut().connections.remove(connection);
        Ok(())
    })
}

//! The interfaces in which a connection is a resource: `fermyon:spin/sqlite@2.0.0`, `spin:sqlite@3.0.0` and
//! `spin:sqlite@3.1.0`.
//!
//! Each adds to the one before: 3.0 `last-insert-rowid` and `changes`, 3.1 the same functions as `async func`.

use std::pin::Pin;

use wasmtime::{
    StoreContextMut,
    component::{Accessor, FutureReader, Linker, LinkerInstance, Resource, ResourceType, StreamReader},
};

use super::{Error, Opened, QueryResult, RowResult, RuntimeContext, Value};
use crate::host::rows;

/// The interface of Spin 2.
pub(super) const SPIN_2: &str = "fermyon:spin/sqlite@2.0.0";
/// The interface of Spin 3.
pub(super) const SPIN_3: &str = "spin:sqlite/sqlite@3.0.0";
/// The interface of Spin 4.
pub(super) const SPIN_3_1: &str = "spin:sqlite/sqlite@3.1.0";

/// What the resource `connection` is here.
struct Connection;

/// The columns, the rows, and how it ended.
type Streamed = (Vec<String>, StreamReader<RowResult>, FutureReader<Result<(), Error>>);

/// What an `async func` runs in.
type Concurrent<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<(T,)>> + Send + 'a>>;

/// Defines all of them.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    link_all(&mut linker.instance(SPIN_2)?)?;
    let mut spin_3 = linker.instance(SPIN_3)?;
    link_all(&mut spin_3)?;
    link_since_3(&mut spin_3)?;
    let mut spin_3_1 = linker.instance(SPIN_3_1)?;
    link_all(&mut spin_3_1)?;
    link_since_3(&mut spin_3_1)?;
    link_concurrent(&mut spin_3_1)
}

/// What every version has.
fn link_all(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.resource("connection", ResourceType::host::<Connection>(), |mut store, handle| {
        store.data_mut().connections.remove(handle);
        Ok(())
    })?;
    interface.func_wrap("[static]connection.open", |mut store, (database,): (String,)| {
        Ok((store.data_mut().open_database(&database).map(Resource::<Connection>::new_own),))
    })?;
    interface.func_wrap_async(
        "[method]connection.execute",
        |store, (connection, statement, parameters): (Resource<Connection>, String, Vec<Value>)| {
            let opened = store.data().database(connection.rep());
            Box::new(async move {
                let result: Result<QueryResult, Error> = match opened {
                    Ok(opened) => opened.execute(statement, parameters).await,
                    Err(error) => Err(error),
                };
                Ok((result,))
            })
        },
    )
}

/// What there is since 3.0. These have no `error`: what goes wrong stops the guest.
fn link_since_3(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "[method]connection.last-insert-rowid",
        |store: StoreContextMut<'_, RuntimeContext>, (connection,): (Resource<Connection>,)| {
            let opened = store.data().database(connection.rep());
            Box::new(async move { Ok((opened?.last_insert_rowid().await?,)) })
        },
    )?;
    interface.func_wrap_async(
        "[method]connection.changes",
        |store: StoreContextMut<'_, RuntimeContext>, (connection,): (Resource<Connection>,)| {
            let opened = store.data().database(connection.rep());
            Box::new(async move { Ok((opened?.changes().await?,)) })
        },
    )
}

/// What there is since 3.1: a guest goes on while these are under way.
fn link_concurrent(interface: &mut LinkerInstance<'_, RuntimeContext>) -> wasmtime::Result<()> {
    interface.func_wrap_concurrent("[static]connection.open-async", |accessor, (database,): (String,)| {
        let opened = accessor.with(|mut access| access.data_mut().open_database(&database));
        Box::pin(async move { Ok((opened.map(Resource::<Connection>::new_own),)) })
    })?;
    interface.func_wrap_concurrent(
        "[method]connection.execute-async",
        |accessor, (connection, statement, parameters): (Resource<Connection>, String, Vec<Value>)| {
            execute(accessor, &connection, statement, parameters)
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]connection.last-insert-rowid-async",
        |accessor, (connection,): (Resource<Connection>,)| {
            let opened = opened(accessor, &connection);
            Box::pin(async move { Ok((opened?.last_insert_rowid().await?,)) })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]connection.changes-async",
        |accessor, (connection,): (Resource<Connection>,)| {
            let opened = opened(accessor, &connection);
            Box::pin(async move { Ok((opened?.changes().await?,)) })
        },
    )
}

fn size_of_all(values: &[Value]) -> usize {
    values.iter().map(Value::size).sum()
}

fn opened(accessor: &Accessor<RuntimeContext>, connection: &Resource<Connection>) -> Result<Opened, Error> {
    accessor.with(|mut access| access.data_mut().database(connection.rep()))
}

fn execute<'a>(
    accessor: &'a Accessor<RuntimeContext>,
    connection: &Resource<Connection>,
    statement: String,
    parameters: Vec<Value>,
) -> Concurrent<'a, Result<Streamed, Error>> {
    let opened = opened(accessor, connection);
    Box::pin(async move {
        let asked = statement.len() + size_of_all(&parameters);
        let hold = |size: usize| accessor.with(|mut access| access.data_mut().hold(&[&size]));
        let _held = hold(asked)?;
        let result = match opened {
            Ok(opened) => opened.execute(statement, parameters).await,
            Err(error) => Err(error),
        };
        let QueryResult { columns, rows } = match result {
            Ok(result) => result,
            Err(error) => return Ok((Err(error),)),
        };
        let held = match hold(rows.iter().map(|row| size_of_all(&row.values)).sum()) {
            Ok(held) => held,
            Err(error) => return Ok((Err(Error::Io(error.to_string())),)),
        };
        accessor.with(|mut access| {
            let rows = rows::give_all(&mut access, rows, held)?;
            let end = FutureReader::new(&mut access, std::future::ready(Ok::<_, wasmtime::Error>(Ok(()))))?;
            Ok((Ok((columns, rows, end)),))
        })
    })
}

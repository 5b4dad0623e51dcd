//! `wasi:io` of October 2023: polling by functions instead of methods, errors among the streams, and splicing that takes its
//! source away.

use wasmtime::component::{Resource, ResourceType};
use wasmtime_wasi::{
    WasiView as _,
    p2::{
        StreamError, StreamResult,
        bindings::io::{
            error::{Error, HostError as _},
            poll::{Host as _, HostPollable as _, Pollable},
            streams::{self, Host as _, HostOutputStream as _, InputStream, OutputStream},
        },
    },
};

use super::{Instance, RuntimeContext};

type Answer<T> = Result<T, streams::StreamError>;

/// `poll-list` and `poll-one`.
pub(super) fn link_poll(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.func_wrap_async("poll-list", |mut store, (pollables,): (Vec<Resource<Pollable>>,)| {
        Box::new(async move { Ok((store.data_mut().ctx().table.poll(pollables).await?,)) })
    })?;
    instance.func_wrap_async("poll-one", |mut store, (pollable,): (Resource<Pollable>,)| {
        Box::new(async move { store.data_mut().ctx().table.block(pollable).await })
    })
}

/// `error`, `splice`, `blocking-splice` and `forward`.
pub(super) fn link_streams(instance: &mut Instance<'_>) -> wasmtime::Result<()> {
    instance.resource("error", ResourceType::host::<Error>(), |mut store, error| {
        store.data_mut().ctx().table.delete(Resource::<Error>::new_own(error))?;
        Ok(())
    })?;
    instance.func_wrap("[method]error.to-debug-string", |mut store, (error,): (Resource<Error>,)| {
        Ok((store.data_mut().ctx().table.to_debug_string(error)?,))
    })?;
    type Splice = (Resource<OutputStream>, Resource<InputStream>, u64);
    instance.func_wrap_async("[method]output-stream.splice", |mut store, (to, from, size): Splice| {
        Box::new(async move {
            let context = store.data_mut();
            let moved = context.ctx().table.splice(to, borrowed(&from), size);
            Ok((end(context, from, moved).await?,))
        })
    })?;
    instance.func_wrap_async("[method]output-stream.blocking-splice", |mut store, (to, from, size): Splice| {
        Box::new(async move {
            let context = store.data_mut();
            let moved = context.ctx().table.blocking_splice(to, borrowed(&from), size).await;
            Ok((end(context, from, moved).await?,))
        })
    })?;
    type Forward = (Resource<OutputStream>, Resource<InputStream>);
    instance.func_wrap_async("[method]output-stream.forward", |mut store, (to, from): Forward| {
        Box::new(async move {
            let context = store.data_mut();
            let moved = forward(context, &to, &from).await;
            Ok((end(context, from, moved).await?,))
        })
    })
}

fn borrowed(stream: &Resource<InputStream>) -> Resource<InputStream> {
    Resource::new_borrow(stream.rep())
}

/// Moves all that is left in `from`.
async fn forward(
    context: &mut RuntimeContext,
    to: &Resource<OutputStream>,
    from: &Resource<InputStream>,
) -> StreamResult<u64> {
    let mut moved = 0_u64;
    loop {
        let to = Resource::new_borrow(to.rep());
        match context.ctx().table.blocking_splice(to, borrowed(from), u64::MAX).await {
            Ok(more) => moved = moved.saturating_add(more),
            Err(StreamError::Closed) => return Ok(moved),
            Err(error) => return Err(error),
        }
    }
}

/// Drops the source, which the guest has given away, and sorts out the result.
async fn end(
    context: &mut RuntimeContext,
    from: Resource<InputStream>,
    moved: StreamResult<u64>,
) -> wasmtime::Result<Answer<u64>> {
    let table = context.ctx().table;
    // A guest may still hold a pollable of it: then it goes with the store.
    let _kept = streams::HostInputStream::drop(table, from).await;
    match moved {
        Ok(moved) => Ok(Ok(moved)),
        Err(error) => Ok(Err(table.convert_stream_error(error)?)),
    }
}

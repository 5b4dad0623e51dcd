//! Rows and the like as a stream, for the interfaces of WASI 0.3.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, stream};
use tokio::sync::oneshot;
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{Destination, FutureReader, Lift, Lower, StreamProducer, StreamReader, StreamResult, VecBuffer},
};

use crate::host::limits::Held;

/// How many rows are given at once, if they are there.
const BATCH: usize = 8;

/// Rows as they come from a server.
pub(in crate::host) type Source<R, F> = Pin<Box<dyn Stream<Item = Result<R, F>> + Send>>;
/// What a guest is given: the rows, and how they end.
pub(in crate::host) type Given<R, F> = (StreamReader<R>, FutureReader<Result<(), F>>);

/// Gives `rows` to a guest. A guest that drops the stream drops them.
pub(in crate::host) fn give<R, F>(mut store: impl AsContextMut, rows: Source<R, F>) -> wasmtime::Result<Given<R, F>>
where
    R: Lower + Lift + Send + Sync + Unpin + 'static,
    F: Lower + Lift + Send + Sync + 'static,
    Result<(), F>: Lower + Lift,
{
    let (ended, end) = oneshot::channel();
    let stream = StreamReader::new(&mut store, Producer { rows, ended: Some(ended) })?;
    // Nobody tells how it ends when the guest does not want the rest.
    let end = async move { Ok::<_, wasmtime::Error>(end.await.unwrap_or(Ok(()))) };
    Ok((stream, FutureReader::new(&mut store, end)?))
}

/// Gives a guest what is all here: `held` is let go with the last of it.
pub(in crate::host) fn give_all<R>(
    store: impl AsContextMut,
    all: Vec<R>,
    held: Held,
) -> wasmtime::Result<StreamReader<R>>
where
    R: Lower + Lift + Send + Sync + Unpin + 'static,
{
    let one_by_one = stream::unfold((all.into_iter(), held), |(mut rest, held)| async {
        let row = rest.next()?;
        Some((Ok::<R, Infallible>(row), (rest, held)))
    });
    let (ended, _nobody) = oneshot::channel();
    StreamReader::new(store, Producer { rows: Box::pin(one_by_one), ended: Some(ended) })
}

struct Producer<R, F> {
    rows: Source<R, F>,
    ended: Option<oneshot::Sender<Result<(), F>>>,
}

impl<R, F> Producer<R, F> {
    fn end(&mut self, how: Result<(), F>) {
        if let Some(ended) = self.ended.take() {
            // The guest may not want to know.
            let _told = ended.send(how);
        }
    }
}

impl<D, R, F> StreamProducer<D> for Producer<R, F>
where
    R: Send + Sync + Unpin + 'static,
    F: Send + 'static,
{
    type Item = R;
    type Buffer = VecBuffer<R>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, R, VecBuffer<R>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // No more than the guest has asked for: what it leaves would stay here, once for every stream that it has.
        let wanted = destination.remaining(store).map_or(BATCH, |wanted| wanted.min(BATCH));
        if wanted == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        if self.ended.is_none() {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        let mut batch = Vec::new();
        let result = loop {
            match self.rows.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(row))) => batch.push(row),
                Poll::Ready(Some(Err(failure))) => {
                    self.end(Err(failure));
                    break StreamResult::Dropped;
                }
                Poll::Ready(None) => {
                    self.end(Ok(()));
                    break StreamResult::Dropped;
                }
                Poll::Pending if !batch.is_empty() => break StreamResult::Completed,
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            }
            if batch.len() >= wanted {
                break StreamResult::Completed;
            }
        };
        destination.set_buffer(batch.into());
        Poll::Ready(Ok(result))
    }
}

//! The bodies of outgoing requests and of their responses, as they pass through.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::host::limits::Held;

/// Whether a guest is there; shared with everything that it has begun.
#[derive(Debug, Default)]
pub(crate) struct Presence(Arc<AtomicBool>);

impl Presence {
    /// The body of a request of the guest.
    pub(super) fn body(&self, body: WasiBody) -> RequestBody {
        RequestBody { body, gone: Arc::clone(&self.0) }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A request's body. When the guest goes away before it was complete, it ends with an error: what a guest leaves behind when it
/// is stopped must not look like all that it wanted to say.
pub(super) struct RequestBody {
    body: WasiBody,
    gone: Arc<AtomicBool>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(None) if self.gone.load(Ordering::Acquire) => {
                Poll::Ready(Some(Err(Error::ConnectionTerminated)))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("gone", &self.gone).finish_non_exhaustive()
    }
}

/// A response's body, whose pieces must not be too long in coming.
#[derive(Debug)]
pub(super) struct ResponseStream<B: Body> {
    body: B,
    /// What the guest is told when the body breaks off.
    failure: fn(B::Error) -> Error,
    between_bytes: Duration,
    /// Made when there is something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// What the response's head takes.
    _held: Held,
}

impl<B: Body> ResponseStream<B> {
    pub(super) fn new(body: B, between_bytes: Duration, failure: fn(B::Error) -> Error) -> Self {
        Self { body, failure, between_bytes, timer: None, waiting: false, _held: Held::default() }
    }

    /// The same, with what must be held as long as it is there.
    pub(super) fn holding(self, held: Held) -> Self {
        Self { _held: held, ..self }
    }

    /// Whether it is waited for too long.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let between_bytes = self.between_bytes;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(between_bytes)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + between_bytes);
        }
        timer.as_mut().poll(context)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseStream<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.waiting = false;
                Poll::Ready(frame.map(|frame| frame.map_err(self.failure)))
            }
            Poll::Pending => self.poll_timer(context).map(|()| Some(Err(Error::ConnectionReadTimeout))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

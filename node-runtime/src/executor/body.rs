//! [`ResponseBody`]: what goes back to the client, and the guest that is still writing it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::WasiBody;

use super::RequestError;
use crate::{application::Subject, engine::Guest};

/// The body of a response. Dropping it stops the guest, unless the body was complete.
#[derive(Debug, Default)]
pub struct ResponseBody(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    /// In answer to `HEAD`: there may be one, of a length that only the head may tell.
    Omitted,
    Streamed(Box<Streamed>),
}

/// Why a body ended early; the connection or stream is reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The guest failed after it had sent the response's head.
    #[error("the guest failed while it wrote the body")]
    Guest,
    /// The guest did not end the body as it should have.
    #[error("the body ended early: {0}")]
    Incomplete(String),
}

/// The most bytes of a whole body that are given to a connection at once.
const PIECE: usize = 64 << 10;

type Call = Pin<Box<dyn Future<Output = Result<(), RequestError>> + Send>>;

/// A guest's call, going on.
pub(super) struct Run {
    call: Option<Call>,
    guest: Arc<Guest>,
    /// What to say of it in the log.
    subject: Subject,
}

struct Streamed {
    /// The first piece, received while looking whether there is more.
    first: Bytes,
    /// What came after it.
    waiting: Option<Frame<Bytes>>,
    body: WasiBody,
    run: Run,
    /// How many bytes are missing until the announced length is reached.
    missing: Option<u64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Going,
    Failed,
    Ended,
}

impl Run {
    /// Nothing happens until it is polled.
    pub(super) fn new(
        guest: Arc<Guest>,
        subject: Subject,
        call: impl Future<Output = Result<(), RequestError>> + Send + 'static,
    ) -> Self {
        Self { call: Some(Box::pin(call)), guest, subject }
    }

    /// Goes on; `Ready` once it has ended, and then `Ok`.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let Some(call) = self.call.as_mut() else { return Poll::Ready(Ok(())) };
        let result = call.as_mut().poll(context);
        if result.is_ready() {
            // The instance goes back to the pool as early as possible.
            self.call = None;
        }
        result
    }

    /// As [`Run::poll`] after the head was sent: a failure can only be logged. `false` if it failed now.
    fn poll_tail(&mut self, context: &mut Context<'_>) -> bool {
        match self.poll(context) {
            Poll::Ready(Err(error)) => {
                error.log(&self.guest, &self.subject);
                false
            }
            Poll::Ready(Ok(())) | Poll::Pending => true,
        }
    }

    /// Its response is complete: what little may be left is done now, what takes longer goes on by itself.
    fn finish(&mut self, context: &mut Context<'_>) -> Result<(), RequestError> {
        if let Poll::Ready(result) = self.poll(context) {
            return result;
        }
        self.detach();
        Ok(())
    }

    /// Lets it go on by itself, until its deadline at the latest.
    fn detach(&mut self) {
        let Some(call) = self.call.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (guest, subject) = (Arc::clone(&self.guest), self.subject.clone());
            let tail = async move {
                if let Err(error) = call.await {
                    error.log(&guest, &subject);
                }
            };
            self.guest.engine().tails().spawn_on(tail, &runtime);
        }
    }
}

impl ResponseBody {
    /// A body that is there already.
    pub(crate) fn full(body: Bytes) -> Self {
        Self(if body.is_empty() { Kind::Empty } else { Kind::Full(body) })
    }

    /// No body, because the request was `HEAD`; the guest may finish what it does.
    pub(super) fn omitted(mut run: Run) -> Self {
        run.detach();
        Self(Kind::Omitted)
    }

    /// The body that `run` writes to the other end of `body`. Where it is written without any waiting, in one piece, the
    /// guest ends here and the body's length is known.
    ///
    /// `length` is what the response's head announces.
    pub(super) fn of_guest(
        context: &mut Context<'_>,
        mut run: Run,
        mut body: WasiBody,
        length: Option<u64>,
    ) -> Result<Self, RequestError> {
        let mut whole = Bytes::new();
        loop {
            // Nothing was sent yet: a guest that fails here gets a proper error response.
            if let Poll::Ready(result) = run.poll(context) {
                result?;
            }
            let waiting = match Pin::new(&mut body).poll_frame(context) {
                Poll::Ready(None) => {
                    run.finish(context)?;
                    let written = whole.len() as u64;
                    return match length {
                        Some(announced) if announced != written => {
                            Err(RequestError::Response(format!("it announced {announced} bytes and wrote {written}")))
                        }
                        _ => Ok(Self::full(whole)),
                    };
                }
                Poll::Ready(Some(Ok(frame))) if whole.is_empty() && frame.is_data() => {
                    whole = frame.into_data().unwrap_or_default();
                    continue;
                }
                Poll::Ready(Some(Ok(frame))) => Some(frame),
                Poll::Ready(Some(Err(error))) => {
                    return Err(RequestError::Response(format!("its body ended early: {error:?}")));
                }
                Poll::Pending => None,
            };
            let missing = length;
            let streamed = Streamed { first: whole, waiting, body, run, missing, state: State::Going };
            return Ok(Self(Kind::Streamed(Box::new(streamed))));
        }
    }
}

impl Streamed {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if let Some(frame) = self.waiting.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.state == State::Going && !self.run.poll_tail(context) {
            self.state = State::Failed;
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                self.state = State::Ended;
                Poll::Ready(Some(Err(BodyError::Incomplete(format!("{error:?}")))))
            }
            // A guest that failed has let go of the body, which then looks complete.
            Poll::Ready(None) if self.state == State::Failed => {
                self.state = State::Ended;
                Poll::Ready(Some(Err(BodyError::Guest)))
            }
            Poll::Ready(None) => {
                self.state = State::Ended;
                if let Err(error) = self.run.finish(context) {
                    error.log(&self.run.guest, &self.run.subject);
                }
                match self.missing {
                    Some(missing @ 1..) => Poll::Ready(Some(Err(BodyError::Incomplete(format!(
                        "{missing} bytes of its length are missing"
                    ))))),
                    _ => Poll::Ready(None),
                }
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Counts what was delivered: the HTTP stack stops asking once the announced length is reached.
    fn count(&mut self, frame: &Frame<Bytes>) {
        if let (Some(missing), Some(data)) = (self.missing.as_mut(), frame.data_ref()) {
            *missing = missing.saturating_sub(data.len() as u64);
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if self.missing == Some(0) && self.first.is_empty() && self.waiting.is_none() {
            self.run.detach();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty | Kind::Omitted => Poll::Ready(None),
            Kind::Full(bytes) => {
                // What a client does not take is held here, where it can be given up, and not in the connection.
                let piece = bytes.split_to(bytes.len().min(PIECE));
                if bytes.is_empty() {
                    self.0 = Kind::Empty;
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Kind::Streamed(streamed) => {
                let polled = streamed.poll(context);
                if let Poll::Ready(Some(Ok(frame))) = &polled {
                    streamed.count(frame);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Omitted | Kind::Streamed(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed").field("missing", &self.missing).field("state", &self.state).finish_non_exhaustive()
    }
}

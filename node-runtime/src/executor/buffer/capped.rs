//! [`Capped`]: a request's body that is streamed, and ends with an error where it is longer than it may be.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::Error;

use super::announced;
use crate::executor::RequestError;

/// A body of which a guest reads only so much.
#[derive(Debug)]
pub(in crate::executor) struct Capped<B> {
    body: B,
    limit: u64,
    left: u64,
    /// Set once more has come; none where there is no limit, or the length is known.
    exceeded: Option<Arc<AtomicBool>>,
}

/// Whether a body was longer than it may be.
#[derive(Debug)]
pub(in crate::executor) struct Cap {
    limit: u64,
    exceeded: Option<Arc<AtomicBool>>,
}

/// Limits a body to `limit` bytes. One that is announced as longer is refused before the guest is called.
pub(in crate::executor) fn capped<B>(
    body: B,
    limit: Option<u64>,
    headers: &HeaderMap,
) -> Result<(Capped<B>, Cap), RequestError> {
    let announced = announced(headers);
    let exceeded = match (limit, announced) {
        (Some(limit), Some(length)) if length > limit => return Err(too_large(limit)),
        (Some(_), None) => Some(Arc::default()),
        (Some(_) | None, _) => None,
    };
    let limit = limit.unwrap_or(u64::MAX);
    Ok((Capped { body, limit, left: limit, exceeded: exceeded.clone() }, Cap { limit, exceeded }))
}

fn too_large(limit: u64) -> RequestError {
    RequestError::RequestTooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) }
}

impl Cap {
    /// What a guest answered, unless it had to answer without the whole request.
    pub(in crate::executor) fn judge<T>(&self, answer: Result<T, RequestError>) -> Result<T, RequestError> {
        match &self.exceeded {
            Some(exceeded) if exceeded.load(Ordering::Relaxed) => Err(too_large(self.limit)),
            _ => answer,
        }
    }
}

impl<B> Body for Capped<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else { return Poll::Pending };
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))) };
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(left) = this.left.checked_sub(size) {
            this.left = left;
            return Poll::Ready(Some(Ok(frame)));
        }
        this.left = 0;
        if let Some(exceeded) = &this.exceeded {
            exceeded.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(this.limit)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

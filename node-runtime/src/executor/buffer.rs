//! Bodies with an end: those that must be held in memory, and those that may not be longer than an app allows.

mod capped;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

pub(super) use capped::capped;

use super::RequestError;
use crate::host::limits::{Held, HostMemory, NoRoom};

/// How much a guest may write at once, in bytes.
const WRITE_PERMIT: usize = 1 << 20;

/// Reads all of a request's body, up to `limit` bytes, and holds it in `memory`. A body that is announced as longer is not
/// read at all.
pub(super) async fn collect<B>(
    body: B,
    limit: usize,
    memory: &HostMemory,
    headers: &HeaderMap,
) -> Result<Bytes, RequestError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let too_large = || RequestError::RequestTooLarge { limit };
    if announced(headers).is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let mut held = memory.hold();
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.into() {
            wasmtime_wasi_http::Error::ConnectionReadTimeout => RequestError::RequestSlow,
            error => RequestError::RequestIncomplete(format!("{error:?}")),
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.as_ref().map_or(0, BytesMut::len) + data.len() > limit {
            return Err(too_large());
        }
        held.add(data.len()).map_err(|NoRoom| RequestError::Overloaded)?;
        if first.is_empty() && rest.is_none() {
            first = data;
        } else {
            rest.get_or_insert_with(|| BytesMut::from(std::mem::take(&mut first))).extend_from_slice(&data);
        }
    }
    Ok(held.keep(rest.map_or(first, BytesMut::freeze)))
}

/// The length that a request's headers announce.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A guest wrote more than may be held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest wrote more than {limit} bytes")]
pub(super) struct OutputTooLarge {
    /// How much is allowed.
    pub(super) limit: usize,
}

/// A standard output that is kept, up to a limit; beyond it the guest is stopped.
#[derive(Debug, Clone)]
pub(super) struct OutputBuffer {
    kept: Arc<Mutex<(BytesMut, Held)>>,
    limit: usize,
}

impl OutputBuffer {
    /// One of at most `limit` bytes, held in `memory`.
    pub(super) fn new(limit: usize, memory: &HostMemory) -> Self {
        Self { kept: Arc::new(Mutex::new((BytesMut::new(), memory.hold()))), limit }
    }

    /// What was written; nothing is left, and whoever has it counts it.
    pub(super) fn take(&self) -> Bytes {
        let (kept, _held) = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.freeze()
    }

    fn add(&self, bytes: &[u8]) -> wasmtime::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, held) = &mut *kept;
        if kept.len() + bytes.len() > self.limit {
            return Err(OutputTooLarge { limit: self.limit }.into());
        }
        held.add(bytes.len())?;
        kept.extend_from_slice(bytes);
        Ok(())
    }
}

impl IsTerminal for OutputBuffer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for OutputBuffer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for OutputBuffer {
    async fn ready(&mut self) {}
}

impl OutputStream for OutputBuffer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.add(&bytes).map_err(StreamError::Trap)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT)
    }
}

impl AsyncWrite for OutputBuffer {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(self.add(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

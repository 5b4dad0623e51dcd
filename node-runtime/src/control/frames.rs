//! Reads frames from HTTP/2 bodies.

use bytes::BytesMut;
use control::{
    Heard, WireError,
    wire::{Message, hear, take_frame},
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// A frame cannot be read or written.
    #[error("bad frame")]
    Wire(#[from] WireError),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// The stream ended in the middle of a frame.
    #[error("the stream ended in the middle of a frame")]
    Cut,
}

/// Reads frames.
pub(super) struct Frames {
    body: Incoming,
    buffer: BytesMut,
}

impl Frames {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message, or what stands for one that a newer peer sent; `None` at the end. Cancel-safe: what has been
    /// read stays in the buffer.
    pub(super) async fn next<T: Message>(&mut self) -> Result<Option<Heard<T>>, FrameError> {
        loop {
            if let Some(payload) = take_frame(&mut self.buffer)? {
                return Ok(Some(hear(&payload)?));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(FrameError::Broken(error)),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Cut),
            }
        }
    }
}

//! Frames on HTTP/2 bodies: a length of four bytes, big-endian, and so many bytes of JSON.

use bytes::{Bytes, BytesMut};
use control::{
    Heard, WireError,
    wire::{MAX_FRAME, Message, encode, hear},
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Serialize;
use tokio_util::codec::{Decoder as _, Encoder as _, LengthDelimitedCodec};

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// A frame cannot be read or written.
    #[error("bad frame")]
    Wire(#[from] WireError),
    /// A frame's length is not one.
    #[error("bad frame")]
    Length(#[source] std::io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// The stream ended in the middle of a frame.
    #[error("the stream ended in the middle of a frame")]
    Cut,
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec()
}

/// Reads frames.
pub(super) struct Frames {
    body: Incoming,
    codec: LengthDelimitedCodec,
    buffer: BytesMut,
}

impl Frames {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, codec: codec(), buffer: BytesMut::new() }
    }

    /// The next message, or what stands for one that a newer peer sent; `None` at the end. Cancel-safe: what has been
    /// read stays in the buffer.
    pub(super) async fn next<T: Message>(&mut self) -> Result<Option<Heard<T>>, FrameError> {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.buffer).map_err(FrameError::Length)? {
                return Ok(Some(hear(&frame)?));
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

/// A message as a frame.
pub(super) fn frame<T: Serialize>(message: &T) -> Result<Bytes, FrameError> {
    let mut framed = BytesMut::new();
    codec().encode(Bytes::from(encode(message)?), &mut framed).map_err(FrameError::Length)?;
    Ok(framed.freeze())
}

//! Reads frames from HTTP bodies.
//!
//! Promise: reading is safe to give up and start again: what was read stays buffered. What only a newer runtime says is
//! passed over.

use bytes::BytesMut;
use control::{
    FromRuntime, Heard, WireError,
    wire::{hear, take_frame},
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Why the next frame cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream broke.
    #[error("the stream broke")]
    Broken(#[source] hyper::Error),
    /// The stream ended, between frames or within one.
    #[error("the runtime ended the stream")]
    Ended,
    /// The bytes are no frame of this protocol.
    #[error("the stream is not of this protocol")]
    Protocol(#[from] WireError),
}

/// Reads what a runtime says.
#[derive(Debug)]
pub struct FrameReader {
    body: Incoming,
    buffer: BytesMut,
}

impl FrameReader {
    /// A reader of `body`.
    #[must_use]
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message.
    ///
    /// # Errors
    /// When the stream ended or broke, or holds something else than frames.
    pub async fn next(&mut self) -> Result<FromRuntime, FrameError> {
        loop {
            if let Some(payload) = take_frame(&mut self.buffer)? {
                match hear(&payload)? {
                    Heard::Message(message) => return Ok(message),
                    Heard::Unknown { kind } => tracing::debug!(kind, "a runtime says what this operator does not know"),
                    Heard::Unreadable(unreadable) => {
                        tracing::warn!(
                            app = unreadable.app.map(|app| app.to_string()),
                            error = unreadable.why,
                            "a runtime cannot be understood"
                        );
                    }
                }
                continue;
            }
            match self.body.frame().await {
                None => return Err(FrameError::Ended),
                Some(Err(error)) => return Err(FrameError::Broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

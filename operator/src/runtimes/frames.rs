//! Frames over an HTTP body: four bytes of length (big-endian), then that many bytes of JSON.
//!
//! Promise: reading is safe to give up and start again (what was read stays buffered), and a frame that
//! claims to be longer than [`control::wire::MAX_FRAME`] ends the stream before it is buffered. What only a newer
//! runtime says is passed over.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use control::{
    FromRuntime, Heard, ToRuntime, WireError,
    wire::{MAX_FRAME, encode, hear},
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// The bytes before a frame that hold its length.
const PREFIX: usize = 4;

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
            if let Some(payload) = split_frame(&mut self.buffer)? {
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

/// Takes the first whole frame out of `buffer`, if there is one.
fn split_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(WireError::TooLong(length));
    }
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// `message` as the bytes of one frame.
///
/// # Errors
/// When it is longer than any runtime would read.
pub fn frame(message: &ToRuntime) -> Result<Bytes, WireError> {
    let payload = encode(message)?;
    let length = u32::try_from(payload.len()).map_err(|_| WireError::TooLong(payload.len()))?;
    let mut bytes = BytesMut::with_capacity(PREFIX + payload.len());
    bytes.put_u32(length);
    bytes.extend_from_slice(&payload);
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_split_anywhere_is_found_once_it_is_whole() {
        let bytes = frame(&ToRuntime::Ping(7)).unwrap();
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            assert_eq!(split_frame(&mut buffer).unwrap(), None, "cut at {cut}");
            buffer.extend_from_slice(&bytes[cut..]);
            buffer.extend_from_slice(b"\0\0");
            let payload = split_frame(&mut buffer).unwrap().unwrap();
            assert_eq!(control::wire::decode::<ToRuntime>(&payload).unwrap(), ToRuntime::Ping(7));
            assert_eq!(&buffer[..], b"\0\0");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_buffered() {
        let mut buffer = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(matches!(split_frame(&mut buffer), Err(WireError::TooLong(_))));
    }
}

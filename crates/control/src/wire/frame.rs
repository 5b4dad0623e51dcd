//! Frames: four bytes of length (big-endian), then so many bytes of JSON.
//!
//! Promise: a frame that claims to be longer than [`MAX_FRAME`] is refused before it is buffered.

use bytes::{Buf as _, Bytes, BytesMut};
use serde::Serialize;

use super::{MAX_FRAME, WireError};

/// The bytes before a frame that hold its length.
const PREFIX: usize = size_of::<u32>();

/// `message` as the bytes of one frame.
///
/// # Errors
/// When it would be longer than [`MAX_FRAME`].
pub fn frame<T: Serialize>(message: &T) -> Result<Bytes, WireError> {
    let mut frame = vec![0; PREFIX];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - PREFIX;
    let known = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
    if let (Some(length), Some(prefix)) = (known, frame.first_chunk_mut()) {
        *prefix = length.to_be_bytes();
        Ok(frame.into())
    } else {
        Err(WireError::TooLong(length))
    }
}

/// Takes the payload of the first whole frame out of `buffer`; `None` while there is none.
///
/// # Errors
/// When it claims to be longer than [`MAX_FRAME`].
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
    let Some(prefix) = buffer.first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(WireError::TooLong(length));
    }
    if buffer.len() - PREFIX < length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ToRuntime, wire::decode};

    #[test]
    fn a_frame_is_its_length_and_its_json() {
        let bytes = frame(&ToRuntime::Ping(7)).unwrap();
        assert_eq!(&bytes[..], b"\0\0\0\x19{\"type\":\"ping\",\"value\":7}");
    }

    #[test]
    fn a_frame_split_anywhere_is_found_once_it_is_whole() {
        let bytes = frame(&ToRuntime::Ping(7)).unwrap();
        for cut in 0..bytes.len() {
            let mut buffer = BytesMut::from(&bytes[..cut]);
            assert_eq!(take_frame(&mut buffer).unwrap(), None, "cut at {cut}");
            buffer.extend_from_slice(&bytes[cut..]);
            buffer.extend_from_slice(b"\0\0");
            let payload = take_frame(&mut buffer).unwrap().unwrap();
            assert_eq!(decode::<ToRuntime>(&payload).unwrap(), ToRuntime::Ping(7));
            assert_eq!(&buffer[..], b"\0\0");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_buffered_and_never_sent() {
        let mut buffer = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(matches!(take_frame(&mut buffer), Err(WireError::TooLong(_))));
        assert!(matches!(frame(&"x".repeat(MAX_FRAME)), Err(WireError::TooLong(_))));
        assert!(frame(&"x".repeat(MAX_FRAME - 2)).is_ok());
    }
}

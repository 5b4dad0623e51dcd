//! The Spin HTTP ABI of 2022 and 2023: what the result of `handle-http-request` looks like in a guest's memory.
//!
//! There are two layouts under the same export names. Spin's SDKs up to 0.3 return slots of 8 bytes, later ones the
//! canonical layout. An export `spin-sdk-version-...` marks later ones; without it the result itself tells, because a
//! fresh instance's static memory is zero: where the slots layout has the upper halves of its slots, the canonical one has
//! tags, lengths and pointers.
//!
//! | | status | headers: tag, pointer, count | body: tag, pointer, length |
//! |---|---|---|---|
//! | slots | 0 | 8, 16, 24 | 32, 40, 48 |
//! | canonical | u16 at 0 | u8 at 4, 8, 12 | u8 at 16, 20, 24 |
//!
//! Promise: whatever a guest returns, nothing outside its memory is read, and no more than it could have written is copied.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

/// A header is two strings: (pointer, length) twice.
pub(super) const HEADER_SIZE: u32 = 16;

/// How a guest lays out its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As SDKs from 0.4 on.
    Canonical,
    /// As SDKs up to 0.3.
    Slots,
}

/// Why a result is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AbiError {
    /// A pointer leads out of the guest's memory.
    #[error("its {what} is outside of its memory (at {at}, {size} bytes)")]
    OutOfBounds {
        /// What is there.
        what: &'static str,
        /// Where.
        at: u32,
        /// How much.
        size: u64,
    },
    /// A tag is neither 0 nor 1.
    #[error("its {what} has the tag {tag} instead of 0 or 1")]
    Tag {
        /// Of what.
        what: &'static str,
        /// What it is.
        tag: u32,
    },
    /// No HTTP status.
    #[error("its status is {0}")]
    Status(u32),
    /// No HTTP header.
    #[error("its header `{0}` is not valid")]
    Header(String),
    /// The body is too large.
    #[error("its body has {size} bytes, more than {limit}")]
    TooLarge {
        /// How large it is.
        size: u32,
        /// How large it may be.
        limit: usize,
    },
}

/// The number of a method; `None` for those the ABI cannot express.
pub(super) fn method(method: &Method) -> Option<i32> {
    [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS]
        .iter()
        .zip(0..)
        .find_map(|(known, number)| (known == method).then_some(number))
}

/// A guest's memory, read with care.
struct Memory<'a>(&'a [u8]);

impl<'a> Memory<'a> {
    fn slice(&self, what: &'static str, at: u32, size: u64) -> Result<&'a [u8], AbiError> {
        let error = AbiError::OutOfBounds { what, at, size };
        let start = usize::try_from(at).ok();
        let end = start.and_then(|start| start.checked_add(usize::try_from(size).ok()?));
        match (start, end) {
            (Some(start), Some(end)) => self.0.get(start..end).ok_or(error),
            _ => Err(error),
        }
    }

    fn u32(&self, what: &'static str, base: u32, offset: u32) -> Result<u32, AbiError> {
        let at = base.checked_add(offset).ok_or(AbiError::OutOfBounds { what, at: base, size: 4 })?;
        let bytes = self.slice(what, at, 4)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// For looking ahead: what is not there is zero.
    fn peek(&self, base: u32, offset: u32) -> u32 {
        self.u32("result", base, offset).unwrap_or(0)
    }

    fn layout(&self, at: u32) -> Layout {
        let upper_halves = [4, 12, 20, 28].iter().any(|offset| self.peek(at, *offset) != 0);
        if !upper_halves && (self.peek(at, 8) == 1 || self.peek(at, 32) == 1) {
            Layout::Slots
        } else {
            Layout::Canonical
        }
    }
}

/// Reads the result at `at`; without `known` the layout is found out.
pub(super) fn response(
    memory: &[u8],
    at: u32,
    known: Option<Layout>,
    body_limit: usize,
) -> Result<Response<Bytes>, AbiError> {
    let memory = Memory(memory);
    let layout = known.unwrap_or_else(|| memory.layout(at));
    let ([header_tag, header_list, header_count], [body_tag, body_at, body_size], mask) = match layout {
        Layout::Canonical => ([4, 8, 12], [16, 20, 24], 0xff),
        Layout::Slots => ([8, 16, 24], [32, 40, 48], u32::MAX),
    };
    let some = |what, offset| match memory.u32(what, at, offset)? & mask {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(AbiError::Tag { what, tag }),
    };
    let status = memory.u32("result", at, 0)?;
    let status = if layout == Layout::Canonical { status & 0xffff } else { status };
    let valid = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = valid.ok_or(AbiError::Status(status))?;
    if some("list of headers", header_tag)? {
        let list = memory.u32("list of headers", at, header_list)?;
        let count = memory.u32("list of headers", at, header_count)?;
        // Before the loop, so that a huge count costs nothing.
        memory.slice("list of headers", list, u64::from(count) * u64::from(HEADER_SIZE))?;
        for index in 0..count {
            let (name, value) = header(&memory, list + index * HEADER_SIZE)?;
            response.headers_mut().append(name, value);
        }
    }
    if some("body", body_tag)? {
        let (start, size) = (memory.u32("body", at, body_at)?, memory.u32("body", at, body_size)?);
        if usize::try_from(size).map_or(true, |size| size > body_limit) {
            return Err(AbiError::TooLarge { size, limit: body_limit });
        }
        *response.body_mut() = Bytes::copy_from_slice(memory.slice("body", start, u64::from(size))?);
    }
    Ok(response)
}

/// Reads one header. HTTP's rules decide what is valid, so a name or value may be any bytes here.
fn header(memory: &Memory<'_>, at: u32) -> Result<(HeaderName, HeaderValue), AbiError> {
    let text = |what, offset| {
        let (start, size) = (memory.u32(what, at, offset)?, memory.u32(what, at, offset + 4)?);
        memory.slice(what, start, u64::from(size))
    };
    let (name, value) = (text("header name", 0)?, text("header value", 8)?);
    match (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(AbiError::Header(String::from_utf8_lossy(name.get(..100).unwrap_or(name)).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with these words at these places.
    fn memory(words: &[(usize, u32)], texts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut memory = vec![0; 512];
        for (at, word) in words {
            memory[*at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        for (at, text) in texts {
            memory[*at..at + text.len()].copy_from_slice(text);
        }
        memory
    }

    const NAME_AND_VALUE: [(usize, u32); 4] = [(200, 300), (204, 1), (208, 301), (212, 1)];

    #[test]
    fn both_layouts_are_told_apart_by_what_they_hold() {
        let canonical = [(0, 201), (4, 1), (8, 200), (12, 1), (16, 1), (20, 310), (24, 2)];
        let slots = [(0, 201), (8, 1), (16, 200), (24, 1), (32, 1), (40, 310), (48, 2)];
        for words in [canonical, slots] {
            let memory = memory(&[&words[..], &NAME_AND_VALUE].concat(), &[(300, b"ab"), (310, b"hi")]);
            let response = response(&memory, 0, None, 10).unwrap();
            assert_eq!(response.status(), 201);
            assert_eq!(response.headers()["a"], "b");
            assert_eq!(response.body(), "hi");
        }
    }

    #[test]
    fn a_body_alone_or_nothing_at_all_is_a_response_in_both_layouts() {
        let read = |words: &[(usize, u32)]| response(&memory(words, &[(310, b"hi")]), 0, None, 10).unwrap().into_body();
        assert_eq!(read(&[(0, 200), (16, 1), (20, 310), (24, 2)]), "hi");
        assert_eq!(read(&[(0, 200), (32, 1), (40, 310), (48, 2)]), "hi");
        assert_eq!(read(&[(0, 200)]), "");
        assert_eq!(read(&[(0, 200), (16, 1), (20, 1), (24, 0)]), "");
    }

    #[test]
    fn garbage_beside_a_canonical_tag_does_not_matter() {
        let words = [(0, 0xdead_00c8), (4, 0xffff_ff00), (16, 0xffff_ff01), (20, 310), (24, 2)];
        let response = response(&memory(&words, &[(310, b"hi")]), 0, Some(Layout::Canonical), 10).unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, &b"hi"[..]));
    }

    #[test]
    fn repeated_headers_are_kept() {
        let words = [(0, 200), (4, 1), (8, 200), (12, 2), (216, 300), (220, 1), (224, 302), (228, 1)];
        let memory = memory(&[&words[..], &NAME_AND_VALUE].concat(), &[(300, b"abc")]);
        let response = response(&memory, 0, None, 10).unwrap();
        assert_eq!(response.headers().get_all("a").iter().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn pointers_out_of_memory_are_errors() {
        let read = |words: &[(usize, u32)]| response(&memory(words, &[]), 0, Some(Layout::Canonical), 1 << 30);
        let outside = |result| matches!(result, Err(AbiError::OutOfBounds { .. }));
        assert!(outside(response(&[0; 8], 500, None, 10)));
        assert!(outside(response(&[0; 8], u32::MAX, None, 10)));
        assert!(outside(read(&[(0, 200), (16, 1), (20, 500), (24, 100)])));
        assert!(outside(read(&[(0, 200), (4, 1), (8, 100), (12, u32::MAX)])));
        assert!(outside(read(&[(0, 200), (4, 1), (8, 200), (12, 1), (200, u32::MAX), (204, 9)])));
    }

    #[test]
    fn what_http_does_not_allow_is_an_error() {
        let read =
            |words: &[(usize, u32)], text: &[u8]| response(&memory(words, &[(300, text)]), 0, None, 10).unwrap_err();
        assert_eq!(read(&[(0, 99), (4, 0)], b""), AbiError::Status(99));
        assert_eq!(read(&[(0, 200), (4, 2)], b""), AbiError::Tag { what: "list of headers", tag: 2 });
        let one = [&[(0, 200), (4, 1), (8, 200), (12, 1)][..], &NAME_AND_VALUE].concat();
        assert_eq!(read(&one, b" x"), AbiError::Header(" ".to_owned()));
        assert_eq!(read(&one, b"a\n"), AbiError::Header("a".to_owned()));
        let large = [(0, 200), (16, 1), (20, 300), (24, 11)];
        assert_eq!(read(&large, b""), AbiError::TooLarge { size: 11, limit: 10 });
    }

    #[test]
    fn only_seven_methods_have_a_number() {
        assert_eq!(method(&Method::GET), Some(0));
        assert_eq!(method(&Method::OPTIONS), Some(6));
        assert_eq!(method(&Method::TRACE), None);
        assert_eq!(method(&Method::from_bytes(b"BREW").unwrap()), None);
    }
}

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
use http::{Method, Response, StatusCode};

use crate::host::guest_memory::{GuestMemory, Layout, METHODS, MemoryError};

/// Why a result is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AbiError {
    /// Something is not where or what it should be.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No HTTP status.
    #[error("its status is {0}")]
    Status(u32),
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
    METHODS.iter().zip(0..).find_map(|(known, number)| (known == method).then_some(number))
}

/// For looking ahead: what is not there is zero.
fn peek(memory: GuestMemory<'_>, base: u32, offset: u32) -> u32 {
    memory.u32("result", base, offset).unwrap_or(0)
}

/// The layout of what is at `at`.
fn find_layout(memory: GuestMemory<'_>, at: u32) -> Layout {
    let upper_halves = [4, 12, 20, 28].iter().any(|offset| peek(memory, at, *offset) != 0);
    if !upper_halves && (peek(memory, at, 8) == 1 || peek(memory, at, 32) == 1) {
        Layout::Slots
    } else {
        Layout::Canonical
    }
}

/// Reads the result at `at`; without `known` the layout is found out.
pub(super) fn response(
    memory: &[u8],
    at: u32,
    known: Option<Layout>,
    body_limit: usize,
) -> Result<Response<Bytes>, AbiError> {
    let memory = GuestMemory(memory);
    let layout = known.unwrap_or_else(|| find_layout(memory, at));
    let ([header_tag, header_list, header_count], [body_tag, body_at, body_size], mask) = match layout {
        Layout::Canonical => ([4, 8, 12], [16, 20, 24], 0xff),
        Layout::Slots => ([8, 16, 24], [32, 40, 48], u32::MAX),
    };
    let some = |what, offset| match memory.u32(what, at, offset)? & mask {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(AbiError::Memory(MemoryError::Tag { what, tag })),
    };
    let status = memory.u32("result", at, 0)?;
    let status = if layout == Layout::Canonical { status & 0xffff } else { status };
    let valid = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = valid.ok_or(AbiError::Status(status))?;
    if some("list of headers", header_tag)? {
        let list = memory.u32("list of headers", at, header_list)?;
        let count = memory.u32("list of headers", at, header_count)?;
        *response.headers_mut() = memory.headers(list, count)?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::guest_memory::HEADERS_LIMIT;

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
        let outside = |result| matches!(result, Err(AbiError::Memory(MemoryError::OutOfBounds { .. })));
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
        assert_eq!(
            read(&[(0, 200), (4, 2)], b""),
            AbiError::Memory(MemoryError::Tag { what: "list of headers", tag: 2 })
        );
        let one = [&[(0, 200), (4, 1), (8, 200), (12, 1)][..], &NAME_AND_VALUE].concat();
        assert_eq!(read(&one, b" x"), AbiError::Memory(MemoryError::Header(" ".to_owned())));
        assert_eq!(read(&one, b"a\n"), AbiError::Memory(MemoryError::Header("a".to_owned())));
        let large = [(0, 200), (16, 1), (20, 300), (24, 11)];
        assert_eq!(read(&large, b""), AbiError::TooLarge { size: 11, limit: 10 });
    }

    #[test]
    fn headers_that_name_the_same_bytes_again_and_again_cost_no_more_than_their_limit() {
        let headers = |count: u32, size: u32| {
            let mut memory = vec![b'a'; 1 << 20];
            for index in 0..count as usize {
                for (offset, word) in [(0, 0), (4, size), (8, 0), (12, size)] {
                    let at = 4096 + index * 16 + offset;
                    memory[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
                }
            }
            GuestMemory(&memory).headers(4096, count).map(|headers| headers.len())
        };
        assert_eq!(headers(1000, 100), Ok(1000));
        assert_eq!(headers(1000, 1000), Err(MemoryError::HeadersTooLarge));
        assert_eq!(headers(60_000, 1), Err(MemoryError::HeadersTooLarge));
    }

    #[test]
    fn only_seven_methods_have_a_number() {
        assert_eq!(method(&Method::GET), Some(0));
        assert_eq!(method(&Method::OPTIONS), Some(6));
        assert_eq!(method(&Method::TRACE), None);
        assert_eq!(method(&Method::from_bytes(b"BREW").unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_memory_and_any_pointer_are_read_without_a_panic_and_within_limits(
            mut bytes in prop::collection::vec(any::<u8>(), 0..600),
            words in prop::collection::vec((0_usize..600, prop_oneof![0_u32..3, 0_u32..700, any::<u32>()]), 0..24),
            at in prop_oneof![0_u32..620, any::<u32>()],
            known in prop_oneof![Just(None), Just(Some(Layout::Canonical)), Just(Some(Layout::Slots))],
        ) {
            for (at, word) in words {
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
            }
            if let Ok(response) = response(&bytes, at, known, 64) {
                prop_assert!(response.body().len() <= 64);
                let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
                prop_assert!(size <= HEADERS_LIMIT);
            }
        }

        #[test]
        fn a_result_in_either_layout_is_read_back(
            status in 100_u32..1000, slots in any::<bool>(), body in prop::option::of("[a-z]{0,9}"), headers in any::<bool>(),
        ) {
            // Without headers and body both layouts look alike.
            let stride = if slots { 8 } else { 4 };
            let tag = |present: bool| u32::from(present);
            let length = u32::try_from(body.as_deref().map_or(0, str::len)).unwrap();
            let (list, text) = (200 * tag(headers), 310 * tag(body.is_some()));
            let values = [status, tag(headers), list, tag(headers), tag(body.is_some()), text, length];
            let words: Vec<(usize, u32)> =
                values.into_iter().enumerate().map(|(index, value)| (index * stride, value)).collect();
            let memory = memory(&[&words, &NAME_AND_VALUE[..]].concat(), &[
                (300, b"ab"),
                (310, body.as_deref().unwrap_or_default().as_bytes()),
            ]);
            let read = response(&memory, 0, None, 64).unwrap();
            prop_assert_eq!(u32::from(read.status().as_u16()), status);
            prop_assert_eq!(read.headers().len(), usize::from(headers));
            let body = body.unwrap_or_default();
            prop_assert_eq!(&read.body()[..], body.as_bytes());
        }
    }
}

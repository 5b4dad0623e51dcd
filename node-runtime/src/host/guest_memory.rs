//! The memory of a core module with the Spin ABI of 2022 and 2023, as the host reads and writes it.
//!
//! Promise: whatever pointers a guest gives, nothing outside its memory is read or written, and what is copied out of it
//! is limited, also where it names the same bytes many times.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use wasmtime::{AsContextMut, Caller, Extern, Memory, TypedFunc};

use super::RuntimeContext;

/// What allocates in a guest: (old, old size, alignment, size) to a pointer.
pub(crate) type Realloc = TypedFunc<(u32, u32, u32, u32), u32>;

/// The export that is a [`Realloc`].
pub(crate) const REALLOC: &str = "canonical_abi_realloc";
/// A header is two strings: (pointer, length) twice.
const HEADER_SIZE: u32 = 16;
/// How large all headers of a message may be together, in bytes: their names and values, and 32 for each (RFC 9113, 6.5.2).
pub(crate) const HEADERS_LIMIT: usize = 1 << 20;
/// What each header counts beside its name and value.
const HEADER_OVERHEAD: usize = 32;

/// The methods that the ABI knows; the position is the number.
pub(crate) const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS];

/// How a module lays out the results of functions, its own and those that it imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As the component model does: SDKs from 0.4 on.
    Canonical,
    /// One slot of 8 bytes for each value: SDKs up to 0.3.
    Slots,
}

/// Why something in a guest's memory is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemoryError {
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
    /// A tag is none of those that there are.
    #[error("its {what} has the unknown tag {tag}")]
    Case {
        /// Of what.
        what: &'static str,
        /// What it is.
        tag: u32,
    },
    /// Text is not UTF-8.
    #[error("its {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// No HTTP header.
    #[error("its header `{0}` is not valid")]
    Header(String),
    /// More headers than any message needs.
    #[error("its headers have more than {HEADERS_LIMIT} bytes")]
    HeadersTooLarge,
}

/// A guest's memory, read with care.
#[derive(Clone, Copy)]
pub(crate) struct GuestMemory<'a>(pub(crate) &'a [u8]);

impl<'a> GuestMemory<'a> {
    /// `size` bytes at `at`. `what` they are is for the error.
    pub(crate) fn slice(&self, what: &'static str, at: u32, size: u64) -> Result<&'a [u8], MemoryError> {
        let error = MemoryError::OutOfBounds { what, at, size };
        let start = usize::try_from(at).ok();
        let end = start.and_then(|start| start.checked_add(usize::try_from(size).ok()?));
        match (start, end) {
            (Some(start), Some(end)) => self.0.get(start..end).ok_or(error),
            _ => Err(error),
        }
    }

    /// The number at `base` and `offset`.
    pub(crate) fn u32(&self, what: &'static str, base: u32, offset: u32) -> Result<u32, MemoryError> {
        let at = base.checked_add(offset).ok_or(MemoryError::OutOfBounds { what, at: base, size: 4 })?;
        let bytes = self.slice(what, at, 4)?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// The text of `size` bytes at `at`.
    pub(crate) fn string(&self, what: &'static str, at: u32, size: u32) -> Result<&'a str, MemoryError> {
        std::str::from_utf8(self.slice(what, at, size.into())?).map_err(|_| MemoryError::NotUtf8(what))
    }

    /// A list of headers. HTTP's rules decide what is valid, so a name or value may be any bytes here.
    pub(crate) fn headers(&self, list: u32, count: u32) -> Result<HeaderMap, MemoryError> {
        // Before the loop, so that a huge count costs nothing.
        self.slice("list of headers", list, u64::from(count) * u64::from(HEADER_SIZE))?;
        let (mut headers, mut size) = (HeaderMap::new(), 0);
        for index in 0..count {
            let at = list + index * HEADER_SIZE;
            let (name, value) = (self.text("header name", at, 0)?, self.text("header value", at, 8)?);
            size += name.len() + value.len() + HEADER_OVERHEAD;
            if size > HEADERS_LIMIT {
                return Err(MemoryError::HeadersTooLarge);
            }
            let (Ok(valid_name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
                return Err(MemoryError::Header(String::from_utf8_lossy(name.get(..100).unwrap_or(name)).into_owned()));
            };
            headers.try_append(valid_name, value).map_err(|_| MemoryError::HeadersTooLarge)?;
        }
        Ok(headers)
    }

    /// The bytes that a pointer and a length name.
    fn text(&self, what: &'static str, at: u32, offset: u32) -> Result<&'a [u8], MemoryError> {
        let (start, size) = (self.u32(what, at, offset)?, self.u32(what, at, offset + 4)?);
        self.slice(what, start, u64::from(size))
    }
}

/// Where the host puts what it gives to a guest.
#[derive(Clone)]
pub(crate) struct GuestHeap {
    pub(crate) memory: Memory,
    pub(crate) realloc: Realloc,
    pub(crate) layout: Layout,
}

impl GuestHeap {
    /// That of the guest that calls the host.
    pub(crate) fn of(caller: &mut Caller<'_, RuntimeContext>) -> wasmtime::Result<Self> {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        let realloc = caller.get_export(REALLOC).and_then(Extern::into_func);
        let memory = memory.ok_or_else(|| wasmtime::format_err!("the guest exports no `memory`"))?;
        let realloc = realloc.ok_or_else(|| wasmtime::format_err!("the guest exports no function `{REALLOC}`"))?;
        let layout = caller.data().layout();
        Ok(Self { memory, realloc: realloc.typed(caller)?, layout })
    }

    /// Copies `bytes` into memory that the guest allocates for it. Returns pointer and size.
    pub(crate) async fn give(
        &self,
        mut store: impl AsContextMut<Data = RuntimeContext> + Send,
        bytes: &[u8],
        align: u32,
    ) -> wasmtime::Result<(u32, u32)> {
        let size = u32::try_from(bytes.len())?;
        if size == 0 {
            return Ok((align, 0));
        }
        let at = self.realloc.call_async(&mut store, (0, 0, align, size)).await?;
        self.write(store, "allocation", at, bytes)?;
        Ok((at, size))
    }

    /// Copies headers. Returns the list's pointer and count. What is not UTF-8 is replaced: the ABI has only strings.
    pub(crate) async fn give_headers(
        &self,
        mut store: impl AsContextMut<Data = RuntimeContext> + Send,
        headers: &HeaderMap,
    ) -> wasmtime::Result<(u32, u32)> {
        let mut list = Vec::with_capacity(headers.len() * usize::try_from(HEADER_SIZE)?);
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            for text in [name.as_str().as_bytes(), value.as_bytes()] {
                let (at, size) = self.give(&mut store, text, 1).await?;
                list.extend_from_slice(&at.to_le_bytes());
                list.extend_from_slice(&size.to_le_bytes());
            }
        }
        let (at, _) = self.give(&mut store, &list, 4).await?;
        Ok((at, u32::try_from(headers.len())?))
    }

    /// Copies a list of strings. Returns the list's pointer and count.
    pub(crate) async fn give_strings(
        &self,
        mut store: impl AsContextMut<Data = RuntimeContext> + Send,
        strings: impl IntoIterator<Item = String, IntoIter: ExactSizeIterator + Send> + Send,
    ) -> wasmtime::Result<(u32, u32)> {
        let strings = strings.into_iter();
        let count = u32::try_from(strings.len())?;
        let mut list = Vec::with_capacity(strings.len() * 8);
        for string in strings {
            let (at, size) = self.give(&mut store, string.as_bytes(), 1).await?;
            list.extend_from_slice(&at.to_le_bytes());
            list.extend_from_slice(&size.to_le_bytes());
        }
        let (at, _) = self.give(&mut store, &list, 4).await?;
        Ok((at, count))
    }

    /// Copies `bytes` to `at`.
    pub(crate) fn write(
        &self,
        store: impl AsContextMut<Data = RuntimeContext>,
        what: &'static str,
        at: u32,
        bytes: &[u8],
    ) -> wasmtime::Result<()> {
        let outside = |_| MemoryError::OutOfBounds { what, at, size: bytes.len() as u64 };
        self.memory.write(store, usize::try_from(at)?, bytes).map_err(outside)?;
        Ok(())
    }

    /// Copies the values of a result to `at`: 4 bytes each, in slots of 8 for guests that expect them.
    pub(crate) fn write_words(
        &self,
        store: impl AsContextMut<Data = RuntimeContext>,
        what: &'static str,
        at: u32,
        words: &[u32],
    ) -> wasmtime::Result<()> {
        let bytes: Vec<u8> = match self.layout {
            Layout::Canonical => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            Layout::Slots => words.iter().flat_map(|word| u64::from(*word).to_le_bytes()).collect(),
        };
        self.write(store, what, at, &bytes)
    }
}

//! What the imports of core modules have in common: arguments read from a guest's memory, and results written there.
//!
//! Layouts are those of the canonical ABI, which guests of Spin 0.4 and later use. Every offset of a result is in this file
//! and in `rdbms/lower.rs`.

use wasmtime::Caller;

use super::Asker;
use crate::host::{
    RuntimeContext,
    guest_memory::{GuestHeap, GuestMemory},
};

/// A string or list: pointer and length.
const PAIR: u32 = 8;
/// A variant with a payload of 8 bytes: tag at 0, payload at 8.
pub(super) const VARIANT: u32 = 16;

/// Reads arguments, and counts what it copies: a list may name the same bytes many times.
pub(super) struct Arguments<'a> {
    memory: GuestMemory<'a>,
    left: usize,
}

impl<'a> Arguments<'a> {
    /// At most `limit` bytes are copied.
    pub(super) fn new(memory: GuestMemory<'a>, limit: usize) -> Self {
        Self { memory, left: limit }
    }

    /// Bytes.
    pub(super) fn bytes(&mut self, what: &'static str, at: u32, size: u32) -> wasmtime::Result<Vec<u8>> {
        let bytes = self.memory.slice(what, at, size.into())?;
        self.left = self
            .left
            .checked_sub(bytes.len())
            .ok_or_else(|| wasmtime::format_err!("the guest's arguments are larger than what the host copies"))?;
        Ok(bytes.to_vec())
    }

    /// Text, which must be UTF-8.
    pub(super) fn text(&mut self, what: &'static str, at: u32, size: u32) -> wasmtime::Result<String> {
        let bytes = self.bytes(what, at, size)?;
        String::from_utf8(bytes).map_err(|_| wasmtime::format_err!("the guest's {what} is not UTF-8"))
    }

    /// Texts.
    pub(super) fn texts(&mut self, what: &'static str, list: u32, count: u32) -> wasmtime::Result<Vec<String>> {
        self.elements(what, list, count, PAIR, |arguments, at| {
            let (start, size) = (arguments.word(what, at, 0)?, arguments.word(what, at, 4)?);
            arguments.text(what, start, size)
        })
    }

    /// A list of values of `size` bytes each.
    pub(super) fn elements<T>(
        &mut self,
        what: &'static str,
        list: u32,
        count: u32,
        size: u32,
        read: impl Fn(&mut Self, u32) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<Vec<T>> {
        // Before the loop, so that a huge count costs nothing, and no sum below is too large.
        self.memory.slice(what, list, u64::from(count) * u64::from(size))?;
        (0..count).map(|index| read(self, list + index * size)).collect()
    }

    /// The number of 4 bytes at `base` and `offset`.
    pub(super) fn word(&self, what: &'static str, base: u32, offset: u32) -> wasmtime::Result<u32> {
        Ok(self.memory.u32(what, base, offset)?)
    }

    /// The number of 8 bytes at `base` and `offset`.
    pub(super) fn long(&self, what: &'static str, base: u32, offset: u32) -> wasmtime::Result<u64> {
        Ok(u64::from(self.word(what, base, offset)?) | u64::from(self.word(what, base, offset + 4)?) << 32)
    }

    /// The tag of the variant at `at`.
    pub(super) fn tag(&self, what: &'static str, at: u32) -> wasmtime::Result<u8> {
        Ok(self.memory.slice(what, at, 1)?.first().copied().unwrap_or_default())
    }

    /// The payload, a string or list, of the variant at `at`.
    pub(super) fn payload(&self, what: &'static str, at: u32) -> wasmtime::Result<(u32, u32)> {
        Ok((self.word(what, at, 8)?, self.word(what, at, 12)?))
    }
}

/// Begins a call: the place of its result is checked before anything is done. Returns who asks.
pub(super) fn begin<'a>(
    caller: &'a mut Caller<'_, RuntimeContext>,
    result: u32,
    size: u32,
) -> wasmtime::Result<(GuestHeap, Arguments<'a>, Asker)> {
    let heap = GuestHeap::of(caller)?;
    let (bytes, context) = heap.memory.data_and_store_mut(caller);
    let memory = GuestMemory(bytes);
    memory.slice("result", result, size.into())?;
    let asker = context.asker();
    Ok((heap, Arguments::new(memory, asker.answer_limit()), asker))
}

/// A variant of [`VARIANT`] bytes whose payload is a number.
pub(super) fn scalar(tag: u8, payload: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&u64::from(tag).to_le_bytes());
    tail.copy_from_slice(&payload.to_le_bytes());
    bytes
}

/// A string or list, as 8 bytes.
pub(super) fn pair((at, size): (u32, u32)) -> u64 {
    u64::from(at) | u64::from(size) << 32
}

//! What the imports of core modules have in common: arguments read from a guest's memory, and results written there.
//!
//! Layouts are those of the canonical ABI, which guests of Spin 0.4 and later use. Every offset of a result is in this file
//! and in `rdbms/lower.rs`.

use wasmtime::Caller;

use super::Asker;
use crate::host::{
    RuntimeContext,
    guest_memory::{GuestHeap, GuestMemory},
    limits::{Held, HostMemory},
};

/// A string or list: pointer and length.
const PAIR: u32 = 8;
/// A variant with a payload of 8 bytes: tag at 0, payload at 8.
pub(super) const VARIANT: u32 = 16;

/// Reads arguments, and counts what it copies: a list may name the same bytes many times. The copies come out of the memory
/// of the app's guests for as long as this is there, which is to the end of the call.
pub(super) struct Arguments<'a> {
    memory: GuestMemory<'a>,
    left: usize,
    held: Held,
}

impl<'a> Arguments<'a> {
    /// At most `limit` bytes are copied, and held in `host`.
    pub(super) fn new(memory: GuestMemory<'a>, limit: usize, host: &HostMemory) -> Self {
        Self { memory, left: limit, held: host.hold() }
    }

    /// Counts what is about to be copied.
    fn count(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| wasmtime::format_err!("the guest's arguments are larger than what the host copies"))?;
        Ok(self.held.add(bytes)?)
    }

    /// Bytes.
    pub(super) fn bytes(&mut self, what: &'static str, at: u32, size: u32) -> wasmtime::Result<Vec<u8>> {
        let bytes = self.memory.slice(what, at, size.into())?;
        self.count(bytes.len())?;
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
        self.count(usize::try_from(count)?.saturating_mul(size_of::<T>()))?;
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
    let arguments = Arguments::new(memory, asker.answer_limit(), asker.grants.network.memory());
    Ok((heap, arguments, asker))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::limits::NoRoom;

    #[test]
    fn what_is_copied_is_limited_for_a_call_and_for_an_app_and_goes_back_in_the_end() {
        let guest = vec![b'x'; 1 << 20];
        let (memory, budget) = HostMemory::of_size(1 << 20);
        let arguments = |limit| Arguments::new(GuestMemory(&guest), limit, &memory);
        let mut one = arguments(4 << 20);
        assert_eq!(one.bytes("value", 0, 1 << 20).unwrap().len(), 1 << 20);
        let of_app = one.bytes("value", 0, 1 << 20).unwrap_err();
        assert!(of_app.is::<NoRoom>(), "{of_app:#}");
        drop(one);
        assert_eq!(budget.used(), 0);
        // Two texts of no bytes take as much here as a list of them.
        let mut many = arguments(2 * size_of::<String>());
        assert_eq!(many.elements("keys", 0, 2, PAIR, |_, _| Ok(String::new())).unwrap().len(), 2);
        assert!(many.elements("keys", 0, 1, PAIR, |_, _| Ok(String::new())).is_err());
    }
}

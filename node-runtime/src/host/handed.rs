//! [`Handed`]: what a component hands over in a call, and how much memory that takes here.
//!
//! What is handed over was copied out of the guest's memory, up to a limit for each call, also where a list names the same
//! bytes many times; and a component of WASI 0.3 makes thousands of calls at a time. A server, or a store, that takes its time
//! keeps it all here, so it is counted for as long as the call goes on.

use super::{
    RuntimeContext,
    limits::{Held, HostMemory},
};

/// An argument of a guest's call.
pub(in crate::host) trait Handed {
    /// How many bytes it takes beside its own place.
    fn size(&self) -> usize;
}

impl Handed for String {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Handed for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }
}

impl<T: Handed> Handed for Option<T> {
    fn size(&self) -> usize {
        self.as_ref().map_or(0, Handed::size)
    }
}

impl<T: Handed> Handed for Vec<T> {
    fn size(&self) -> usize {
        self.iter().fold(0, |size, one| size.saturating_add(size_of::<T>()).saturating_add(one.size()))
    }
}

/// Holds `handed` in `memory`.
fn hold(memory: &HostMemory, handed: &[&dyn Handed]) -> wasmtime::Result<Held> {
    let mut held = memory.hold_all();
    held.add(handed.iter().fold(0, |size, one| size.saturating_add(one.size())))?;
    Ok(held)
}

impl Handed for usize {
    /// Of so many bytes.
    fn size(&self) -> usize {
        *self
    }
}

impl RuntimeContext {
    /// Counts what the guest hands over for as long as the result is there, which is to the end of the call.
    ///
    /// # Errors
    /// When the app's guests have all the memory that they may have.
    pub(in crate::host) fn hold(&self, handed: &[&dyn Handed]) -> wasmtime::Result<Held> {
        hold(self.grants().network.memory(), handed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::limits::NoRoom;

    #[test]
    fn bytes_that_are_handed_over_count_and_so_do_their_places_in_lists() {
        let text = || "x".repeat(100);
        assert_eq!([text().size(), "ü".to_owned().size(), vec![0_u8; 7].size()], [100, 2, 7]);
        assert_eq!(vec![text(), String::new()].size(), 100 + 2 * size_of::<String>());
        assert_eq!(vec![Some(text()), None].size(), 100 + 2 * size_of::<Option<String>>());
    }

    #[test]
    fn what_is_handed_over_comes_out_of_an_app_s_memory_until_the_call_is_over() {
        let (memory, budget) = HostMemory::of_size(1 << 20);
        let (statement, value) = ("select ?".to_owned(), vec![0_u8; 1 << 19]);
        let held = hold(&memory, &[&statement, &value]).unwrap();
        assert_eq!(budget.used(), statement.len() + value.len());
        assert!(hold(&memory, &[&value]).unwrap_err().is::<NoRoom>());
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}

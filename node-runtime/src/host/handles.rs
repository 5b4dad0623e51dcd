//! [`Handles`]: what a guest has open, by the numbers that it was given.
//!
//! Promise: at most [`CAPACITY`] things of a kind are open in one instance; a number that was never given, or is closed,
//! finds nothing; a closed number is not given again soon.

use std::collections::BTreeMap;

/// How many handles of one kind an instance may have at a time: as many as in Spin.
pub(crate) const CAPACITY: usize = 256;

/// The open things of one kind in one instance.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    open: BTreeMap<u32, T>,
    next: u32,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), next: 0 }
    }
}

impl<T> Handles<T> {
    /// Keeps `opened` and returns its number; `None` when too much is open.
    pub(crate) fn insert(&mut self, opened: T) -> Option<u32> {
        if self.open.len() >= CAPACITY {
            return None;
        }
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let handle = self.next;
        self.open.insert(handle, opened);
        self.next = self.next.wrapping_add(1);
        Some(handle)
    }

    /// What has the number `handle`.
    pub(crate) fn get(&self, handle: u32) -> Option<&T> {
        self.open.get(&handle)
    }

    /// As [`Self::get`], to change it.
    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut T> {
        self.open.get_mut(&handle)
    }

    /// Closes `handle`.
    pub(crate) fn remove(&mut self, handle: u32) -> Option<T> {
        self.open.remove(&handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_open_is_found_and_only_so_much_can_be_open() {
        let mut handles = Handles::default();
        let first = handles.insert("first").unwrap();
        for _ in 1..CAPACITY {
            handles.insert("other").unwrap();
        }
        assert_eq!(handles.insert("one too many"), None);
        assert_eq!((handles.get(first), handles.get(u32::MAX)), (Some(&"first"), None));
        assert_eq!((handles.remove(first), handles.remove(first), handles.get(first)), (Some("first"), None, None));
        let again = handles.insert("again").unwrap();
        assert_ne!(again, first);
    }
}

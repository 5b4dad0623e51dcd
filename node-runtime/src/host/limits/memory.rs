//! [`MemoryBudget`]: the linear memory of many instances together, and what the host holds for them beside it.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::Usage;

/// How many bytes instances have at the moment: as much as they could touch, whether or not they have.
#[derive(Debug, Default)]
pub(crate) struct MemoryBudget(AtomicUsize);

/// There is no memory left for another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("guests have all the memory that they may have together")]
pub(crate) struct NoRoom;

impl MemoryBudget {
    /// How many bytes are in use.
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize, limit: usize) -> bool {
        let grow = |used: usize| used.checked_add(bytes).filter(|wanted| *wanted <= limit);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Takes `bytes` of every share, or of none.
pub(super) fn take_of_all(shares: &[Share], bytes: usize) -> bool {
    for (index, share) in shares.iter().enumerate() {
        if !share.take(bytes) {
            shares.iter().take(index).for_each(|share| share.give(bytes));
            return false;
        }
    }
    true
}

/// What is held for the guests of one app beside their own memory: bodies and answers that are complete before somebody has
/// them. It comes out of the same shares. The default has no end.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostMemory(Option<Arc<[Share]>>);

/// So much of one body or answer is not counted: what is larger is what matters.
const UNCOUNTED: usize = 64 << 10;

impl HostMemory {
    /// Memory out of `shares`.
    pub(super) fn of(shares: Option<&Arc<[Share]>>) -> Self {
        Self(shares.cloned())
    }

    /// Begins to hold something, of which an instance has few at a time.
    pub(crate) fn hold(&self) -> Held {
        Held { memory: self.clone(), size: 0, uncounted: UNCOUNTED }
    }

    /// Begins to hold something, of which an instance may have thousands at a time: every byte counts.
    pub(crate) fn hold_all(&self) -> Held {
        Held { memory: self.clone(), size: 0, uncounted: 0 }
    }

    /// Holds `bytes` until nobody has them any more.
    pub(crate) fn keep(&self, bytes: Bytes) -> Result<Bytes, NoRoom> {
        let mut held = self.hold();
        held.add(bytes.len())?;
        Ok(held.keep(bytes))
    }
}

/// Something that is held. It is given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    memory: HostMemory,
    size: usize,
    /// So many of its first bytes are not counted.
    uncounted: usize,
}

/// Bytes and what they take.
struct Kept {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    /// It has so many more bytes.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let size = self.size.saturating_add(bytes);
        let more = self.counted(size) - self.counted(self.size);
        if let Some(shares) = &self.memory.0
            && more > 0
            && !take_of_all(shares, more)
        {
            return Err(NoRoom);
        }
        self.size = size;
        Ok(())
    }

    /// It has `bytes` from now on.
    pub(crate) fn becomes(&mut self, bytes: usize) -> Result<(), NoRoom> {
        self.release();
        self.add(bytes)
    }

    /// It has no bytes any more.
    pub(crate) fn release(&mut self) {
        let size = mem::take(&mut self.size);
        let counted = self.counted(size);
        if let Some(shares) = &self.memory.0
            && counted > 0
        {
            shares.iter().for_each(|share| share.give(counted));
        }
    }

    /// It is `bytes`, and held until nobody has them any more.
    pub(crate) fn keep(self, bytes: Bytes) -> Bytes {
        if self.memory.0.is_none() || self.counted(self.size) == 0 {
            return bytes;
        }
        Bytes::from_owner(Kept { bytes, _held: self })
    }

    const fn counted(&self, size: usize) -> usize {
        size.saturating_sub(self.uncounted)
    }
}

/// What an instance's last question or answer takes: until there is another one, or the instance is gone. Shared by all that
/// answers it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastAnswer(Arc<Mutex<Held>>);

impl LastAnswer {
    /// None yet.
    pub(crate) fn new(memory: &HostMemory) -> Self {
        Self(Arc::new(Mutex::new(memory.hold())))
    }

    /// There is another, of `size` bytes.
    pub(crate) fn is(&self, size: usize) -> Result<(), NoRoom> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).becomes(size)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// A budget and how much of it may be in use.
#[derive(Debug)]
pub(crate) struct Share {
    of: Of,
    limit: usize,
}

#[derive(Debug)]
enum Of {
    Process(Arc<MemoryBudget>),
    App(Arc<Usage>),
}

impl Share {
    pub(crate) fn new(process: &Arc<MemoryBudget>, limit: usize) -> Self {
        Self { of: Of::Process(Arc::clone(process)), limit }
    }

    pub(super) fn of_app(usage: &Arc<Usage>, limit: usize) -> Self {
        Self { of: Of::App(Arc::clone(usage)), limit }
    }

    fn budget(&self) -> &MemoryBudget {
        match &self.of {
            Of::Process(budget) => budget,
            Of::App(usage) => &usage.memory,
        }
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        self.budget().take(bytes, self.limit)
    }

    pub(super) fn give(&self, bytes: usize) {
        self.budget().give(bytes);
    }
}

#[cfg(test)]
impl HostMemory {
    /// Memory of so many bytes, and how much of it is in use.
    pub(crate) fn of_size(bytes: usize) -> (Self, Arc<MemoryBudget>) {
        let budget = Arc::default();
        (Self(Some(Arc::from([Share::new(&budget, bytes)]))), budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_holds_comes_out_of_the_memory_of_guests_and_goes_back_with_the_last_bytes() {
        let (memory, process) = HostMemory::of_size(1000);
        let bytes = |more: usize| Bytes::from(vec![0; UNCOUNTED + more]);
        let kept = memory.keep(bytes(600)).unwrap();
        let (half, large) = (kept.slice(1..), memory.keep(bytes(401)));
        assert_eq!((process.used(), large), (600, Err(NoRoom)));
        drop(kept);
        assert_eq!((process.used(), half.len()), (600, UNCOUNTED + 599));
        let mut held = memory.hold();
        assert_eq!([held.add(UNCOUNTED), held.add(400), held.add(1)], [Ok(()), Ok(()), Err(NoRoom)]);
        held.release();
        drop(half);
        assert_eq!(process.used(), 0);
        assert_eq!(memory.keep(bytes(0)).unwrap().len(), UNCOUNTED);
        let mut exact = memory.hold_all();
        assert_eq!([exact.add(999), exact.add(2)], [Ok(()), Err(NoRoom)]);
        assert_eq!((exact.becomes(10), process.used()), (Ok(()), 10));
        assert!(HostMemory::default().keep(bytes(1 << 20)).is_ok());
    }
}

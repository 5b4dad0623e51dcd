//! [`MemoryBudget`]: the linear memory of many instances together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

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

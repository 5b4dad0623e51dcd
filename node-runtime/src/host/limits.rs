//! What one instance may grow to, and what one app may use.

pub(crate) mod files;
mod gate;
mod memory;
mod output;
pub(crate) mod resources;

use std::{fmt, sync::Arc};

use wasmtime::ResourceLimiter;

pub(crate) use gate::{Busy, Pass, Queue};
pub(crate) use memory::{Held, HostMemory, LastAnswer, MemoryBudget, NoRoom, Share};
pub(crate) use output::Grant;

use crate::metrics::AppMetrics;
use files::{FileShare, OpenFiles};
use gate::Gate;
use output::OutputBudget;

/// How many memories and tables one instance has at most. Components have one of each per part that they were composed of.
pub(crate) const MEMORIES: u32 = 32;
/// See [`MEMORIES`].
pub(crate) const TABLES: u32 = 64;
/// How many core instances one component has at most. Python's have one per library.
pub(crate) const CORE_INSTANCES: u32 = 512;
/// How many resources (streams, pollables, headers, ...) a guest may have open at a time.
pub(crate) const RESOURCES: usize = 10_000;
/// How many handles of such resources, its own included, a guest may have at a time.
pub(crate) const HANDLES: usize = 20_000;
/// How much a component may hand over in one call, in bytes, where bodies that are held in memory are no longer.
pub(crate) const HANDED_OVER: usize = 32 << 20;

/// What one app uses at the moment, all its revisions together.
#[derive(Default)]
pub struct Usage {
    gate: Gate,
    /// Requests that the app's own guests make: they do not wait for those that wait for them.
    inner: Gate,
    output: OutputBudget,
    memory: MemoryBudget,
    files: OpenFiles,
    metrics: Option<AppMetrics>,
}

impl Usage {
    /// Nothing yet. What is refused is counted in `metrics`.
    #[must_use]
    pub fn new(metrics: AppMetrics) -> Self {
        Self { metrics: Some(metrics), ..Self::default() }
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").field("gate", &self.gate).field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// Counts the memories and tables of one store together: a guest gains nothing from having several.
#[derive(Debug)]
pub(crate) struct InstanceLimits {
    memory: usize,
    table_elements: usize,
    memory_used: usize,
    table_elements_used: usize,
    shares: Option<Arc<[Share]>>,
    pub(super) files: FileShare,
    /// What its resources take.
    pub(super) resources: Held,
}

impl InstanceLimits {
    /// Limits in bytes and elements, and of the files of the app.
    pub(crate) fn new(memory: u64, table_elements: u32, files: FileShare) -> Self {
        Self {
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            table_elements: usize::try_from(table_elements).unwrap_or(usize::MAX),
            memory_used: 0,
            table_elements_used: 0,
            shares: None,
            files,
            resources: Held::default(),
        }
    }

    /// The same, within `process` of which this app has `share` bytes.
    pub(crate) fn within(mut self, process: Share, usage: &Arc<Usage>, share: usize) -> Self {
        let app = Share::of_app(usage, share);
        self.shares = Some(Arc::from([process, app]));
        self
    }

    /// The limits of a new instance.
    pub(crate) fn fresh(&self) -> Self {
        Self {
            memory_used: 0,
            table_elements_used: 0,
            shares: self.shares.clone(),
            files: self.files.fresh(),
            resources: self.host_memory().hold(),
            memory: self.memory,
            table_elements: self.table_elements,
        }
    }

    fn shares(&self) -> &[Share] {
        self.shares.as_deref().unwrap_or_default()
    }

    /// What the host may hold for guests with these limits.
    pub(crate) fn host_memory(&self) -> HostMemory {
        HostMemory::of(self.shares.as_ref())
    }
}

impl Drop for InstanceLimits {
    fn drop(&mut self) {
        if self.memory_used > 0 {
            self.shares().iter().for_each(|share| share.give(self.memory_used));
        }
    }
}

/// What `used` becomes when something grows, if `limit` allows it.
fn grown(used: usize, current: usize, desired: usize, limit: usize) -> Option<usize> {
    Some(used.saturating_add(desired.saturating_sub(current))).filter(|wanted| *wanted <= limit)
}

impl ResourceLimiter for InstanceLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond its own maximum the growth fails anyway, and must not count.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let Some(used) = grown(self.memory_used, current, desired, self.memory) else { return Ok(false) };
        if !memory::take_of_all(self.shares(), used - self.memory_used) {
            // Without its first memory no guest can begin: that is for lack of room here, not its fault.
            return if current == 0 { Err(NoRoom.into()) } else { Ok(false) };
        }
        self.memory_used = used;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let used = grown(self.table_elements_used, current, desired, self.table_elements);
        if let Some(used) = used {
            self.table_elements_used = used;
        }
        Ok(used.is_some())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }
}

#[cfg(test)]
impl InstanceLimits {
    /// Limits in bytes and elements, of an app of its own.
    pub(crate) fn of(memory: u64, table_elements: u32) -> Self {
        Self::new(memory, table_elements, FileShare::new(&Arc::default(), usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_one_guest_share_one_limit() {
        let mut limits = InstanceLimits::of(100, 10);
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 60, None).unwrap());
        assert!(limits.memory_growing(0, 40, None).unwrap());
        assert!(!limits.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn growth_beyond_a_memory_s_own_maximum_is_refused_and_not_counted() {
        let mut limits = InstanceLimits::of(100, 10);
        assert!(!limits.memory_growing(0, 60, Some(50)).unwrap());
        assert!(limits.memory_growing(0, 50, Some(50)).unwrap());
        assert!(limits.table_growing(0, 10, None).unwrap());
        assert!(!limits.table_growing(10, 11, None).unwrap());
    }

    #[test]
    fn guests_of_all_apps_share_the_processs_memory_and_each_app_has_a_share() {
        let process = Arc::new(MemoryBudget::default());
        let (one, other) = (Arc::new(Usage::default()), Arc::new(Usage::default()));
        let limits = |usage| InstanceLimits::of(100, 0).within(Share::new(&process, 100), usage, 60);
        let (of_one, of_other) = (limits(&one), limits(&other));
        let mut first = of_one.fresh();
        assert!(first.memory_growing(0, 50, None).unwrap());
        assert!(!first.memory_growing(50, 70, None).unwrap(), "beyond the app's share");
        assert!(of_one.fresh().memory_growing(0, 20, None).unwrap_err().is::<NoRoom>());
        let mut second = of_other.fresh();
        assert!(second.memory_growing(0, 50, None).unwrap());
        assert!(!second.memory_growing(50, 51, None).unwrap(), "beyond what the process has");
        drop(first);
        assert!(second.memory_growing(50, 60, None).unwrap());
        drop(second);
        assert_eq!((process.used(), one.memory.used(), other.memory.used()), (0, 0, 0));
    }
}

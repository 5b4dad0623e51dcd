//! What one instance may grow to.

use wasmtime::ResourceLimiter;

/// Counts the memories and tables of one store together: a guest gains nothing from having several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InstanceLimits {
    memory: usize,
    table_elements: usize,
    memory_used: usize,
    table_elements_used: usize,
}

impl InstanceLimits {
    /// Limits in bytes and elements.
    pub(crate) fn new(memory: u64, table_elements: u32) -> Self {
        Self {
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            table_elements: usize::try_from(table_elements).unwrap_or(usize::MAX),
            memory_used: 0,
            table_elements_used: 0,
        }
    }
}

/// Adds `desired - current` to `used` unless that exceeds `limit`.
fn grow(used: &mut usize, current: usize, desired: usize, limit: usize) -> bool {
    let wanted = used.saturating_add(desired.saturating_sub(current));
    let granted = wanted <= limit;
    if granted {
        *used = wanted;
    }
    granted
}

impl ResourceLimiter for InstanceLimits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond its own maximum the growth fails anyway, and must not count.
        Ok(maximum.is_none_or(|maximum| desired <= maximum)
            && grow(&mut self.memory_used, current, desired, self.memory))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum)
            && grow(&mut self.table_elements_used, current, desired, self.table_elements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_one_guest_share_one_limit() {
        let mut limits = InstanceLimits::new(100, 10);
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 60, None).unwrap());
        assert!(limits.memory_growing(0, 40, None).unwrap());
        assert!(!limits.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn growth_beyond_a_memory_s_own_maximum_is_refused_and_not_counted() {
        let mut limits = InstanceLimits::new(100, 10);
        assert!(!limits.memory_growing(0, 60, Some(50)).unwrap());
        assert!(limits.memory_growing(0, 50, Some(50)).unwrap());
        assert!(limits.table_growing(0, 10, None).unwrap());
        assert!(!limits.table_growing(10, 11, None).unwrap());
    }
}

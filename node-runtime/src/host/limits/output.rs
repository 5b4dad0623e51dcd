//! [`OutputBudget`]: how much an app's guests may print.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Usage;

/// What a line costs besides its text: its labels.
const LINE: u64 = 128;

/// What was printed in the current second.
#[derive(Debug, Default)]
pub(super) struct OutputBudget {
    /// The second in the upper half, the bytes in the lower one.
    window: AtomicU64,
    /// Lines dropped and not told of yet.
    dropped: AtomicU64,
}

/// Whether a line may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// It may; before it, so many were dropped that nobody has been told of.
    Written(u64),
    /// It may not, and is the first of those.
    FirstDropped,
    /// It may not.
    Dropped,
}

impl Usage {
    /// Whether a line of `bytes` may be written in the second `second`, when `rate` bytes may in each.
    pub(crate) fn print(&self, second: u32, bytes: usize, rate: u64) -> Grant {
        if self.output.take(second, bytes as u64 + LINE, rate) {
            return Grant::Written(match self.output.dropped.load(Ordering::Relaxed) {
                0 => 0,
                _ => self.output.dropped.swap(0, Ordering::Relaxed),
            });
        }
        self.dropped_line();
        match self.output.dropped.fetch_add(1, Ordering::Relaxed) {
            0 => Grant::FirstDropped,
            _ => Grant::Dropped,
        }
    }

    /// Counts a line that was not written.
    pub(crate) fn dropped_line(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.lines_dropped.inc();
        }
    }
}

impl OutputBudget {
    fn take(&self, second: u32, bytes: u64, rate: u64) -> bool {
        let second = u64::from(second) << 32;
        let rate = rate.min(u64::from(u32::MAX));
        let add = |window: u64| {
            let printed = if window & !u64::from(u32::MAX) == second { window & u64::from(u32::MAX) } else { 0 };
            Some(printed + bytes).filter(|wanted| *wanted <= rate).map(|wanted| second | wanted)
        };
        self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_in_a_second_is_dropped_counted_and_told_once() {
        let usage = Usage::default();
        let rate = 2 * LINE + 20;
        assert_eq!(usage.print(7, 10, rate), Grant::Written(0));
        assert_eq!(usage.print(7, 10, rate), Grant::Written(0));
        assert_eq!(usage.print(7, 1, rate), Grant::FirstDropped);
        assert_eq!(usage.print(7, 0, rate), Grant::Dropped);
        assert_eq!(usage.print(8, 10, rate), Grant::Written(2));
        assert_eq!(usage.print(8, 10, rate), Grant::Written(0));
    }

    #[test]
    fn a_rate_beyond_what_can_be_counted_is_the_most_that_can_be() {
        let usage = Usage::default();
        assert_eq!(usage.print(1, 1 << 20, u64::MAX), Grant::Written(0));
    }
}

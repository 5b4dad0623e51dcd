//! Growing, jittered delays, so that many who failed together don't come back together.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// The delays after consecutive failures: each about twice the one before, up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Default for Backoff {
    /// From 50 ms to 10 s: whatever was wrong for however long, seconds after it is mended it is made up for.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Delays from about `first` to about `limit`.
    #[must_use]
    pub const fn new(first: Duration, limit: Duration) -> Self {
        Self { next: first, limit }
    }

    /// The delay before the next attempt: between three and five quarters of the nominal one.
    pub fn next_delay(&mut self) -> Duration {
        let nominal = self.next;
        self.next = nominal.saturating_mul(2).min(self.limit);
        nominal.mul_f64(0.75 + 0.5 * fraction())
    }
}

/// A number in `[0, 1)`, from the standard library's random hash keys: good enough to spread retries.
fn fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// The pauses of a watch after its failures: from half a second to [`LONGEST_PAUSE`].
///
/// Nothing but time makes them short again: before a list that is going to fail, `kube` says that one begins, and calls that
/// a success.
#[derive(Debug, Clone)]
pub struct Pauses {
    backoff: Backoff,
    last: Option<Instant>,
}

/// The longest pause of a watch, with all its jitter.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A watch that has gone well for so long starts over.
const WELL: Duration = Duration::from_secs(30);

impl Default for Pauses {
    fn default() -> Self {
        Self { backoff: Self::first(), last: None }
    }
}

impl Pauses {
    fn first() -> Backoff {
        Backoff::new(Duration::from_millis(500), LONGEST_PAUSE.mul_f64(0.8))
    }

    /// The pause after a failure `now`.
    fn after(&mut self, now: Instant) -> Duration {
        if self.last.replace(now).is_some_and(|last| now.saturating_duration_since(last) > WELL) {
            self.backoff = Self::first();
        }
        self.backoff.next_delay()
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.after(Instant::now()))
    }
}

impl kube::runtime::utils::Backoff for Pauses {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use kube::runtime::utils::Backoff as _;

    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_whatever_is_called_a_success_and_are_short_again_after_a_while() {
        let (mut pauses, mut now) = (Pauses::default(), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            last = pauses.after(now);
            assert!(last <= LONGEST_PAUSE, "{last:?}");
            now += last;
            pauses.reset();
        }
        assert!(last >= LONGEST_PAUSE / 2, "{last:?}");
        assert!(pauses.after(now + WELL * 2) < Duration::from_secs(1));
    }

    #[test]
    fn delays_grow_to_the_limit_and_are_never_equal_for_long() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] <= Duration::from_micros(62_500), "{delays:?}");
        assert!(delays[11] >= Duration::from_millis(1500) && delays[11] <= Duration::from_millis(2500), "{delays:?}");
        assert!(delays[8..].windows(2).any(|pair| pair[0] != pair[1]), "{delays:?}");
    }
}

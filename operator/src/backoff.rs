//! Growing, jittered delays, so that many who failed together don't come back together.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

/// The delays after consecutive failures: each about twice the one before, up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
}

impl Default for Backoff {
    /// From 50 ms to 30 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(30))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_are_never_equal_for_long() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] <= Duration::from_micros(62_500), "{delays:?}");
        assert!(delays[11] >= Duration::from_millis(1500) && delays[11] <= Duration::from_millis(2500), "{delays:?}");
        assert!(delays[8..].windows(2).any(|pair| pair[0] != pair[1]), "{delays:?}");
    }
}

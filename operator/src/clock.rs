//! [`Clock`]: the time that decisions are made with.
//!
//! Promise: it follows the wall clock and never jumps. Between two readings it shows what has really passed to within
//! [`HURRY`], whatever is done to the wall clock meanwhile: no deadline passes because somebody sets a clock right, and
//! what is written is right all the same, in the end.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// It runs faster or slower by one part in so many while it is not what the wall clock shows.
pub const HURRY: i32 = 20;

/// A clock that follows the wall clock.
#[derive(Debug)]
pub struct Clock(Mutex<Reading>);

/// What it showed last.
#[derive(Debug, Clone, Copy)]
struct Reading {
    shown: Timestamp,
    at: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self(Mutex::new(Reading::now()))
    }
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.followed_by(Reading::now());
        last.shown
    }

    /// Shows what the wall clock shows, from now on: nobody remembers an earlier reading.
    pub fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Reading::now();
    }
}

impl Reading {
    /// That of the wall clock.
    fn now() -> Self {
        Self { shown: Timestamp::now(), at: Instant::now() }
    }

    /// The next one, when the wall clock shows `wall`.
    fn followed_by(self, wall: Self) -> Self {
        let passed = SignedDuration::try_from(wall.at.saturating_duration_since(self.at)).unwrap_or_default();
        let due = self.shown.saturating_add(passed).unwrap_or(self.shown);
        let most = passed / HURRY;
        let off = wall.shown.duration_since(due).clamp(-most, most);
        Self { shown: due.saturating_add(off).unwrap_or(due), at: wall.at }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seconds(count: i64) -> SignedDuration {
        SignedDuration::from_secs(count)
    }

    /// Ten minutes, read every second, with a wall clock that is `off`.
    fn ten_minutes(off: SignedDuration) -> (Reading, Reading, Vec<Timestamp>) {
        let start = Reading::now();
        let mut shown = vec![start.shown];
        let mut last = start;
        for second in 1..=600 {
            let at = start.at + Duration::from_secs(second);
            let wall = start.shown + seconds(i64::try_from(second).unwrap()) + off;
            last = last.followed_by(Reading { shown: wall, at });
            shown.push(last.shown);
        }
        (start, last, shown)
    }

    #[test]
    fn a_clock_that_is_right_is_followed_exactly() {
        let (start, last, _) = ten_minutes(SignedDuration::ZERO);
        assert_eq!(last.shown, start.shown + seconds(600));
    }

    #[test]
    fn a_clock_that_is_set_by_an_hour_moves_no_time_by_more_than_a_twentieth_and_never_back() {
        for off in [seconds(3600), seconds(-3600)] {
            let (start, last, shown) = ten_minutes(off);
            let passed = last.shown.duration_since(start.shown);
            assert_eq!(passed - seconds(600), seconds(30 * off.as_secs().signum()));
            assert!(shown.is_sorted());
        }
    }

    #[test]
    fn a_clock_that_is_set_a_little_is_what_is_shown_soon() {
        let (start, last, _) = ten_minutes(seconds(20));
        assert_eq!(last.shown, start.shown + seconds(620));
    }
}

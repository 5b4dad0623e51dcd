//! [`Gate`]: leaves an API server alone that is hurting.
//!
//! Promise: while the server answers 429, 502, 503 or 504, or not at all, it is asked at most once per back-off,
//! never before the time that it asks for (`Retry-After`, up to [`LONGEST`]); when it is well again, whoever
//! waited is told at once. Watches, which come back by themselves, wait for that time only.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::backoff::Backoff;

/// The longest that a server is left alone because it asks for it.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Whether the server can be asked for something.
#[derive(Debug)]
pub struct Gate {
    /// When the server may be asked again, while it hurts.
    closed: watch::Sender<Option<Instant>>,
    backoff: Mutex<Backoff>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { closed: watch::Sender::new(None), backoff: Mutex::new(fresh()) }
    }
}

const fn fresh() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(4))
}

impl Gate {
    /// Whether the server is well, as far as anybody knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed.borrow().is_none()
    }

    /// Waits until that changes.
    pub async fn changed(&self, seen_open: bool) {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as `self`.
        let _never_closed = closed.wait_for(|closed| closed.is_none() != seen_open).await;
    }

    /// Waits for as long as the server wants to be left alone.
    pub(super) async fn waited(&self) {
        loop {
            let until = *self.closed.borrow();
            match until.filter(|until| *until > Instant::now()) {
                None => return,
                Some(until) => sleep_until(until).await,
            }
        }
    }

    /// Waits until it is time to ask how the server is.
    pub(super) async fn is_due(&self) {
        self.changed(true).await;
        self.waited().await;
    }

    /// The server could not do what it was asked for, and wants to be left alone for `wait`.
    pub(super) fn hurts(&self, wait: Option<Duration>) {
        self.hurts_at(Instant::now(), wait);
    }

    fn hurts_at(&self, now: Instant, wait: Option<Duration>) {
        let wait = wait.unwrap_or_default().min(LONGEST);
        self.closed.send_modify(|closed| match closed {
            // Known already: of those who had asked before, only what they were told counts.
            Some(until) if *until > now => *until = (*until).max(now + wait),
            Some(_) | None => *closed = Some(now + wait.max(self.next_delay())),
        });
    }

    /// The server took a write.
    pub(super) fn writes(&self) {
        *self.backoff.lock().unwrap_or_else(PoisonError::into_inner) = fresh();
        self.open();
    }

    /// The server answers.
    pub(super) fn open(&self) {
        self.closed.send_if_modified(|closed| closed.take().is_some());
    }

    fn next_delay(&self) -> Duration {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner).next_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long after `now` the server may be asked again.
    fn left(gate: &Gate, now: Instant) -> Duration {
        gate.closed.borrow().unwrap().duration_since(now)
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks_and_no_longer_than_a_minute() {
        let (gate, now) = (Gate::default(), Instant::now());
        gate.hurts_at(now, Some(Duration::from_secs(7)));
        gate.hurts_at(now, Some(Duration::from_secs(2)));
        assert_eq!(left(&gate, now), Duration::from_secs(7));
        gate.hurts_at(now, Some(Duration::from_secs(3600)));
        assert_eq!(left(&gate, now), LONGEST);
        assert!(!gate.is_open());
        gate.open();
        assert!(gate.is_open());
    }

    #[test]
    fn a_server_that_goes_on_hurting_is_asked_less_and_less_until_it_takes_a_write() {
        let gate = Gate::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            gate.hurts_at(now, None);
            // The others that failed at the same time make it no longer.
            gate.hurts_at(now, None);
            waits.push(left(&gate, now));
            now += left(&gate, now);
            gate.open();
        }
        assert!(waits[0] < Duration::from_millis(130) && waits[9] > Duration::from_secs(3), "{waits:?}");
        gate.writes();
        gate.hurts_at(now, None);
        assert!(left(&gate, now) < Duration::from_millis(130));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_when_the_server_is_well() {
        let gate = Gate::default();
        gate.hurts(None);
        let mut told = std::pin::pin!(gate.changed(false));
        assert!(futures::poll!(told.as_mut()).is_pending());
        gate.open();
        told.await;
    }
}

//! The processor time of one request.
//!
//! Time is counted in the epoch's ticks: those that pass while a guest's call is polled are its own. That costs two loads
//! of a counter per poll, and a process that the system holds back (a cgroup's quota) is not counted as computing, because
//! its ticker is held back as well. A guest that computes for less than a tick at a time pays for the ticks that it meets.

use std::{cell::Cell, future::poll_fn, pin::pin};

use super::ticker::Clock;

thread_local! {
    /// Whether the guest that this thread runs has used up its time.
    static OVERDUE: Cell<bool> = const { Cell::new(false) };
}

/// A guest computed for longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest was stopped because it had used up its processor time")]
pub(crate) struct CpuExceeded;

/// Whether the guest that this thread runs has used up its time: asked by guests that compute, once a tick.
pub(crate) fn is_overdue() -> bool {
    OVERDUE.get()
}

/// Runs a guest's call, which is overdue once it has computed for `limit` ticks.
pub(super) async fn metered<F: Future>(clock: Clock, limit: u64, call: F) -> F::Output {
    let mut call = pin!(call);
    let mut spent = 0_u64;
    poll_fn(|context| {
        // A guest may call another in the same process: each has its own time.
        let outer = OVERDUE.replace(spent >= limit);
        let began = clock.ticks();
        let polled = call.as_mut().poll(context);
        spent = spent.saturating_add(clock.ticks().saturating_sub(began));
        OVERDUE.set(outer);
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn time_passes_while_a_call_is_polled_and_not_while_it_waits() {
        let clock = Clock::default();
        let mut steps = 0;
        let mine = clock.clone();
        // Computes for two ticks in each of its first polls.
        let call = poll_fn(move |_| {
            steps += 1;
            if steps > 3 {
                return Poll::Ready(is_overdue());
            }
            assert_eq!(is_overdue(), steps > 2, "in poll {steps}");
            mine.advance();
            mine.advance();
            Poll::Pending
        });
        let mut call = Box::pin(metered(clock.clone(), 3, call));
        for _ in 0..3 {
            assert!((&mut call).now_or_never().is_none());
            for _ in 0..10 {
                clock.advance();
            }
            assert!(!is_overdue());
        }
        assert_eq!(call.now_or_never(), Some(true));
    }
}

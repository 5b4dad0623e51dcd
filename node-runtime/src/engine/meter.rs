//! The processor time of one request.
//!
//! Time is counted in the epoch's ticks: those that pass while a guest's call is polled are its own. That costs two loads
//! of a counter per poll, and a process that the system holds back (a cgroup's quota) is not counted as computing, because
//! its ticker is held back as well. A guest that computes for less than a tick at a time pays for the ticks that it meets.

use std::{cell::Cell, future::poll_fn, pin::pin};

use super::{ticker::Clock, turns::Turn};

/// A guest that has computed for so many ticks computes for long.
const LONG: u64 = 2;

thread_local! {
    /// Whether the guest that this thread runs has used up its time.
    static OVERDUE: Cell<bool> = const { Cell::new(false) };
    /// How long it had computed when the current poll began, and when that was, in ticks.
    static COMPUTED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    /// The turn by which it goes on.
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// A guest computed for longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest was stopped because it had used up its processor time")]
pub(crate) struct CpuExceeded;

/// Whether the guest that this thread runs has used up its time: asked by guests that compute, once a tick.
pub(crate) fn is_overdue() -> bool {
    OVERDUE.get()
}

/// Whether the guest that this thread runs has computed for more than a moment, by the clock of its engine.
pub(crate) fn has_computed_for_long(clock: &Clock) -> bool {
    let (before, began) = COMPUTED.get();
    before.saturating_add(clock.ticks().saturating_sub(began)) >= LONG
}

/// The guest that this thread runs goes on by this turn, until it next yields or waits.
pub(crate) fn go_on(turn: Turn) {
    TURN.set(Some(turn));
}

/// Runs a guest's call, which is overdue once it has computed for `limit` ticks.
pub(super) async fn metered<F: Future>(clock: Clock, limit: u64, call: F) -> F::Output {
    let mut call = pin!(call);
    let mut spent = 0_u64;
    poll_fn(|context| {
        // A guest may call another in the same process: each has its own time.
        let outer = OVERDUE.replace(spent >= limit);
        let began = clock.ticks();
        let outer_computed = COMPUTED.replace((spent, began));
        let polled = call.as_mut().poll(context);
        spent = spent.saturating_add(clock.ticks().saturating_sub(began));
        OVERDUE.set(outer);
        COMPUTED.set(outer_computed);
        drop(TURN.take());
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::FutureExt as _;

    use super::*;
    use crate::engine::turns::Turns;

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

    #[test]
    fn a_guest_computes_for_long_after_two_ticks_of_its_own_and_keeps_a_turn_for_one_poll() {
        let (clock, turns) = (Clock::default(), Turns::new(1));
        let (mine, free) = (clock.clone(), turns.clone());
        let mut steps = 0;
        let call = poll_fn(move |_| {
            steps += 1;
            assert_eq!(has_computed_for_long(&mine), steps > 2, "in poll {steps}");
            if steps == 4 {
                return Poll::Ready(());
            }
            go_on(free.next(1).now_or_never().expect("the turn of the poll before is not over"));
            mine.advance();
            Poll::Pending
        });
        let mut call = Box::pin(metered(clock.clone(), u64::MAX, call));
        for _ in 0..3 {
            assert!((&mut call).now_or_never().is_none());
            // It waits.
            (0..10).for_each(|_| clock.advance());
            assert!(turns.next(1).now_or_never().is_some(), "nobody goes on");
        }
        assert_eq!(call.now_or_never(), Some(()));
    }
}

//! [`Turns`]: which of the guests that compute goes on.
//!
//! Promise: of guests that compute for long, no more go on at a time than there are processors, so that what else is ready is
//! never behind all of them; apps take turns, however many guests one has; who waits and goes away is passed over.
//!
//! Absent on purpose: guests that compute for a moment ([`super::meter::has_computed_for_long`]), which is most of them, and
//! priorities.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// Hands out turns.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Mutex<State>>);

struct State {
    free: usize,
    /// Apps whose guests wait, the next one first. None is there without a guest.
    waiting: VecDeque<(usize, VecDeque<oneshot::Sender<Turn>>)>,
}

/// The right to go on, for a tick. Whoever waits has it next.
pub(crate) struct Turn(Option<Turns>);

impl Turns {
    /// For so many processors, at least one.
    pub(super) fn new(processors: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: processors.max(1), waiting: VecDeque::new() })))
    }

    /// The next turn of a guest of `app`, a number that no other app has.
    pub(crate) async fn next(&self, app: usize) -> Turn {
        loop {
            let Some(turn) = self.take_or_wait(app) else { return Turn(Some(self.clone())) };
            if let Ok(turn) = turn.await {
                return turn;
            }
        }
    }

    /// Takes a free turn, or waits for one.
    fn take_or_wait(&self, app: usize) -> Option<oneshot::Receiver<Turn>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.free > 0 {
            state.free -= 1;
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        match state.waiting.iter_mut().find(|(other, _)| *other == app) {
            Some((_, guests)) => guests.push_back(sender),
            None => state.waiting.push_back((app, VecDeque::from([sender]))),
        }
        Some(receiver)
    }

    /// Who is next; one more turn is free if nobody is.
    fn next_waiting(&self) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((app, mut guests)) = state.waiting.pop_front() else {
            state.free += 1;
            return None;
        };
        let first = guests.pop_front();
        if !guests.is_empty() {
            state.waiting.push_back((app, guests));
        }
        first
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        while let Some(guest) = turns.next_waiting() {
            match guest.send(Self(Some(turns.clone()))) {
                Ok(()) => return,
                // It has gone away.
                Err(mut unwanted) => unwanted.0 = None,
            }
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::BoxFuture};

    use super::*;

    fn wait(turns: &Turns, app: usize) -> BoxFuture<'static, Turn> {
        let turns = turns.clone();
        let mut waiting = async move { turns.next(app).await }.boxed();
        assert!((&mut waiting).now_or_never().is_none(), "there is a free turn");
        waiting
    }

    fn take(turns: &Turns, app: usize) -> Turn {
        turns.next(app).now_or_never().expect("there is no free turn")
    }

    #[test]
    fn apps_take_turns_however_many_guests_one_has() {
        let turns = Turns::new(1);
        let mut current = Some(take(&turns, 1));
        let mut waiting: Vec<(usize, BoxFuture<'_, Turn>)> =
            [1, 1, 1, 1, 2, 1, 3, 3].into_iter().map(|app| (app, wait(&turns, app))).collect();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(current.take());
            let ready = waiting.iter_mut().position(|(_, guest)| {
                let Some(turn) = guest.now_or_never() else { return false };
                current = Some(turn);
                true
            });
            order.push(waiting.remove(ready.expect("nobody has the turn")).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 3, 1, 1, 1]);
        drop(current);
        assert!(turns.next(9).now_or_never().is_some());
    }

    #[test]
    fn no_more_go_on_than_there_are_processors_and_who_goes_away_takes_no_turn_along() {
        let turns = Turns::new(2);
        let (first, second) = (take(&turns, 1), take(&turns, 1));
        let (gone, also_gone, stays) = (wait(&turns, 1), wait(&turns, 2), wait(&turns, 3));
        drop(gone);
        drop(first);
        // It was given the turn, and has not looked.
        drop(also_gone);
        let third = stays.now_or_never().expect("the turn is lost");
        drop((second, third));
        let both = (take(&turns, 1), take(&turns, 1));
        drop(wait(&turns, 1));
        drop(both);
        assert_eq!(turns.0.lock().unwrap().free, 2);
    }
}

//! [`Fence`]: only one stream commands.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Lets in one stream at a time, by term.
#[derive(Debug, Default)]
pub(super) struct Fence {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The highest term met.
    term: u64,
    entries: u64,
    /// The stream that commands.
    current: Option<(u64, CancellationToken)>,
}

/// The right to command, until another stream takes it.
#[derive(Debug)]
pub(super) struct Command<'a> {
    fence: &'a Fence,
    entry: u64,
    lost: CancellationToken,
}

impl Fence {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes command for a stream of `term`.
    ///
    /// # Errors
    /// The highest term met, if that is higher.
    pub(super) fn enter(&self, term: u64) -> Result<Command<'_>, u64> {
        let mut state = self.state();
        if term < state.term {
            return Err(state.term);
        }
        state.term = term;
        state.entries += 1;
        let (entry, lost) = (state.entries, CancellationToken::new());
        if let Some((_, earlier)) = state.current.replace((entry, lost.clone())) {
            earlier.cancel();
        }
        Ok(Command { fence: self, entry, lost })
    }

    /// Whether a stream commands.
    pub(super) fn is_taken(&self) -> bool {
        self.state().current.is_some()
    }
}

impl Command<'_> {
    /// Resolves when another stream has taken over.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Does `action` if this stream still commands; nothing can take over while it is done.
    pub(super) fn while_held(&self, action: impl FnOnce()) -> bool {
        let state = self.fence.state();
        let held = state.current.as_ref().is_some_and(|(entry, _)| *entry == self.entry);
        if held {
            action();
        }
        held
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        let mut state = self.fence.state();
        if state.current.as_ref().is_some_and(|(entry, _)| *entry == self.entry) {
            state.current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_of_the_same_or_a_higher_term_takes_over_and_a_lower_one_is_refused() {
        let fence = Fence::default();
        let first = fence.enter(5).unwrap();
        assert!(first.while_held(|| {}));
        assert_eq!(fence.enter(4).unwrap_err(), 5);
        assert!(first.while_held(|| {}), "a refused stream changes nothing");
        let second = fence.enter(5).unwrap();
        first.lost().await;
        assert!(!first.while_held(|| panic!("another commands")));
        drop(first);
        assert!(second.while_held(|| {}), "what has lost command takes nothing with it");
        let third = fence.enter(9).unwrap();
        second.lost().await;
        drop(third);
        assert!(!fence.is_taken());
        assert_eq!(fence.enter(8).unwrap_err(), 9, "the term is remembered");
    }
}

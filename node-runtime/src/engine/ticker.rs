//! The epoch ticker: the clock by which a computing guest yields and is stopped.
//!
//! Promise: one thread per engine, which sleeps without waking as long as no guest runs.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use wasmtime::EngineWeak;

use super::turns::Turns;

/// The thread that advances the epoch while guests run.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    running: AtomicUsize,
    stopped: AtomicBool,
    clock: Clock,
    turns: Turns,
}

impl Default for Shared {
    fn default() -> Self {
        // As many as the runtime has threads.
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            running: AtomicUsize::default(),
            stopped: AtomicBool::default(),
            clock: Clock::default(),
            turns: Turns::new(processors),
        }
    }
}

/// How many ticks there have been. Clones are the same clock.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(super) fn ticks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// While one of these lives, the epoch advances.
pub(crate) struct Running {
    shared: Arc<Shared>,
}

impl Ticker {
    /// Starts the thread; it ends with the ticker, or with the engine.
    pub(super) fn start(engine: EngineWeak, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        let handle = thread::Builder::new().name("epoch".to_owned()).spawn(move || advance(&mine, &engine, tick))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// The clock that it advances.
    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Counts one more guest that runs.
    pub(super) fn running(&self) -> Running {
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0 {
            // Costs a system call only if the thread is asleep.
            self.thread.unpark();
        }
        Running { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Running {
    /// The clock by which it computes.
    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The turns that it takes with others that compute.
    pub(crate) fn turns(&self) -> &Turns {
        &self.shared.turns
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn advance(shared: &Shared, engine: &EngineWeak, tick: Duration) {
    while !shared.stopped.load(Ordering::SeqCst) {
        if shared.running.load(Ordering::SeqCst) == 0 {
            // An unpark since the last park makes this return at once.
            thread::park();
            continue;
        }
        thread::sleep(tick);
        let Some(engine) = engine.upgrade() else { return };
        shared.clock.advance();
        engine.increment_epoch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticker_advances_only_while_something_runs_and_ends_when_dropped() {
        let shared = Arc::new(Shared::default());
        let engine = wasmtime::Engine::default();
        let weak = engine.weak();
        let mine = Arc::clone(&shared);
        let thread = thread::spawn(move || advance(&mine, &weak, Duration::from_millis(1)));
        let ticker = Ticker { shared: Arc::clone(&shared), thread: thread.thread().clone() };
        let running = ticker.running();
        assert_eq!(shared.running.load(Ordering::SeqCst), 1);
        drop(running);
        assert_eq!(shared.running.load(Ordering::SeqCst), 0);
        drop(ticker);
        thread.join().unwrap();
    }
}

//! In which order compilations run.
//!
//! There are two lanes with threads of their own, so that a guest with a language's whole runtime in it (12 MiB of wasm are ten
//! seconds of work) delays only its like. In each lane the smallest goes first; what waits gains on what comes later, so
//! everything gets its turn. A compilation that nobody waits for any more is never begun.
//!
//! Promise: of large ones one runs at a time, on all threads of its lane, because each takes some hundred megabytes of
//! memory. What waits costs a few bytes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::EngineError;

/// From which size on a compilation is a large one, in bytes of wasm. Below, it takes a fraction of a second.
const LARGE: u64 = 1 << 20;
/// How much smaller something counts for each millisecond that it has waited, in bytes: 1 MiB a second.
const AGEING: u64 = 1 << 10;
/// How much the threads yield to the serving ones (Linux: per thread, 0 to 19).
const NICENESS: i32 = 10;

/// Work that waits.
pub(super) struct Job {
    /// Bytes of wasm.
    size: u64,
    since: Instant,
    is_wanted: Box<dyn Fn() -> bool + Send>,
    run: Box<dyn FnOnce() + Send>,
}

impl Job {
    /// To `run` unless `is_wanted` says no by then.
    pub(super) fn new(
        size: u64,
        is_wanted: impl Fn() -> bool + Send + 'static,
        run: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { size, since: Instant::now(), is_wanted: Box::new(is_wanted), run: Box::new(run) }
    }

    /// Smaller goes first.
    fn rank(&self, now: Instant) -> u64 {
        let waited = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.size.saturating_sub(waited.saturating_mul(AGEING))
    }
}

/// Both lanes.
pub(super) struct CompileQueue {
    small: Arc<Lane>,
    large: Arc<Lane>,
}

struct Lane {
    threads: rayon::ThreadPool,
    /// How many may run at a time.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Job>,
    running: usize,
}

impl CompileQueue {
    /// Lanes of `threads` threads each.
    pub(super) fn new(threads: usize) -> Result<Self, EngineError> {
        let threads = threads.max(1);
        Ok(Self { small: Lane::new("compile", threads, threads)?, large: Lane::new("compile-large", threads, 1)? })
    }

    /// Runs `job` when it is its turn.
    pub(super) fn push(&self, job: Job) {
        let lane = if job.size < LARGE { &self.small } else { &self.large };
        lane.lock().waiting.push(job);
        lane.start_next();
    }
}

impl Lane {
    fn new(name: &'static str, threads: usize, limit: usize) -> Result<Arc<Self>, EngineError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |index| format!("{name}-{index}"))
            .start_handler(|_| {
                // Worth trying only: some sandboxes forbid it.
                let _niceness = rustix::process::nice(NICENESS);
            })
            // Without one, a panic would end the process; the waiting builder learns that there is no code.
            .panic_handler(|_| tracing::error!("the compiler panicked"))
            .build()
            .map_err(|error| EngineError::Thread { role: "compiler", source: std::io::Error::other(error) })?;
        Ok(Arc::new(Self { threads, limit, state: Mutex::default() }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins what is first, if there is room for it.
    fn start_next(self: &Arc<Self>) {
        let Some(job) = self.lock().next(self.limit, Instant::now()) else { return };
        let turn = Turn(Arc::clone(self));
        self.threads.spawn(move || {
            let _turn = turn;
            (job.run)();
        });
    }
}

/// The place of a job that runs. It is free again when this is dropped, also by a panic.
struct Turn(Arc<Lane>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.start_next();
    }
}

impl State {
    /// Takes out what is to run now.
    fn next(&mut self, limit: usize, now: Instant) -> Option<Job> {
        if self.running >= limit {
            return None;
        }
        self.waiting.retain(|job| (job.is_wanted)());
        let first = self.waiting.iter().enumerate().min_by_key(|(_, job)| job.rank(now)).map(|(index, _)| index)?;
        self.running += 1;
        Some(self.waiting.swap_remove(first))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// The sizes in the order in which they run, one at a time, given what waits: size and how long.
    fn order(jobs: &[(u64, u64)]) -> Vec<u64> {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut state = State::default();
        for (size, waited_ms) in jobs {
            let mut job = Job::new(*size, || true, || {});
            job.since = now - Duration::from_millis(*waited_ms);
            state.waiting.push(job);
        }
        let sizes = std::iter::from_fn(|| {
            let job = state.next(1, now)?;
            state.running -= 1;
            Some(job.size)
        });
        sizes.collect()
    }

    #[test]
    fn the_smallest_goes_first_and_waiting_counts() {
        assert_eq!(order(&[(30 << 20, 0), (2 << 20, 0), (12 << 20, 0)]), [2 << 20, 12 << 20, 30 << 20]);
        // It has waited for a minute, and is as good as any.
        assert_eq!(order(&[(2 << 20, 0), (30 << 20, 60_000)]), [30 << 20, 2 << 20]);
    }

    #[test]
    fn what_nobody_waits_for_is_never_begun_and_no_more_run_than_may() {
        let now = Instant::now();
        let mut state = State::default();
        state.waiting.push(Job::new(1, || false, || {}));
        state.waiting.push(Job::new(2, || true, || {}));
        state.waiting.push(Job::new(3, || true, || {}));
        assert_eq!(state.next(1, now).unwrap().size, 2);
        assert!(state.next(1, now).is_none());
        assert_eq!(state.waiting.len(), 1);
    }

    #[test]
    fn a_small_one_overtakes_a_large_one_that_runs_and_a_panic_frees_its_place() {
        let queue = CompileQueue::new(1).unwrap();
        let (finish_large, large) = mpsc::channel::<()>();
        let (done, small) = mpsc::channel();
        queue.push(Job::new(LARGE, || true, move || large.recv().unwrap()));
        queue.push(Job::new(1, || true, || panic!("as a compiler might")));
        queue.push(Job::new(2, || true, move || done.send(()).unwrap()));
        // It would wait for ever if the large one had to end first.
        small.recv().unwrap();
        finish_large.send(()).unwrap();
    }
}

//! [`Gate`]: how many requests of an app run at a time, and how many wait.
//!
//! Promise: while nobody waits, a request passes with two atomic operations and no lock. Whoever waits longest goes first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::Usage;

/// The requests of one app.
#[derive(Debug, Default)]
pub(super) struct Gate {
    running: AtomicU32,
    waiting: AtomicU32,
    freed: Notify,
}

/// How many requests may run, how many may wait for one of them to end, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) patience: Duration,
}

/// Why a request may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// As many wait as may.
    Full,
    /// None of those that ran ended in time.
    TimedOut,
}

/// The right of one request to run. Dropped when it has ended.
#[derive(Debug)]
pub(crate) struct Pass {
    usage: Arc<Usage>,
    /// Whether a guest of the app asked.
    inner: bool,
}

/// A place among those that wait.
struct Waiting<'a>(&'a Usage);

impl Usage {
    /// Waits until a request may run.
    pub(crate) async fn enter(self: &Arc<Self>, queue: &Queue) -> Result<Pass, Busy> {
        // Nobody overtakes those who wait.
        if self.gate.waiting.load(Ordering::SeqCst) == 0 && self.gate.admit(queue.running) {
            return Ok(self.pass(false));
        }
        let waiting = self.wait(queue)?;
        let entered = timeout(queue.patience, self.gate.turn(queue)).await;
        drop(waiting);
        if entered.is_err() {
            return Err(Busy::TimedOut);
        }
        // There may be room for more than one, if the limit was raised.
        self.gate.wake();
        Ok(self.pass(false))
    }

    /// The same for a request that a guest of the app makes: it never waits, because what runs may be waiting for it.
    pub(crate) fn enter_inner(self: &Arc<Self>, most: u32) -> Result<Pass, Busy> {
        let admitted = self.inner.admit(most);
        if admitted { Ok(self.pass(true)) } else { Err(Busy::Full) }
    }

    fn pass(self: &Arc<Self>, inner: bool) -> Pass {
        Pass { usage: Arc::clone(self), inner }
    }

    fn wait(&self, queue: &Queue) -> Result<Waiting<'_>, Busy> {
        let one_more = |waiting: u32| (waiting < queue.waiting).then(|| waiting + 1);
        let joined = self.gate.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        joined.map_err(|_| Busy::Full)?;
        if let Some(metrics) = &self.metrics {
            metrics.waiting.inc();
        }
        Ok(Waiting(self))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.gate.waiting.fetch_sub(1, Ordering::SeqCst);
        if let Some(metrics) = &self.0.metrics {
            metrics.waiting.dec();
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let gate = if self.inner { &self.usage.inner } else { &self.usage.gate };
        gate.running.fetch_sub(1, Ordering::SeqCst);
        gate.wake();
    }
}

impl Gate {
    fn admit(&self, most: u32) -> bool {
        let one_more = |running: u32| (running < most).then(|| running + 1);
        self.running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    /// Lets the next of those who wait look. Whoever begins to wait looks once more after it is counted, so that either
    /// it sees the free place, or is seen here.
    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    async fn turn(&self, queue: &Queue) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.admit(queue.running) {
                return;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};

    use super::*;

    fn queue(running: u32, waiting: u32) -> Queue {
        Queue { running, waiting, patience: Duration::from_secs(60) }
    }

    #[tokio::test]
    async fn those_who_wait_go_in_order_and_nobody_overtakes_them() {
        let usage = Arc::new(Usage::default());
        let limits = queue(1, 2);
        let first = usage.enter(&limits).await.unwrap();
        let mut second = Box::pin(usage.enter(&limits));
        let mut third = Box::pin(usage.enter(&limits));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        assert_eq!(usage.enter(&limits).await.unwrap_err(), Busy::Full);
        drop(first);
        let mut late = Box::pin(usage.enter(&limits));
        assert!(matches!((&mut late).now_or_never(), Some(Err(Busy::Full))), "the two before it still wait");
        let second = second.await.unwrap();
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        drop(third.await.unwrap());
        drop(usage.enter(&limits).await.unwrap());
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_takes_no_turn_from_others() {
        let usage = Arc::new(Usage::default());
        let limits = queue(1, 8);
        let first = usage.enter(&limits).await.unwrap();
        let mut leaver = Box::pin(usage.enter(&limits));
        let mut stayer = Box::pin(usage.enter(&limits));
        assert!((&mut leaver).now_or_never().is_none() && (&mut stayer).now_or_never().is_none());
        drop(first);
        drop(leaver);
        drop(stayer.await.unwrap());
        let impatient = Queue { patience: Duration::ZERO, ..limits };
        let holder = usage.enter(&limits).await.unwrap();
        assert_eq!(usage.enter(&impatient).await.unwrap_err(), Busy::TimedOut);
        drop(holder);
        drop(usage.enter(&queue(1, 0)).await.unwrap());
    }

    #[tokio::test]
    async fn a_guest_that_calls_its_own_app_does_not_wait_for_itself() {
        let usage = Arc::new(Usage::default());
        let outer = usage.enter(&queue(1, 0)).await.unwrap();
        let inner = usage.enter_inner(1).unwrap();
        assert_eq!(usage.enter_inner(1).unwrap_err(), Busy::Full);
        drop((outer, inner));
        drop((usage.enter_inner(1).unwrap(), usage.enter(&queue(1, 0)).await.unwrap()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_come_at_once_no_more_run_than_may_and_all_get_their_turn() {
        let usage = Arc::new(Usage::default());
        let (limits, most) = (queue(3, 1000), Arc::new(AtomicU32::new(0)));
        let requests = (0..500).map(|_| {
            let (usage, most) = (Arc::clone(&usage), Arc::clone(&most));
            #[expect(clippy::disallowed_methods, reason = "awaited below")]
            tokio::spawn(async move {
                let pass = usage.enter(&limits).await.unwrap();
                most.fetch_max(usage.gate.running.load(Ordering::SeqCst), Ordering::SeqCst);
                tokio::task::yield_now().await;
                drop(pass);
            })
        });
        for request in join_all(requests).await {
            request.unwrap();
        }
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(usage.gate.running.load(Ordering::SeqCst), 0);
    }
}

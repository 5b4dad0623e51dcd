//! The queue of apps to look at.
//!
//! Promise: an app is looked at by one reconcile at a time; however often it is added meanwhile, once
//! more is enough; one that fails comes back after a growing, jittered delay, and a new reason to look
//! overrides the delay.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control::AppKey;
use tokio::{sync::Notify, time::Instant};

use crate::backoff::Backoff;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// One app.
    App(AppKey),
    /// Every app: the fleet of runtimes has changed.
    Fleet,
}

/// When to look at an app again without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Not before something changes.
    OnChange,
    /// After this long.
    After(Duration),
    /// After a back-off: the last look failed.
    Backoff,
}

/// A queue of apps without duplicates.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    fleet: bool,
    ready: VecDeque<AppKey>,
    queued: HashSet<AppKey>,
    running: HashSet<AppKey>,
    /// Added while they were running.
    again: HashSet<AppKey>,
    later: BTreeSet<(Instant, AppKey)>,
    due: HashMap<AppKey, Instant>,
    failing: HashMap<AppKey, Backoff>,
}

impl Queue {
    /// Adds something to look at now.
    pub fn add(&self, trigger: Trigger) {
        let mut inner = self.lock();
        match trigger {
            Trigger::Fleet => inner.fleet = true,
            Trigger::App(app) => inner.add(app),
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// The next thing to look at; an app counts as running until [`Queue::done`].
    pub async fn next(&self) -> Trigger {
        loop {
            let wake = {
                let mut inner = self.lock();
                if let Some(trigger) = inner.pop(Instant::now()) {
                    return trigger;
                }
                inner.later.first().map(|(at, _)| *at)
            };
            match wake {
                None => self.changed.notified().await,
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// The reconcile of `app` has ended.
    pub fn done(&self, app: &AppKey, again: Again) {
        let mut inner = self.lock();
        inner.running.remove(app);
        let delay = match again {
            Again::Backoff => Some(inner.failing.entry(app.clone()).or_default().next_delay()),
            Again::OnChange | Again::After(_) => {
                inner.failing.remove(app);
                if let Again::After(delay) = again { Some(delay) } else { None }
            }
        };
        if inner.again.remove(app) {
            inner.add(app.clone());
        } else if let Some(delay) = delay {
            inner.add_later(app.clone(), Instant::now() + delay);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Whether `app`, which is being looked at, has been added meanwhile.
    #[must_use]
    pub fn comes_again(&self, app: &AppKey) -> bool {
        self.lock().again.contains(app)
    }

    /// Forgets everything, as when another leads.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// How many apps wait to be looked at now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.lock().ready.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, app: AppKey) {
        if self.running.contains(&app) {
            self.again.insert(app);
        } else if self.queued.insert(app.clone()) {
            if let Some(at) = self.due.remove(&app) {
                self.later.remove(&(at, app.clone()));
            }
            self.ready.push_back(app);
        }
    }

    fn add_later(&mut self, app: AppKey, at: Instant) {
        if let Some(old) = self.due.insert(app.clone(), at) {
            self.later.remove(&(old, app.clone()));
        }
        self.later.insert((at, app));
    }

    fn pop(&mut self, now: Instant) -> Option<Trigger> {
        if std::mem::take(&mut self.fleet) {
            return Some(Trigger::Fleet);
        }
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, app)) = self.later.pop_first() {
                self.due.remove(&app);
                self.add(app);
            }
        }
        let app = self.ready.pop_front()?;
        self.queued.remove(&app);
        self.running.insert(app.clone());
        Some(Trigger::App(app))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppKey {
        AppKey::new("shop", name).unwrap()
    }

    fn add(queue: &Queue, name: &str) {
        queue.add(Trigger::App(app(name)));
    }

    #[tokio::test]
    async fn an_app_added_twice_is_looked_at_once() {
        let queue = Queue::default();
        add(&queue, "a");
        add(&queue, "a");
        add(&queue, "b");
        assert_eq!(queue.next().await, Trigger::App(app("a")));
        assert_eq!(queue.next().await, Trigger::App(app("b")));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn an_app_added_while_it_is_looked_at_comes_once_more_and_not_before() {
        let queue = Queue::default();
        add(&queue, "a");
        queue.next().await;
        add(&queue, "a");
        add(&queue, "a");
        assert_eq!(queue.depth(), 0);
        queue.done(&app("a"), Again::OnChange);
        assert_eq!(queue.next().await, Trigger::App(app("a")));
        queue.done(&app("a"), Again::OnChange);
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn a_failing_app_comes_back_later_and_later_but_a_change_brings_it_back_now() {
        let queue = Queue::default();
        add(&queue, "a");
        queue.next().await;
        let mut waited = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.done(&app("a"), Again::Backoff);
            queue.next().await;
            waited.push(start.elapsed());
        }
        assert!(waited[3] > waited[0] * 2, "{waited:?}");
        queue.done(&app("a"), Again::Backoff);
        let start = Instant::now();
        add(&queue, "a");
        assert_eq!(queue.next().await, Trigger::App(app("a")));
        assert!(start.elapsed() < waited[3], "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn an_app_to_be_looked_at_later_is_not_looked_at_twice() {
        let queue = Queue::default();
        add(&queue, "a");
        queue.next().await;
        queue.done(&app("a"), Again::After(Duration::from_millis(30)));
        add(&queue, "a");
        queue.next().await;
        queue.done(&app("a"), Again::OnChange);
        let idle = tokio::time::timeout(Duration::from_millis(150), queue.next()).await;
        assert!(idle.is_err());
    }
}

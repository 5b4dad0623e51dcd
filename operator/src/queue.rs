//! The queue of apps to look at.
//!
//! Promise: an app is looked at by one reconcile at a time; however often it is added meanwhile, once
//! more is enough; one that fails comes back after a growing, jittered delay, and a new reason to look
//! overrides the delay. Of all that fail, no more than [`RETRIES_PER_SECOND`] come back, after a burst of
//! [`RETRY_BURST`]. Those that wait for their turn to write come back one by one, in order, and are looked at
//! again as if nothing had been decided: what is written is never what was true a while ago.
//!
//! When the fleet changes, every app is looked at, but nothing of that keeps an app waiting which has a reason of its
//! own; and one such round has ended, and has begun [`ROUNDS_APART`] ago, before the next begins.
//!
//! While nobody leads here it is closed: what happens then, the next leader sees when it looks at everything.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control::AppKey;
use tokio::{sync::Notify, time::Instant};

use crate::backoff::Backoff;

/// How many apps that failed come back per second, all together.
pub const RETRIES_PER_SECOND: u32 = 20;

/// How many may come back as soon as their own delay is over before that holds.
pub const RETRY_BURST: u32 = 100;

/// How far apart rounds of all apps begin.
pub const ROUNDS_APART: Duration = Duration::from_millis(500);

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
    /// When there is room to write: see [`Queue::next`].
    WhenRoom,
}

/// A queue of apps without duplicates.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    /// Whether every app is to be looked at.
    fleet: bool,
    /// When the last round began.
    round: Option<Instant>,
    /// What is left of it, in order; one that has had a reason of its own since is in `due_in_round` no more.
    rest_of_round: VecDeque<AppKey>,
    due_in_round: HashSet<AppKey>,
    ready: VecDeque<AppKey>,
    queued: HashSet<AppKey>,
    running: HashSet<AppKey>,
    /// Added while they were running.
    again: HashSet<AppKey>,
    later: BTreeSet<(Instant, AppKey)>,
    due: HashMap<AppKey, Instant>,
    failing: HashMap<AppKey, Backoff>,
    /// Those that wait for room to write, in order, and the place of each.
    line: BTreeMap<u64, AppKey>,
    parked: HashMap<AppKey, u64>,
    places: u64,
    /// Whether the last one came from the line.
    from_line: bool,
    /// When the next retry may be, if all retries were evenly spread.
    next_retry: Option<Instant>,
}

impl Queue {
    /// Adds something to look at now.
    pub fn add(&self, trigger: Trigger) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        match trigger {
            Trigger::Fleet => inner.fleet = true,
            Trigger::App(app) => inner.add(app),
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Begins a round: adds every app, after all that have a reason of their own.
    pub fn add_round(&self, apps: Vec<AppKey>) {
        let mut inner = self.lock();
        for app in apps {
            inner.add_to_round(app);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// The next thing to look at; an app counts as running until [`Queue::done`]. With `room` to write, those that wait
    /// for it take turns with those that are new.
    pub async fn next(&self, room: bool) -> Trigger {
        loop {
            let wake = {
                let (mut inner, now) = (self.lock(), Instant::now());
                if let Some(trigger) = inner.pop(now, room) {
                    return trigger;
                }
                inner.wake(now)
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
            Again::Backoff => {
                let own = inner.failing.entry(app.clone()).or_default().next_delay();
                Some(own.max(inner.retry_delay(Instant::now())))
            }
            Again::OnChange | Again::After(_) => {
                inner.failing.remove(app);
                if let Again::After(delay) = again { Some(delay) } else { None }
            }
            Again::WhenRoom => None,
        };
        if inner.again.remove(app) {
            inner.add(app.clone());
        } else if again == Again::WhenRoom {
            inner.park(app.clone());
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

    /// Begins anew, with nothing in it.
    pub fn open(&self) {
        *self.lock() = Inner::default();
    }

    /// Forgets everything, and takes nothing until it is opened: nobody looks.
    pub fn close(&self) {
        *self.lock() = Inner { closed: true, ..Inner::default() };
    }

    /// How many apps wait to be looked at now, or for room to write.
    #[must_use]
    pub fn depth(&self) -> usize {
        let inner = self.lock();
        inner.ready.len() + inner.parked.len() + inner.due_in_round.len()
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
            self.due_in_round.remove(&app);
            self.leave_line(&app);
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

    fn add_to_round(&mut self, app: AppKey) {
        if self.running.contains(&app) {
            self.again.insert(app);
        } else if !self.queued.contains(&app) && self.due_in_round.insert(app.clone()) {
            self.rest_of_round.push_back(app);
        }
    }

    /// The next app of the round.
    fn next_of_round(&mut self) -> Option<AppKey> {
        while let Some(app) = self.rest_of_round.pop_front() {
            if self.due_in_round.remove(&app) {
                self.leave_line(&app);
                return Some(app);
            }
        }
        None
    }

    /// When the next round may begin, if there is to be one and the last has ended.
    fn next_round(&self, now: Instant) -> Option<Instant> {
        let waits = self.fleet && self.due_in_round.is_empty();
        waits.then(|| self.round.map_or(now, |began| began + ROUNDS_APART))
    }

    /// When there is something to look at although nothing is added.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let later = self.later.first().map(|(at, _)| *at);
        later.into_iter().chain(self.next_round(now)).min()
    }

    fn leave_line(&mut self, app: &AppKey) {
        if let Some(place) = self.parked.remove(app) {
            self.line.remove(&place);
        }
    }

    fn park(&mut self, app: AppKey) {
        self.places += 1;
        self.parked.insert(app.clone(), self.places);
        self.line.insert(self.places, app);
    }

    /// The first of the line.
    fn unpark(&mut self) -> Option<AppKey> {
        let (_, app) = self.line.pop_first()?;
        self.parked.remove(&app);
        Some(app)
    }

    /// How long a retry must wait for the others' sake.
    fn retry_delay(&mut self, now: Instant) -> Duration {
        let apart = Duration::from_secs(1) / RETRIES_PER_SECOND;
        let earliest = now.checked_sub(apart * RETRY_BURST).unwrap_or(now);
        let at = self.next_retry.map_or(earliest, |at| at.max(earliest));
        self.next_retry = Some(at + apart);
        at.saturating_duration_since(now)
    }

    fn pop(&mut self, now: Instant, room: bool) -> Option<Trigger> {
        if self.next_round(now).is_some_and(|at| at <= now) {
            (self.fleet, self.round) = (false, Some(now));
            return Some(Trigger::Fleet);
        }
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, app)) = self.later.pop_first() {
                self.due.remove(&app);
                self.add(app);
            }
        }
        let waited = if room && (self.ready.is_empty() || !self.from_line) { self.unpark() } else { None };
        self.from_line = waited.is_some();
        let app = match waited {
            Some(app) => app,
            None => match self.ready.pop_front() {
                Some(app) => {
                    self.queued.remove(&app);
                    app
                }
                None => self.next_of_round()?,
            },
        };
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
        assert_eq!(queue.next(true).await, Trigger::App(app("a")));
        assert_eq!(queue.next(true).await, Trigger::App(app("b")));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn while_nobody_looks_nothing_is_remembered() {
        let queue = Queue::default();
        add(&queue, "a");
        queue.close();
        add(&queue, "b");
        queue.add(Trigger::Fleet);
        assert_eq!(queue.depth(), 0);
        queue.open();
        add(&queue, "c");
        assert_eq!(queue.next(true).await, Trigger::App(app("c")));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn an_app_added_while_it_is_looked_at_comes_once_more_and_not_before() {
        let queue = Queue::default();
        add(&queue, "a");
        queue.next(true).await;
        add(&queue, "a");
        add(&queue, "a");
        assert_eq!(queue.depth(), 0);
        queue.done(&app("a"), Again::OnChange);
        assert_eq!(queue.next(true).await, Trigger::App(app("a")));
        queue.done(&app("a"), Again::OnChange);
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn a_failing_app_comes_back_later_and_later_but_a_change_brings_it_back_now() {
        let queue = Queue::default();
        add(&queue, "a");
        queue.next(true).await;
        let mut delays = Vec::new();
        for _ in 0..4 {
            queue.done(&app("a"), Again::Backoff);
            let due = queue.lock().later.first().unwrap().0;
            delays.push(due.duration_since(Instant::now()));
            assert_eq!(queue.next(true).await, Trigger::App(app("a")));
            assert!(Instant::now() >= due);
        }
        assert!(delays[3] > delays[0] * 2, "{delays:?}");
        queue.done(&app("a"), Again::Backoff);
        add(&queue, "a");
        assert!(queue.lock().later.is_empty() && queue.depth() == 1);
        assert_eq!(queue.next(true).await, Trigger::App(app("a")));
    }

    #[tokio::test]
    async fn an_app_to_be_looked_at_later_is_not_looked_at_twice() {
        let queue = Queue::default();
        add(&queue, "a");
        queue.next(true).await;
        queue.done(&app("a"), Again::After(Duration::from_millis(30)));
        add(&queue, "a");
        queue.next(true).await;
        queue.done(&app("a"), Again::OnChange);
        assert!(queue.lock().later.is_empty() && queue.depth() == 0);
    }

    #[tokio::test]
    async fn those_that_wait_to_write_come_in_order_when_there_is_room_and_a_change_brings_one_back_without() {
        let queue = Queue::default();
        for name in ["a", "b", "c"] {
            add(&queue, name);
            queue.next(false).await;
            queue.done(&app(name), Again::WhenRoom);
        }
        assert_eq!(queue.depth(), 3);
        add(&queue, "b");
        assert_eq!(queue.next(false).await, Trigger::App(app("b")));
        queue.done(&app("b"), Again::WhenRoom);
        let mut order = Vec::new();
        for _ in 0..3 {
            order.push(queue.next(true).await);
        }
        assert_eq!(order, ["a", "c", "b"].map(|name| Trigger::App(app(name))));
    }

    #[tokio::test]
    async fn those_that_are_new_and_those_that_wait_to_write_take_turns() {
        let queue = Queue::default();
        for name in ["a", "b"] {
            add(&queue, name);
            queue.next(false).await;
            queue.done(&app(name), Again::WhenRoom);
        }
        for name in ["x", "y"] {
            add(&queue, name);
        }
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(queue.next(true).await);
        }
        assert_eq!(order, ["a", "x", "b", "y"].map(|name| Trigger::App(app(name))));
    }

    #[tokio::test]
    async fn many_that_fail_together_come_back_a_few_at_a_time() {
        let queue = Queue::default();
        let start = Instant::now();
        for number in 0..500 {
            add(&queue, &format!("a{number}"));
            queue.next(true).await;
            queue.done(&app(&format!("a{number}")), Again::Backoff);
        }
        let due: Vec<Instant> = queue.lock().later.iter().map(|(at, _)| *at).collect();
        let burst = usize::try_from(RETRY_BURST).unwrap();
        for (number, at) in due.iter().enumerate().skip(burst) {
            let expected = u32::try_from(number - burst).unwrap() / RETRIES_PER_SECOND;
            assert!(*at + Duration::from_secs(1) > start + Duration::from_secs(u64::from(expected)), "{number}");
        }
        let last = due.last().unwrap().duration_since(start);
        assert!(last > Duration::from_secs(15) && last < Duration::from_secs(25), "{last:?}");
    }

    #[tokio::test]
    async fn a_round_of_all_apps_keeps_none_waiting_that_has_a_reason_and_the_next_begins_when_it_has_ended() {
        let queue = Queue::default();
        queue.add(Trigger::Fleet);
        assert_eq!(queue.next(true).await, Trigger::Fleet);
        queue.add_round(["a", "b", "c"].map(app).to_vec());
        queue.add(Trigger::Fleet);
        add(&queue, "c");
        let mut order = Vec::new();
        for _ in 0..4 {
            let next = queue.next(true).await;
            if let Trigger::App(app) = &next {
                queue.done(app, Again::OnChange);
            }
            order.push(next);
        }
        let expected = ["c", "a", "b"].map(|name| Trigger::App(app(name))).into_iter().chain([Trigger::Fleet]);
        assert_eq!(order, expected.collect::<Vec<_>>());
        assert_eq!(queue.depth(), 0);
    }
}

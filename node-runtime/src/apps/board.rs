//! [`Board`]: what is true of each app, for whoever wants to know what has changed.
//!
//! Promise: a reader that asks for everything since what it saw last gets the latest of each app, once, however many
//! changes there were between; a slow reader costs no memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::{AppKey, AppReport, Assignment, Inventory, RevisionState, wire::ROLLOUTS_BYTES};
use node_runtime_core::converge::keep;
use tokio::sync::watch;

use crate::metrics::Counts;

/// The latest about each app.
#[derive(Debug)]
pub struct Board {
    posts: Mutex<Posts>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Posts {
    version: u64,
    by_app: BTreeMap<AppKey, (u64, News)>,
    by_version: BTreeMap<u64, AppKey>,
    /// Apps that were taken away and finish old requests: their last report is true no more.
    leaving: BTreeSet<AppKey>,
    /// What is kept of apps whose update is not over.
    rollouts: BTreeMap<AppKey, Arc<Assignment>>,
}

/// The latest about one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// This is true of it.
    Report(Box<AppReport>),
    /// The runtime has nothing of it, and this is why: it could not read what it was told. Not in the inventory.
    Unreadable(Box<AppReport>),
    /// It is gone.
    Removed,
}

impl Default for Board {
    fn default() -> Self {
        Self { posts: Mutex::default(), version: watch::channel(0).0 }
    }
}

impl Board {
    fn posts(&self) -> MutexGuard<'_, Posts> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts what is true of `app` now. A report like the last is not news, unless `anew`.
    pub fn post(&self, app: &AppKey, news: News, anew: bool) {
        let mut posts = self.posts();
        if !anew && posts.by_app.get(app).is_some_and(|(_, last)| *last == news) {
            return;
        }
        posts.leaving.remove(app);
        posts.version += 1;
        let version = posts.version;
        if let Some((old, _)) = posts.by_app.insert(app.clone(), (version, news)) {
            posts.by_version.remove(&old);
        }
        posts.by_version.insert(version, app.clone());
        drop(posts);
        self.version.send_replace(version);
    }

    /// Notes that `app` was taken away: whoever asks what there is is not told of it, although its last requests still run.
    pub fn leave(&self, app: &AppKey) {
        self.posts().leaving.insert(app.clone());
    }

    /// Notes what is kept of `app`, which is told to operators as long as its update is not over.
    pub fn set_rollout(&self, app: &AppKey, kept: Option<Arc<Assignment>>) {
        let mut posts = self.posts();
        match kept.filter(|kept| keep::is_rollout(kept)) {
            Some(kept) => drop(posts.rollouts.insert(app.clone(), kept)),
            None => drop(posts.rollouts.remove(app)),
        }
    }

    /// At most `limit` apps that changed after `seen`, oldest change first, and what has been seen then. Apps whose
    /// removal was seen are forgotten.
    pub fn since(&self, seen: u64, limit: usize) -> (u64, Vec<(AppKey, News)>) {
        let mut posts = self.posts();
        posts.forget_removed(seen);
        let changed: Vec<_> =
            posts.by_version.range(seen + 1..).take(limit).map(|(v, app)| (*v, app.clone())).collect();
        let now_seen = changed.last().map_or(seen, |(version, _)| *version);
        let news = changed.into_iter().filter_map(|(_, app)| {
            let (_, news) = posts.by_app.get(&app)?;
            Some((app, news.clone()))
        });
        (now_seen, news.collect())
    }

    /// Everything but [`Board::rollouts`] and the number of words, and what has been seen then.
    pub fn inventory(&self) -> (u64, Inventory) {
        let posts = self.posts();
        let there = posts.by_app.iter().filter(|(app, _)| !posts.leaving.contains(*app));
        let reports = there.filter_map(|(_, (_, news))| match news {
            News::Report(report) => Some(AppReport::clone(report)),
            News::Unreadable(_) | News::Removed => None,
        });
        let reports: Vec<_> = reports.collect();
        let assigned = reports.iter().map(|report| (report.app.clone(), report.fingerprint)).collect();
        (posts.version, Inventory { assigned, reports, words: 0, rollouts: Vec::new() })
    }

    /// What is kept of apps whose update is not over, as far as it fits into a frame. It holds secrets.
    pub fn rollouts(&self) -> Vec<Assignment> {
        let all: Vec<_> = self.posts().rollouts.values().cloned().collect();
        let mut left = ROLLOUTS_BYTES;
        let fits = |kept: &&Arc<Assignment>| {
            let size = serde_json::to_vec(kept.as_ref()).map_or(usize::MAX, |json| json.len());
            let fits = size <= left;
            left -= if fits { size } else { 0 };
            fits
        };
        let told: Vec<_> = all.iter().filter(fits).map(|kept| Assignment::clone(kept)).collect();
        if told.len() < all.len() {
            tracing::warn!(left_out = all.len() - told.len(), "not all updates that are not over fit into a frame");
        }
        told
    }

    /// Resolves, each time it is waited for, when there is something newer than last time.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What a scrape finds, guests aside.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (_, news) in self.posts().by_app.values() {
            let News::Report(report) = news else { continue };
            counts.apps += 1;
            counts.serving += usize::from(report.serving.is_some());
            for state in report.revisions.values() {
                *match state {
                    RevisionState::Ready => &mut counts.ready,
                    RevisionState::Fetching => &mut counts.fetching,
                    RevisionState::Preparing => &mut counts.preparing,
                    RevisionState::Loaded | RevisionState::Checking => &mut counts.checking,
                    RevisionState::Failed(_) => &mut counts.failed,
                    RevisionState::Draining => &mut counts.draining,
                } += 1;
            }
        }
        counts
    }
}

impl Posts {
    fn forget_removed(&mut self, seen: u64) {
        let gone: Vec<_> = self
            .by_version
            .range(..=seen)
            .filter(|(_, app)| matches!(self.by_app.get(*app), Some((_, News::Removed))))
            .map(|(version, app)| (*version, app.clone()))
            .collect();
        for (version, app) in gone {
            self.by_version.remove(&version);
            self.by_app.remove(&app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppKey {
        AppKey::new("shop", name).unwrap()
    }

    fn report(name: &str, port: u16) -> News {
        News::Report(Box::new(AppReport {
            app: app(name),
            uid: "uid".to_owned(),
            fingerprint: control::Fingerprint(manifest::Digest::of(b"")),
            word: None,
            port,
            revisions: BTreeMap::new(),
            serving: None,
            problem: None,
            times: BTreeMap::new(),
        }))
    }

    #[test]
    fn a_slow_reader_gets_the_latest_of_each_app_once() {
        let board = Board::default();
        for port in 1..100 {
            board.post(&app("cart"), report("cart", port), false);
            board.post(&app("till"), report("till", 7), false);
        }
        let (seen, news) = board.since(0, 10);
        assert_eq!(news, [(app("till"), report("till", 7)), (app("cart"), report("cart", 99))]);
        assert_eq!(board.since(seen, 10), (seen, vec![]));
    }

    #[test]
    fn a_batch_is_limited_and_the_next_one_goes_on_where_it_ended() {
        let board = Board::default();
        for name in ["a", "b", "c"] {
            board.post(&app(name), report(name, 1), false);
        }
        let (seen, first) = board.since(0, 2);
        let (_, second) = board.since(seen, 2);
        assert_eq!((first.len(), second.len()), (2, 1));
        assert_eq!(second[0].0, app("c"));
    }

    #[test]
    fn a_removal_is_told_once_and_is_not_in_the_inventory() {
        let board = Board::default();
        board.post(&app("cart"), report("cart", 1), false);
        board.post(&app("cart"), News::Removed, false);
        assert!(board.inventory().1.reports.is_empty());
        let (seen, news) = board.since(0, 10);
        assert_eq!(news, [(app("cart"), News::Removed)]);
        assert_eq!(board.since(seen, 10).1, []);
        assert!(board.posts().by_app.is_empty());
    }

    #[test]
    fn an_app_that_was_taken_away_is_not_told_to_who_asks_while_its_last_requests_run() {
        let board = Board::default();
        board.post(&app("cart"), report("cart", 1), false);
        board.post(&app("pay"), report("pay", 2), false);
        board.leave(&app("cart"));
        let (_, inventory) = board.inventory();
        assert_eq!(inventory.assigned.keys().collect::<Vec<_>>(), [&app("pay")]);
        board.post(&app("cart"), report("cart", 3), false);
        assert_eq!(board.inventory().1.reports.len(), 2, "it was given again");
    }
}

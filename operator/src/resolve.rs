//! What bundles are: asked once, remembered for good, because a bundle never changes.
//!
//! Promise: looking something up never waits for the network: what is not known is being asked for, at
//! most [`CONCURRENT`] questions at a time, and the apps that want it are looked at again when there is an
//! answer. A failure is an answer too, and so is a panic; it is asked again with growing delays while an app wants it and
//! asking may help.

mod servers;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control::{AppKey, Credentials, Fetch, Problem};
use futures::{FutureExt as _, future::BoxFuture};
use manifest::{Application, Digest};
use operator_api::Reason;
use operator_core::Bundle;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

pub use self::servers::BindleServers;

use crate::{
    backoff::Backoff,
    metrics::Metrics,
    queue::{Queue, Trigger},
};

/// How many questions are open at a time.
pub const CONCURRENT: usize = 16;

/// How many answers are remembered although no app wants them now.
pub const REMEMBERED: usize = 256;

/// A question: which bundle, where, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The server's base URL.
    pub server: String,
    /// The bundle's `name/version`.
    pub id: String,
    /// Who to ask as.
    pub credentials: Option<Credentials>,
}

/// What a bundle turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it describes.
    pub application: Application,
    /// The digest that stands for it.
    pub digest: Digest,
}

/// Who is asked.
pub trait Oracle: Send + Sync + 'static {
    /// Answers one question, or says why not.
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, Problem>>;
}

/// The answers to all questions that apps have.
pub struct Resolver {
    oracle: Arc<dyn Oracle>,
    inner: Mutex<Inner>,
    wanted: Notify,
    triggers: Arc<Queue>,
    metrics: Metrics,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("inner", &self.lock()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// By the digest of the question, which may hold a password.
    entries: HashMap<Digest, Entry>,
    by_app: HashMap<AppKey, Digest>,
    /// Entries that no app wants, in the order in which they were given up.
    unwanted: BTreeMap<u64, Digest>,
    /// Numbers births and what is unwanted.
    count: u64,
    /// Questions that have not been put yet.
    new: Vec<Digest>,
}

#[derive(Debug)]
struct Entry {
    /// Tells it from an earlier one of the same question, whose answer may still come.
    birth: u64,
    question: Question,
    state: State,
    apps: BTreeSet<AppKey>,
    given_up: Option<u64>,
    backoff: Backoff,
}

#[derive(Debug)]
enum State {
    Asking,
    Known(Arc<Answer>),
    Failed(Problem),
}

impl Resolver {
    /// Knows nothing yet, asks `oracle`; news go to `triggers`.
    #[must_use]
    pub fn new(oracle: Arc<dyn Oracle>, triggers: Arc<Queue>, metrics: Metrics) -> Self {
        Self { oracle, inner: Mutex::default(), wanted: Notify::new(), triggers, metrics }
    }

    /// What is known about the bundle that `app` wants now.
    pub fn look_up(&self, app: &AppKey, question: &Question) -> Bundle {
        let digest = question.digest();
        let mut inner = self.lock();
        if inner.by_app.get(app) != Some(&digest) {
            inner.give_up(app);
            inner.want(app, digest, question);
            self.wanted.notify_one();
        }
        match inner.entries.get(&digest).map(|entry| &entry.state) {
            None | Some(State::Asking) => Bundle::Pending,
            Some(State::Failed(problem)) => Bundle::Failed(problem.clone()),
            Some(State::Known(answer)) => Bundle::Resolved {
                application: Box::new(answer.application.clone()),
                digest: answer.digest,
                fetch: Fetch::Bindle {
                    server: question.server.clone(),
                    id: question.id.clone(),
                    credentials: question.credentials.clone(),
                },
            },
        }
    }

    /// The app wants nothing any more.
    pub fn forget(&self, app: &AppKey) {
        self.lock().give_up(app);
    }

    /// Nobody but these wants anything: others may have gone while this operator did not lead, and nobody looked.
    pub fn forget_all_but(&self, apps: &BTreeSet<AppKey>) {
        let mut inner = self.lock();
        let gone: Vec<AppKey> = inner.by_app.keys().filter(|app| !apps.contains(*app)).cloned().collect();
        gone.iter().for_each(|app| inner.give_up(app));
    }

    /// Asks what is wanted, for as long as it is polled.
    pub async fn run(&self) {
        let turns = Arc::new(Semaphore::new(CONCURRENT));
        let mut questions = JoinSet::new();
        loop {
            for asking in self.take_new() {
                questions.spawn(asking.ask(Arc::clone(&self.oracle), Arc::clone(&turns)));
            }
            tokio::select! {
                () = self.wanted.notified() => {}
                Some(done) = questions.join_next() => {
                    if let Ok((asking, answer)) = done
                        && let Some(again) = self.answered(asking, answer)
                    {
                        questions.spawn(again.ask(Arc::clone(&self.oracle), Arc::clone(&turns)));
                    }
                }
            }
        }
    }

    fn take_new(&self) -> Vec<Asking> {
        let mut inner = self.lock();
        let new = std::mem::take(&mut inner.new);
        let asking = |digest: Digest| {
            let Entry { birth, question, .. } = inner.entries.get(&digest)?;
            Some(Asking { digest, birth: *birth, question: question.clone(), delay: Duration::ZERO })
        };
        new.into_iter().filter_map(asking).collect()
    }

    /// Takes in an answer; what to ask again.
    fn answered(&self, asking: Asking, answer: Result<Answer, Problem>) -> Option<Asking> {
        self.metrics.resolved(answer.as_ref().map_or_else(|problem| problem.reason.as_str(), |_| "Resolved"));
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(&asking.digest).filter(|entry| entry.birth == asking.birth)?;
        let news = !matches!((&entry.state, &answer), (State::Failed(old), Err(new)) if old == new);
        let again = match answer {
            Ok(answer) => {
                entry.state = State::Known(Arc::new(answer));
                None
            }
            Err(problem) => {
                let again = problem.retrying && !entry.apps.is_empty();
                if news {
                    tracing::info!(
                        bundle = entry.question.id,
                        server = entry.question.server,
                        reason = problem.reason,
                        error = problem.message,
                        "cannot resolve a bundle"
                    );
                }
                entry.state = State::Failed(problem);
                again.then(|| entry.backoff.next_delay())
            }
        };
        if news {
            for app in &entry.apps {
                self.triggers.add(Trigger::App(app.clone()));
            }
        }
        if again.is_none() && entry.apps.is_empty() && matches!(entry.state, State::Failed(_)) {
            inner.remove(&asking.digest);
        }
        again.map(|delay| Asking { delay, ..asking })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn want(&mut self, app: &AppKey, digest: Digest, question: &Question) {
        let Self { new, count, entries, .. } = self;
        let entry = entries.entry(digest).or_insert_with(|| {
            new.push(digest);
            *count += 1;
            Entry {
                birth: *count,
                question: question.clone(),
                state: State::Asking,
                apps: BTreeSet::new(),
                given_up: None,
                backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(60)),
            }
        });
        entry.apps.insert(app.clone());
        if let Some(count) = entry.given_up.take() {
            self.unwanted.remove(&count);
        }
        self.by_app.insert(app.clone(), digest);
    }

    fn give_up(&mut self, app: &AppKey) {
        let Some(digest) = self.by_app.remove(app) else { return };
        let Some(entry) = self.entries.get_mut(&digest) else { return };
        entry.apps.remove(app);
        if !entry.apps.is_empty() {
            return;
        }
        if matches!(entry.state, State::Failed(_)) {
            // Whoever asks next gets a fresh answer.
            self.remove(&digest);
            return;
        }
        self.count += 1;
        entry.given_up = Some(self.count);
        self.unwanted.insert(self.count, digest);
        if self.unwanted.len() > REMEMBERED
            && let Some((_, oldest)) = self.unwanted.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(Entry { given_up: Some(count), .. }) = self.entries.remove(digest) {
            self.unwanted.remove(&count);
        }
    }
}

impl Question {
    /// What tells questions apart.
    fn digest(&self) -> Digest {
        let (user, password) = match &self.credentials {
            Some(credentials) => (Some(&credentials.username), Some(credentials.password.expose())),
            None => (None, None),
        };
        // Strings always serialise.
        Digest::of(&serde_json::to_vec(&(&self.server, &self.id, user, password)).unwrap_or_default())
    }
}

/// A question on its way.
#[derive(Debug)]
struct Asking {
    digest: Digest,
    /// The entry that it is for.
    birth: u64,
    question: Question,
    delay: Duration,
}

impl Asking {
    async fn ask(self, oracle: Arc<dyn Oracle>, turns: Arc<Semaphore>) -> (Self, Result<Answer, Problem>) {
        tokio::time::sleep(self.delay).await;
        // The semaphore is never closed.
        let _turn = turns.acquire_owned().await;
        // What panicked is dropped, and nothing of it is asked again.
        let asked = AssertUnwindSafe(async { oracle.ask(self.question.clone()).await }).catch_unwind();
        let answer = asked.await.unwrap_or_else(|_panic| Err(panicked()));
        (self, answer)
    }
}

/// What is said of a question that ended in a panic, which is logged where it happens.
fn panicked() -> Problem {
    Problem {
        reason: Reason::InternalError.as_str().to_owned(),
        message: "the operator failed at reading the bundle, which its log says more about; it tries again".to_owned(),
        retrying: true,
    }
}

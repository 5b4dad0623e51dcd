//! [`App`]: what is true of one app on this runtime, and how it changes.

use std::{collections::BTreeMap, time::Duration};

use control::{Fingerprint, Problem, RevisionId};

use super::{Step, Wanted};

/// What is true of one app on this runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The uid of the `SpinApp` that it was assigned for.
    pub uid: String,
    /// The assignment of the last step.
    pub under: Fingerprint,
    /// The revisions that it has, draining ones aside.
    pub revisions: BTreeMap<RevisionId, Progress>,
    /// Where new requests go: always a revision that is [`Progress::Ready`].
    pub serving: Option<RevisionId>,
    /// The ports that it has or could not have.
    pub ports: BTreeMap<u16, Port>,
    /// Revisions that finish old requests, and how often each: one that comes back and goes again while
    /// its first requests still run counts twice.
    pub draining: BTreeMap<RevisionId, usize>,
}

/// How far one revision is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its blobs are being fetched.
    Fetching(Attempt),
    /// Its blobs are here.
    Fetched(Attempt),
    /// It is being compiled and linked.
    Preparing(Attempt),
    /// It can take requests.
    Ready,
    /// It cannot.
    Failed(Failure),
}

/// One port of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// It is being bound.
    Binding(Attempt),
    /// It takes connections.
    Bound,
    /// It cannot be bound.
    Failed(Failure),
}

/// One try of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// How many tries failed before.
    failures: u32,
    /// The assignment that it is for.
    under: Fingerprint,
}

/// Why a try failed, and what comes then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What people are told.
    pub problem: Problem,
    /// The assignment that failed: another one is tried at once.
    pub under: Fingerprint,
    /// How many tries have failed.
    pub failures: u32,
    /// When to try again; never, under this assignment, if `None`.
    pub retry_at: Option<Duration>,
}

/// What went wrong, as whoever tried it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// One CamelCase word.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// Whether trying again, with nothing changed, may help.
    pub retryable: bool,
}

/// What has happened to an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A revision's blobs are here.
    Fetched(RevisionId),
    /// They could not be fetched.
    FetchFailed(RevisionId, Fault),
    /// A revision can take requests.
    Prepared(RevisionId),
    /// It cannot.
    PrepareFailed(RevisionId, Fault),
    /// A port takes connections.
    Bound(u16),
    /// A port cannot be bound.
    BindFailed(u16, Fault),
    /// A draining revision's last request has ended.
    Drained(RevisionId),
}

/// How long to wait before trying again: `first`, doubled with each failure, up to `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The pause after so many `failures`.
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

impl Attempt {
    fn after(failure: Option<&Failure>, under: Fingerprint) -> Self {
        let failures = failure.filter(|failure| failure.under == under).map_or(0, |failure| failure.failures);
        Self { failures, under }
    }

    fn failed(self, fault: Fault, now: Duration, backoff: &Backoff) -> Failure {
        let Fault { reason, message, retryable } = fault;
        let failures = self.failures.saturating_add(1);
        let retry_at = retryable.then(|| now.saturating_add(backoff.pause(failures)));
        Failure { problem: Problem { reason, message, retrying: retryable }, under: self.under, failures, retry_at }
    }
}

impl App {
    /// The app `wanted`, of which nothing is there yet.
    #[must_use]
    pub fn new(wanted: &Wanted) -> Self {
        Self {
            uid: wanted.assignment.uid.clone(),
            under: wanted.fingerprint,
            revisions: BTreeMap::new(),
            serving: None,
            ports: BTreeMap::new(),
            draining: BTreeMap::new(),
        }
    }

    /// Notes that `step` has begun, for the assignment with the fingerprint `under`.
    pub fn begin(&mut self, step: &Step, under: Fingerprint) {
        self.under = under;
        match step {
            Step::Fetch { revision, .. } => {
                let failure = match self.revisions.get(revision) {
                    Some(Progress::Failed(failure)) => Some(failure),
                    _ => None,
                };
                let attempt = Attempt::after(failure, under);
                self.revisions.insert(revision.clone(), Progress::Fetching(attempt));
            }
            Step::Prepare { revision, .. } => {
                if let Some(progress) = self.revisions.get_mut(revision)
                    && let Progress::Fetched(attempt) = *progress
                {
                    *progress = Progress::Preparing(attempt);
                }
            }
            Step::Bind { port, .. } => {
                let failure = match self.ports.get(port) {
                    Some(Port::Failed(failure)) => Some(failure),
                    _ => None,
                };
                let attempt = Attempt::after(failure, under);
                self.ports.insert(*port, Port::Binding(attempt));
            }
            Step::Switch { revision, .. } => self.serving = Some(revision.clone()),
            Step::Drain { revision, .. } => self.begin_drain(revision),
            Step::Unbind { port, .. } => drop(self.ports.remove(port)),
            Step::Forget { .. } => {}
        }
    }

    fn begin_drain(&mut self, revision: &RevisionId) {
        if self.serving.as_ref() == Some(revision) {
            self.serving = None;
        }
        if self.revisions.remove(revision) == Some(Progress::Ready) {
            *self.draining.entry(revision.clone()).or_default() += 1;
        }
    }

    /// Notes what has happened. News about something that is not under way is ignored.
    pub fn record(&mut self, event: Event, now: Duration, backoff: &Backoff) {
        match event {
            Event::Fetched(id) => self.advance(&id, |progress| match progress {
                Progress::Fetching(attempt) => Some(Progress::Fetched(*attempt)),
                _ => None,
            }),
            Event::FetchFailed(id, fault) => self.advance(&id, |progress| match progress {
                Progress::Fetching(attempt) => Some(Progress::Failed(attempt.failed(fault, now, backoff))),
                _ => None,
            }),
            Event::Prepared(id) => self.advance(&id, |progress| match progress {
                Progress::Preparing(_) => Some(Progress::Ready),
                _ => None,
            }),
            Event::PrepareFailed(id, fault) => self.advance(&id, |progress| match progress {
                Progress::Preparing(attempt) => Some(Progress::Failed(attempt.failed(fault, now, backoff))),
                _ => None,
            }),
            Event::Bound(port) => self.settle(port, |_| Port::Bound),
            Event::BindFailed(port, fault) => {
                self.settle(port, |attempt| Port::Failed(attempt.failed(fault, now, backoff)));
            }
            Event::Drained(id) => self.finish_drain(&id),
        }
    }

    fn advance(&mut self, id: &RevisionId, change: impl FnOnce(&Progress) -> Option<Progress>) {
        if let Some(progress) = self.revisions.get_mut(id)
            && let Some(new) = change(progress)
        {
            *progress = new;
        }
    }

    fn settle(&mut self, port: u16, outcome: impl FnOnce(Attempt) -> Port) {
        if let Some(state) = self.ports.get_mut(&port)
            && let Port::Binding(attempt) = *state
        {
            *state = outcome(attempt);
        }
    }

    fn finish_drain(&mut self, id: &RevisionId) {
        if let Some(times) = self.draining.get_mut(id) {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.draining.remove(id);
            }
        }
    }
}

//! [`App`]: what is true of one app on this runtime, and how it changes.

use std::{collections::BTreeMap, time::Duration};

use control::{Fingerprint, Problem, RevisionId, clip};

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
    /// It is compiled and linked, and must be checked before it can take requests.
    Loaded(Attempt),
    /// It is being checked.
    Checking(Attempt),
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How many tries failed before.
    failures: u32,
    /// The assignment that it is for.
    under: Fingerprint,
    /// Why the last try failed: that goes on being said until this one has got further, so that what fails again and
    /// again says so all the time.
    last: Option<Said>,
    /// Whether what is being prepared must be checked.
    gated: bool,
}

/// What people were told, and what of it says whether something else has gone wrong since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    problem: Problem,
    essence: String,
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
    /// Whether it is loaded, and only its check has failed.
    pub loaded: bool,
    /// What of the problem says whether another failure is the same.
    essence: String,
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
    /// More about it, which may differ from one time to the next: it comes after the message, and is kept as it was the
    /// first time for as long as the rest stays.
    pub detail: Option<String>,
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
    /// A revision is compiled and linked.
    Prepared(RevisionId),
    /// It cannot.
    PrepareFailed(RevisionId, Fault),
    /// A revision has passed its check.
    Passed(RevisionId),
    /// It has not.
    CheckFailed(RevisionId, Fault),
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

impl Progress {
    /// Whether it is compiled and linked, ready or not.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        match self {
            Self::Loaded(_) | Self::Checking(_) | Self::Ready => true,
            Self::Failed(failure) => failure.loaded,
            Self::Fetching(_) | Self::Fetched(_) | Self::Preparing(_) => false,
        }
    }
}

impl Attempt {
    fn after(failure: Option<&Failure>, under: Fingerprint) -> Self {
        let before = failure.filter(|failure| failure.under == under);
        let said = |failure: &Failure| Said { problem: failure.problem.clone(), essence: failure.essence.clone() };
        Self { failures: before.map_or(0, |failure| failure.failures), under, last: before.map(said), gated: false }
    }

    /// Why the last try failed, if this is another one.
    #[must_use]
    pub fn last_problem(&self) -> Option<&Problem> {
        self.last.as_ref().map(|said| &said.problem)
    }

    fn failed(&self, fault: Fault, loaded: bool, now: Duration, backoff: &Backoff) -> Failure {
        let Fault { reason, message, detail, retryable } = fault;
        let failures = self.failures.saturating_add(1);
        let retry_at = retryable.then(|| now.saturating_add(backoff.pause(failures)));
        let same = |said: &&Said| said.essence == message && said.problem.reason == reason;
        let problem = match self.last.as_ref().filter(same) {
            Some(said) => Problem { retrying: retryable, ..said.problem.clone() },
            None => {
                let said = detail.map_or_else(|| message.clone(), |detail| format!("{message}: {detail}"));
                Problem { reason, message: clip(&said, Problem::MESSAGE), retrying: retryable }
            }
        };
        Failure { problem, under: self.under, failures, loaded, essence: message, retry_at }
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
            Step::Prepare { revision, gated, .. } => self.advance(revision, |progress| match progress {
                Progress::Fetched(attempt) => Some(Progress::Preparing(Attempt { gated: *gated, ..attempt.clone() })),
                _ => None,
            }),
            Step::Check { revision, .. } => self.advance(revision, |progress| match progress {
                Progress::Loaded(attempt) => Some(Progress::Checking(attempt.clone())),
                Progress::Failed(failure) if failure.loaded => {
                    Some(Progress::Checking(Attempt::after(Some(failure), under)))
                }
                _ => None,
            }),
            Step::Stop { .. } => self.serving = None,
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
        if self.revisions.remove(revision).is_some_and(|progress| progress.is_loaded()) {
            *self.draining.entry(revision.clone()).or_default() += 1;
        }
    }

    /// Notes what has happened. News about something that is not under way is ignored.
    pub fn record(&mut self, event: Event, now: Duration, backoff: &Backoff) {
        match event {
            Event::Fetched(id) => self.advance(&id, |progress| match progress {
                Progress::Fetching(attempt) => Some(Progress::Fetched(attempt.clone())),
                _ => None,
            }),
            Event::FetchFailed(id, fault) => self.advance(&id, |progress| match progress {
                Progress::Fetching(attempt) => Some(Progress::Failed(attempt.failed(fault, false, now, backoff))),
                _ => None,
            }),
            Event::Prepared(id) => self.advance(&id, |progress| match progress {
                // What failed before has been overcome.
                Progress::Preparing(attempt) if attempt.gated => {
                    Some(Progress::Loaded(Attempt { failures: 0, last: None, ..attempt.clone() }))
                }
                Progress::Preparing(_) => Some(Progress::Ready),
                _ => None,
            }),
            Event::PrepareFailed(id, fault) => self.advance(&id, |progress| match progress {
                Progress::Preparing(attempt) => Some(Progress::Failed(attempt.failed(fault, false, now, backoff))),
                _ => None,
            }),
            Event::Passed(id) => self.advance(&id, |progress| match progress {
                Progress::Checking(_) => Some(Progress::Ready),
                _ => None,
            }),
            Event::CheckFailed(id, fault) => self.advance(&id, |progress| match progress {
                Progress::Checking(attempt) => Some(Progress::Failed(attempt.failed(fault, true, now, backoff))),
                _ => None,
            }),
            Event::Bound(port) => self.settle(port, |_| Port::Bound),
            Event::BindFailed(port, fault) => {
                self.settle(port, |attempt| Port::Failed(attempt.failed(fault, false, now, backoff)));
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

    fn settle(&mut self, port: u16, outcome: impl FnOnce(&Attempt) -> Port) {
        if let Some(state) = self.ports.get_mut(&port)
            && let Port::Binding(attempt) = state
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

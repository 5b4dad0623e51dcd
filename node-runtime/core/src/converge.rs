//! Decides what a runtime does next: from what it was told and what is true to a list of [`Step`]s.
//!
//! Promises, each property-tested below:
//! - from any state, carrying out the steps reaches what was assigned;
//! - an app that is served stays served for as long as its assignment stays, whatever fails, unless it is to be stopped;
//! - nothing is served that has a check which has not passed here;
//! - deciding again without news gives no steps.
//!
//! The protocol is `control`'s: prepare every listed revision, serve `active` as soon as it is ready,
//! until then go on serving what is served, drain what is listed no more once another serves. When
//! nothing is served yet (after a restart in the middle of a roll-out), an older listed revision that is
//! ready is served rather than nothing; a newer one than `active` never is. A revision with a check is ready
//! when that has passed, in this process. What an assignment holds back does not happen, nor go on.
//!
//! Absent on purpose: the clock (`now` is an input, the time since the process began), randomness, and
//! how a step is carried out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use control::{AppKey, Assignment, Fingerprint, Hold, RevisionId, RevisionSpec};

mod app;
pub mod keep;
mod report;
mod step;
#[cfg(test)]
mod tests;

pub use app::{App, Attempt, Backoff, Event, Failure, Fault, Port, Progress};
pub use report::{report, report_unreadable};
pub use step::Step;

/// What a runtime was last told about an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The whole truth about it.
    pub assignment: Arc<Assignment>,
    /// That truth's fingerprint.
    pub fingerprint: Fingerprint,
}

/// How many more jobs may start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Fetches: bounded by network and memory.
    pub fetches: usize,
    /// Preparations: bounded by processors.
    pub preparations: usize,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Next {
    /// In this order.
    pub steps: Vec<Step>,
    /// When to decide again although nothing was heard.
    pub recheck: Option<Duration>,
    /// Whether more would be done if there were [`Room`]: decide again when a job has ended.
    pub waiting: bool,
}

/// Decides for every app.
#[must_use]
pub fn converge(
    desired: &BTreeMap<AppKey, Wanted>,
    actual: &BTreeMap<AppKey, App>,
    now: Duration,
    mut room: Room,
) -> Next {
    let mut all = Next::default();
    let gone = actual.keys().filter(|key| !desired.contains_key(key));
    for key in desired.keys().chain(gone) {
        let next = converge_app(key, desired.get(key), actual.get(key), now, &mut room);
        all.steps.extend(next.steps);
        all.recheck = earlier(all.recheck, next.recheck);
        all.waiting |= next.waiting;
    }
    all
}

/// Decides for one app, taking the jobs that it starts out of `room`.
#[must_use]
pub fn converge_app(
    key: &AppKey,
    wanted: Option<&Wanted>,
    actual: Option<&App>,
    now: Duration,
    room: &mut Room,
) -> Next {
    let mut plan = Plan { key, now, room, next: Next::default() };
    match (wanted, actual) {
        (None, None) => {}
        (None, Some(app)) => plan.retire(app, true),
        (Some(wanted), None) => plan.pursue(wanted, App::new(wanted)),
        // Deleted and made again: another app, which gets nothing of the old one.
        (Some(wanted), Some(app)) if app.uid != wanted.assignment.uid => {
            plan.retire(app, false);
            plan.pursue(wanted, App::new(wanted));
        }
        (Some(wanted), Some(app)) => plan.pursue(wanted, app.clone()),
    }
    plan.next
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// A plan in the making. Each step is applied to a copy of the app as it is planned, so that the next
/// one is decided on what will be true by then.
struct Plan<'a> {
    key: &'a AppKey,
    now: Duration,
    room: &'a mut Room,
    next: Next,
}

impl Plan<'_> {
    fn step(&mut self, app: &mut App, step: Step, under: Fingerprint) {
        app.begin(&step, under);
        self.next.steps.push(step);
    }

    /// Ends an app; its record stays until its last request has ended, if `wait` says so.
    fn retire(&mut self, app: &App, wait: bool) {
        let mut app = app.clone();
        let under = app.under;
        for port in app.ports.keys().copied().collect::<Vec<_>>() {
            self.step(&mut app, Step::Unbind { app: self.key.clone(), port }, under);
        }
        for revision in app.revisions.keys().cloned().collect::<Vec<_>>() {
            self.step(&mut app, Step::Drain { app: self.key.clone(), revision }, under);
        }
        if app.draining.is_empty() || !wait {
            self.next.steps.push(Step::Forget { app: self.key.clone() });
        }
    }

    fn pursue(&mut self, wanted: &Wanted, mut app: App) {
        self.prepare(wanted, &mut app);
        self.serve(wanted, &mut app);
        self.drain(wanted, &mut app);
    }

    /// Brings every listed revision closer to ready, the active one first.
    fn prepare(&mut self, wanted: &Wanted, app: &mut App) {
        let assignment = &wanted.assignment;
        let others = assignment.revisions.iter().filter(|spec| spec.id != assignment.active);
        for spec in assignment.active_revision().into_iter().chain(others) {
            self.load(wanted, app, spec);
            self.check(wanted, app, spec);
        }
    }

    fn load(&mut self, wanted: &Wanted, app: &mut App, spec: &RevisionSpec) {
        let id = &spec.id;
        let fetch = match app.revisions.get(id) {
            None => true,
            Some(Progress::Failed(failure)) => !failure.loaded && self.is_due(failure, wanted),
            Some(_) => false,
        };
        if fetch && take(&mut self.room.fetches, &mut self.next.waiting) {
            let step = Step::Fetch { app: self.key.clone(), revision: id.clone() };
            self.step(app, step, wanted.fingerprint);
        }
        let fetched = matches!(app.revisions.get(id), Some(Progress::Fetched(_)));
        if fetched && take(&mut self.room.preparations, &mut self.next.waiting) {
            let gated = spec.readiness.is_some();
            let step = Step::Prepare { app: self.key.clone(), revision: id.clone(), gated };
            self.step(app, step, wanted.fingerprint);
        }
    }

    fn check(&mut self, wanted: &Wanted, app: &mut App, spec: &RevisionSpec) {
        let may = match wanted.assignment.hold {
            Hold::Nothing => true,
            Hold::Checks => spec.id == wanted.assignment.active,
            Hold::Requests => false,
        };
        let check = may
            && match app.revisions.get(&spec.id) {
                Some(Progress::Loaded(_)) => true,
                Some(Progress::Failed(failure)) => failure.loaded && self.is_due(failure, wanted),
                _ => false,
            };
        if check {
            let step = Step::Check { app: self.key.clone(), revision: spec.id.clone() };
            self.step(app, step, wanted.fingerprint);
        }
    }

    /// Routes to the active revision if it is ready, at the assigned port.
    fn serve(&mut self, wanted: &Wanted, app: &mut App) {
        let port = wanted.assignment.port;
        if wanted.assignment.hold == Hold::Requests && app.serving.is_some() {
            self.step(app, Step::Stop { app: self.key.clone() }, wanted.fingerprint);
        }
        if let Some(target) = target(&wanted.assignment, app) {
            let bind = match app.ports.get(&port) {
                None => true,
                Some(Port::Failed(failure)) => self.is_due(failure, wanted),
                Some(Port::Binding(_) | Port::Bound) => false,
            };
            if bind {
                self.step(app, Step::Bind { app: self.key.clone(), port }, wanted.fingerprint);
            }
            if app.serving.as_ref() != Some(&target) {
                let step = Step::Switch { app: self.key.clone(), revision: target };
                self.step(app, step, wanted.fingerprint);
            }
        }
        // The old port goes when the new one is there.
        if app.serving.is_none() || app.ports.get(&port) == Some(&Port::Bound) {
            for old in app.ports.keys().copied().filter(|old| *old != port).collect::<Vec<_>>() {
                self.step(app, Step::Unbind { app: self.key.clone(), port: old }, wanted.fingerprint);
            }
        }
    }

    /// Lets go of what is listed no more and does not serve.
    fn drain(&mut self, wanted: &Wanted, app: &mut App) {
        let idle = |id: &&RevisionId| wanted.assignment.revision(id).is_none() && app.serving.as_ref() != Some(*id);
        for revision in app.revisions.keys().filter(idle).cloned().collect::<Vec<_>>() {
            self.step(app, Step::Drain { app: self.key.clone(), revision }, wanted.fingerprint);
        }
    }

    /// Whether to try again what failed: its time has come, or it was told otherwise since.
    fn is_due(&mut self, failure: &Failure, wanted: &Wanted) -> bool {
        if failure.under != wanted.fingerprint {
            return true;
        }
        match failure.retry_at {
            Some(at) if at > self.now => {
                self.next.recheck = earlier(self.next.recheck, Some(at));
                false
            }
            Some(_) => true,
            None => false,
        }
    }
}

/// Takes one from `room`, or notes that there was none.
const fn take(room: &mut usize, waiting: &mut bool) -> bool {
    if let Some(left) = room.checked_sub(1) {
        *room = left;
        true
    } else {
        *waiting = true;
        false
    }
}

/// The revision that new requests should go to now.
fn target(assignment: &Assignment, app: &App) -> Option<RevisionId> {
    if assignment.hold == Hold::Requests {
        return None;
    }
    let is_ready = |id: &RevisionId| app.revisions.get(id) == Some(&Progress::Ready);
    if is_ready(&assignment.active) {
        return Some(assignment.active.clone());
    }
    let older = || {
        // One that is not listed here is told of to those that serve it; nothing here is older than it.
        assignment.active_revision()?;
        let before = assignment.revisions.iter().map(|spec| &spec.id).take_while(|id| **id != assignment.active);
        before.filter(|id| is_ready(id)).last().cloned()
    };
    app.serving.clone().or_else(older)
}

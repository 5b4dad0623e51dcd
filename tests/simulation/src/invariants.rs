//! What must be true at every moment, and in the end.
//!
//! | the rule | where |
//! |---|---|
//! | no endpoint without a ready report, and no active revision without one of that revision | [`always`] |
//! | no port used twice | [`always`] |
//! | an app that a healthy runtime serves, or could, is not without endpoint for long | [`in_time`] |
//! | a runtime is told secrets of the apps that are placed on it, and of no others | [`told`] |
//! | an app moves only where a runtime has gone or come | [`told`] |
//! | all is as it was asked for once nothing goes wrong any more, and stays so without a write | [`end`] |
//!
//! Each rule is broken on purpose by a [`crate::Mutation`], which the test asks it to notice.

mod always;
mod end;
mod in_time;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use control::{AppKey, AppReport, RevisionId, RuntimeName};

use crate::{
    api::Api,
    operator::{Operator, Placement},
    world::World,
};

/// How long after the last disturbance, and after the operator's return, an app that some runtime serves must have an
/// endpoint, in milliseconds.
const RECOVERY: i64 = 25_000;

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The run; it happens again with the same.
    pub seed: u64,
    /// When, in milliseconds from the beginning of the world.
    pub at: i64,
    /// What is wrong.
    pub what: String,
    /// What happened before, if the run was a replay.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}, {} ms: {}", self.seed, self.at, self.what)
    }
}

impl std::error::Error for Violation {}

/// What the checks remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) violated: Option<String>,
    /// Who has ever reported to serve what, ready: runtime, its uid, app's uid, port.
    reports: BTreeSet<(RuntimeName, String, String, u16)>,
    /// Which revisions of which apps, by uid, somebody has reported to serve.
    served: BTreeSet<(String, RevisionId)>,
    /// When something was last done to the world.
    disturbed: i64,
    machines: u8,
    /// The terms that each runtime has obeyed.
    obeyed: BTreeMap<RuntimeName, u64>,
    /// Where each app, by uid, was wanted last.
    placements: BTreeMap<String, Placement>,
    at_rest: Option<Rest>,
}

/// The world when it had come to rest.
#[derive(Debug)]
struct Rest {
    /// What every app's endpoints were.
    endpoints: BTreeMap<AppKey, BTreeSet<(RuntimeName, String)>>,
    /// How often something had been written.
    writes: u64,
}

impl Checks {
    /// A runtime has posted a report.
    pub(crate) fn reported(&mut self, runtime: &RuntimeName, uid: Option<&str>, report: &AppReport) {
        let (Some(serving), Some(uid)) = (&report.serving, uid) else { return };
        if report.revisions.get(serving).is_some_and(control::RevisionState::is_ready) {
            self.reports.insert((runtime.clone(), uid.to_owned(), report.uid.clone(), report.port));
            self.served.insert((report.uid.clone(), serving.clone()));
        } else {
            self.fail(|| format!("{runtime} reports to serve {} {serving}, which is not ready there", report.app));
        }
    }

    pub(crate) fn disturbed(&mut self, now: i64) {
        self.disturbed = now;
    }

    pub(crate) fn next_machine(&mut self) -> u8 {
        self.machines = self.machines.saturating_add(1);
        self.machines
    }

    /// From now on nothing may change any more.
    pub(crate) fn rest(&mut self, api: &Api) {
        let endpoints = api.apps().map(|(key, _)| (key.clone(), api.ready(key))).collect();
        self.at_rest = Some(Rest { endpoints, writes: api.writes });
    }

    fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violated.is_none() {
            self.violated = Some(what());
        }
    }
}

impl World {
    /// An operator that leads and has not been away lately.
    fn leader(&self) -> Option<&Operator> {
        self.operators.iter().find(|operator| {
            let back_since = operator.frozen_until.max(operator.cut_off_until);
            operator.up && self.now >= back_since + RECOVERY && operator.leading.is_some()
        })
    }

    /// Whether there is one, whose clock is right.
    fn is_led(&self) -> bool {
        self.leader().is_some_and(|operator| operator.clock.abs() < 5_000)
    }
}

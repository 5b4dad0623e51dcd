//! A runtime's process, which does what it is told in one go.

use std::collections::BTreeMap;

use control::{AppReport, Assignment, Fingerprint, Hold, RevisionId, RevisionSpec, RevisionState};
use manifest::Digest;

use super::problem;

/// What a runtime process really holds and does.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    pub(super) told: Option<Assignment>,
    pub(super) report: Option<AppReport>,
    /// What it was told and could not read.
    pub(super) unread: Option<Assignment>,
}

impl Process {
    /// Does all that can be done of what it was told, where each revision comes as far as `judge` says, and reports.
    pub(super) fn work(&mut self, judge: impl Fn(&RevisionSpec) -> RevisionState) {
        self.report = self.told.as_ref().map(|told| carry_out(told, self.report.as_ref(), judge));
        let Some(unread) = &self.unread else { return };
        let too_old = || RevisionState::Failed(problem("RuntimeTooOld", false));
        let nothing = || AppReport {
            fingerprint: Fingerprint(Digest::of(b"")),
            serving: None,
            ..carry_out(unread, None, |_| too_old())
        };
        let report = self.report.get_or_insert_with(nothing);
        for spec in &unread.revisions {
            report.revisions.entry(spec.id.clone()).or_insert_with(too_old);
        }
    }
}

/// What a runtime makes of an assignment, in one go.
fn carry_out(
    told: &Assignment,
    before: Option<&AppReport>,
    state: impl Fn(&RevisionSpec) -> RevisionState,
) -> AppReport {
    let serving = before.and_then(|before| before.serving.clone()).filter(|_| told.hold != Hold::Requests);
    let held = |revision: &RevisionSpec| match told.hold {
        Hold::Nothing => false,
        Hold::Checks => revision.id != told.active,
        Hold::Requests => true,
    };
    let state = |revision: &RevisionSpec| match state(revision) {
        // What is called by nobody has not been checked.
        RevisionState::Ready if revision.readiness.is_some() && held(revision) => RevisionState::Loaded,
        RevisionState::Failed(problem) if problem.reason == "CheckFailed" && held(revision) => RevisionState::Loaded,
        state => state,
    };
    let mut revisions: BTreeMap<RevisionId, RevisionState> =
        told.revisions.iter().map(|revision| (revision.id.clone(), state(revision))).collect();
    let active = revisions.get(&told.active).is_some_and(RevisionState::is_ready).then(|| told.active.clone());
    let serving = active.filter(|_| told.hold != Hold::Requests).or(serving);
    if let Some(serving) = &serving {
        revisions.entry(serving.clone()).or_insert(RevisionState::Ready);
    }
    AppReport {
        app: told.app.clone(),
        uid: told.uid.clone(),
        fingerprint: told.fingerprint().unwrap(),
        word: None,
        port: told.port,
        revisions,
        serving,
        problem: None,
        times: BTreeMap::new(),
    }
}

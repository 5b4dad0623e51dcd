//! What a runtime says is true of an app.

use std::collections::BTreeMap;

use control::{AppReport, Problem, RevisionState};

use super::{App, Port, Progress, Wanted};

/// The report that answers `wanted`, without how long things took. A revision that waits for its turn counts as being
/// fetched; one that failed counts as failed until it is ready, also while it is tried again.
#[must_use]
pub fn report(wanted: &Wanted, actual: Option<&App>) -> AppReport {
    let assignment = &wanted.assignment;
    // An app of another uid is another app.
    let actual = actual.filter(|app| app.uid == assignment.uid);
    let listed = assignment.revisions.iter().map(|spec| (spec.id.clone(), RevisionState::Fetching));
    let mut report = AppReport {
        app: assignment.app.clone(),
        uid: assignment.uid.clone(),
        fingerprint: wanted.fingerprint,
        word: None,
        port: assignment.port,
        revisions: listed.collect(),
        serving: None,
        problem: None,
        times: BTreeMap::new(),
    };
    if let Some(app) = actual {
        report.revisions.extend(app.draining.keys().map(|id| (id.clone(), RevisionState::Draining)));
        report.revisions.extend(app.revisions.iter().map(|(id, progress)| (id.clone(), state(progress))));
        let port = app.ports.get(&assignment.port);
        report.serving = app.serving.clone().filter(|_| port == Some(&Port::Bound));
        report.problem = problem(port);
    }
    report
}

fn state(progress: &Progress) -> RevisionState {
    let under_way = match progress {
        Progress::Fetching(attempt) => (attempt, RevisionState::Fetching),
        Progress::Fetched(attempt) | Progress::Preparing(attempt) => (attempt, RevisionState::Preparing),
        Progress::Loaded(attempt) => (attempt, RevisionState::Loaded),
        Progress::Checking(attempt) => (attempt, RevisionState::Checking),
        Progress::Ready => return RevisionState::Ready,
        Progress::Failed(failure) => return RevisionState::Failed(failure.problem.clone()),
    };
    let (attempt, state) = under_way;
    attempt.last_problem().map_or(state, |problem| RevisionState::Failed(problem.clone()))
}

fn problem(port: Option<&Port>) -> Option<Problem> {
    match port {
        Some(Port::Failed(failure)) => Some(failure.problem.clone()),
        Some(Port::Binding(_) | Port::Bound) | None => None,
    }
}

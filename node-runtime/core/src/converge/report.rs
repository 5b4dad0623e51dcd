//! What a runtime says is true of an app.

use control::{AppReport, Problem, RevisionState};

use super::{App, Port, Progress, Wanted};

/// The report that answers `wanted`. A revision that waits for its turn counts as being fetched.
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
    match progress {
        Progress::Fetching(_) => RevisionState::Fetching,
        Progress::Fetched(_) | Progress::Preparing(_) => RevisionState::Preparing,
        Progress::Ready => RevisionState::Ready,
        Progress::Failed(failure) => RevisionState::Failed(failure.problem.clone()),
    }
}

fn problem(port: Option<&Port>) -> Option<Problem> {
    match port {
        Some(Port::Failed(failure)) => Some(failure.problem.clone()),
        Some(Port::Binding(_) | Port::Bound) | None => None,
    }
}

//! What a runtime says is true of an app.

use std::collections::BTreeMap;

use control::{AppKey, AppReport, Fingerprint, Problem, RevisionState, Unreadable};
use manifest::Digest;

use super::{App, Port, Progress, Wanted};

/// The report that answers `wanted`, without how long things took. A revision that waits for its turn counts as being
/// fetched; one that failed counts as failed until it is ready, also while it is tried again. What an earlier assignment's
/// check has found says nothing about this one, whose check may be held back.
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
        report.revisions.extend(app.revisions.iter().map(|(id, progress)| (id.clone(), state(wanted, progress))));
        let port = app.ports.get(&assignment.port);
        report.serving = app.serving.clone().filter(|_| port == Some(&Port::Bound));
        report.problem = problem(port);
    }
    report
}

/// What a runtime says of an app when it could not read the last `word` about it: what is true of what it `has` of the
/// app, and that what it was told beyond that it cannot have.
#[must_use]
pub fn report_unreadable(has: Option<AppReport>, app: &AppKey, word: &Unreadable, problem: &Problem) -> AppReport {
    let nothing = || AppReport {
        app: app.clone(),
        uid: word.uid.clone().unwrap_or_default(),
        // That of no assignment: nobody must take this for the answer to one.
        fingerprint: Fingerprint(Digest::of(b"")),
        word: None,
        port: word.port.unwrap_or_default(),
        revisions: BTreeMap::new(),
        serving: None,
        problem: None,
        times: BTreeMap::new(),
    };
    let mut report = has.unwrap_or_else(nothing);
    let has_all = word.revisions.iter().all(|id| report.revisions.contains_key(id));
    let is_so = report.serving.is_some() && report.serving == word.active && word.port == Some(report.port);
    if !(has_all && is_so) {
        report.problem.get_or_insert_with(|| problem.clone());
    }
    for id in &word.revisions {
        report.revisions.entry(id.clone()).or_insert_with(|| RevisionState::Failed(problem.clone()));
    }
    report
}

fn state(wanted: &Wanted, progress: &Progress) -> RevisionState {
    let under_way = match progress {
        Progress::Fetching(attempt) => (attempt, RevisionState::Fetching),
        Progress::Fetched(attempt) | Progress::Preparing(attempt) => (attempt, RevisionState::Preparing),
        Progress::Loaded(attempt) => (attempt, RevisionState::Loaded),
        Progress::Checking(attempt) => (attempt, RevisionState::Checking),
        Progress::Ready => return RevisionState::Ready,
        Progress::Failed(failure) if failure.loaded && failure.under != wanted.fingerprint => {
            return RevisionState::Loaded;
        }
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

#[cfg(test)]
mod tests {
    use control::RevisionId;

    use super::*;

    fn id(name: &str) -> RevisionId {
        RevisionId(name.to_owned())
    }

    fn too_old() -> Problem {
        Problem { reason: "RuntimeTooOld".to_owned(), message: "update it".to_owned(), retrying: false }
    }

    fn word(revisions: &[&str], active: &str) -> Unreadable {
        Unreadable {
            uid: Some("u".to_owned()),
            port: Some(10_000),
            revisions: revisions.iter().map(|name| id(name)).collect(),
            active: Some(id(active)),
            ..Unreadable::default()
        }
    }

    fn answer(has: Option<AppReport>, word: &Unreadable) -> AppReport {
        report_unreadable(has, &AppKey::new("shop", "cart").unwrap(), word, &too_old())
    }

    /// A report of `v1`, which serves.
    fn serving() -> AppReport {
        let revisions = [(id("v1"), RevisionState::Ready)].into();
        let empty = answer(None, &word(&[], "v1"));
        AppReport { revisions, serving: Some(id("v1")), problem: None, ..empty }
    }

    #[test]
    fn what_is_told_of_an_app_that_is_not_there_is_all_that_could_not_be_had() {
        let report = answer(None, &word(&["v1"], "v1"));
        assert_eq!((report.uid.as_str(), report.port, &report.serving), ("u", 10_000, &None));
        assert_eq!(report.revisions[&id("v1")], RevisionState::Failed(too_old()));
    }

    #[test]
    fn what_is_there_is_told_as_it_is_and_what_is_not_has_failed() {
        let report = answer(Some(serving()), &word(&["v1", "v2"], "v1"));
        assert_eq!(report.serving, Some(id("v1")));
        assert_eq!(report.revisions[&id("v1")], RevisionState::Ready);
        assert_eq!(report.revisions[&id("v2")], RevisionState::Failed(too_old()));
        assert_eq!(report.problem, Some(too_old()));
    }

    #[test]
    fn nothing_is_wrong_while_what_is_there_is_what_was_asked_for_in_newer_words() {
        assert_eq!(answer(Some(serving()), &word(&["v1"], "v1")), serving());
        let elsewhere = Unreadable { port: Some(10_001), ..word(&["v1"], "v1") };
        assert_eq!(answer(Some(serving()), &elsewhere).problem, Some(too_old()));
        assert_eq!(answer(Some(serving()), &word(&["v1"], "v2")).problem, Some(too_old()));
    }
}

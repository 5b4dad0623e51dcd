//! How far the current spec is: resolved, loaded, reachable, ready, and what keeps it from being so.

use control::{Hold, Problem, RevisionId, RevisionState};
use operator_api::{ConditionType, Reason};

use super::{failures, find, is_true};
use crate::{
    place::was_published,
    plan::Facts,
    resolve::{self, Resolution},
    storage,
    view::{Contact, Runtime, ServiceState},
};

/// How far the current spec is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Progress {
    /// As far as it can be.
    Done(Reason, String),
    /// On its way.
    Underway(Reason, String),
    /// Stopped by something.
    Failed(Problem),
}

impl Progress {
    pub(super) fn failed(reason: Reason, message: impl Into<String>, retrying: bool) -> Self {
        Self::Failed(Problem { reason: reason.as_str().to_owned(), message: message.into(), retrying })
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Done(reason, _) | Self::Underway(reason, _) => reason.as_str(),
            Self::Failed(problem) => &problem.reason,
        }
    }

    pub(super) fn message(&self) -> &str {
        match self {
            Self::Done(_, message) | Self::Underway(_, message) => message,
            Self::Failed(problem) => &problem.message,
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done(..))
    }

    /// The status of a condition that is true when it is done.
    pub(super) const fn word(&self) -> &'static str {
        if self.is_done() { "True" } else { "False" }
    }
}

pub(super) fn resolved(facts: &Facts<'_>) -> Progress {
    match &facts.resolution {
        Resolution::Known { digest, revision } => {
            let mut message = format!("The spec names content with digest {digest}.");
            let hints = [resolve::undeclared_variables(revision), storage::hint(facts.view, revision)];
            for hint in hints.into_iter().flatten() {
                message.push(' ');
                message.push_str(&hint);
            }
            Progress::Done(Reason::Resolved, message)
        }
        // What was said of it then still holds, as far as anybody knows.
        Resolution::Remembered { problem: None, .. } => {
            let said = find(&facts.view.status, ConditionType::Resolved).map(|said| said.message.clone());
            Progress::Done(Reason::Resolved, said.unwrap_or_default())
        }
        Resolution::Remembered { problem: Some(problem), .. } => {
            let digest = facts.view.status.resolved_digest.as_deref().unwrap_or("that is known");
            let message = format!(
                "The spec names content with digest {digest}. The source cannot be asked at the moment: {}",
                problem.message
            );
            Progress::Done(Reason::Resolved, message)
        }
        Resolution::Pending => Progress::Underway(Reason::Resolving, "The spec's source is being asked.".to_owned()),
        Resolution::Failed(problem) => Progress::Failed(problem.clone()),
    }
}

pub(super) fn loaded(facts: &Facts<'_>, resolved: &Progress) -> Progress {
    let Some(revision) = facts.resolution.id() else { return resolved.clone() };
    if facts.view.app.replicas == 0 {
        return Progress::Done(Reason::ScaledToZero, Reason::ScaledToZero.meaning().to_owned());
    }
    if facts.chosen.is_empty() {
        let too_old = facts.view.runtimes.iter().any(|runtime| !runtime.understands(&facts.view.app));
        let message = if too_old {
            "The runtimes are of a release that does not know what the spec asks for: update the node-runtime pods."
        } else {
            Reason::NoRuntimes.meaning()
        };
        return Progress::failed(Reason::NoRuntimes, message, true);
    }
    if let Some(problem) = failures::summary(facts, revision) {
        return Progress::Failed(problem);
    }
    let held = facts.assignment.as_ref().is_some_and(|assignment| assignment.hold == Hold::Requests);
    let ready = |runtime: &Runtime| {
        let state = runtime.report(&facts.view.app).and_then(|report| report.revisions.get(revision));
        state.is_some_and(RevisionState::is_ready) || is_presumed(facts, runtime, revision)
    };
    if !held && facts.chosen_runtimes().all(ready) {
        return Progress::Done(Reason::Loaded, format!("Revision {revision} is ready on every runtime of the app."));
    }
    if let Resolution::Remembered { problem: Some(problem), .. } = &facts.resolution {
        return Progress::Failed(problem.clone());
    }
    if held {
        let message = format!("Revision {revision} is loaded; the one before it is being stopped.");
        return Progress::Underway(Reason::Stopping, message);
    }
    let is_loaded = |runtime: &Runtime| {
        let state = runtime.report(&facts.view.app).and_then(|report| report.revisions.get(revision));
        state.is_some_and(RevisionState::is_loaded)
    };
    if facts.chosen_runtimes().all(is_loaded) {
        return Progress::Underway(Reason::Checking, format!("Revision {revision} is loaded and being checked."));
    }
    let unheard = facts.view.runtimes.iter().filter(|runtime| matches!(runtime.contact, Contact::Never { .. }));
    if facts.assignment.is_none()
        && let Some(silent) = unheard.map(|runtime| &runtime.id.name).min()
    {
        let message = format!("Revision {revision} waits for word from runtime {silent}, which may have the app.");
        return Progress::Underway(Reason::Loading, message);
    }
    Progress::Underway(Reason::Loading, format!("Revision {revision} is being loaded."))
}

/// Whether a runtime that this operator has not reached yet is taken to serve `revision`, because the operator before it said
/// that the app was ready with it, and sent requests there. Whoever takes over has nothing new to tell, as long as requests go
/// anywhere.
fn is_presumed(facts: &Facts<'_>, runtime: &Runtime, revision: &RevisionId) -> bool {
    let view = facts.view;
    matches!(runtime.contact, Contact::Never { .. })
        && was_published(view, runtime)
        && view.status.active_revision.as_deref() == Some(revision.0.as_str())
        && is_true(&view.status, ConditionType::Ready)
        && !facts.ready().is_empty()
}

pub(super) fn routed(facts: &Facts<'_>) -> Progress {
    let view = facts.view;
    if view.port.is_none() {
        return Progress::failed(Reason::PortsExhausted, Reason::PortsExhausted.meaning(), true);
    }
    if let ServiceState::Foreign(whose) = &view.service {
        let name = view.app.key.name();
        return Progress::failed(
            Reason::ServiceConflict,
            format!("The name {name} is taken by {whose}: rename the app, or delete that Service."),
            false,
        );
    }
    if let Some(problem) = &view.write_failure {
        return Progress::Failed(problem.clone());
    }
    if facts.ready().is_empty() {
        return Progress::Underway(Reason::NoEndpoints, Reason::NoEndpoints.meaning().to_owned());
    }
    Progress::Done(Reason::Programmed, Reason::Programmed.meaning().to_owned())
}

pub(super) fn ready(facts: &Facts<'_>, resolved: &Progress, loaded: &Progress, routed: &Progress) -> Progress {
    let Some(revision) = facts.resolution.id() else { return resolved.clone() };
    if matches!(routed, Progress::Failed(_)) {
        return routed.clone();
    }
    if !loaded.is_done() || facts.view.app.replicas == 0 {
        return loaded.clone();
    }
    let serves = |runtime: &Runtime| {
        runtime.report(&facts.view.app).is_some_and(|report| report.serving.as_ref() == Some(revision))
    };
    if !facts.chosen_runtimes().all(|runtime| serves(runtime) || is_presumed(facts, runtime, revision)) {
        return Progress::Underway(
            Reason::Switching,
            format!("Requests are being handed over to revision {revision}."),
        );
    }
    if !routed.is_done() {
        return routed.clone();
    }
    Progress::Done(Reason::Ready, format!("Revision {revision} takes the app's requests."))
}

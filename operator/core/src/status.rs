//! What users are told: conditions, and events when they change.
//!
//! Promise: `Ready` is true only when the revision of the current spec takes the app's requests on every
//! runtime that it is placed on. A transition time changes only when the status of its condition does.
//! Messages hold no secret, no time and no count that changes by itself.

use std::collections::BTreeMap;

use control::{Problem, RevisionId, RevisionState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_api::{Condition, ConditionType, Reason, SpinAppStatus, names};

use crate::{
    place::{holds, was_published},
    plan::{Event, EventKind, Facts},
    publish::silent_since,
    resolve::Resolution,
    storage,
    view::{Contact, Runtime, ServiceState},
};

/// Whether a condition is true in `status`.
#[must_use]
pub fn is_true(status: &SpinAppStatus, condition: ConditionType) -> bool {
    find(status, condition).is_some_and(|found| found.status == "True")
}

fn find(status: &SpinAppStatus, condition: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|found| found.type_ == condition.as_str())
}

/// How far the current spec is.
#[derive(Debug, Clone, PartialEq)]
enum Progress {
    /// As far as it can be.
    Done(Reason, String),
    /// On its way.
    Underway(Reason, String),
    /// Stopped by something.
    Failed(Problem),
}

impl Progress {
    fn failed(reason: Reason, message: impl Into<String>, retrying: bool) -> Self {
        Self::Failed(Problem { reason: reason.as_str().to_owned(), message: message.into(), retrying })
    }

    fn reason(&self) -> &str {
        match self {
            Self::Done(reason, _) | Self::Underway(reason, _) => reason.as_str(),
            Self::Failed(problem) => &problem.reason,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Done(_, message) | Self::Underway(_, message) => message,
            Self::Failed(problem) => &problem.message,
        }
    }

    const fn is_done(&self) -> bool {
        matches!(self, Self::Done(..))
    }
}

/// The status of the app.
pub(crate) fn status(facts: &Facts<'_>) -> SpinAppStatus {
    let view = facts.view;
    let app = &view.app;
    let replicas = i32::try_from(facts.chosen.len()).unwrap_or(i32::MAX);
    let ready_replicas = i32::try_from(facts.ready().len()).unwrap_or(i32::MAX);
    SpinAppStatus {
        observed_generation: Some(app.generation),
        conditions: conditions(facts),
        replicas,
        ready_replicas,
        summary: Some(format!("{ready_replicas}/{}", app.replicas)),
        selector: Some(format!("{}={}", names::APP_LABEL, app.key.name())),
        port: view.port.map(i32::from),
        url: Some(format!("http://{}.{}.svc", app.key.name(), app.key.namespace())),
        resolved_digest: match &facts.resolution {
            Resolution::Known { digest, .. } => Some(digest.to_string()),
            Resolution::Remembered { .. } => view.status.resolved_digest.clone(),
            Resolution::Pending | Resolution::Failed(_) => None,
        },
        version: version(facts),
        latest_revision: facts.resolution.id().map(ToString::to_string),
        active_revision: active(facts).map(|revision| revision.0),
    }
}

/// The version of the application that takes requests; of the current spec's until one does.
fn version(facts: &Facts<'_>) -> Option<String> {
    let view = facts.view;
    let active = active(facts);
    let known = facts
        .assignment
        .iter()
        .flat_map(|assignment| &assignment.revisions)
        .chain(facts.resolution.revision())
        .find(|revision| active.as_ref().is_none_or(|active| revision.id == *active));
    match known {
        Some(revision) => Some(revision.application.version.clone()).filter(|version| !version.is_empty()),
        None => view.status.version.clone(),
    }
}

/// The revision that takes requests: that of most runtimes, as long as they differ.
fn active(facts: &Facts<'_>) -> Option<RevisionId> {
    let ready = facts.ready();
    let mut counts: BTreeMap<&RevisionId, usize> = BTreeMap::new();
    for runtime in facts.view.runtimes.iter().filter(|runtime| ready.contains(&runtime.name)) {
        if let Some(revision) = runtime.report(&facts.view.app).and_then(|report| report.serving.as_ref()) {
            *counts.entry(revision).or_default() += 1;
        }
    }
    match counts.into_iter().max_by_key(|(_, count)| *count) {
        Some((revision, _)) => Some(revision.clone()),
        // Served by runtimes that this operator has not reached yet.
        None if !ready.is_empty() => facts.view.status.active_revision.clone().map(RevisionId),
        None => None,
    }
}

/// Every condition, in order.
fn conditions(facts: &Facts<'_>) -> Vec<Condition> {
    let resolved = resolved(facts);
    let loaded = loaded(facts, &resolved);
    let routed = routed(facts);
    let ready = ready(facts, &resolved, &loaded, &routed);
    let available = !facts.ready().is_empty();
    let mut writer = Writer { facts, conditions: Vec::new() };
    writer.write(ConditionType::Resolved, word(&resolved), resolved.reason(), resolved.message());
    match facts.resolution.id() {
        Some(_) => writer.write(ConditionType::Loaded, word(&loaded), loaded.reason(), loaded.message()),
        None => writer.write(
            ConditionType::Loaded,
            "Unknown",
            Reason::NotResolved.as_str(),
            "It is not known yet what to load; see Resolved.",
        ),
    }
    writer.write(ConditionType::RoutesProgrammed, word(&routed), routed.reason(), routed.message());
    writer.write(ConditionType::Ready, word(&ready), ready.reason(), ready.message());
    match active(facts) {
        Some(revision) => writer.write(
            ConditionType::Available,
            "True",
            Reason::Serving.as_str(),
            &format!("Revision {revision} takes the app's requests."),
        ),
        None if available => {
            writer.write(ConditionType::Available, "True", Reason::Serving.as_str(), "The app's requests are taken.");
        }
        None => writer.write(
            ConditionType::Available,
            "False",
            Reason::NotServing.as_str(),
            "No revision takes the app's requests.",
        ),
    }
    let (going, reason, message) = progressing(facts, &ready);
    writer.write(ConditionType::Progressing, if going { "True" } else { "False" }, &reason, &message);
    match degraded(facts, &ready) {
        Some((reason, message)) => writer.write(ConditionType::Degraded, "True", &reason, &message),
        None => writer.write(
            ConditionType::Degraded,
            "False",
            Reason::AsExpected.as_str(),
            "Everything is as asked for, or on its way there.",
        ),
    }
    writer.conditions
}

fn word(progress: &Progress) -> &'static str {
    if progress.is_done() { "True" } else { "False" }
}

/// Writes conditions, keeping the transition times of those that stay as they are.
struct Writer<'a> {
    facts: &'a Facts<'a>,
    conditions: Vec<Condition>,
}

impl Writer<'_> {
    fn write(&mut self, condition: ConditionType, status: &str, reason: &str, message: &str) {
        let view = self.facts.view;
        let before = find(&view.status, condition).filter(|before| before.status == status);
        self.conditions.push(Condition {
            type_: condition.as_str().to_owned(),
            status: status.to_owned(),
            reason: clean_reason(reason),
            message: clip(message, MAX_MESSAGE),
            observed_generation: Some(view.app.generation),
            last_transition_time: before
                .map_or_else(|| Time(whole_seconds(view.now)), |before| before.last_transition_time.clone()),
        });
    }
}

/// The longest message of a condition, in bytes: that of `metav1.Condition`.
const MAX_MESSAGE: usize = 32_768;

/// The longest reason, in bytes: that of an Event, which is shorter than a condition's.
const MAX_REASON: usize = 128;

/// The API server keeps whole seconds only.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A reason that came from elsewhere, as the API server accepts it.
fn clean_reason(reason: &str) -> String {
    let word: String = reason.chars().filter(char::is_ascii_alphanumeric).take(MAX_REASON).collect();
    if word.starts_with(|c: char| c.is_ascii_alphabetic()) { word } else { Reason::LoadFailed.as_str().to_owned() }
}

/// At most `limit` bytes of a text.
fn clip(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.get(..end).unwrap_or_default().to_owned()
}

fn resolved(facts: &Facts<'_>) -> Progress {
    match &facts.resolution {
        Resolution::Known { digest, revision } => {
            let mut message = format!("The spec names content with digest {digest}.");
            if let Some(hint) = storage::hint(facts.view, revision) {
                message.push(' ');
                message.push_str(&hint);
            }
            Progress::Done(Reason::Resolved, message)
        }
        Resolution::Remembered { problem, .. } => {
            let digest = facts.view.status.resolved_digest.as_deref().unwrap_or("that is known");
            let mut message = format!("The spec names content with digest {digest}.");
            if let Some(problem) = problem {
                message.push_str(" The source cannot be asked at the moment: ");
                message.push_str(&problem.message);
            }
            Progress::Done(Reason::Resolved, message)
        }
        Resolution::Pending => Progress::Underway(Reason::Resolving, "The spec's source is being asked.".to_owned()),
        Resolution::Failed(problem) => Progress::Failed(problem.clone()),
    }
}

fn loaded(facts: &Facts<'_>, resolved: &Progress) -> Progress {
    let Some(revision) = facts.resolution.id() else { return resolved.clone() };
    if facts.view.app.replicas == 0 {
        return Progress::failed(Reason::ScaledToZero, Reason::ScaledToZero.meaning(), false);
    }
    if facts.chosen.is_empty() {
        return Progress::failed(Reason::NoRuntimes, Reason::NoRuntimes.meaning(), true);
    }
    if let Some(problem) = facts.chosen_runtimes().find_map(|runtime| problem_of(facts, runtime, revision)) {
        return Progress::Failed(problem);
    }
    let ready = |runtime: &Runtime| {
        let report = runtime.report(&facts.view.app);
        report.and_then(|report| report.revisions.get(revision)).is_some_and(RevisionState::is_ready)
    };
    if facts.chosen_runtimes().all(|runtime| ready(runtime) || is_presumed(facts, runtime, revision)) {
        return Progress::Done(Reason::Loaded, format!("Revision {revision} is ready on every runtime of the app."));
    }
    match &facts.resolution {
        Resolution::Remembered { problem: Some(problem), .. } => Progress::Failed(problem.clone()),
        _ => Progress::Underway(Reason::Loading, format!("Revision {revision} is being loaded.")),
    }
}

/// Whether a runtime that this operator has not reached yet is taken to serve `revision`, because the operator before it said
/// that the app was ready with it, and sent requests there. Whoever takes over has nothing new to tell.
fn is_presumed(facts: &Facts<'_>, runtime: &Runtime, revision: &RevisionId) -> bool {
    let view = facts.view;
    matches!(runtime.contact, Contact::Never { .. })
        && was_published(view, runtime)
        && view.status.active_revision.as_deref() == Some(revision.0.as_str())
        && is_true(&view.status, ConditionType::Ready)
}

/// What keeps one runtime from serving a revision.
fn problem_of(facts: &Facts<'_>, runtime: &Runtime, revision: &RevisionId) -> Option<Problem> {
    let report = runtime.report(&facts.view.app)?;
    let problem = match report.revisions.get(revision) {
        Some(RevisionState::Failed(problem)) => problem,
        _ => report.problem.as_ref()?,
    };
    Some(Problem { message: format!("Runtime {}: {}", runtime.name, problem.message), ..problem.clone() })
}

fn routed(facts: &Facts<'_>) -> Progress {
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

fn ready(facts: &Facts<'_>, resolved: &Progress, loaded: &Progress, routed: &Progress) -> Progress {
    let Some(revision) = facts.resolution.id() else { return resolved.clone() };
    if matches!(routed, Progress::Failed(_)) {
        return routed.clone();
    }
    if !loaded.is_done() {
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

fn progressing(facts: &Facts<'_>, ready: &Progress) -> (bool, String, String) {
    let view = facts.view;
    let elsewhere = |runtime: &&Runtime| {
        holds(view, runtime) && !facts.chosen.contains(&runtime.name) && !facts.withdrawn.contains_key(&runtime.name)
    };
    let moving = view.app.replicas > 0 && view.runtimes.iter().filter(elsewhere).count() > 0;
    let say = |going: bool, reason: Reason| (going, reason.as_str().to_owned(), reason.meaning().to_owned());
    match ready {
        Progress::Underway(reason, message) => (true, reason.as_str().to_owned(), message.clone()),
        Progress::Failed(problem) if problem.reason == Reason::ScaledToZero.as_str() => say(false, Reason::Settled),
        Progress::Failed(problem) if problem.retrying => (true, problem.reason.clone(), problem.message.clone()),
        Progress::Failed(_) => say(false, Reason::Stalled),
        Progress::Done(..) if moving => say(true, Reason::Moving),
        Progress::Done(..) => say(false, Reason::Settled),
    }
}

fn degraded(facts: &Facts<'_>, ready: &Progress) -> Option<(String, String)> {
    let view = facts.view;
    if let Progress::Failed(problem) = ready
        && problem.reason != Reason::ScaledToZero.as_str()
    {
        let old = active(facts).filter(|active| facts.resolution.id() != Some(active));
        return Some(match old {
            Some(old) => (
                Reason::OldRevisionServes.as_str().to_owned(),
                format!("Revision {old} goes on serving. {}", problem.message),
            ),
            None => (problem.reason.clone(), problem.message.clone()),
        });
    }
    let wanted = usize::try_from(view.app.replicas).unwrap_or(usize::MAX);
    if facts.chosen.len() < wanted {
        return Some((Reason::TooFewRuntimes.as_str().to_owned(), Reason::TooFewRuntimes.meaning().to_owned()));
    }
    let silent = facts.chosen_runtimes().find(|runtime| silent_since(runtime).is_some())?;
    let message = format!("Runtime {} does not answer; it goes on serving what it was told last.", silent.name);
    Some((Reason::RuntimeUnreachable.as_str().to_owned(), message))
}

/// What has changed that people who watch the app want to know.
pub(crate) fn events(facts: &Facts<'_>, status: &SpinAppStatus) -> Vec<Event> {
    let before = &facts.view.status;
    let news = |condition: ConditionType, kind: EventKind, action: &'static str| {
        let found = find(status, condition)?;
        let same = |old: &Condition| old.status == found.status && old.reason == found.reason;
        let changed = !find(before, condition).is_some_and(same) || before.active_revision != status.active_revision;
        changed.then(|| Event { kind, reason: found.reason.clone(), message: clip(&found.message, 1024), action })
    };
    let mut events = Vec::new();
    let resolved = is_true(status, ConditionType::Resolved) && before.latest_revision != status.latest_revision;
    if resolved && let Some(found) = find(status, ConditionType::Resolved) {
        let (reason, message) = (found.reason.clone(), found.message.clone());
        events.push(Event { kind: EventKind::Normal, reason, message, action: "Resolve" });
    }
    if is_true(status, ConditionType::Ready) {
        events.extend(news(ConditionType::Ready, EventKind::Normal, "Serve"));
    }
    if is_true(status, ConditionType::Degraded) && before_differs(before, status, ConditionType::Degraded) {
        events.extend(news(ConditionType::Degraded, EventKind::Warning, "Serve"));
    }
    if is_true(before, ConditionType::Available) && !is_true(status, ConditionType::Available) {
        events.extend(news(ConditionType::Available, EventKind::Warning, "Serve"));
    }
    events
}

/// Whether a condition's status or reason has changed.
fn before_differs(before: &SpinAppStatus, after: &SpinAppStatus, condition: ConditionType) -> bool {
    let essence = |status: &SpinAppStatus| {
        find(status, condition).map(|found| (found.status.clone(), found.reason.clone(), found.observed_generation))
    };
    essence(before) != essence(after)
}

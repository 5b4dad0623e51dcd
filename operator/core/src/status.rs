//! What users are told: conditions, and events when they change.
//!
//! Promise: `Ready` is true only when the revision of the current spec takes the app's requests on every
//! runtime that it is placed on, or none is wanted. Tools that read health as `kstatus` does find `Current` when it is,
//! `InProgress` while that is on its way, and `Failed` when it is not or takes too long. A transition time changes only
//! when the status of its condition does. Messages hold no secret, no time and no count that changes by itself.

mod events;
mod failures;
mod progress;

use std::collections::BTreeMap;

use control::{RevisionId, clip};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_api::{Condition, ConditionType, Reason, SpinAppStatus, names};

use crate::{
    place::{PATIENCE, holds, within},
    plan::Facts,
    resolve::Resolution,
    rollout::{self, Course},
    view::{Contact, Pod, Runtime},
};

pub(crate) use events::events;
use progress::{Progress, loaded, ready, resolved, routed};

/// Whether a condition is true in `status`.
#[must_use]
pub fn is_true(status: &SpinAppStatus, condition: ConditionType) -> bool {
    find(status, condition).is_some_and(|found| found.status == "True")
}

fn find(status: &SpinAppStatus, condition: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|found| found.type_ == condition.as_str())
}

/// The status of the app, and how far its change of revision is when that is true.
pub(crate) fn status(facts: &Facts<'_>) -> (SpinAppStatus, Option<Course>) {
    let view = facts.view;
    let app = &view.app;
    let (conditions, is_done) = conditions(facts);
    let mut course = facts.course.clone();
    if let Some(course) = course.as_mut().filter(|_| is_done) {
        course.completed.get_or_insert(view.now);
    }
    let replicas = i32::try_from(facts.chosen.len()).unwrap_or(i32::MAX);
    let ready_replicas = i32::try_from(facts.ready().len()).unwrap_or(i32::MAX);
    let mut status = SpinAppStatus {
        observed_generation: Some(app.generation),
        conditions,
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
        rollout: view.status.rollout.clone(),
    };
    let is_written = status != view.status;
    status.rollout = rollout::status(facts, course.as_ref(), is_written);
    (status, course)
}

/// The version of the application that takes requests; of the current spec's until one does.
fn version(facts: &Facts<'_>) -> Option<String> {
    let view = facts.view;
    let known = match active(facts) {
        Some(active) => facts
            .assignment
            .iter()
            .flat_map(|assignment| &assignment.revisions)
            .chain(facts.resolution.revision())
            .find(|revision| revision.id == active),
        None => facts.resolution.revision(),
    };
    match known {
        Some(revision) => Some(revision.application.version.clone()).filter(|version| !version.is_empty()),
        None => view.status.version.clone(),
    }
}

/// The revision that takes requests: that of most runtimes, as long as they differ.
fn active(facts: &Facts<'_>) -> Option<RevisionId> {
    let ready = facts.ready();
    let mut counts: BTreeMap<&RevisionId, usize> = BTreeMap::new();
    for runtime in facts.view.runtimes.iter().filter(|runtime| ready.contains(&runtime.id.name)) {
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

/// Every condition, in order, and whether the current spec is served.
fn conditions(facts: &Facts<'_>) -> (Vec<Condition>, bool) {
    let resolved = resolved(facts);
    let loaded = loaded(facts, &resolved);
    let routed = routed(facts);
    let ready = ready(facts, &resolved, &loaded, &routed);
    let available = !facts.ready().is_empty();
    let mut writer = Writer { facts, conditions: Vec::new() };
    writer.write(ConditionType::Resolved, resolved.word(), resolved.reason(), resolved.message());
    match facts.resolution.id() {
        Some(_) => writer.write(ConditionType::Loaded, loaded.word(), loaded.reason(), loaded.message()),
        None => writer.write(
            ConditionType::Loaded,
            "Unknown",
            Reason::NotResolved.as_str(),
            "It is not known yet what to load; see Resolved.",
        ),
    }
    writer.write(ConditionType::RoutesProgrammed, routed.word(), routed.reason(), routed.message());
    writer.write(ConditionType::Ready, ready.word(), ready.reason(), ready.message());
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
    // As kstatus has it: true or not there.
    if !ready.is_done() {
        let condition = if going { ConditionType::Reconciling } else { ConditionType::Stalled };
        let late = overdue(facts).map(|said| said + " ").unwrap_or_default();
        writer.write(condition, "True", ready.reason(), &format!("{late}{}", ready.message()));
    }
    (writer.conditions, ready.is_done() && facts.view.app.replicas > 0)
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

fn progressing(facts: &Facts<'_>, ready: &Progress) -> (bool, String, String) {
    let view = facts.view;
    let elsewhere = |runtime: &&Runtime| {
        holds(view, runtime)
            && !facts.chosen.contains(&runtime.id.name)
            && !facts.withdrawn.contains_key(&runtime.id.name)
    };
    let moving = view.app.replicas > 0 && view.runtimes.iter().filter(elsewhere).count() > 0;
    let say = |going: bool, reason: Reason| (going, reason.as_str().to_owned(), reason.meaning().to_owned());
    if !ready.is_done()
        && let Some(message) = overdue(facts)
    {
        return (false, Reason::ProgressDeadlineExceeded.as_str().to_owned(), message);
    }
    match ready {
        Progress::Underway(reason, message) => (true, reason.as_str().to_owned(), message.clone()),
        Progress::Failed(problem) if problem.retrying => (true, problem.reason.clone(), problem.message.clone()),
        Progress::Failed(_) => say(false, Reason::Stalled),
        Progress::Done(..) if moving => say(true, Reason::Moving),
        Progress::Done(..) => say(false, Reason::Settled),
    }
}

/// What is said of a change that has got no further for as long as it may take.
fn overdue(facts: &Facts<'_>) -> Option<String> {
    let view = facts.view;
    let deadline = view.app.rollout.deadline;
    let course = facts.course.as_ref().filter(|course| course.is_overdue(view.now, deadline))?;
    let what = course.revision.as_ref().map_or_else(|| "The spec".to_owned(), |id| format!("Revision {id}"));
    Some(format!("{what} has got no further for {} seconds; see Ready for what it waits for.", deadline.as_secs()))
}

fn degraded(facts: &Facts<'_>, ready: &Progress) -> Option<(String, String)> {
    let view = facts.view;
    let overdue = overdue(facts);
    let problem = match ready {
        Progress::Failed(problem) => Some((problem.reason.as_str(), problem.message.as_str())),
        Progress::Underway(..) => overdue.as_deref().map(|said| (Reason::ProgressDeadlineExceeded.as_str(), said)),
        Progress::Done(..) => None,
    };
    if let Some((reason, message)) = problem {
        let old = active(facts).filter(|active| facts.resolution.id() != Some(active));
        return Some(match old {
            Some(old) => {
                (Reason::OldRevisionServes.as_str().to_owned(), format!("Revision {old} goes on serving. {message}"))
            }
            None => (reason.to_owned(), message.to_owned()),
        });
    }
    let wanted = usize::try_from(view.app.replicas).unwrap_or(usize::MAX);
    let is_silent = |runtime: &&Runtime| match runtime.contact {
        Contact::Lost { .. } => true,
        Contact::Never { since } => !within(view.now, since, PATIENCE),
        Contact::Connected(_) => false,
    };
    if facts.chosen.len() < wanted {
        let ready = view.runtimes.iter().filter(|runtime| runtime.pod == Pod::Ready);
        let silent = ready.filter(is_silent).map(|runtime| &runtime.id.name).min();
        let silent = silent.map(|name| format!(" Runtime {name} does not answer the operator.")).unwrap_or_default();
        let message = format!("{}{silent}", Reason::TooFewRuntimes.meaning());
        return Some((Reason::TooFewRuntimes.as_str().to_owned(), message));
    }
    let silent = facts.chosen_runtimes().find(is_silent)?;
    let message = format!("Runtime {} does not answer; it goes on serving what it was told last.", silent.id.name);
    Some((Reason::RuntimeUnreachable.as_str().to_owned(), message))
}

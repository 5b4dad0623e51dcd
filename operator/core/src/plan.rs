//! [`Plan`]: everything that is to be done about one app, and [`plan`], which decides it.

use std::collections::{BTreeMap, BTreeSet};

use control::{Assignment, Hold, RuntimeName};
use jiff::{SignedDuration, Timestamp};
use operator_api::SpinAppStatus;

use crate::{
    history::{Changes, history},
    place::{LINGER, PATIENCE, TRUST, holds, place, was_published, within},
    publish::{self, Endpoint, SILENCE, Service, Slice, endpoints, serves},
    resolve::{Resolution, resolve},
    revise::{revise, wait_their_turn, without_the_new},
    rollout::{self, Course},
    status::{events, status},
    view::{Contact, Pod, Runtime, ServiceState, View},
};

/// Everything that is to be done about one app. What is absent is as it should be already.
///
/// Carried out in this order: `runtimes` (sending needs no answer), `service`, `slices`, `stale_slices`,
/// `status`, `history`, `events`; the status is true once everything before it has been done. When a write of the
/// Service or a slice fails, nothing after it is done: the shell puts the failure into
/// [`View::write_failure`], plans again and writes that status.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What each runtime is to hold of the app. Runtimes that are not listed hold nothing and are to be
    /// told nothing.
    pub runtimes: BTreeMap<RuntimeName, Desired>,
    /// The Service, if it must be written ([`crate::objects::service_object`]).
    pub service: Option<Service>,
    /// The slices that must be written ([`crate::objects::slice_object`]).
    pub slices: Vec<Slice>,
    /// The names of the slices that must be deleted: those that the view was made of, and none that somebody has made under
    /// such a name since.
    pub stale_slices: Vec<String>,
    /// The status, if it must be written.
    pub status: Option<SpinAppStatus>,
    /// Which revisions to remember and which to forget.
    pub history: Changes,
    /// What to tell people who watch; only changes, each once.
    pub events: Vec<Event>,
    /// When to plan again although nothing has happened.
    pub recheck: Option<SignedDuration>,
    /// What the next [`View::memory`] must be.
    pub memory: Memory,
}

/// What one runtime is to hold of the app.
#[derive(Debug, Clone, PartialEq)]
pub enum Desired {
    /// What it has. Also the answer when it is not known what that is.
    Keep,
    /// This; it has been told something else, or nothing.
    Assign(Box<Assignment>),
    /// Nothing; it has been told something.
    Remove,
}

/// What the operator remembers about an app while it runs. All of it may be forgotten: then decisions are
/// slower, not wrong.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// What runtimes were last told.
    pub assignment: Option<Assignment>,
    /// Runtimes that hold the app and get no new requests any more, since when: not before the slices are without them
    /// ([`Memory::note_published`]). They go on serving for [`crate::place::LINGER`], because those who send requests learn
    /// of it later.
    pub withdrawn: BTreeMap<RuntimeName, Timestamp>,
    /// Runtimes that have not been reached and were sent no requests at some time: [`publish::doubted`].
    pub doubted: BTreeSet<RuntimeName>,
    /// The last change of revision.
    pub course: Option<Course>,
}

impl Memory {
    /// Notes that the slices are at `now` as a plan that was made at `decided` has them: what was taken out of them then is
    /// out of them only now.
    pub fn note_published(&mut self, decided: Timestamp, now: Timestamp) {
        for since in self.withdrawn.values_mut().filter(|since| **since == decided) {
            *since = now;
        }
    }
}

/// Something worth telling people who watch an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// How serious it is.
    pub kind: EventKind,
    /// One CamelCase word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// What the operator was doing: the `action` of an `events.k8s.io/v1` Event.
    pub action: &'static str,
}

/// How serious an [`Event`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

impl EventKind {
    /// The `type` of the Event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.runtimes.values().all(|desired| matches!(desired, Desired::Keep))
            && self.service.is_none()
            && self.slices.is_empty()
            && self.stale_slices.is_empty()
            && self.status.is_none()
            && self.history.is_empty()
            && self.events.is_empty()
    }

    /// Notes how long it took to write the Service and the slices, in the status that is written next.
    pub fn note_published(&mut self, took: SignedDuration) {
        if let Some(rollout) = self.status.as_mut().and_then(|status| status.rollout.as_mut()) {
            rollout::note_published(rollout, took);
        }
    }
}

/// Decides everything about one app.
#[must_use]
pub fn plan(view: &View) -> Plan {
    let resolution = resolve(view);
    let chosen = place(view);
    let assignment = view.port.and_then(|port| revise(view, resolution.revision(), port, &chosen));
    let withdrawn = withdrawn(view, &chosen, assignment.as_ref());
    let endpoints = view
        .port
        .filter(|_| !matches!(view.service, ServiceState::Foreign(_)))
        .map_or_else(Vec::new, |port| endpoints(view, port, |runtime| withdrawn.contains_key(runtime)));
    let waiting = assignment.as_ref().map(|full| wait_their_turn(view, full, &chosen)).unwrap_or_default();
    let mut facts = Facts { view, resolution, chosen, assignment, waiting, withdrawn, endpoints, course: None };
    facts.course = rollout::course(&facts);
    let (slices, stale_slices) = slices(&facts);
    let (status, course) = status(&facts);
    facts.course = course;
    let recheck = recheck(&facts, &status);
    let events = events(&facts, &status);
    let history = history(view, &status);
    Plan {
        runtimes: runtimes(&facts),
        service: service(view),
        slices,
        stale_slices,
        status: (status != view.status).then_some(status),
        history,
        events,
        recheck,
        memory: memory(&facts),
    }
}

/// Everything that the parts of a plan have in common.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) view: &'a View,
    pub(crate) resolution: Resolution,
    /// The runtimes that are to have the app.
    pub(crate) chosen: BTreeSet<RuntimeName>,
    /// What they are to be told, if that is known.
    pub(crate) assignment: Option<Assignment>,
    /// Those of them that are not to be told all of it yet.
    pub(crate) waiting: BTreeSet<RuntimeName>,
    /// Those that have the app, are not to have it, and get no new requests any more.
    pub(crate) withdrawn: BTreeMap<RuntimeName, Timestamp>,
    /// Who is sent requests.
    pub(crate) endpoints: Vec<Endpoint>,
    /// How far the change of revision is that goes on, or was the last.
    pub(crate) course: Option<Course>,
}

impl Facts<'_> {
    /// The runtimes that are to have the app, by name.
    pub(crate) fn chosen_runtimes(&self) -> impl Iterator<Item = &Runtime> {
        let find = |name: &RuntimeName| self.view.runtimes.iter().find(|runtime| runtime.id.name == *name);
        self.chosen.iter().filter_map(find)
    }

    /// The runtimes that are sent requests, each once.
    pub(crate) fn ready(&self) -> BTreeSet<&RuntimeName> {
        self.endpoints.iter().filter(|endpoint| endpoint.ready).map(|endpoint| &endpoint.runtime).collect()
    }
}

/// The runtimes that have the app, are not to have it, and are not needed any more: those that are, serve.
fn withdrawn(
    view: &View,
    chosen: &BTreeSet<RuntimeName>,
    assignment: Option<&Assignment>,
) -> BTreeMap<RuntimeName, Timestamp> {
    let answers =
        |runtime: &&Runtime| view.port.is_some_and(|port| serves(view, runtime, port)) && runtime.pod == Pod::Ready;
    let takes_over = |runtime: &&Runtime| {
        let serving = runtime.report(&view.app).and_then(|report| report.serving.as_ref());
        let right = match assignment {
            Some(assignment) => serving == Some(&assignment.active),
            None => serving.is_some(),
        };
        right && answers(runtime)
    };
    let having = || view.runtimes.iter().filter(|runtime| chosen.contains(&runtime.id.name));
    let wanted = view.app.replicas > 0;
    let nobody = wanted && chosen.is_empty();
    let over = having().all(|runtime| takes_over(&runtime)) && !nobody;
    // What has begun is not taken back because an update begins meanwhile.
    let stays_over = having().all(|runtime| answers(&runtime)) && !nobody;
    // A clock that was set back must not make anybody linger for as long as it was wrong.
    let before = |runtime: &Runtime| Some((*view.memory.withdrawn.get(&runtime.id.name)?).min(view.now));
    let is_withdrawn = |runtime: &Runtime| match runtime.contact {
        // There is no way back to an endpoint before it is heard of.
        Contact::Never { .. } if before(runtime).is_some() => true,
        // One on its way out is in the slices as such, unless nothing is wanted of it any more.
        _ if before(runtime).is_some() => stays_over,
        _ => over && (!runtime.is_leaving() || !wanted),
    };
    view.runtimes
        .iter()
        .filter(|runtime| !chosen.contains(&runtime.id.name) && holds(view, runtime) && is_withdrawn(runtime))
        .map(|runtime| {
            // As long as the slices have it, it is sent requests.
            let since = before(runtime).filter(|_| !was_published(view, runtime)).unwrap_or(view.now);
            (runtime.id.name.clone(), since)
        })
        .collect()
}

/// Whether the app is being stopped everywhere.
fn stops(facts: &Facts<'_>) -> bool {
    facts.assignment.as_ref().is_some_and(|assignment| assignment.hold == Hold::Requests)
}

/// What each runtime is to hold.
fn runtimes(facts: &Facts<'_>) -> BTreeMap<RuntimeName, Desired> {
    let view = facts.view;
    let told = |assignment: &Assignment| (assignment.fingerprint().ok(), assignment.clone());
    let full = facts.assignment.as_ref().map(told);
    let shorter = facts.assignment.as_ref().filter(|_| !facts.waiting.is_empty()).map(without_the_new);
    let shorter = shorter.as_ref().map(told);
    let desired = |runtime: &Runtime| {
        let Contact::Connected(holding) = &runtime.contact else {
            // It is asked what it has when it is reached; then there is another plan.
            return holds(view, runtime).then_some(Desired::Keep);
        };
        if facts.chosen.contains(&runtime.id.name) {
            return match if facts.waiting.contains(&runtime.id.name) { &shorter } else { &full } {
                Some((fingerprint, assignment)) if holding.assigned != *fingerprint => {
                    Some(Desired::Assign(Box::new(assignment.clone())))
                }
                Some(_) => Some(Desired::Keep),
                None => holds(view, runtime).then_some(Desired::Keep),
            };
        }
        // An app that must not run twice is stopped here as elsewhere.
        let over = stops(facts)
            || facts.withdrawn.get(&runtime.id.name).is_some_and(|since| !within(view.now, *since, LINGER));
        let told = holding.assigned.is_some();
        holds(view, runtime).then_some(if over && told { Desired::Remove } else { Desired::Keep })
    };
    view.runtimes.iter().filter_map(|runtime| Some((runtime.id.name.clone(), desired(runtime)?))).collect()
}

/// The Service, if it must be written. It is made before anything serves: those who send requests need a
/// while to learn of it.
fn service(view: &View) -> Option<Service> {
    if view.app.is_ending {
        return None;
    }
    let wanted = Service { annotations: view.app.service_annotations.clone(), target_port: view.port? };
    match &view.service {
        ServiceState::Absent => Some(wanted),
        ServiceState::Ours(found) => (*found != wanted).then_some(wanted),
        ServiceState::Foreign(_) => None,
    }
}

/// The slices to write, and the names of those to delete.
fn slices(facts: &Facts<'_>) -> (Vec<Slice>, Vec<String>) {
    let view = facts.view;
    let Some(port) = view.port else { return (Vec::new(), Vec::new()) };
    let wanted = match view.service {
        ServiceState::Foreign(_) => Vec::new(),
        ServiceState::Absent | ServiceState::Ours(_) => publish::slices(view, port, &facts.endpoints),
    };
    let changed = |slice: &Slice| !view.slices.contains(slice);
    if view.app.is_ending {
        // Those that have no owner any more are being given away.
        let kept = |slice: &Slice| view.slices.iter().any(|known| known.name == slice.name && !known.is_altered);
        return (wanted.into_iter().filter(|slice| kept(slice) && changed(slice)).collect(), Vec::new());
    }
    let stale = view.slices.iter().map(|slice| &slice.name);
    let stale = stale.filter(|name| wanted.iter().all(|slice| slice.name != **name)).cloned().collect();
    (wanted.into_iter().filter(changed).collect(), stale)
}

/// What the next plan must remember.
fn memory(facts: &Facts<'_>) -> Memory {
    let Facts { assignment, withdrawn, course, endpoints, .. } = facts;
    Memory {
        assignment: assignment.clone(),
        withdrawn: withdrawn.clone(),
        doubted: publish::doubted(facts.view, endpoints),
        course: course.clone(),
    }
}

/// When something changes by the passing of time alone.
fn recheck(facts: &Facts<'_>, status: &SpinAppStatus) -> Option<SignedDuration> {
    let view = facts.view;
    let course = facts.course.as_ref();
    let overdue = course.and_then(|course| course.due_in(view.now, view.app.rollout.deadline));
    let unwritten = course.and_then(|course| rollout::unwritten(facts, course, status.rollout.as_ref()));
    let lingering = facts.withdrawn.values().filter(|_| !stops(facts)).map(|since| (*since, LINGER));
    // While nobody can be told anything, it may be that somebody is waited for.
    let awaited = |runtime: &&Runtime| facts.assignment.is_none() || holds(view, runtime);
    let waiting = view.runtimes.iter().filter(awaited).flat_map(|runtime| {
        let unready = match runtime.pod {
            Pod::NotReady { since } => Some((since, PATIENCE)),
            Pod::Ready | Pod::Terminating => None,
        };
        let unheard = match runtime.contact {
            Contact::Never { since } => [Some((since, PATIENCE)), Some((since, TRUST))],
            Contact::Lost { since, .. } => [Some((since, PATIENCE)), Some((since, SILENCE))],
            Contact::Connected(_) => [None, None],
        };
        unheard.into_iter().chain([unready]).flatten()
    });
    lingering
        .chain(waiting)
        .map(|(since, span)| span - view.now.duration_since(since))
        .chain(overdue)
        .chain(unwritten)
        .filter(SignedDuration::is_positive)
        .min()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod tests;

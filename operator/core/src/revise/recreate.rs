//! Replacing a revision of an app that must not run twice: `spec.rollout.strategy: Recreate`.
//!
//! ```text
//! load   the new revision is loaded beside the old one, which takes requests; nothing of the new one is called
//! stop   the old one is stopped on every runtime, and its last requests end
//! run    the new one is checked, and takes requests
//! ```
//!
//! Promise: the new revision is not called anywhere while the old one may be called somewhere: a runtime that does not answer
//! counts as running it until its pod is gone. A revision that cannot be loaded stops nothing.

use std::collections::BTreeSet;

use control::{AppReport, Assignment, Hold, RevisionId, RevisionSpec, RevisionState, RuntimeName};

use super::{everywhere, only, reports, waits_for_word};
use crate::{
    place::{PATIENCE, was_published, within},
    view::{Contact, Holding, Pod, Runtime, View},
};

/// What runtimes are told when they were told `last`.
pub(super) fn replace(
    view: &View,
    target: &RevisionSpec,
    last: &Assignment,
    chosen: &BTreeSet<RuntimeName>,
) -> Assignment {
    if !another_may_run(view, &target.id) {
        return only(view, target, last.port);
    }
    let loaded = |report: &AppReport| report.revisions.get(&target.id).is_some_and(RevisionState::is_loaded);
    // Once begun, stopping goes on whatever is to run then: what was told to stop is not known to have stopped.
    if last.hold == Hold::Requests || everywhere(view, chosen, loaded) {
        return Assignment { hold: Hold::Requests, ..only(view, target, last.port) };
    }
    beside(view, target, last, last.active.clone())
}

/// What runtimes are told when it is not known what they were told last; `None` while that may still become known.
pub(super) fn begin(view: &View, target: &RevisionSpec, port: u16) -> Option<Assignment> {
    if waits_for_word(view) {
        return None;
    }
    let alone = only(view, target, port);
    if reports(view).any(|report| report.serving.as_ref() == Some(&target.id)) {
        return Some(alone);
    }
    if view.runtimes.iter().any(|runtime| may_have_been_told(view, runtime)) {
        return None;
    }
    Some(serving(view, &target.id).map_or_else(|| alone.clone(), |old| beside(view, target, &alone, old)))
}

/// Whether a runtime that has not been reached may have been told of the app by an earlier operator. Of an app that had no
/// status when this one saw it first nobody was told, unless the earlier one died before it wrote one.
fn may_have_been_told(view: &View, runtime: &Runtime) -> bool {
    let Contact::Never { since } = runtime.contact else { return false };
    let is_new = view.memory.course.as_ref().map_or(view.status.latest_revision.is_none(), |course| course.first);
    is_unaccounted(view, runtime) && (!is_new || within(view.now, since, PATIENCE))
}

/// Whether a runtime that has not been reached may hold anything: only one that is just starting is known not to.
fn is_unaccounted(view: &View, runtime: &Runtime) -> bool {
    !matches!(runtime.pod, Pod::NotReady { .. }) || was_published(view, runtime)
}

/// The target is loaded beside `old`, which goes on being served also where it is not listed.
fn beside(view: &View, target: &RevisionSpec, last: &Assignment, old: RevisionId) -> Assignment {
    let revisions = last.revision(&old).into_iter().chain([target]).cloned().collect();
    Assignment { revisions, active: old, hold: Hold::Checks, ..only(view, target, last.port) }
}

/// The revision, other than `target`, that most runtimes serve.
fn serving(view: &View, target: &RevisionId) -> Option<RevisionId> {
    let served = || reports(view).filter_map(|report| report.serving.as_ref()).filter(|id| *id != target);
    served().max_by_key(|id| (served().filter(|other| other == id).count(), *id)).cloned()
}

/// Whether anything but `target` may be answering requests, or finishing them.
fn another_may_run(view: &View, target: &RevisionId) -> bool {
    view.runtimes.iter().any(|runtime| match &runtime.contact {
        Contact::Connected(holding) | Contact::Lost { holding, .. } => may_run_another(view, runtime, holding, target),
        Contact::Never { .. } => is_unaccounted(view, runtime),
    })
}

/// Whether a runtime that has been heard of may run another revision: only its answer to the last that it was told counts.
fn may_run_another(view: &View, runtime: &Runtime, holding: &Holding, target: &RevisionId) -> bool {
    if holding.parting {
        return true;
    }
    match (runtime.report(&view.app), holding.assigned) {
        (None, None) => false,
        (Some(report), Some(assigned)) if report.fingerprint == assigned => {
            report.revisions.keys().chain(&report.serving).any(|id| id != target)
        }
        _ => true,
    }
}

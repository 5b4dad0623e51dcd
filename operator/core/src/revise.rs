//! Decides which revisions runtimes hold, and which of them takes requests.
//!
//! An update has two phases. First the new revision is added beside the old one, which goes on taking
//! requests; when every connected runtime of the app has it ready, it becomes the active one everywhere at
//! once; when it serves everywhere, the old one is dropped.
//!
//! An app that must not run twice is updated otherwise: see [`recreate`].
//!
//! Promise: a revision that cannot be loaded, or does not pass its check, never replaces one that serves. After a restart of the operator
//! nothing is told to a runtime that could make it forget a revision that serves, unless the new one is at
//! least not known to fail there. What runtimes keep of an update that is not over is taken up again, so that the old
//! revision can be given to others; never what would take a runtime back from a revision that it serves.

mod recreate;

use std::collections::BTreeSet;

use control::{AppReport, Assignment, Hold, RevisionId, RevisionSpec, RevisionState, RuntimeName};

use crate::{
    place::{PATIENCE, holds, was_published, within},
    rollout::Strategy,
    view::{Contact, Holding, Runtime, View},
};

/// What runtimes of the app are to be told; `None` when nobody knows enough to tell them anything.
#[must_use]
pub fn revise(
    view: &View,
    target: Option<&RevisionSpec>,
    port: u16,
    chosen: &BTreeSet<RuntimeName>,
) -> Option<Assignment> {
    let is_last = |last: &&Assignment| last.uid == view.app.uid && last.port == port;
    let last = view.memory.assignment.as_ref().filter(is_last).or_else(|| recall(view, target, is_last));
    // What was begun by stopping the old revision is gone through with, whatever the spec asks for now.
    let held = last.filter(|last| last.hold == Hold::Requests).and_then(Assignment::active_revision);
    let recreates = view.app.rollout.strategy == Strategy::Recreate;
    match (target.or(held), last) {
        (None, last) => last.cloned(),
        (Some(target), Some(last)) if last.active == target.id && last.hold == Hold::Nothing => {
            Some(settle(view, target, last, chosen))
        }
        // Nothing of what was to replace it has been called.
        (Some(target), Some(last)) if last.active == target.id && last.hold == Hold::Checks => {
            Some(only(view, target, port))
        }
        (Some(target), Some(last)) if recreates || last.hold == Hold::Requests => {
            Some(recreate::replace(view, target, last, chosen))
        }
        (Some(target), Some(last)) => Some(update(view, target, last, chosen)),
        (Some(target), None) if recreates => recreate::begin(view, target, port),
        (Some(target), None) => adopt(view, target, chosen).then(|| only(view, target, port)),
    }
}

/// The runtimes of the app that are not to load the new revision of `full` yet, because as many as may are at it: what
/// they are told is the old one alone.
#[must_use]
pub fn wait_their_turn(view: &View, full: &Assignment, chosen: &BTreeSet<RuntimeName>) -> BTreeSet<RuntimeName> {
    let Strategy::RollingUpdate(surge) = view.app.rollout.strategy else { return BTreeSet::new() };
    // The newest is the last.
    let new = full.revisions.last().filter(|revision| revision.id != full.active);
    let (Some(new), Some(_old)) = (new, full.active_revision()) else { return BTreeSet::new() };
    let fingerprint = full.fingerprint().ok();
    let (mut at_it, mut waiting) = (0, BTreeSet::new());
    for runtime in view.runtimes.iter().filter(|runtime| chosen.contains(&runtime.id.name)) {
        let state = runtime.report(&view.app).and_then(|report| report.revisions.get(&new.id));
        let told = runtime.holding().is_some_and(|holding| holding.assigned == fingerprint);
        if state.is_some() || told {
            at_it += usize::from(!state.is_some_and(RevisionState::is_ready));
        } else if matches!(runtime.contact, Contact::Connected(_)) {
            // One that cannot be told anything takes nobody's turn.
            waiting.insert(runtime.id.name.clone());
        }
    }
    let room = surge.of_runtimes(chosen.len()).saturating_sub(at_it);
    waiting.into_iter().skip(room).collect()
}

/// What those that wait their turn are told.
#[must_use]
pub fn without_the_new(full: &Assignment) -> Assignment {
    let revisions = full.active_revision().into_iter().cloned().collect();
    Assignment { revisions, ..full.clone() }
}

/// One revision, taking requests as soon as it is ready.
pub(crate) fn only(view: &View, target: &RevisionSpec, port: u16) -> Assignment {
    Assignment {
        app: view.app.key.clone(),
        uid: view.app.uid.clone(),
        port,
        revisions: vec![target.clone()],
        active: target.id.clone(),
        hold: Hold::Nothing,
    }
}

/// The target is active already: drop the rest once it serves everywhere.
fn settle(view: &View, target: &RevisionSpec, last: &Assignment, chosen: &BTreeSet<RuntimeName>) -> Assignment {
    let serves = |report: &AppReport| report.serving.as_ref() == Some(&target.id);
    if last.revisions.len() < 2 || everywhere(view, chosen, serves) {
        return only(view, target, last.port);
    }
    let others = last.revisions.iter().filter(|revision| revision.id != target.id).cloned();
    Assignment { revisions: others.chain([target.clone()]).collect(), ..last.clone() }
}

/// Another revision is active: put the target beside it, and hand over once the target is ready everywhere.
fn update(view: &View, target: &RevisionSpec, last: &Assignment, chosen: &BTreeSet<RuntimeName>) -> Assignment {
    let serves = |runtime: &Runtime| match &runtime.contact {
        Contact::Never { .. } => was_published(view, runtime),
        Contact::Connected(_) | Contact::Lost { .. } => {
            runtime.report(&view.app).is_some_and(|report| report.serving.is_some())
        }
    };
    let Some(old) = last.active_revision().filter(|_| view.runtimes.iter().any(serves)) else {
        // Nothing serves, so there is nothing to protect.
        return only(view, target, last.port);
    };
    let ready = |report: &AppReport| report.revisions.get(&target.id).is_some_and(RevisionState::is_ready);
    let active = if everywhere(view, chosen, ready) { &target.id } else { &old.id };
    let revisions = vec![old.clone(), target.clone()];
    Assignment { revisions, active: active.clone(), hold: Hold::Nothing, ..last.clone() }
}

/// Whether every connected runtime that is to have the app reports so, and there is one. A report that answers
/// an earlier assignment than the last one says nothing: what it speaks of may be gone.
fn everywhere(view: &View, chosen: &BTreeSet<RuntimeName>, is_so: impl Fn(&AppReport) -> bool) -> bool {
    let says_so = |holding: &Holding| {
        let report = holding.report.as_ref().filter(|report| report.uid == view.app.uid);
        report.is_some_and(|report| holding.assigned == Some(report.fingerprint) && is_so(report))
    };
    let mut connected =
        view.runtimes.iter().filter(|runtime| chosen.contains(&runtime.id.name)).filter_map(|runtime| {
            match &runtime.contact {
                Contact::Connected(holding) => Some(holding),
                Contact::Never { .. } | Contact::Lost { .. } => None,
            }
        });
    connected.next().is_some_and(&says_so) && connected.all(says_so)
}

/// What runtimes were told last, as one says that has kept an update which was not over: this operator has just started.
///
/// A runtime that was away for long may have kept one that ended long ago. What is taken up therefore either goes on
/// with what every runtime serves, or leads to `target`.
fn recall<'a>(
    view: &'a View,
    target: Option<&RevisionSpec>,
    is_last: impl Fn(&&'a Assignment) -> bool,
) -> Option<&'a Assignment> {
    if waits_for_word(view) {
        return None;
    }
    let leads_to_target = |kept: &Assignment| target.is_some_and(|target| target.id == kept.active);
    let takes_nobody_back = |kept: &&'a Assignment| {
        let mut served = reports(view).filter_map(|report| report.serving.as_ref());
        leads_to_target(kept) || served.all(|serving| *serving == kept.active)
    };
    let kept = view.runtimes.iter().filter_map(|runtime| runtime.holding()?.rollout.as_deref());
    kept.filter(is_last).filter(takes_nobody_back).min_by_key(|kept| (!leads_to_target(kept), kept.fingerprint().ok()))
}

/// What runtimes have reported about the app.
fn reports(view: &View) -> impl Iterator<Item = &AppReport> {
    view.runtimes.iter().filter_map(|runtime| runtime.report(&view.app))
}

/// Whether a runtime that has the app, as far as anybody knows, may soon be heard of for the first time.
fn waits_for_word(view: &View) -> bool {
    view.runtimes.iter().any(|runtime| match runtime.contact {
        Contact::Never { since } => holds(view, runtime) && within(view.now, since, PATIENCE),
        Contact::Connected(_) | Contact::Lost { .. } => false,
    })
}

/// Whether runtimes may be told to run `target` alone although it is not known what they were told before:
/// this operator has just started.
///
/// A runtime that is told so goes on serving what it serves until `target` is ready there. But if that never
/// happens, a restart of the runtime would leave it with nothing, so a target that is known to fail on one
/// runtime is told to none.
///
/// As long as none of those that are to have the app has been heard of there is nobody to tell, and what they kept of an
/// update, the old revision above all, is taken up when they are.
fn adopt(view: &View, target: &RevisionSpec, chosen: &BTreeSet<RuntimeName>) -> bool {
    let serves_another = |id: &RevisionId| *id != target.id;
    let protects = reports(view).any(|report| report.serving.as_ref().is_some_and(serves_another));
    // One that is loaded and held back gets no further by waiting.
    let held = |runtime: &Runtime| {
        let kept = runtime.holding().and_then(|holding| holding.rollout.as_deref());
        kept.is_some_and(|kept| !kept.hold.is_nothing())
    };
    let undecided = |runtime: &Runtime| match runtime.report(&view.app)?.revisions.get(&target.id)? {
        RevisionState::Loaded => Some(!held(runtime)),
        RevisionState::Fetching | RevisionState::Preparing | RevisionState::Checking | RevisionState::Failed(_) => {
            Some(true)
        }
        RevisionState::Ready | RevisionState::Draining => Some(false),
    };
    let endangered = protects && view.runtimes.iter().any(|runtime| undecided(runtime) == Some(true));
    let is_heard = |runtime: &Runtime| !matches!(runtime.contact, Contact::Never { .. });
    let nobody_to_tell = !chosen.is_empty()
        && !view.runtimes.iter().any(|runtime| chosen.contains(&runtime.id.name) && is_heard(runtime));
    !waits_for_word(view) && !endangered && !nobody_to_tell
}

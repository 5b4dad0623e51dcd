//! [`Rules`]: the deciders under test, and what becomes of them when one rule is broken on purpose.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::{AppKey, Hold, RuntimeName, SecretString};
use jiff::SignedDuration;
use node_runtime_core::converge::{self, App, Next, Room, Step, Wanted};
use operator_api::names::LOWEST_APP_PORT;
use operator_core::{Contact, Desired, Plan, Variables, View};

/// What a runtime does next about one app.
type Converge = for<'a> fn(&'a AppKey, Option<&'a Wanted>, Option<&'a App>, Duration, &'a mut Room) -> Next;

/// The deciders of one run.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What the operator does about an app.
    pub plan: fn(&View) -> Plan,
    /// Which runtimes are to have it, as that plan sees it.
    pub place: fn(&View) -> BTreeSet<RuntimeName>,
    /// What a runtime does about it.
    pub converge: Converge,
    /// The port that an app gets whose own is this.
    pub port: fn(Option<u16>) -> Option<u16>,
    /// Whether a runtime refuses an operator whose term is over.
    pub fenced: bool,
    /// Whether a runtime keeps its assignments over a restart.
    pub remembers: bool,
    /// Whether a runtime makes checks, instead of taking them for passed.
    pub checks: bool,
}

/// A rule that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Endpoints are published of runtimes that have been told to load the app, whatever they report.
    PublishBeforeReport,
    /// Runtimes route requests to a revision that is still being loaded.
    RouteUnloaded,
    /// A runtime that is to let go of an app is told so at once, without its endpoint being withdrawn first.
    RemoveAtOnce,
    /// Nobody new gets an app that a runtime had which is gone.
    ReplaceNobody,
    /// One replica is enough.
    OneIsEnough,
    /// Where an app goes depends on how many runtimes there are.
    MoveForNothing,
    /// Every app has the same port.
    OnePortForAll,
    /// Every runtime is told of every app.
    TellEverybody,
    /// An app is given a secret that is not its own.
    MixSecrets,
    /// What is right is written again.
    WriteForNothing,
    /// No change is ever called late.
    NeverLate,
    /// Runtimes obey whoever talks to them.
    ObeyAnyTerm,
    /// Runtimes start empty.
    ForgetOnRestart,
    /// An operator that has just started takes away what it does not know.
    RemoveUnknown,
    /// Runtimes take checks for passed.
    SkipChecks,
    /// The next revision of an app that must not run twice is not held back.
    HoldNothing,
}

impl Mutation {
    /// Every one.
    pub const ALL: [Self; 16] = [
        Self::PublishBeforeReport,
        Self::RouteUnloaded,
        Self::RemoveAtOnce,
        Self::ReplaceNobody,
        Self::OneIsEnough,
        Self::MoveForNothing,
        Self::OnePortForAll,
        Self::TellEverybody,
        Self::MixSecrets,
        Self::WriteForNothing,
        Self::NeverLate,
        Self::ObeyAnyTerm,
        Self::ForgetOnRestart,
        Self::RemoveUnknown,
        Self::SkipChecks,
        Self::HoldNothing,
    ];

    /// Words of the violation that shows it: each mutation is there for one check, which must be the one to fail.
    #[must_use]
    pub const fn shown_by(self) -> &'static str {
        match self {
            Self::PublishBeforeReport => "that never reported to serve it",
            Self::RouteUnloaded => "which is not ready there",
            Self::RemoveAtOnce => "is lost",
            Self::ReplaceNobody => "has no endpoint although",
            Self::OneIsEnough => "endpoints and should have",
            Self::MoveForNothing => "though nobody came for it",
            Self::OnePortForAll => "share port",
            Self::TellEverybody => "which is not placed there",
            Self::MixSecrets => "a secret of another app",
            Self::WriteForNothing => "writes though nothing has changed",
            Self::NeverLate => "got no further for",
            Self::ObeyAnyTerm => "obeys term",
            Self::ForgetOnRestart => "has restarted and no longer serves",
            Self::RemoveUnknown => "away though nothing has changed",
            Self::SkipChecks => "which has not passed its check",
            Self::HoldNothing => "runs twice",
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::real()
    }
}

impl Rules {
    /// The real ones.
    #[must_use]
    pub fn real() -> Self {
        Self {
            plan: operator_core::plan,
            place: operator_core::place::place,
            converge: converge::converge_app,
            port: |own| own,
            fenced: true,
            remembers: true,
            checks: true,
        }
    }

    /// The real ones but one.
    #[must_use]
    pub fn broken(mutation: Mutation) -> Self {
        let real = Self::real();
        match mutation {
            Mutation::PublishBeforeReport => Self { plan: publish_before_report, ..real },
            Mutation::RouteUnloaded => Self { converge: route_unloaded, ..real },
            Mutation::RemoveAtOnce => Self { plan: remove_at_once, ..real },
            Mutation::ReplaceNobody => Self { plan: replace_nobody, ..real },
            Mutation::OneIsEnough => Self { plan: one_is_enough, ..real },
            Mutation::MoveForNothing => Self {
                plan: |view| operator_core::plan(&reweighed(view)),
                place: |view| operator_core::place::place(&reweighed(view)),
                ..real
            },
            Mutation::OnePortForAll => Self { port: |_| Some(LOWEST_APP_PORT), ..real },
            Mutation::TellEverybody => Self { plan: tell_everybody, ..real },
            Mutation::MixSecrets => Self { plan: mix_secrets, ..real },
            Mutation::WriteForNothing => Self { plan: write_for_nothing, ..real },
            Mutation::NeverLate => Self { plan: never_late, ..real },
            Mutation::ObeyAnyTerm => Self { fenced: false, ..real },
            Mutation::ForgetOnRestart => Self { remembers: false, ..real },
            Mutation::RemoveUnknown => Self { plan: remove_unknown, ..real },
            Mutation::SkipChecks => Self { checks: false, ..real },
            Mutation::HoldNothing => Self { plan: hold_nothing, ..real },
        }
    }
}

/// Takes "told" for "ready".
fn publish_before_report(view: &View) -> Plan {
    let mut view = view.clone();
    for runtime in &mut view.runtimes {
        if let Contact::Connected(holding) = &mut runtime.contact
            && holding.assigned.is_some()
            && let Some(report) = &mut holding.report
            && report.serving.is_none()
        {
            report.serving = report.revisions.keys().next().cloned();
        }
    }
    operator_core::plan(&view)
}

/// Takes "begun" for "ready".
fn route_unloaded(key: &AppKey, wanted: Option<&Wanted>, actual: Option<&App>, now: Duration, room: &mut Room) -> Next {
    let mut next = converge::converge_app(key, wanted, actual, now, room);
    if let (Some(wanted), Some(app)) = (wanted, actual) {
        let active = &wanted.assignment.active;
        let is_begun = app.revisions.contains_key(active) && app.uid == wanted.assignment.uid;
        if is_begun && wanted.assignment.hold.is_nothing() && app.serving.as_ref() != Some(active) {
            next.steps.push(Step::Switch { app: key.clone(), revision: active.clone() });
        }
    }
    next
}

/// Does not linger.
fn remove_at_once(view: &View) -> Plan {
    let mut plan = operator_core::plan(view);
    for runtime in plan.memory.withdrawn.keys() {
        plan.runtimes.insert(runtime.clone(), Desired::Remove);
    }
    plan
}

/// Tells only those of an app that have it already, as long as any does.
fn replace_nobody(view: &View) -> Plan {
    let mut plan = operator_core::plan(view);
    let has = |name: &RuntimeName| {
        let runtime = view.runtimes.iter().find(|runtime| runtime.id.name == *name);
        runtime.and_then(|runtime| runtime.holding()).is_some_and(|holding| holding.assigned.is_some())
    };
    if view.status.active_revision.is_some() {
        plan.runtimes.retain(|name, desired| !matches!(desired, Desired::Assign(_)) || has(name));
    }
    plan
}

/// Does not count.
fn one_is_enough(view: &View) -> Plan {
    let mut view = view.clone();
    view.app.replicas = view.app.replicas.min(1);
    operator_core::plan(&view)
}

/// The view with runtimes' weights turned round whenever there is one more or one fewer.
fn reweighed(view: &View) -> View {
    let mut view = view.clone();
    let odd = view.runtimes.len() % 2;
    for (number, runtime) in view.runtimes.iter_mut().enumerate() {
        // Far more than it has: who can have the app stays the same.
        runtime.capacity = if number % 2 == odd { 1_000 } else { 1_000_000 };
    }
    view
}

/// Tells whoever is there.
fn tell_everybody(view: &View) -> Plan {
    let mut plan = operator_core::plan(view);
    if let Some(assignment) = plan.memory.assignment.clone() {
        for runtime in view.runtimes.iter().filter(|runtime| matches!(runtime.contact, Contact::Connected(_))) {
            let told = Desired::Assign(Box::new(assignment.clone()));
            plan.runtimes.entry(runtime.id.name.clone()).or_insert(told);
        }
    }
    plan
}

/// Gives an app the variables of another.
fn mix_secrets(view: &View) -> Plan {
    let mut view = view.clone();
    view.variables = Variables::Resolved([("secret".to_owned(), SecretString::new("secret-of-9-0"))].into());
    operator_core::plan(&view)
}

/// Is no fixpoint.
fn write_for_nothing(view: &View) -> Plan {
    let mut plan = operator_core::plan(view);
    plan.status.get_or_insert_with(|| view.status.clone());
    plan
}

/// Waits for ever.
fn never_late(view: &View) -> Plan {
    let mut view = view.clone();
    view.app.rollout.deadline = SignedDuration::from_hours(24);
    operator_core::plan(&view)
}

/// Has no third answer besides yes and no.
fn remove_unknown(view: &View) -> Plan {
    let mut plan = operator_core::plan(view);
    let known: BTreeMap<_, _> = view
        .runtimes
        .iter()
        .filter(|runtime| plan.memory.assignment.is_none() && matches!(runtime.contact, Contact::Connected(_)))
        .map(|runtime| (runtime.id.name.clone(), Desired::Remove))
        .collect();
    plan.runtimes.extend(known);
    plan
}

/// Does not wait for the old revision to be stopped.
fn hold_nothing(view: &View) -> Plan {
    let mut plan = operator_core::plan(view);
    for desired in plan.runtimes.values_mut() {
        if let Desired::Assign(assignment) = desired
            && let Some(newest) = assignment.revisions.last()
        {
            (assignment.active, assignment.hold) = (newest.id.clone(), Hold::Nothing);
        }
    }
    plan
}

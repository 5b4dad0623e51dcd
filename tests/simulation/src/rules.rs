//! [`Rules`]: the deciders under test, and what becomes of them when one rule is broken on purpose.

use std::collections::BTreeMap;

use control::Hold;
use operator_core::{Contact, Desired, Plan, View};

/// The deciders of one run.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What the operator does about an app.
    pub plan: fn(&View) -> Plan,
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
    /// A runtime that is to let go of an app is told so at once, without its endpoint being withdrawn first.
    RemoveAtOnce,
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
    pub const ALL: [Self; 7] = [
        Self::PublishBeforeReport,
        Self::RemoveAtOnce,
        Self::ObeyAnyTerm,
        Self::ForgetOnRestart,
        Self::RemoveUnknown,
        Self::SkipChecks,
        Self::HoldNothing,
    ];
}

impl Rules {
    /// The real ones.
    #[must_use]
    pub fn real() -> Self {
        Self { plan: operator_core::plan, fenced: true, remembers: true, checks: true }
    }

    /// The real ones but one.
    #[must_use]
    pub fn broken(mutation: Mutation) -> Self {
        let real = Self::real();
        match mutation {
            Mutation::PublishBeforeReport => Self { plan: publish_before_report, ..real },
            Mutation::RemoveAtOnce => Self { plan: remove_at_once, ..real },
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

/// Does not linger.
fn remove_at_once(view: &View) -> Plan {
    let mut plan = operator_core::plan(view);
    for runtime in plan.memory.withdrawn.keys() {
        plan.runtimes.insert(runtime.clone(), Desired::Remove);
    }
    plan
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

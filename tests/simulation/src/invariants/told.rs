//! What operators decide, say and are obeyed in: looked at whenever they do.

use control::{RuntimeName, ToRuntime};
use operator_core::Desired;

use crate::{
    operator::{Decision, Placement},
    world::World,
};

impl World {
    /// What an operator has decided.
    pub(crate) fn check_decision(&mut self, operator: usize, decision: &Decision) {
        self.check_entitlement(operator, decision);
        self.check_movement(operator, decision);
    }

    /// An app, and with it its secrets, is for the runtimes that it is placed on: no more than it asks for.
    fn check_entitlement(&mut self, operator: usize, decision: &Decision) {
        let Decision { app, placement, plan, .. } = decision;
        let told = plan.runtimes.iter().filter(|(_, desired)| matches!(desired, Desired::Assign(_)));
        let told: Vec<&RuntimeName> = told.map(|(runtime, _)| runtime).collect();
        if let Some(runtime) = told.iter().find(|runtime| !placement.placed.contains(**runtime)) {
            self.checks.fail(|| format!("operator {operator} tells {runtime} of {app}, which is not placed there"));
        }
        let replicas = usize::try_from(placement.replicas).unwrap_or(usize::MAX);
        if placement.placed.len() > replicas {
            self.checks.fail(|| format!("{app} is placed on {:?} and asks for {replicas}", placement.placed));
        }
    }

    /// A runtime that could go on having an app loses it to one that could not have had it before, or not at all.
    fn check_movement(&mut self, operator: usize, decision: &Decision) {
        let now = &decision.placement;
        let Some(before) = self.checks.placements.insert(decision.uid.clone(), now.clone()) else { return };
        if !comparable(&before, now) {
            return;
        }
        let stayed = before.placed.iter().filter(|runtime| now.able.contains_key(*runtime));
        let lost: Vec<&RuntimeName> = stayed.filter(|runtime| !now.placed.contains(*runtime)).collect();
        let came = now.placed.iter().filter(|runtime| !before.able.contains_key(*runtime)).count();
        if lost.len() > came {
            let app = &decision.app;
            self.checks.fail(|| {
                format!(
                    "operator {operator} moves {app} away from {lost:?} to {:?} though nobody came for it",
                    now.placed
                )
            });
        }
    }

    /// A message that an operator is about to send.
    pub(crate) fn check_message(&mut self, session: u64, message: &ToRuntime) {
        let Some(stream) = self.sessions.get(&session) else { return };
        let ToRuntime::Assign(assignment) = message else {
            if self.checks.at_rest.is_some() && matches!(message, ToRuntime::Remove(_)) {
                self.checks.fail(|| format!("a new leader takes {message:?} away though nothing has changed"));
            }
            return;
        };
        if self.checks.at_rest.is_some() {
            let app = assignment.app.clone();
            let runtime = stream.runtime.clone();
            self.checks.fail(|| format!("a new leader tells {runtime} of {app} though nothing has changed"));
        }
        // Every secret in it is one that this app has, or had.
        let number = (0..self.scenario.apps).find(|number| crate::faults::key(*number) == assignment.app);
        let prefix = format!("secret-of-{}-", number.unwrap_or_default());
        for value in assignment.revisions.iter().flat_map(|revision| revision.variables.values()) {
            if !value.expose().starts_with(&prefix) {
                let app = assignment.app.clone();
                self.checks.fail(|| format!("a secret of another app is sent with {app}"));
            }
        }
    }

    /// A runtime is about to obey an operator of `term`.
    pub(crate) fn check_obedience(&mut self, runtime: &RuntimeName, term: u64) {
        let Some(machine) = self.machines.get(runtime) else { return };
        // What a process has met is forgotten with it.
        let name = RuntimeName(format!("{runtime}/{}", machine.life));
        let highest = self.checks.obeyed.entry(name).or_default();
        if term < *highest {
            let highest = *highest;
            self.checks.fail(|| format!("{runtime} obeys term {term} after term {highest}"));
        } else {
            *highest = term;
        }
    }
}

/// Whether the two differ in who is there alone, and not in what is known of them or asked for.
fn comparable(before: &Placement, now: &Placement) -> bool {
    let known = |placement: &Placement| placement.able.values().all(|capacity| *capacity > 0);
    let same = |(runtime, capacity)| before.able.get(runtime).is_none_or(|known| known == capacity);
    before.replicas == now.replicas && known(before) && known(now) && now.able.iter().all(same)
}

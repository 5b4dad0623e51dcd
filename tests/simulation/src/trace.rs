//! Events in lines, for people who replay a run.

use control::Assignment;
use operator_core::{Desired, Plan};

use crate::world::Event;

/// A line about an event, for people; nothing for the many that say little.
pub(crate) fn line(at: i64, event: &Event) -> Option<String> {
    match event {
        Event::Check
        | Event::Recheck { .. }
        | Event::ToRuntime(_)
        | Event::ToOperator(_)
        | Event::Reconcile { .. }
        | Event::Due { .. } => None,
        Event::CarryOut { operator, decision, .. } => {
            Some(format!("{at:>7} operator {operator} carries out {}: {}", decision.app, words(&decision.plan)))
        }
        Event::Watch { operator, id, version, .. } => {
            Some(format!("{at:>7} operator {operator} sees {id:?} @{version}"))
        }
        Event::Ended { runtime, job, .. } => {
            Some(format!("{at:>7} {runtime} ends {:?} of {} {}", job.kind, job.app, job.revision))
        }
        other => Some(format!("{at:>7} {other:?}")),
    }
}

/// A plan in a line.
fn words(plan: &Plan) -> String {
    let mut words = Vec::new();
    for (runtime, desired) in &plan.runtimes {
        words.push(match desired {
            Desired::Keep => format!("{runtime} keeps"),
            Desired::Remove => format!("{runtime} removes"),
            Desired::Assign(told) => format!("{runtime} gets {}", revisions(told)),
        });
    }
    for slice in &plan.slices {
        let ready = slice.endpoints.iter().filter(|one| one.ready).map(|one| one.runtime.to_string());
        words.push(format!("{} = [{}]", slice.name, ready.collect::<Vec<_>>().join(" ")));
    }
    words.extend(plan.stale_slices.iter().map(|name| format!("no {name}")));
    if let Some(told) = &plan.memory.assignment {
        words.push(format!("remembers {}", revisions(told)));
    }
    words.extend(plan.memory.withdrawn.iter().map(|(runtime, since)| format!("{runtime} withdrawn at {since}")));
    if let Some(status) = &plan.status {
        let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
        let ready = ready.map_or_else(|| "?".to_owned(), |ready| format!("{} ({})", ready.reason, ready.message));
        words.push(format!("{}/{} Ready: {ready}", status.ready_replicas, status.replicas));
    }
    words.join(", ")
}

fn revisions(told: &Assignment) -> String {
    let ids: Vec<String> = told.revisions.iter().map(|one| one.id.to_string()).collect();
    let hold = if told.hold.is_nothing() { String::new() } else { format!(" holds {:?}", told.hold) };
    format!("[{}] active {}{hold}", ids.join(" "), told.active)
}

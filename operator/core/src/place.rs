//! Decides which runtimes run an app.
//!
//! Rendezvous hashing: each runtime has a rank for each app that depends on nothing but the two, and the
//! first `replicas` of those that can take the app have it.
//!
//! Promise: a runtime that stays keeps its apps; when one joins or leaves, only the apps that it gets or
//! had move (property-tested). A runtime that is silent or not ready for less than [`PATIENCE`] keeps what
//! it has.
//!
//! Absent on purpose: load and latency. Placement must not depend on anything that changes by itself.

use std::{cmp::Reverse, collections::BTreeSet};

use control::RuntimeName;
use jiff::{SignedDuration, Timestamp};
use manifest::Digest;

use crate::view::{App, Contact, Pod, Runtime, View};

/// How long a runtime that is silent or not ready keeps its apps before others get them. A stream is dialled
/// again within a second, and a container is back within a few.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// How long a runtime goes on serving an app whose endpoint has been withdrawn: the time that proxies and
/// ingress controllers may take to notice.
pub const LINGER: SignedDuration = SignedDuration::from_secs(10);

/// The runtimes that are to have the app.
#[must_use]
pub fn place(view: &View) -> BTreeSet<RuntimeName> {
    let mut able: Vec<&Runtime> = view.runtimes.iter().filter(|runtime| can_have(view, runtime)).collect();
    able.sort_by_key(|runtime| (Reverse(rank(&view.app, &runtime.name)), &runtime.name));
    able.into_iter()
        .take(usize::try_from(view.app.replicas).unwrap_or(usize::MAX))
        .map(|runtime| runtime.name.clone())
        .collect()
}

/// Whether the app may be on this runtime.
fn can_have(view: &View, runtime: &Runtime) -> bool {
    let holds = holds(view, runtime);
    let patient = |since: Timestamp| holds && within(view.now, since, PATIENCE);
    let pod = match runtime.pod {
        Pod::Ready => true,
        Pod::NotReady { since } => patient(since),
        Pod::Terminating => false,
    };
    let contact = match &runtime.contact {
        Contact::Connected(_) => true,
        Contact::Lost { since, .. } => patient(*since),
        // One whose endpoint has been withdrawn must be heard of before it counts again.
        Contact::Never { since } => patient(*since) && was_published(view, runtime),
    };
    pod && contact && !runtime.is_leaving() && (holds || runtime.assigned < runtime.capacity)
}

/// Whether the runtime has been told to run the app, as far as anybody knows.
#[must_use]
pub fn holds(view: &View, runtime: &Runtime) -> bool {
    match runtime.holding() {
        Some(holding) => holding.assigned.is_some() || runtime.report(&view.app).is_some(),
        // Of one that has not been reached nothing is known once its endpoint is gone, except that it was.
        None => was_published(view, runtime) || view.memory.withdrawn.contains_key(&runtime.name),
    }
}

/// Whether the app's slices have the runtime: an operator before this one had its report.
#[must_use]
pub fn was_published(view: &View, runtime: &Runtime) -> bool {
    view.slices
        .iter()
        .filter(|slice| Some(slice.port) == view.port)
        .flat_map(|slice| &slice.endpoints)
        .any(|endpoint| endpoint.runtime == runtime.name && endpoint.uid == runtime.uid)
}

/// Whether less than `span` has passed since `since`.
///
/// Clocks differ and are set: what is a little in the future has just begun, what is further away is not believed, so that
/// nobody is waited for as long as a clock was wrong.
#[must_use]
pub fn within(now: Timestamp, since: Timestamp, span: SignedDuration) -> bool {
    let age = now.duration_since(since);
    age < span && age > -span
}

/// The rank of a runtime for an app; the highest wins.
fn rank(app: &App, runtime: &RuntimeName) -> Digest {
    Digest::of(format!("{}\0{runtime}", app.uid).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::world::{World, app, world};

    fn with_runtimes(names: &BTreeSet<String>, replicas: u32) -> World {
        names.iter().fold(world().replicas(replicas), |world, name| world.runtime(name))
    }

    fn placed(world: &World, number: u32) -> BTreeSet<RuntimeName> {
        let mut view = world.view.clone();
        view.app = App { replicas: view.app.replicas, ..app(&format!("app-{number}")) };
        place(&view)
    }

    #[test]
    fn apps_spread_evenly() {
        let names = (0..4).map(|number| format!("r{number}")).collect();
        let world = with_runtimes(&names, 1);
        for name in &names {
            let apps = (0..400).filter(|number| placed(&world, *number).contains(&RuntimeName(name.clone()))).count();
            assert!((60..140).contains(&apps), "{name} has {apps} of 400");
        }
    }

    proptest! {
        #[test]
        fn runtime_that_joins_takes_apps_and_moves_no_other(
            names in prop::collection::btree_set("[a-z]{1,4}", 1..6), joins in "[A-Z]{1,4}", replicas in 0..4_u32,
        ) {
            let before = with_runtimes(&names, replicas);
            let after = before.clone().runtime(&joins);
            for number in 0..50 {
                let (before, mut after) = (placed(&before, number), placed(&after, number));
                if after.remove(&RuntimeName(joins.clone())) {
                    prop_assert!(after.is_subset(&before));
                } else {
                    prop_assert_eq!(after, before);
                }
            }
        }

        #[test]
        fn app_is_on_as_many_runtimes_as_it_asks_for_or_on_all(
            names in prop::collection::btree_set("[a-z]{1,4}", 0..6), replicas in 0..8_u32,
        ) {
            let world = with_runtimes(&names, replicas);
            let placed = placed(&world, 1).len();
            prop_assert_eq!(placed, names.len().min(usize::try_from(replicas).unwrap()));
        }
    }
}

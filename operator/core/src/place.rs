//! Decides which runtimes run an app.
//!
//! Weighted rendezvous hashing: each runtime has a rank for each app that depends on nothing but the two and on how many apps
//! the runtime takes. Of those that can take the app, the best of each zone come first, then the second best of each, and
//! so on; within a zone the best of each node come first. The first `replicas` have it.
//!
//! Promise, each part property-tested:
//! - as many zones are used as there are replicas for, and within a zone as many nodes;
//! - a runtime that stays keeps its apps: when one joins, apps move to it and to no other, and when one leaves, only its
//!   own apps move, each to one other runtime;
//! - a runtime that takes twice as many apps as another has about twice as many;
//! - two operators that see the same decide the same.
//!
//! A runtime that has fallen silent, or is not ready, for less than [`PATIENCE`] keeps what it has. One that is ready and has
//! not been heard of since this operator took over keeps it for [`TRUST`]. Either keeps it while nobody else can have it.
//!
//! Absent on purpose: load and latency. Placement must not depend on anything that changes by itself.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use control::RuntimeName;
use jiff::{SignedDuration, Timestamp};
use manifest::Digest;

use crate::{
    publish::Endpoint,
    view::{App, Contact, Pod, Runtime, View},
};

/// How long a runtime that is silent or not ready keeps its apps before others get them. A stream is dialled
/// again within a second, and a container is back within a few.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// How long a runtime that this operator has never reached keeps the apps whose endpoints it has, while Kubernetes says that
/// its pod is ready: whoever takes over knows less than the kubelet beside it, which says so within seconds when a process
/// is dead, and less than the node controller, which does so within a minute when a node is. Kubernetes itself leaves pods
/// for as long on a node that it cannot reach.
pub const TRUST: SignedDuration = SignedDuration::from_mins(5);

/// How long a runtime goes on serving an app whose endpoint has been withdrawn: the time that proxies and
/// ingress controllers may take to notice.
pub const LINGER: SignedDuration = SignedDuration::from_secs(10);

/// The runtimes that are to have the app.
#[must_use]
pub fn place(view: &View) -> BTreeSet<RuntimeName> {
    // Of one that has not been reached yet the capacity is unknown: it counts for more than any, so that it keeps what it has.
    let capacity = |runtime: &Runtime| if runtime.capacity == 0 { u32::MAX } else { runtime.capacity };
    let mut able: Vec<&Runtime> = view.runtimes.iter().filter(|runtime| can_have(view, runtime)).collect();
    if able.is_empty() {
        able.extend(view.runtimes.iter().filter(|runtime| may_keep(view, runtime)));
    }
    let ranked =
        able.into_iter().map(|runtime| (Reverse(rank(&view.app, &runtime.id.name, capacity(runtime))), runtime));
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by_key(|(rank, runtime)| (*rank, &runtime.id.name));
    // How manieth on its node, and of those how manieth in its zone.
    let mut on_node: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut by_node: Vec<_> = ranked
        .into_iter()
        .map(|(rank, runtime)| (nth(&mut on_node, runtime.id.node.as_deref()), rank, runtime))
        .collect();
    by_node.sort_by_key(|(on_node, rank, runtime)| (*on_node, *rank, &runtime.id.name));
    let mut in_zone: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut by_zone: Vec<_> = by_node
        .into_iter()
        .map(|(on_node, rank, runtime)| (nth(&mut in_zone, runtime.zone.as_deref()), on_node, rank, runtime))
        .collect();
    // Comparing the place on the node before the rank makes a newcomer push back one runtime at most, and take its place.
    by_zone.sort_by_key(|(in_zone, on_node, rank, runtime)| (*in_zone, *on_node, *rank, &runtime.id.name));
    let replicas = usize::try_from(view.app.replicas).unwrap_or(usize::MAX);
    by_zone.into_iter().take(replicas).map(|(.., runtime)| runtime.id.name.clone()).collect()
}

/// How many of `key` there were before this one.
fn nth<'a>(counts: &mut BTreeMap<Option<&'a str>, usize>, key: Option<&'a str>) -> usize {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count - 1
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
        Contact::Never { since } => was_published(view, runtime) && within(view.now, *since, TRUST),
    };
    let room = holds || runtime.assigned < runtime.capacity;
    pod && contact && room && runtime.understands(&view.app) && !runtime.is_leaving()
}

/// Whether the app may stay on a runtime that does not answer, while there is no other that could have it: Kubernetes says
/// that it is well, so it serves, and it is the operator that is cut off.
fn may_keep(view: &View, runtime: &Runtime) -> bool {
    let known = match runtime.contact {
        Contact::Never { .. } => was_published(view, runtime),
        Contact::Connected(_) | Contact::Lost { .. } => holds(view, runtime),
    };
    known && runtime.pod == Pod::Ready && runtime.understands(&view.app) && !runtime.is_leaving()
}

/// Whether the runtime has been told to run the app, as far as anybody knows.
#[must_use]
pub fn holds(view: &View, runtime: &Runtime) -> bool {
    match runtime.holding() {
        Some(holding) => holding.assigned.is_some() || runtime.report(&view.app).is_some(),
        // Of one that has not been reached nothing is known once its endpoint is gone, except that it was.
        None => was_published(view, runtime) || view.memory.withdrawn.contains_key(&runtime.id.name),
    }
}

/// Whether the app's slices have the runtime: an operator before this one had its report.
#[must_use]
pub fn was_published(view: &View, runtime: &Runtime) -> bool {
    published(view, runtime).next().is_some()
}

/// The runtime's endpoints as the app's slices have them.
pub(crate) fn published<'a>(view: &'a View, runtime: &Runtime) -> impl Iterator<Item = &'a Endpoint> {
    view.slices
        .iter()
        .filter(|slice| Some(slice.port) == view.port)
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.runtime == runtime.id.name && endpoint.uid == runtime.id.uid)
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

/// The rank of a runtime for an app; the highest wins. A runtime's chance to have the highest is its part of all
/// capacity: weight / -log(hash), as in "Weighted Distributed Hash Tables" by Schindelhauer and Schomaker. Among equal
/// capacities the hash decides.
///
/// In integers, so that it is the same wherever an operator runs.
fn rank(app: &App, runtime: &RuntimeName, capacity: u32) -> (u128, Digest) {
    let digest = Digest::of(format!("{}\0{runtime}", app.uid).as_bytes());
    let hash = digest.bytes().first_chunk().copied().map_or(0, u64::from_be_bytes);
    let weight = u128::from(capacity.max(1)) << 64;
    (weight / u128::from(minus_log2(hash).max(1)), digest)
}

/// -log2(`hash` / 2^64), with 32 bits behind the point.
fn minus_log2(hash: u64) -> u64 {
    // A number between 1 and 2 with 63 bits behind the point, and the power of two that it was divided by.
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    let mut number = u128::from(hash) << zeros;
    let mut log = u64::from(63 - zeros);
    for _ in 0..32 {
        number = (number * number) >> 63;
        log <<= 1;
        if number >> 64 != 0 {
            number >>= 1;
            log |= 1;
        }
    }
    (64 << 32) - log
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::world::{World, app, world};

    /// Runtimes by name, with zone, node and capacity.
    type Fleet = BTreeMap<String, (Option<u8>, u8, u32)>;

    fn with(fleet: &Fleet, replicas: u32) -> World {
        fleet.iter().fold(world().replicas(replicas), |world, (name, (zone, node, capacity))| {
            let mut world = world.runtime(name);
            world.see(name, |runtime| {
                runtime.zone = zone.map(|zone| format!("zone-{zone}").into());
                Arc::make_mut(&mut runtime.id).node = Some(format!("node-{zone:?}-{node}"));
                runtime.capacity = *capacity;
            });
            world
        })
    }

    fn placed(world: &World, number: u32) -> BTreeSet<RuntimeName> {
        let mut view = world.view.clone();
        view.app = App { replicas: view.app.replicas, ..app(&format!("app-{number}")) };
        place(&view)
    }

    fn name(name: &str) -> RuntimeName {
        RuntimeName(name.to_owned())
    }

    /// How many of 600 apps each runtime has.
    fn shares(fleet: &Fleet, replicas: u32) -> BTreeMap<String, usize> {
        let world = with(fleet, replicas);
        let mut shares = BTreeMap::new();
        for runtime in (0..600).flat_map(|number| placed(&world, number)) {
            *shares.entry(runtime.0).or_default() += 1;
        }
        shares
    }

    #[test]
    fn apps_spread_evenly() {
        let fleet = (0..4).map(|number| (format!("r{number}"), (None, number, 100))).collect();
        for (name, apps) in shares(&fleet, 1) {
            assert!((100..200).contains(&apps), "{name} has {apps} of 600");
        }
    }

    #[test]
    fn runtime_that_takes_three_times_as_many_apps_has_about_three_times_as_many() {
        let fleet = [("large", 3_000), ("small-1", 1_000), ("small-2", 1_000), ("small-3", 1_000)];
        let fleet =
            fleet.into_iter().zip(0..).map(|((name, size), node)| (name.to_owned(), (None, node, size))).collect();
        let shares = shares(&fleet, 1);
        assert!((250..350).contains(&shares["large"]), "{shares:?}");
        assert!(shares.iter().all(|(name, apps)| name == "large" || (60..140).contains(apps)), "{shares:?}");
    }

    #[test]
    fn ranks_of_equal_capacities_are_in_the_order_of_their_hashes() {
        let app = app("shop");
        let mut ranks: Vec<_> = (0..100).map(|number| rank(&app, &name(&format!("r{number}")), 1000)).collect();
        ranks.sort();
        assert!(ranks.is_sorted_by_key(|(_, digest)| *digest));
        assert_eq!(minus_log2(1 << 63), 1 << 32);
        assert_eq!(minus_log2(1), 64 << 32);
        assert_eq!(minus_log2(3 << 62) >> 22, 424, "0.415 with 10 bits");
    }

    #[test]
    fn runtime_whose_capacity_is_not_known_yet_keeps_what_it_has() {
        let mut world = world().runtime("r1").runtime("r2").runtime("r3").replicas(1);
        world.see("r2", |runtime| runtime.capacity = 10);
        let mut world = world.settled();
        let before = place(&world.view);
        world.restart_operator();
        for runtime in ["r1", "r2", "r3"] {
            world.see(runtime, |runtime| runtime.capacity = 0);
        }
        assert_eq!(place(&world.view), before);
    }

    #[test]
    fn runtime_that_is_reached_takes_no_place_of_one_that_is_not_whatever_their_capacities() {
        const CAPACITIES: [(&str, u32); 4] = [("r1", 50), ("r2", 1_000), ("r3", 200), ("r4", 400)];
        for number in 0..30 {
            let mut world = world().replicas(2).runtime("r1").runtime("r2").runtime("r3").runtime("r4");
            world.view.app.uid = format!("uid-{number}");
            let known = |world: &mut World, all: bool| {
                for (runtime, capacity) in CAPACITIES {
                    world.see(runtime, |runtime| runtime.capacity = if all { capacity } else { 0 });
                }
            };
            known(&mut world, true);
            let mut world = world.settled();
            let before = place(&world.view);
            for (reached, capacity) in CAPACITIES {
                world.restart_operator();
                known(&mut world, false);
                world.connect(reached);
                world.see(reached, |runtime| runtime.capacity = capacity);
                assert_eq!(place(&world.view), before, "{number} {reached}");
            }
        }
    }

    fn fleet(range: std::ops::Range<usize>) -> impl Strategy<Value = Fleet> {
        let runtime = (prop::option::of(0..3_u8), 0..3_u8, prop_oneof![Just(100_u32), Just(400), 50..2_000_u32]);
        prop::collection::btree_map("[a-z]{1,4}", runtime, range)
    }

    proptest! {
        #[test]
        fn runtime_that_joins_takes_apps_and_moves_no_other_and_when_it_leaves_they_go_back(
            fleet in fleet(1..8), joins in "[A-Z]{1,4}", like in (prop::option::of(0..4_u8), 0..4_u8, 50..2_000_u32),
            replicas in 0..6_u32,
        ) {
            let before = with(&fleet, replicas);
            let after = with(&fleet.into_iter().chain([(joins.clone(), like)]).collect(), replicas);
            for number in 0..30 {
                let (before, mut after) = (placed(&before, number), placed(&after, number));
                if after.remove(&name(&joins)) {
                    prop_assert!(after.is_subset(&before), "{:?} {:?}", before, after);
                } else {
                    prop_assert_eq!(after, before);
                }
            }
        }

        #[test]
        fn app_is_on_as_many_runtimes_as_it_asks_for_or_on_all(fleet in fleet(0..8), replicas in 0..10_u32) {
            let placed = placed(&with(&fleet, replicas), 1).len();
            prop_assert_eq!(placed, fleet.len().min(usize::try_from(replicas).unwrap()));
        }

        #[test]
        fn app_is_in_as_many_zones_as_it_can_be_and_there_on_as_many_nodes(fleet in fleet(1..10), replicas in 1..8_u32) {
            let world = with(&fleet, replicas);
            let zones: BTreeSet<_> = fleet.values().map(|(zone, ..)| zone).collect();
            for number in 0..10 {
                let placed = placed(&world, number);
                let of = |runtime: &RuntimeName| fleet[&runtime.0];
                let used: BTreeSet<_> = placed.iter().map(|runtime| of(runtime).0).collect();
                prop_assert_eq!(used.len(), zones.len().min(placed.len()));
                for zone in used {
                    let there: Vec<_> = placed.iter().map(of).filter(|runtime| runtime.0 == zone).collect();
                    let nodes: BTreeSet<_> = fleet.values().filter(|runtime| runtime.0 == zone).map(|one| one.1).collect();
                    let used: BTreeSet<_> = there.iter().map(|runtime| runtime.1).collect();
                    prop_assert_eq!(used.len(), nodes.len().min(there.len()));
                }
            }
        }

        #[test]
        fn drained_or_full_runtime_gets_nothing_new(fleet in fleet(2..8), replicas in 1..4_u32, full: bool) {
            let mut world = with(&fleet, replicas);
            let gone = fleet.keys().next().unwrap().clone();
            world.see(&gone, |runtime| {
                if full { runtime.assigned = runtime.capacity } else { runtime.pod = Pod::Terminating }
            });
            for number in 0..20 {
                prop_assert!(!placed(&world, number).contains(&name(&gone)));
            }
        }
    }
}

//! What holds for every plan, however the world got to where it is.

use proptest::prelude::*;

use super::*;
use crate::{
    place::{place, was_published},
    view::Bundle,
    world::{PORT, World, problem, world},
};

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    Act,
    Work(usize),
    Crash(usize),
    Join,
    Vanish(usize),
    Terminate(usize),
    Lose(usize),
    Connect(usize),
    Unready(usize),
    Recover(usize),
    Version(usize),
    Rollout(rollout::Strategy),
    Fit(usize, bool),
    SourceAway,
    Replicas(u32),
    Pass(i64),
    RestartOperator,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    prop_oneof![
        6 => Just(H::Act),
        8 => (0..5_usize).prop_map(H::Work),
        1 => (0..5_usize).prop_map(H::Crash),
        2 => Just(H::Join),
        1 => (0..5_usize).prop_map(H::Vanish),
        1 => (0..5_usize).prop_map(H::Terminate),
        1 => (0..5_usize).prop_map(H::Lose),
        3 => (0..5_usize).prop_map(H::Connect),
        1 => (0..5_usize).prop_map(H::Unready),
        2 => (0..5_usize).prop_map(H::Recover),
        2 => (0..4_usize).prop_map(H::Version),
        1 => prop_oneof![
            Just(rollout::Strategy::Recreate),
            Just(rollout::Strategy::RollingUpdate(rollout::Surge::All)),
            Just(rollout::Strategy::RollingUpdate(rollout::Surge::Count(1))),
        ].prop_map(H::Rollout),
        2 => (0..5_usize, any::<bool>()).prop_map(|(index, fit)| H::Fit(index, fit)),
        1 => Just(H::SourceAway),
        1 => (0..4_u32).prop_map(H::Replicas),
        3 => (1..15_i64).prop_map(H::Pass),
        1 => Just(H::RestartOperator),
    ]
}

const VERSIONS: [&str; 4] = ["1.0.0", "2.0.0", "3.0.0", "4.0.0"];

fn happen(world: &mut World, what: &Happening, joined: &mut u32) {
    let names = world.names();
    let pick = |index: usize| names.get(index % names.len().max(1)).cloned().unwrap_or_default();
    let since = world.view.now;
    match what {
        Happening::Act => drop(world.act()),
        Happening::Work(index) => world.work(&pick(*index)),
        Happening::Crash(index) => world.crash(&pick(*index)),
        Happening::Join if names.len() < 5 => {
            *joined += 1;
            world.join(&format!("r{joined}"));
        }
        Happening::Join => {}
        Happening::Vanish(index) => world.vanish(&pick(*index)),
        Happening::Terminate(index) => world.see(&pick(*index), |runtime| runtime.pod = Pod::Terminating),
        Happening::Lose(index) => world.lose(&pick(*index)),
        Happening::Connect(index) => world.connect(&pick(*index)),
        Happening::Unready(index) => world.see(&pick(*index), |runtime| {
            if runtime.pod == Pod::Ready {
                runtime.pod = Pod::NotReady { since };
            }
        }),
        Happening::Recover(index) => world.see(&pick(*index), |runtime| {
            if matches!(runtime.pod, Pod::NotReady { .. }) {
                runtime.pod = Pod::Ready;
            }
        }),
        Happening::Version(index) => world.publish_version(VERSIONS[*index]),
        Happening::Rollout(strategy) => world.view.app.rollout.strategy = *strategy,
        Happening::Fit(index, fit) => world.set_fit("2.0.0", &pick(*index), *fit),
        Happening::SourceAway => {
            world.view.app.generation += 1;
            world.view.bundle = Bundle::Failed(problem("BundleServerUnreachable", true));
        }
        Happening::Replicas(replicas) => world.view.app.replicas = *replicas,
        Happening::Pass(seconds) => world.pass(*seconds),
        Happening::RestartOperator => world.restart_operator(),
    }
}

/// A world after everything in `story`, in which version 3 cannot be loaded.
fn after(story: &[Happening]) -> World {
    let mut world = world().check().runtime("a").runtime("b").settled();
    world.break_version("3.0.0");
    let mut joined = 0;
    story.iter().for_each(|what| happen(&mut world, what, &mut joined));
    world
}

fn story() -> impl Strategy<Value = Vec<Happening>> {
    prop::collection::vec(happening(), 0..60)
}

proptest! {
    #[test]
    fn plan_does_not_depend_on_the_order_of_runtimes(story in story()) {
        let world = after(&story);
        let mut other = world.clone();
        other.view.runtimes.reverse();
        prop_assert_eq!(world.plan(), other.plan());
    }

    #[test]
    fn carrying_a_plan_out_leaves_nothing_to_do(story in story()) {
        let mut world = after(&story);
        let first = world.act();
        let second = world.plan();
        prop_assert!(second.is_idle(), "{:#?}\nthen\n{:#?}", first, second);
        let removed = |runtime: &RuntimeName| first.runtimes.get(runtime) == Some(&Desired::Remove);
        let mut memory = first.memory.clone();
        memory.withdrawn.retain(|runtime, _| !removed(runtime) || second.memory.withdrawn.contains_key(runtime));
        prop_assert_eq!(memory, second.memory);
        prop_assert_eq!(first.recheck, second.recheck);
    }

    #[test]
    fn every_endpoint_has_a_report_of_this_app_at_this_port(story in story()) {
        let mut world = after(&story);
        let before = world.view.clone();
        world.act();
        for endpoint in world.view.slices.iter().flat_map(|slice| &slice.endpoints) {
            let runtime = before.runtimes.iter().find(|runtime| runtime.id.name == endpoint.runtime).unwrap();
            let reported = runtime.report(&before.app).is_some_and(|report| report.serving.is_some() && report.port == PORT);
            let remembered = matches!(runtime.contact, Contact::Never { .. }) && was_published(&before, runtime);
            prop_assert!(reported || remembered, "{endpoint:?}");
            prop_assert!(runtime.id.ips.contains(&endpoint.address));
        }
    }

    #[test]
    fn requests_have_somewhere_to_go_while_any_ready_runtime_serves(story in story()) {
        let mut world = after(&story);
        let before = world.view.clone();
        let serves = before.runtimes.iter().any(|runtime| {
            runtime.pod == Pod::Ready && serves(&before, runtime, PORT) && !before.memory.withdrawn.contains_key(&runtime.id.name)
        });
        world.act();
        if serves && before.app.replicas > 0 {
            prop_assert!(!world.endpoints().is_empty(), "{:#?}", before);
        }
    }

    #[test]
    fn world_that_is_left_alone_comes_to_rest_as_the_spec_asks(story in story(), version in 0..2_usize) {
        let mut world = after(&story);
        for runtime in world.names() {
            world.connect(&runtime);
            world.see(&runtime, |runtime| if runtime.pod != Pod::Terminating { runtime.pod = Pod::Ready });
        }
        world.join("fresh");
        world.names().iter().for_each(|runtime| world.set_fit("2.0.0", runtime, true));
        world.view.app.replicas = 2;
        world.publish_version(VERSIONS[version]);
        for _ in 0..4 {
            world.settle();
            world.pass(10);
        }
        world.settle();
        let chosen: Vec<String> = place(&world.view).into_iter().map(|runtime| runtime.0).collect();
        prop_assert_eq!(world.says(operator_api::ConditionType::Ready), "True Ready");
        prop_assert_eq!(world.endpoints(), chosen.clone());
        for runtime in &world.view.runtimes {
            let wanted = chosen.contains(&runtime.id.name.0);
            prop_assert!(world.is_running(&runtime.id.name.0) == wanted || runtime.is_leaving());
            prop_assert!(!wanted || world.serves(&runtime.id.name.0).as_deref() == Some(VERSIONS[version]));
        }
    }
}

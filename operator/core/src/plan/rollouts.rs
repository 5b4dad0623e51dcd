//! How revisions take over, told as stories: checks, strategies, deadlines, and what is said of them.

use operator_api::ConditionType as C;

use super::{tests::serving, *};
use crate::{
    rollout::{Strategy, Surge},
    view::Bundle,
    world::{World, problem, world},
};

#[test]
fn revision_that_fails_its_check_on_one_runtime_takes_no_requests_anywhere_until_it_passes() {
    let mut world = serving().check().settled();
    world.set_fit("2.0.0", "r2", false);
    world.publish_version("2.0.0");
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("1.0.0"); 2]);
    assert_eq!(world.says(C::Ready), "False CheckFailed");
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
    assert_eq!(
        world.condition(C::Loaded).message,
        "1 of 2 runtimes do not have the revision ready: CheckFailed on r2: CheckFailed happened."
    );
    world.set_fit("2.0.0", "r2", true);
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("2.0.0"); 2]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn changed_check_is_another_revision_and_none_is_the_same_as_before_there_were_checks() {
    let mut world = serving();
    let without = world.view.status.active_revision.clone();
    world = world.check().settled();
    assert_ne!(world.view.status.active_revision, without);
    world.view.app.readiness = None;
    world.settle();
    assert_eq!(world.view.status.active_revision, without);
}

#[test]
fn app_with_a_check_is_not_given_to_runtimes_that_make_none() {
    let mut world = serving();
    for runtime in ["r1", "r2"] {
        world.see(runtime, |runtime| runtime.version = Some(1));
    }
    world = world.check().settled();
    assert_eq!(world.endpoints(), ["r1", "r2"], "the old revision goes on");
    assert_eq!(world.told("r1"), ["1.0.0"]);
    assert_eq!(world.says(C::Ready), "False NoRuntimes");
    assert!(world.condition(C::Ready).message.contains("update the node-runtime pods"));
    world.see("r1", |runtime| runtime.version = Some(2));
    world.settle();
    world.pass(10);
    world.settle();
    assert_eq!(world.endpoints(), ["r1"]);
}

#[test]
fn runtime_that_cannot_read_what_it_is_told_is_named_while_the_old_revision_serves_until_it_is_replaced() {
    let mut world = serving();
    world.set_unread("2.0.0", "r2");
    world.publish_version("2.0.0");
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("1.0.0"); 2]);
    assert_eq!(world.says(C::Loaded), "False RuntimeTooOld");
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
    assert!(world.condition(C::Ready).message.contains("r2"), "{:?}", world.condition(C::Ready));
    world.vanish("r2");
    world.join("r3");
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r3").as_deref()], [Some("2.0.0"); 2]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn new_app_that_its_only_runtime_cannot_read_says_so() {
    let mut world = world().replicas(1).runtime("r1");
    world.set_unread("1.0.0", "r1");
    world.settle();
    assert_eq!(world.says(C::Ready), "False RuntimeTooOld");
    assert_eq!(world.endpoints(), [""; 0]);
}

#[test]
fn failures_are_summarised_in_a_bounded_message() {
    let mut world = world().replicas(60).check();
    (100..160).for_each(|number| world.join(&format!("r{number}")));
    (100..160).for_each(|number| world.set_fit("1.0.0", &format!("r{number}"), false));
    world.settle();
    let message = &world.condition(C::Loaded).message;
    let expected = "60 of 60 runtimes do not have the revision ready: CheckFailed on r100, r101, r102, r103, r104 and 55 more: CheckFailed happened.";
    assert_eq!(message, expected);
}

/// Two runtimes that serve version 1 of an app that must not run twice.
fn recreating() -> World {
    let mut world = world().check().runtime("r1").runtime("r2");
    world.view.app.rollout.strategy = Strategy::Recreate;
    world.settled()
}

#[test]
fn app_that_must_not_run_twice_is_loaded_then_stopped_everywhere_and_only_then_runs_again() {
    let mut world = recreating();
    world.publish_version("2.0.0");
    world.act();
    assert_eq!(world.told("r1"), ["1.0.0", "2.0.0"]);
    world.work("r1");
    world.work("r2");
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("1.0.0"); 2]);
    world.act();
    world.work("r1");
    world.act();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [None, Some("1.0.0")]);
    assert_eq!(world.says(C::Ready), "False Stopping");
    assert_eq!(world.endpoints(), ["r2"]);
    world.work("r2");
    world.act();
    assert_eq!(world.endpoints(), [""; 0]);
    assert_eq!(world.says(C::Ready), "False Checking");
    world.work("r1");
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("2.0.0"); 2]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn app_that_must_not_run_twice_is_not_stopped_for_a_revision_that_cannot_be_loaded() {
    let mut world = recreating();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
}

#[test]
fn app_that_must_not_run_twice_waits_for_a_runtime_that_does_not_answer_until_its_pod_is_gone() {
    let mut world = recreating();
    world.lose("r2");
    world.publish_version("2.0.0");
    world.settle();
    world.pass(60);
    world.settle();
    assert_eq!(world.says(C::Ready), "False Stopping");
    assert_eq!(world.serves("r1"), None);
    world.vanish("r2");
    world.settle();
    assert_eq!(world.serves("r1").as_deref(), Some("2.0.0"));
}

#[test]
fn app_that_must_not_run_twice_goes_on_through_restarts_of_the_operator() {
    for steps in 0..6 {
        let mut world = recreating();
        world.publish_version("2.0.0");
        for _ in 0..steps {
            world.act();
            world.work("r1");
        }
        world.restart_operator();
        world.connect("r1");
        world.connect("r2");
        world.settle();
        assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("2.0.0"); 2], "{steps}");
        assert_eq!(world.says(C::Ready), "True Ready");
    }
}

/// A world whose runtime has never been told anything.
fn world_of_nothing() -> World {
    world().runtime("r1")
}

#[test]
fn app_that_must_not_run_twice_begins_nowhere_while_an_earlier_operator_may_have_begun_somewhere() {
    let mut world = recreating();
    world.publish_version("2.0.0");
    world.restart_operator();
    world.view.slices.clear();
    world.connect("r1");
    world.replace_process("r1", &world_of_nothing());
    world.connect("r1");
    world.pass(60);
    assert_eq!(world.act().memory.assignment, None, "r2 may serve version 1");
    world.connect("r2");
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("2.0.0"); 2]);
}

#[test]
fn new_app_that_must_not_run_twice_does_not_wait_for_a_runtime_that_never_answers() {
    let mut world = world().runtime("r1").runtime("r2");
    world.view.app.rollout.strategy = Strategy::Recreate;
    world.restart_operator();
    world.connect("r1");
    let plan = world.act();
    assert_eq!((plan.memory.assignment, plan.recheck), (None, Some(PATIENCE)));
    world.pass(10);
    world.settle();
    assert_eq!(world.serves("r1").as_deref(), Some("1.0.0"));
}

#[test]
fn app_that_was_stopped_goes_back_to_the_revision_that_still_serves_elsewhere() {
    let mut world = recreating();
    world.publish_version("2.0.0");
    world.act();
    world.work("r1");
    world.work("r2");
    world.act();
    world.work("r1");
    world.publish_version("1.0.0");
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("1.0.0"); 2]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn new_revision_is_loaded_on_as_many_runtimes_at_a_time_as_the_surge_allows() {
    let mut world = world().replicas(3).runtime("r1").runtime("r2").runtime("r3").settled();
    world.view.app.rollout.strategy = Strategy::RollingUpdate(Surge::Count(1));
    world.publish_version("2.0.0");
    for expected in [1, 2, 3] {
        world.act();
        let at_it = world.names().iter().filter(|runtime| world.told(runtime).len() == 2).count();
        assert_eq!(at_it, expected);
        assert!(world.plan().is_idle(), "nobody else begins before this one is ready");
        let names = world.names();
        names.iter().for_each(|runtime| world.work(runtime));
    }
    world.settle();
    assert_eq!(world.view.status.version.as_deref(), Some("2.0.0"));
    world.break_version("3.0.0");
    world.publish_version("3.0.0");
    world.settle();
    let tried = world.names().iter().filter(|runtime| world.told(runtime).len() == 2).count();
    assert_eq!(tried, 1, "a broken revision is tried where it may be, and nowhere else");
}

#[test]
fn runtime_that_cannot_be_told_anything_takes_no_turn_of_those_that_can() {
    let mut world = serving();
    world.view.app.rollout.strategy = Strategy::RollingUpdate(Surge::Count(1));
    world.settle();
    world.restart_operator();
    world.connect("r2");
    world.pass(10);
    world.publish_version("2.0.0");
    world.settle();
    assert_eq!(world.serves("r2").as_deref(), Some("2.0.0"));
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    assert_eq!(world.says(C::Ready), "False Loading", "r1 is not known to have it");
    world.connect("r1");
    world.settle();
    assert_eq!(world.serves("r1").as_deref(), Some("2.0.0"));
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn update_that_gets_no_further_says_so_after_its_deadline_and_no_longer_when_it_does() {
    let mut world = serving().check();
    world.settle();
    world.set_fit("2.0.0", "r2", false);
    world.publish_version("2.0.0");
    world.settle();
    let late = world.view.app.rollout.deadline;
    assert_eq!(world.says(C::Progressing), "True CheckFailed");
    assert_eq!(world.plan().recheck, Some(late));
    world.pass(300);
    world.restart_operator();
    world.connect("r1");
    world.connect("r2");
    world.settle();
    world.pass(299);
    world.settle();
    assert_eq!(world.says(C::Progressing), "True CheckFailed");
    assert_eq!(world.says(C::Reconciling), "True CheckFailed");
    world.pass(1);
    world.settle();
    assert_eq!(world.says(C::Progressing), "False ProgressDeadlineExceeded");
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
    assert_eq!(world.says(C::Stalled), "True CheckFailed");
    let told = world.events.iter().filter(|event| event.reason == "ProgressDeadlineExceeded").count();
    assert_eq!(told, 1);
    assert_eq!(world.says(C::Ready), "False CheckFailed");
    world.set_fit("2.0.0", "r2", true);
    world.settle();
    assert_eq!(world.says(C::Progressing), "False Settled");
    assert!(world.view.status.conditions.iter().all(|found| found.type_ != "Stalled"));
}

#[test]
fn getting_further_puts_the_deadline_off_and_is_noted_a_second_later_at_most() {
    let mut world = serving();
    world.publish_version("2.0.0");
    world.act();
    world.view.now += SignedDuration::from_millis(300);
    world.work("r1");
    let plan = world.act();
    assert_eq!(plan.status, None, "it is not worth a write of its own at once");
    assert_eq!(plan.recheck, Some(rollout::NOTE_WITHIN));
    world.pass(1);
    assert!(world.act().status.is_some());
    world.restart_operator();
    world.connect("r1");
    world.connect("r2");
    world.pass(598);
    world.view.now += SignedDuration::from_millis(900);
    world.act();
    assert_eq!(world.says(C::Progressing), "True Loading");
    world.view.now += SignedDuration::from_millis(100);
    world.act();
    assert_eq!(world.says(C::Progressing), "False ProgressDeadlineExceeded");
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
    assert_eq!(world.says(C::Available), "True Serving");
}

#[test]
fn phases_of_an_update_are_timed() {
    let mut world = serving().check();
    world.settle();
    world.view.app.generation += 1;
    let resolved = world.view.bundle.clone();
    world.view.bundle = Bundle::Pending;
    world.act();
    world.pass(1);
    world.view.bundle = resolved;
    world.publish_version("2.0.0");
    world.act();
    world.pass(2);
    world.set_fit("2.0.0", "r1", false);
    world.set_fit("2.0.0", "r2", false);
    world.names().iter().for_each(|runtime| world.work(runtime));
    world.act();
    world.pass(4);
    world.set_fit("2.0.0", "r1", true);
    world.set_fit("2.0.0", "r2", true);
    world.names().iter().for_each(|runtime| world.work(runtime));
    world.act();
    world.pass(8);
    world.settle();
    let rollout = world.view.status.rollout.clone().unwrap();
    assert_eq!(rollout.revision, world.view.status.active_revision);
    let timings = rollout.timings.unwrap();
    assert_eq!((timings.resolve_milliseconds, timings.switch_milliseconds), (Some(1_000), Some(8_000)));
    assert_eq!(timings.total_milliseconds, Some(15_000));
    world.pass(100);
    world.vanish("r1");
    world.join("r3");
    world.settle();
    assert_eq!(world.view.status.rollout, Some(rollout), "moving is no change of revision");
}

#[test]
fn write_of_the_endpoints_is_part_of_the_timings() {
    let mut world = world().runtime("r1").replicas(1);
    world.act();
    world.work("r1");
    let mut plan = world.plan();
    plan.note_published(SignedDuration::from_millis(7));
    let timings = plan.status.unwrap().rollout.unwrap().timings.unwrap();
    assert_eq!((timings.publish_milliseconds, timings.total_milliseconds), (Some(7), Some(7)));
}

/// What `kstatus` makes of conditions: that of Flux, `kubectl` plugins and others.
fn kstatus(world: &World) -> &'static str {
    let status = &world.view.status;
    let is = |condition: &str, value: &str| {
        status.conditions.iter().any(|found| found.type_ == condition && found.status == value)
    };
    match () {
        () if status.observed_generation != Some(world.view.app.generation) => "InProgress",
        () if is("Reconciling", "True") => "InProgress",
        () if is("Stalled", "True") => "Failed",
        () if is("Ready", "True") => "Current",
        () => "InProgress",
    }
}

#[test]
fn health_is_current_in_progress_or_failed_for_those_who_read_it_as_kstatus_does() {
    let mut world = world().runtime("r1").runtime("r2");
    world.act();
    assert_eq!(kstatus(&world), "InProgress");
    world.settle();
    assert_eq!(kstatus(&world), "Current");
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    assert_eq!(kstatus(&world), "InProgress");
    world.settle();
    assert_eq!(kstatus(&world), "Failed");
    world.publish_version("3.0.0");
    world.act();
    assert_eq!(kstatus(&world), "InProgress");
    world.settle();
    assert_eq!(kstatus(&world), "Current");
    let mut world = world.replicas(0).settled();
    assert_eq!(kstatus(&world), "Current", "nothing runs, as was asked for");
    world.view.app.generation += 1;
    world.view.bundle = Bundle::Failed(problem("BundleServerUnreachable", true));
    world.settle();
    assert_eq!(kstatus(&world), "InProgress");
}

//! What becomes of an app, told as stories.

use std::sync::Arc;

use operator_api::ConditionType as C;

use super::*;
use crate::{
    view::{Bundle, ConfigText, RuntimeConfiguration, Variables},
    world::{PORT, World, problem, world},
};

/// Two runtimes that serve version 1.
pub(super) fn serving() -> World {
    world().runtime("r1").runtime("r2").settled()
}

#[test]
fn first_revision_is_active_at_once_and_published_only_when_a_runtime_serves_it() {
    let mut world = world().runtime("r1").runtime("r2");
    world.act();
    assert_eq!(world.endpoints(), [""; 0]);
    assert!(world.view.slices.is_empty(), "a slice without endpoints helps nobody");
    assert!(matches!(world.view.service, ServiceState::Ours(_)), "the Service comes first");
    assert_eq!(world.says(C::Ready), "False Loading");
    world.work("r1");
    world.act();
    assert_eq!(world.endpoints(), ["r1"]);
    assert_eq!(world.says(C::Available), "True Serving");
    assert_eq!(world.says(C::Ready), "False Loading");
    world.work("r2");
    world.act();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn served_app_says_so_in_every_part_of_its_status() {
    let world = serving();
    let status = &world.view.status;
    assert_eq!((status.replicas, status.ready_replicas, status.summary.as_deref()), (2, 2, Some("2/2")));
    assert_eq!(status.url.as_deref(), Some("http://shop.demo.svc"));
    assert_eq!(status.port, Some(i32::from(PORT)));
    assert_eq!(status.version.as_deref(), Some("1.0.0"));
    assert_eq!(status.selector.as_deref(), Some("spindle.dev/app=shop"));
    assert!(status.active_revision.is_some() && status.active_revision == status.latest_revision);
    assert_eq!(status.observed_generation, Some(world.view.app.generation));
    for condition in C::ALL {
        if matches!(condition, C::Reconciling | C::Stalled) {
            assert!(status.conditions.iter().all(|found| found.type_ != condition.as_str()), "{condition}");
            continue;
        }
        let expected = if matches!(condition, C::Progressing | C::Degraded) { "False" } else { "True" };
        assert_eq!(world.condition(condition).status, expected, "{condition}");
    }
}

#[test]
fn update_serves_the_old_revision_until_the_new_one_is_ready_everywhere() {
    let mut world = serving();
    world.publish_version("2.0.0");
    world.act();
    assert_eq!(world.told("r1"), ["1.0.0", "2.0.0"]);
    world.work("r1");
    world.act();
    assert_eq!(world.serves("r1").as_deref(), Some("1.0.0"), "r2 does not have it yet");
    assert_eq!(world.says(C::Ready), "False Loading");
    assert_eq!(world.says(C::Available), "True Serving");
    assert_eq!(world.says(C::Degraded), "False AsExpected");
    world.work("r2");
    world.act();
    assert_eq!(world.says(C::Ready), "False Switching");
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("2.0.0"); 2]);
    assert_eq!(world.told("r1"), ["2.0.0"], "the old one is dropped");
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn report_that_answers_an_earlier_assignment_does_not_end_an_update() {
    let mut world = serving();
    world.publish_version("2.0.0");
    world.act();
    world.work("r1");
    world.work("r2");
    world.act();
    // Both have been told to switch to version 2, and the spec goes back before they answer.
    world.publish_version("1.0.0");
    world.act();
    assert_eq!(world.told("r1"), ["2.0.0", "1.0.0"]);
    world.settle();
    assert_eq!(world.told("r1"), ["1.0.0"]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn update_changes_no_endpoint() {
    let mut world = serving();
    let before = world.view.slices.clone();
    world.publish_version("2.0.0");
    for _ in 0..5 {
        assert_eq!((world.act().slices, world.view.slices.clone()), (vec![], before.clone()));
        world.work("r1");
        world.work("r2");
    }
    assert_eq!(world.view.status.version.as_deref(), Some("2.0.0"));
}

#[test]
fn revision_that_cannot_be_loaded_leaves_the_old_one_serving_and_says_why() {
    let mut world = serving();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    assert_eq!(world.serves("r1").as_deref(), Some("1.0.0"));
    assert_eq!(world.says(C::Ready), "False CompileFailed");
    assert_eq!(world.says(C::Available), "True Serving");
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
    assert_eq!(world.says(C::Progressing), "False Stalled");
    assert_eq!(world.view.status.version.as_deref(), Some("1.0.0"));
    assert_ne!(world.view.status.active_revision, world.view.status.latest_revision);
}

#[test]
fn runtimes_that_restart_during_a_failed_update_serve_the_old_revision_again() {
    let mut world = serving();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    world.crash("r1");
    world.crash("r2");
    world.settle();
    assert_eq!([world.serves("r1").as_deref(), world.serves("r2").as_deref()], [Some("1.0.0"); 2]);
}

#[test]
fn failed_update_is_undone_by_going_back() {
    let mut world = serving();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    world.publish_version("1.0.0");
    world.settle();
    assert_eq!(world.told("r1"), ["1.0.0"]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn first_revision_that_fails_is_replaced_without_waiting_for_it() {
    let mut world = world().runtime("r1");
    world.break_version("1.0.0");
    world.settle();
    assert_eq!(world.says(C::Degraded), "True CompileFailed");
    world.publish_version("2.0.0");
    world.act();
    assert_eq!(world.told("r1"), ["2.0.0"]);
}

#[test]
fn spec_that_cannot_be_resolved_leaves_the_old_revision_serving() {
    let mut world = serving();
    world.view.app.generation += 1;
    world.view.bundle = Bundle::Failed(problem("BundleNotFound", false));
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    assert_eq!(world.says(C::Resolved), "False BundleNotFound");
    assert_eq!(world.says(C::Loaded), "Unknown NotResolved");
    assert_eq!(world.says(C::Ready), "False BundleNotFound");
    assert_eq!(world.says(C::Available), "True Serving");
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
}

#[test]
fn secret_that_is_missing_is_named_and_changes_nothing_that_runs() {
    let mut world = serving();
    world.view.variables = Variables::Failed(problem("VariableMissing", true));
    world.settle();
    assert_eq!(world.says(C::Resolved), "False VariableMissing");
    assert_eq!(world.endpoints(), ["r1", "r2"]);
}

#[test]
fn variable_without_default_must_be_set() {
    let mut world = world().runtime("r1").replicas(1);
    if let Bundle::Resolved { application, .. } = &mut world.view.bundle {
        application
            .variables
            .insert("password".to_owned(), manifest::Variable { default: None, description: None, secret: true });
    }
    world.settle();
    assert_eq!(world.says(C::Resolved), "False VariableRequired");
    assert!(world.condition(C::Resolved).message.contains("`password`"));
    let values = [("password".to_owned(), control::SecretString::new("hunter2"))];
    world.view.variables = Variables::Resolved(values.into());
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
    assert!(!format!("{:?}", world.view.status).contains("hunter2"));
}

#[test]
fn configuration_that_is_too_large_to_be_told_is_refused_and_what_runs_goes_on() {
    let mut world = serving();
    let before = world.view.status.active_revision.clone();
    let sized = |bytes: usize| {
        let half = |name: &str| (name.to_owned(), control::SecretString::new("\u{1}".repeat(bytes / 2)));
        Variables::Resolved([half("a"), half("b")].into())
    };
    world.view.variables = sized(crate::resolve::MAX_CONFIGURATION + 2);
    world.settle();
    assert_eq!(world.says(C::Resolved), "False InvalidSpec");
    assert!(world.condition(C::Resolved).message.contains("spec.variables"));
    assert_eq!((world.endpoints().len(), &world.view.status.active_revision), (2, &before));
    // Two of the largest, written as they are longest, fit into a message.
    world.view.variables = sized(crate::resolve::MAX_CONFIGURATION);
    let Some(Desired::Assign(told)) = world.plan().runtimes.get(&RuntimeName("r1".to_owned())).cloned() else {
        panic!("not told")
    };
    let revision = told.revisions.last().unwrap().clone();
    let two = Assignment { revisions: vec![revision.clone(), revision], ..*told };
    assert!(control::wire::frame(&control::ToRuntime::Assign(Box::new(two))).is_ok());
}

#[test]
fn changed_variable_is_another_revision_with_the_same_content() {
    let mut world = serving();
    let before = world.view.status.clone();
    world.view.variables = Variables::Resolved([("a".to_owned(), control::SecretString::new("b"))].into());
    world.settle();
    assert_ne!(world.view.status.active_revision, before.active_revision);
    assert_eq!(world.view.status.resolved_digest, before.resolved_digest);
}

#[test]
fn restarted_operator_repeats_what_was_pointed_out_until_it_has_asked_itself() {
    let mut world = serving();
    let value = control::SecretString::new("hunter2");
    world.view.variables = Variables::Resolved([("nobody".to_owned(), value)].into());
    world.settle();
    assert!(world.condition(C::Resolved).message.contains("`nobody`"));
    world.events.clear();
    let bundle = world.view.bundle.clone();
    world.restart_operator();
    world.view.bundle = Bundle::Pending;
    assert_eq!(world.act().status, None);
    world.view.bundle = bundle;
    world.connect("r1");
    world.connect("r2");
    assert_eq!(world.act().status, None);
    assert_eq!(world.events, []);
}

#[test]
fn variable_that_the_application_does_not_declare_is_told_and_stops_nothing() {
    let mut world = serving();
    let values = ["gretting", "greeting"].map(|name| (name.to_owned(), control::SecretString::new("hunter2")));
    world.view.variables = Variables::Resolved(values.into());
    if let Bundle::Resolved { application, .. } = &mut world.view.bundle {
        application.variables.insert("greeting".to_owned(), manifest::Variable::default());
    }
    world.events.clear();
    world.settle();
    let message = world.condition(C::Resolved).message.clone();
    assert!(
        message.contains("sets `gretting`, which the application does not declare (it declares `greeting`)"),
        "{message}"
    );
    assert!(!message.contains("hunter2"));
    assert_eq!(world.says(C::Ready), "True Ready");
    let warnings = |world: &mut World| {
        let events = std::mem::take(&mut world.events).into_iter();
        events.filter(|event| event.reason == "VariableUndeclared").collect::<Vec<_>>()
    };
    let told = warnings(&mut world);
    assert!(
        matches!(&told[..], [event] if event.kind == EventKind::Warning && message.contains(&event.message)),
        "{told:?}"
    );
    // Neither another leader nor anything else that becomes of the app makes it news again.
    world.restart_operator();
    world.connect("r1");
    world.connect("r2");
    world.settle();
    world.view.app.replicas = 1;
    world.settle();
    assert_eq!(warnings(&mut world), []);
    if let Variables::Resolved(values) = &mut world.view.variables {
        values.insert("naem".to_owned(), control::SecretString::new("x"));
    }
    world.settle();
    assert_eq!(warnings(&mut world).len(), 1, "another one is news");
    world.view.variables = Variables::Resolved([].into());
    world.view.app.generation += 1;
    world.settle();
    assert_eq!(warnings(&mut world), []);
}

#[test]
fn very_many_undeclared_variables_are_told_once_too_though_the_condition_cannot_name_them_all() {
    let mut world = serving();
    let value = || control::SecretString::new("x");
    world.view.variables =
        Variables::Resolved((0..4_000).map(|number| (format!("undeclared_{number}"), value())).collect());
    world.settle();
    let told = |world: &World| world.events.iter().filter(|event| event.reason == "VariableUndeclared").count();
    assert_eq!(told(&world), 1);
    world.view.app.replicas = 1;
    world.settle();
    assert_eq!(told(&world), 1);
}

fn config(text: &str) -> ConfigText {
    let config = manifest::runtime_config::parse(text, "runtime-config.toml", manifest::runtime_config::Origin::App);
    ConfigText { text: control::SecretString::new(text), config: Box::new(config.unwrap()) }
}

#[test]
fn changed_runtime_configuration_is_another_revision_that_is_told_to_runtimes() {
    let mut world = serving();
    let before = world.view.status.clone();
    let redis = "[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://:hunter2@r\"";
    world.view.runtime_config = RuntimeConfiguration::Resolved(Some(config(redis)));
    world.settle();
    let own = world.view.status.active_revision.clone();
    assert_ne!(own, before.active_revision);
    world.view.pool_config = Some(Arc::new(config("max_instance_memory = 65536")));
    world.settle();
    assert_ne!(world.view.status.active_revision, own);
    let told = world.view.memory.assignment.as_ref().and_then(Assignment::active_revision).unwrap();
    assert_eq!(told.runtime_config.as_ref().map(control::SecretString::expose), Some(redis));
    assert_eq!(told.pool_config.as_ref().map(control::SecretString::expose), Some("max_instance_memory = 65536"));
    assert!(!format!("{:?}", world.view).contains("hunter2"));
}

#[test]
fn runtime_configuration_that_is_wrong_is_told_and_leaves_the_old_revision_serving() {
    let mut world = serving();
    world.view.runtime_config = RuntimeConfiguration::Failed(problem("InvalidRuntimeConfig", false));
    world.settle();
    assert_eq!(world.says(C::Resolved), "False InvalidRuntimeConfig");
    assert_eq!(world.says(C::Available), "True Serving");
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    world.view.runtime_config = RuntimeConfiguration::Resolved(None);
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn required_variable_may_come_from_a_provider_of_the_runtime_configuration() {
    let vault = "type = \"vault\"\nurl = \"https://v\"\ntoken = \"t\"\nmount = \"m\"";
    for (provider, says) in [
        ("type = \"static\"\nvalues = { password = \"hunter2\" }", "True Ready"),
        (vault, "True Ready"),
        ("type = \"static\"\nvalues = { other = \"x\" }", "False VariableRequired"),
    ] {
        let mut world = world().runtime("r1").replicas(1);
        if let Bundle::Resolved { application, .. } = &mut world.view.bundle {
            let required = manifest::Variable { default: None, description: None, secret: true };
            application.variables.insert("password".to_owned(), required);
        }
        let text = format!("[[variables_provider]]\n{provider}");
        world.view.runtime_config = RuntimeConfiguration::Resolved(Some(config(&text)));
        world.settle();
        assert_eq!(world.says(C::Ready), says, "{provider}");
    }
}

#[test]
fn stores_that_each_replica_keeps_on_its_own_are_pointed_out() {
    let mut world = world().runtime("r1").runtime("r2");
    if let Bundle::Resolved { application, .. } = &mut world.view.bundle {
        let component = manifest::Component {
            description: None,
            source: manifest::Content { digest: manifest::Digest::of(b"wasm"), size: 4 },
            files: Vec::new(),
            environment: BTreeMap::new(),
            variables: BTreeMap::new(),
            allowed_outbound_hosts: Vec::new(),
            key_value_stores: vec!["default".to_owned()],
            sqlite_databases: Vec::new(),
            ai_models: Vec::new(),
        };
        application.components.insert("main".parse().unwrap(), component);
    }
    world.settle();
    let hinted = |world: &World| world.condition(C::Resolved).message.contains("key-value store `default`");
    assert!(hinted(&world), "{}", world.condition(C::Resolved).message);
    assert_eq!(world.says(C::Ready), "True Ready");
    let redis = config("[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://r\"");
    world.view.pool_config = Some(Arc::new(redis));
    world.settle();
    assert!(!hinted(&world), "{}", world.condition(C::Resolved).message);
    world.view.pool_config = None;
    world.view.app.replicas = 1;
    world.settle();
    assert!(!hinted(&world));
}

#[test]
fn chosen_components_are_another_revision_and_unknown_ones_are_refused() {
    let mut world = serving();
    let before = world.view.status.active_revision.clone();
    world.view.app.components = vec!["nobody".to_owned()];
    world.settle();
    assert_eq!(world.says(C::Resolved), "False UnknownComponent");
    assert!(world.condition(C::Resolved).message.contains("`nobody`"));
    assert_eq!(world.view.status.active_revision, before);
}

#[test]
fn revision_names_of_two_installations_differ_so_that_they_tell_nothing_about_secrets() {
    let mut other = world().runtime("r1");
    other.view.key = crate::RevisionKey([8; 32]);
    let (one, other) = (world().runtime("r1").settled(), other.settled());
    assert_ne!(one.view.status.latest_revision, other.view.status.latest_revision);
}

#[test]
fn restarted_operator_with_its_source_away_touches_no_runtime_and_keeps_the_app_ready() {
    let mut world = serving();
    let before = world.view.clone();
    world.restart_operator();
    world.view.bundle = Bundle::Failed(problem("BundleServerUnreachable", true));
    assert!(world.act().runtimes.values().all(|desired| *desired == Desired::Keep));
    assert_eq!(world.view.slices, before.slices);
    world.connect("r1");
    world.connect("r2");
    world.settle();
    assert_eq!(world.view.slices, before.slices);
    assert_eq!(world.says(C::Ready), "True Ready");
    assert_eq!(world.view.status.active_revision, before.status.active_revision);
    assert_eq!(world.view.status.version, before.status.version);
}

#[test]
fn restarted_operator_says_nothing_new_while_it_has_not_reached_its_runtimes() {
    let mut world = serving();
    world.events.clear();
    let before = world.view.status.clone();
    world.restart_operator();
    world.pass(1);
    assert_eq!(world.act().status, None);
    world.connect("r1");
    world.pass(1);
    assert_eq!(world.act().status, None, "one of two is reached");
    world.connect("r2");
    world.settle();
    assert_eq!((&world.view.status, world.events.len()), (&before, 0));
}

#[test]
fn restarted_operator_does_not_presume_what_was_not_ready() {
    let mut world = serving();
    world.restart_operator();
    world.publish_version("2.0.0");
    world.act();
    assert_eq!(world.condition(C::Ready).status, "False");
}

#[test]
fn restarted_operator_keeps_endpoints_of_runtimes_that_it_has_not_reached() {
    let mut world = serving();
    world.restart_operator();
    for _ in 0..3 {
        world.act();
        assert_eq!(world.endpoints(), ["r1", "r2"], "nobody is better");
        world.pass(60);
    }
    world.restart_operator();
    world.connect("r1");
    for passes in [0, 60, 239] {
        world.pass(passes);
        world.settle();
        assert_eq!(world.endpoints(), ["r1", "r2"], "r2 is given time");
        assert_eq!(world.says(C::Ready), "True Ready");
    }
    assert_eq!(world.plan().recheck, Some(SignedDuration::from_secs(1)));
    world.pass(1);
    world.act();
    assert_eq!(world.endpoints(), ["r1"]);
}

/// An app on one of three runtimes, and that one; then another operator takes over, which reaches the other two.
fn taken_over_without_its_runtime() -> (World, String) {
    let mut world = world().replicas(1).runtime("r1").runtime("r2").runtime("r3").settled();
    let used = world.endpoints().remove(0);
    world.events.clear();
    world.restart_operator();
    for other in world.names().into_iter().filter(|other| *other != used) {
        world.connect(&other);
    }
    (world, used)
}

#[test]
fn runtime_that_is_ready_and_not_reached_after_a_start_keeps_its_apps_for_minutes_and_that_is_said() {
    let (mut world, used) = taken_over_without_its_runtime();
    let before = (world.view.slices.clone(), world.view.status.active_revision.clone());
    for passes in [0, 9, 51, 239] {
        world.pass(passes);
        world.settle();
        assert_eq!((world.view.slices.clone(), world.view.status.active_revision.clone()), before);
        let others = world.names().into_iter().filter(|other| *other != used);
        assert!(others.collect::<Vec<_>>().iter().all(|other| !world.is_running(other)));
        let silent = if passes < 10 { "False AsExpected" } else { "True RuntimeUnreachable" };
        assert_eq!((world.says(C::Degraded).as_str(), world.says(C::Ready).as_str()), (silent, "True Ready"));
    }
    assert!(world.condition(C::Degraded).message.contains(&used));
    assert_eq!(world.events.len(), 1, "{:?}", world.events);
    world.connect(&used);
    world.settle();
    assert_eq!(world.says(C::Degraded), "False AsExpected");
    assert_eq!(world.view.slices, before.0);
}

#[test]
fn runtime_that_is_not_reached_loses_its_apps_in_the_end_without_a_gap() {
    let (mut world, used) = taken_over_without_its_runtime();
    world.pass(300);
    let before = world.endpoints();
    world.act();
    assert_eq!(world.endpoints(), before, "nobody else has it yet");
    world.settle();
    assert!(world.endpoints().len() == 1 && world.endpoints() != [used.clone()]);
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn word_of_kubernetes_about_a_runtime_that_was_not_reached_moves_its_apps() {
    let (mut world, used) = taken_over_without_its_runtime();
    let since = world.view.now;
    world.see(&used, |runtime| runtime.pod = Pod::NotReady { since });
    world.act();
    assert_eq!(world.endpoints(), [""; 0], "nobody answers");
    world.pass(10);
    world.settle();
    assert!(world.endpoints().len() == 1 && world.endpoints() != [used.clone()]);

    let (mut world, used) = taken_over_without_its_runtime();
    world.vanish(&used);
    world.settle();
    assert_eq!(world.endpoints().len(), 1);
}

#[test]
fn new_app_is_given_to_runtimes_that_have_been_reached_and_waits_for_no_other() {
    let (mut world, used) = taken_over_without_its_runtime();
    world.view.app.uid = "another".to_owned();
    (world.view.slices, world.view.status) = (Vec::new(), SpinAppStatus::default());
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
    assert!(world.endpoints().len() == 1 && world.endpoints() != [used]);
}

#[test]
fn operator_that_takes_over_sends_nobody_to_a_runtime_that_the_one_before_took_out_until_it_has_heard_of_it() {
    let mut world = serving();
    world.lose("r1");
    world.pass(2);
    world.act();
    assert_eq!(world.endpoints(), ["r2"]);
    world.restart_operator();
    world.settle();
    assert_eq!(world.endpoints(), ["r2"], "neither has been reached");
    world.connect("r2");
    world.settle();
    assert_eq!(world.endpoints(), ["r2"]);
    let since = world.view.now;
    world.see("r2", |runtime| runtime.pod = Pod::NotReady { since });
    world.settle();
    assert_eq!(world.endpoints(), ["r1"], "better than nobody");
    world.see("r2", |runtime| runtime.pod = Pod::Ready);
    world.settle();
    assert_eq!(world.endpoints(), ["r2"], "it has been heard of");
    world.connect("r1");
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
}

#[test]
fn runtimes_whose_kubelets_are_away_go_on_serving_while_nobody_else_can() {
    let mut world = serving();
    let since = world.view.now;
    world.see("r1", |runtime| runtime.pod = Pod::NotReady { since });
    world.settle();
    assert_eq!(world.endpoints(), ["r2"]);
    world.see("r2", |runtime| runtime.pod = Pod::NotReady { since });
    world.settle();
    world.pass(60);
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"], "better than nobody");
    assert_eq!((world.says(C::Ready), world.says(C::Available)), ("False NoRuntimes".into(), "True Serving".into()));
    world.lose("r1");
    world.settle();
    assert_eq!(world.endpoints(), ["r2"]);
    world.see("r2", |runtime| runtime.pod = Pod::Ready);
    world.settle();
    assert_eq!(world.endpoints(), ["r2"]);
    assert_eq!(world.says(C::Available), "True Serving");
}

#[test]
fn restarted_operator_waits_for_every_runtime_before_it_tells_any() {
    let mut world = serving();
    world.restart_operator();
    world.publish_version("2.0.0");
    world.connect("r1");
    assert!(world.act().runtimes.values().all(|desired| *desired == Desired::Keep));
    world.connect("r2");
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
    assert_eq!(world.view.status.version.as_deref(), Some("2.0.0"));
}

#[test]
fn operator_that_restarts_during_a_failed_update_tells_nobody_anything() {
    let mut world = serving();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    world.restart_operator();
    world.connect("r1");
    world.connect("r2");
    world.settle();
    assert_eq!(world.told("r1"), ["1.0.0", "2.0.0"]);
    assert_eq!(world.says(C::Degraded), "True OldRevisionServes");
    world.publish_version("3.0.0");
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn operator_that_restarts_during_a_failed_update_gives_a_new_runtime_the_old_revision() {
    let mut world = serving();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    world.restart_operator();
    world.connect("r1");
    world.connect("r2");
    world.settle();
    world.vanish("r1");
    world.join("r3");
    world.settle();
    assert_eq!(world.told("r3"), ["1.0.0", "2.0.0"]);
    assert_eq!(world.serves("r3").as_deref(), Some("1.0.0"));
    assert_eq!(world.endpoints(), ["r2", "r3"]);
}

#[test]
fn operator_that_restarts_while_its_source_is_away_gives_a_new_runtime_the_old_revision() {
    let mut world = serving();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    world.restart_operator();
    world.view.bundle = Bundle::Failed(problem("BundleServerUnreachable", true));
    world.connect("r1");
    world.join("r3");
    assert_eq!(world.act().memory.assignment, None, "r2 may have something else to say");
    world.connect("r2");
    world.vanish("r1");
    world.settle();
    assert_eq!(world.serves("r3").as_deref(), Some("1.0.0"));
}

#[test]
fn operator_that_reaches_the_only_runtime_of_an_update_late_gives_others_the_old_revision_all_the_same() {
    let mut world = world().replicas(1).runtime("r1").settled();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    world.restart_operator();
    world.pass(30);
    world.act();
    world.connect("r1");
    world.settle();
    world.join("r2");
    world.see("r1", |runtime| runtime.pod = Pod::Terminating);
    world.settle();
    assert_eq!(world.serves("r2").as_deref(), Some("1.0.0"));
}

#[test]
fn update_that_a_runtime_missed_the_end_of_is_not_taken_up_again() {
    let mut world = serving();
    world.publish_version("2.0.0");
    world.act();
    let during_the_update = world.clone();
    world.settle();
    world.replace_process("r2", &during_the_update);
    world.restart_operator();
    world.publish_version("3.0.0");
    world.connect("r1");
    world.connect("r2");
    world.act();
    world.work("r1");
    assert_ne!(world.serves("r1").as_deref(), Some("1.0.0"));
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
    assert_eq!((world.told("r1"), world.told("r2")), (vec!["3.0.0".to_owned()], vec!["3.0.0".to_owned()]));
}

#[test]
fn operator_that_restarts_between_two_messages_of_an_update_finishes_it() {
    let mut world = serving();
    world.publish_version("2.0.0");
    let keep_r2 = world.clone();
    world.act();
    world.work("r1");
    // r2 never got the message.
    world.replace_process("r2", &keep_r2);
    world.restart_operator();
    world.connect("r1");
    world.connect("r2");
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
    assert_eq!(world.serves("r2").as_deref(), Some("2.0.0"));
}

#[test]
fn draining_runtime_keeps_its_endpoint_until_the_replacement_is_ready() {
    let mut world = world().replicas(1).runtime("r1").settled();
    world.join("r2");
    world.see("r1", |runtime| runtime.pod = Pod::Terminating);
    world.act();
    assert_eq!(world.endpoints(), ["r1"]);
    world.work("r2");
    world.act();
    assert_eq!(world.endpoints(), ["r2"]);
    let leaving = &world.view.slices[0].endpoints[0];
    assert_eq!((leaving.ready, leaving.serving, leaving.terminating), (false, true, true));
    world.vanish("r1");
    world.act();
    assert_eq!(world.view.slices[0].endpoints.len(), 1);
}

#[test]
fn runtime_that_says_it_drains_gets_nothing_new() {
    let mut world = world().runtime("r1").runtime("r2");
    world.see("r1", |runtime| {
        runtime.contact = Contact::Connected(crate::view::Holding { draining: true, ..Default::default() });
    });
    world.act();
    assert!(!world.is_running("r1") && world.is_running("r2"));
}

#[test]
fn pod_that_is_deleted_loses_its_endpoint_as_soon_as_its_process_has_ended() {
    let mut world = serving();
    world.see("r1", |runtime| runtime.pod = Pod::Terminating);
    world.lose("r1");
    world.act();
    assert!(world.view.slices[0].endpoints.iter().all(|endpoint| endpoint.runtime.0 == "r2"));
}

#[test]
fn app_moves_without_a_gap_and_the_old_runtime_lingers() {
    let mut world = world().replicas(1).runtime("r1").settled();
    let mut newcomers = (2..).map(|number| format!("r{number}"));
    while world.is_running("r1") && world.plan().is_idle() {
        world.join(&newcomers.next().unwrap());
    }
    let new = world.names().last().unwrap().clone();
    world.act();
    assert_eq!(world.endpoints(), ["r1"]);
    assert_eq!(world.says(C::Progressing), "True Loading");
    world.work(&new);
    let plan = world.act();
    assert_eq!(world.endpoints(), std::slice::from_ref(&new));
    assert!(world.is_running("r1"), "requests are still on their way to it");
    assert_eq!(plan.recheck, Some(LINGER));
    world.pass(10);
    world.act();
    assert!(!world.is_running("r1"));
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
    assert_eq!(world.view.memory.withdrawn.len(), 0);
}

/// An app that moves away from `r1`, as soon as the slices say so.
fn about_to_move() -> World {
    let mut world = world().replicas(1).runtime("r1").settled();
    let mut newcomers = (2..).map(|number| format!("r{number}"));
    while world.plan().is_idle() {
        world.join(&newcomers.next().unwrap());
    }
    let new = world.names().last().unwrap().clone();
    world.act();
    world.work(&new);
    world
}

fn takes_away(world: &World, runtime: &str) -> bool {
    world.plan().runtimes.get(&RuntimeName(runtime.to_owned())) == Some(&Desired::Remove)
}

#[test]
fn runtime_whose_endpoint_cannot_be_withdrawn_goes_on_serving_until_it_has_been_and_a_while_longer() {
    let mut world = about_to_move();
    for _ in 0..5 {
        // It is decided, but the API server takes nothing.
        world.view.memory = world.plan().memory;
        world.pass(10);
        assert!(!takes_away(&world, "r1"), "requests are still sent to it");
    }
    world.act();
    assert!(world.is_running("r1") && !world.endpoints().contains(&"r1".to_owned()));
    world.pass(10);
    assert!(takes_away(&world, "r1"));
}

#[test]
fn runtime_lingers_from_when_the_slices_were_written_and_not_from_when_that_was_decided() {
    let mut world = about_to_move();
    let decided = world.view.now;
    world.act();
    world.pass(8);
    let now = world.view.now;
    world.view.memory.note_published(decided, now);
    world.pass(9);
    assert!(!takes_away(&world, "r1"), "those who send requests may not have heard of it");
    world.pass(1);
    assert!(takes_away(&world, "r1"));
}

#[test]
fn silent_runtime_yields_to_another_but_not_to_nobody() {
    let mut world = serving();
    world.lose("r1");
    assert_eq!(world.plan().recheck, Some(SILENCE));
    world.act();
    assert_eq!(world.endpoints(), ["r1", "r2"], "it may be back in a moment");
    world.pass(2);
    world.act();
    assert_eq!(world.endpoints(), ["r2"]);
    assert_eq!(world.says(C::Degraded), "True RuntimeUnreachable");
    world.lose("r2");
    world.pass(60);
    world.act();
    assert_eq!(world.endpoints(), ["r1", "r2"], "better than nobody");
}

#[test]
fn operator_that_is_cut_off_from_all_runtimes_leaves_apps_where_they_are_and_says_so() {
    let mut world = serving();
    world.lose("r1");
    world.lose("r2");
    for passes in [10, 600] {
        world.pass(passes);
        world.settle();
        assert_eq!(world.endpoints(), ["r1", "r2"]);
        assert_eq!(world.says(C::Ready), "True Ready");
        assert_eq!(world.says(C::Degraded), "True RuntimeUnreachable");
    }
    world.publish_version("2.0.0");
    world.settle();
    assert_eq!(world.says(C::Ready), "False Loading");
    assert_eq!(world.says(C::Degraded), "True RuntimeUnreachable");
    world.join("r3");
    world.settle();
    assert_eq!(world.endpoints(), ["r3"], "one that answers is better");
}

#[test]
fn apps_of_a_silent_runtime_go_to_others_after_a_while_and_come_back() {
    let mut world = serving();
    world.join("r3");
    world.settle();
    let mut world = {
        world.pass(10);
        world.settled()
    };
    let used = world.names().into_iter().filter(|runtime| world.is_running(runtime)).collect::<Vec<_>>();
    let spare = world.names().into_iter().find(|runtime| !world.is_running(runtime)).unwrap();
    world.lose(&used[0]);
    world.pass(10);
    world.settle();
    assert_eq!(world.endpoints(), {
        let mut both = [used[1].clone(), spare.clone()];
        both.sort();
        both
    });
    world.connect(&used[0]);
    world.settle();
    world.pass(10);
    world.settle();
    assert!(!world.is_running(&spare));
    assert_eq!(world.endpoints().len(), 2);
}

#[test]
fn runtime_without_room_gets_no_new_app_and_keeps_those_it_has() {
    let mut world = world().runtime("r1").runtime("r2");
    world.see("r1", |runtime| (runtime.capacity, runtime.assigned) = (5, 5));
    world.settle();
    assert_eq!(world.endpoints(), ["r2"]);
    assert_eq!(world.says(C::Ready), "True Ready");
    assert_eq!(world.says(C::Degraded), "True TooFewRuntimes");
    assert!(!world.condition(C::Degraded).message.contains("does not answer"));
    world.lose("r1");
    world.settle();
    assert!(world.condition(C::Degraded).message.ends_with("Runtime r1 does not answer the operator."));
    world.see("r2", |runtime| (runtime.capacity, runtime.assigned) = (1, 1));
    world.settle();
    assert_eq!(world.endpoints(), ["r2"]);
}

#[test]
fn app_without_runtimes_says_so_and_starts_when_one_comes() {
    let mut world = world().settled();
    assert_eq!(world.says(C::Ready), "False NoRuntimes");
    world.join("r1");
    world.settle();
    assert_eq!(world.endpoints(), ["r1"]);
}

#[test]
fn scaled_to_zero_loses_its_endpoints_first_and_its_runtimes_later() {
    let mut world = serving().replicas(0);
    world.events.clear();
    world.act();
    assert_eq!(world.endpoints(), [""; 0]);
    assert!(world.events.iter().all(|event| event.kind == EventKind::Normal), "as asked for: {:?}", world.events);
    assert!(world.is_running("r1"));
    world.pass(10);
    world.settle();
    assert!(!world.is_running("r1") && !world.is_running("r2"));
    assert_eq!(world.says(C::Ready), "True ScaledToZero");
    assert_eq!(world.says(C::Available), "False NotServing");
    assert_eq!(world.says(C::Degraded), "False AsExpected");
    let mut world = world.replicas(2);
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
}

#[test]
fn runtime_that_goes_away_from_an_app_scaled_to_zero_gets_no_endpoint_back() {
    let mut world = serving().replicas(0);
    world.see("r1", |runtime| runtime.pod = Pod::Terminating);
    world.act();
    assert_eq!(world.endpoints(), [""; 0]);
    world.see("r2", |runtime| runtime.pod = Pod::Terminating);
    world.act();
    assert_eq!(world.endpoints(), [""; 0]);
}

#[test]
fn service_of_somebody_else_is_left_alone_and_gets_no_slices() {
    let mut world = serving();
    world.view.service = ServiceState::Foreign("a Service that was not made for it".to_owned());
    let plan = world.act();
    assert_eq!((plan.service, world.view.slices.len()), (None, 0));
    assert_eq!(world.says(C::RoutesProgrammed), "False ServiceConflict");
    assert_eq!(world.says(C::Ready), "False ServiceConflict");
    assert_eq!(world.says(C::Available), "False NotServing");
}

#[test]
fn app_that_is_ending_is_served_as_it_was_and_nothing_is_made_for_it() {
    let mut world = serving();
    world.view.app.is_ending = true;
    world.view.app.generation += 1;
    world.view.service = ServiceState::Absent;
    world.view.history.clear();
    world.settle();
    assert_eq!((world.view.service.clone(), world.view.history.len()), (ServiceState::Absent, 0));
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    // Who cannot answer any more is not called all the same.
    world.see("r1", |runtime| runtime.pod = Pod::NotReady { since: Timestamp::UNIX_EPOCH });
    world.act();
    assert_eq!(world.endpoints(), ["r2"]);
    // Given away, or being deleted.
    world.view.slices[0].is_altered = true;
    assert!(world.plan().slices.is_empty());
    world.view.slices.clear();
    let plan = world.plan();
    assert_eq!((plan.slices, plan.stale_slices), (vec![], vec![]));
}

#[test]
fn slice_that_somebody_has_altered_is_written_again_and_one_that_is_not_wanted_is_deleted() {
    let mut world = serving();
    let wanted = world.view.slices[0].clone();
    world.view.slices[0].is_altered = true;
    world.view.slices.push(Slice { name: "shop-ipv4-2".to_owned(), is_altered: true, ..wanted.clone() });
    let plan = world.act();
    assert_eq!((plan.slices, plan.stale_slices), (vec![wanted], vec!["shop-ipv4-2".to_owned()]));
    assert!(world.plan().is_idle());
}

#[test]
fn refused_write_is_said_and_tried_again() {
    let mut world = world().runtime("r1").runtime("r2");
    world.view.write_failure = Some(problem("WriteFailed", true));
    world.view.service = ServiceState::Absent;
    let plan = world.plan();
    assert!(plan.service.is_some());
    world.settle();
    assert_eq!(world.says(C::Ready), "False WriteFailed");
    world.view.write_failure = None;
    world.settle();
    assert_eq!(world.says(C::Ready), "True Ready");
}

#[test]
fn app_without_a_port_is_told_to_nobody() {
    let mut world = world().runtime("r1");
    world.view.port = None;
    world.settle();
    assert!(!world.is_running("r1"));
    assert_eq!(world.says(C::Ready), "False PortsExhausted");
}

#[test]
fn report_about_an_app_that_had_the_same_name_publishes_nothing() {
    let mut world = serving();
    world.view.app.uid = "made again".to_owned();
    world.view.slices.clear();
    world.view.memory = Memory::default();
    world.act();
    assert_eq!(world.endpoints(), [""; 0]);
    world.work("r1");
    world.act();
    assert_eq!(world.endpoints(), ["r1"]);
}

#[test]
fn report_about_another_port_publishes_nothing() {
    let mut world = serving();
    world.view.port = Some(PORT + 1);
    world.act();
    assert_eq!(world.endpoints(), [""; 0]);
    world.settle();
    assert_eq!(world.endpoints(), ["r1", "r2"]);
    assert_eq!(world.view.slices[0].port, PORT + 1);
}

#[test]
fn runtime_with_two_addresses_is_in_a_slice_of_each_family() {
    let mut world = serving();
    world.see("r1", |runtime| Arc::make_mut(&mut runtime.id).ips.push("fd00::1".parse().unwrap()));
    world.act();
    let names: Vec<&str> = world.view.slices.iter().map(|slice| slice.name.as_str()).collect();
    assert_eq!(names, ["shop-ipv4", "shop-ipv6"]);
    assert_eq!(world.view.slices[1].endpoints.len(), 1);
}

#[test]
fn more_than_a_hundred_endpoints_take_two_slices_and_fewer_take_one_again() {
    let mut world = world().replicas(200);
    (100..220).for_each(|number| world.join(&format!("r{number}")));
    world.settle();
    let sizes = |world: &World| world.view.slices.iter().map(|slice| slice.endpoints.len()).collect::<Vec<_>>();
    assert_eq!(sizes(&world), [100, 20]);
    assert_eq!(world.view.slices[1].name, "shop-ipv4-2");
    (200..220).for_each(|number| world.vanish(&format!("r{number}")));
    world.settle();
    assert_eq!(sizes(&world), [100]);
}

#[test]
fn slices_of_either_family_are_split_and_hold_each_runtime_once() {
    let mut world = world().replicas(250);
    for number in 0..230_u8 {
        let name = format!("r{number:03}");
        world.join(&name);
        // Some have both families, some only one, whichever.
        let v6: std::net::IpAddr = format!("fd00::{number:x}").parse().unwrap();
        world.see(&name, |runtime| match number % 3 {
            0 => Arc::make_mut(&mut runtime.id).ips.push(v6),
            1 => Arc::make_mut(&mut runtime.id).ips = vec![v6],
            _ => {}
        });
    }
    world.settle();
    let found: Vec<_> = world.view.slices.iter().map(|slice| (slice.name.as_str(), slice.endpoints.len())).collect();
    assert_eq!(found, [("shop-ipv4", 100), ("shop-ipv4-2", 53), ("shop-ipv6", 100), ("shop-ipv6-2", 54)]);
    for slice in &world.view.slices {
        assert!(slice.endpoints.iter().all(|endpoint| publish::Family::of(&endpoint.address) == slice.family));
    }
    let addresses: BTreeSet<_> =
        world.view.slices.iter().flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address).collect();
    assert_eq!(addresses.len(), 307);
}

#[test]
fn each_change_is_told_once() {
    let mut world = serving();
    let reasons = |world: &World| world.events.iter().map(|event| event.reason.clone()).collect::<Vec<_>>();
    assert_eq!(reasons(&world), ["Resolved", "Ready"]);
    world.events.clear();
    world.break_version("2.0.0");
    world.publish_version("2.0.0");
    world.settle();
    world.settle();
    assert_eq!(reasons(&world), ["Resolved", "OldRevisionServes"]);
    assert_eq!(world.events[1].kind, EventKind::Warning);
    world.events.clear();
    world.publish_version("3.0.0");
    world.settle();
    assert_eq!(reasons(&world), ["Resolved", "Ready"]);
}

#[test]
fn transition_time_changes_only_with_the_status_of_its_condition() {
    let mut world = serving();
    let ready = world.condition(C::Ready).last_transition_time.clone();
    let resolved = world.condition(C::Resolved).last_transition_time.clone();
    world.pass(5);
    world.publish_version("2.0.0");
    world.settle();
    assert_eq!(world.condition(C::Resolved).last_transition_time, resolved);
    assert_ne!(world.condition(C::Ready).last_transition_time, ready);
}

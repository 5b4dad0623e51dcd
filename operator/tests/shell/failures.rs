//! The API server does what it should not: callers notice nothing, the server is not asked more than it can bear, and
//! what could not be done is done when it can.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api::{Api, Fault, Seen},
    installation::{APPS, Installation, PODS, QUICK, SERVICES, until},
    peer::app as key,
    simulated::Simulated,
};

const SLICES: &str = "endpointslices";

/// Whether it makes or changes an object of this resource.
fn writes(resource: &'static str) -> impl Fn(&Seen) -> bool + Send {
    move |seen| seen.is_write() && seen.path.split('/').any(|part| part == resource)
}

/// Whether it is about everything that is not apart.
fn anything(seen: &Seen) -> bool {
    !seen.is_apart()
}

/// Waits until every watch of apps has ended and been begun again so many times: the operator has had its time to act.
pub(crate) async fn rounds(api: &Api, count: usize) {
    let watches = |api: &Api| api.count(|seen| seen.is_watch() && seen.path.ends_with("/spinapps"));
    let before = watches(api);
    until("the watch of apps to go round", || (watches(api) >= before + count).then_some(())).await;
}

/// How many tries are few since `began`, pauses growing and other news coming between: a loop without pauses makes hundreds a
/// second, and a busy machine gives it longer.
pub(crate) fn few(began: Instant) -> usize {
    60 + 5 * usize::try_from(began.elapsed().as_secs()).unwrap()
}

/// The addresses of the runtimes that callers of `name` are led to.
fn ready_addresses(api: &Api, name: &str) -> Vec<String> {
    let slices = api.all(SLICES);
    let of_app = slices.iter().filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name);
    let endpoints = of_app.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_when_nothing_has_changed_though_everything_is_listed_again() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    for name in ["cart", "pay"] {
        installation.apply(name, "1.0.0");
        installation.becomes_ready(name).await;
    }
    rounds(&installation.api, 2).await;
    let told = installation.messages();
    installation.api.take_seen();
    // 410 for every watch: all lists are read anew.
    installation.api.compact();
    until("a new list", || {
        let lists = installation.api.count(|seen| seen.path.ends_with("/spinapps") && !seen.is_watch());
        (lists > 0).then_some(())
    })
    .await;
    rounds(&installation.api, 2).await;
    let writes: Vec<Seen> = installation.api.take_seen().into_iter().filter(Seen::is_write).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(installation.messages(), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_another_tool_writes_is_nothing_to_write_about() {
    let (installation, _operator) = Installation::with_runtimes(1).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    installation.at_rest().await;
    let theirs = json!({
        "type": "Audited", "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    api.take_seen();
    api.edit(&format!("{APPS}/cart"), |app| app["status"]["conditions"].as_array_mut().unwrap().push(theirs.clone()));
    rounds(api, 2).await;
    let writes: Vec<Seen> = api.take_seen().into_iter().filter(Seen::is_write).collect();
    assert!(writes.is_empty(), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_a_watch_has_missed_is_found_in_the_next_list() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    installation.api.script(Seen::is_watch, Fault::Status(503, "not now", None));
    rounds(&installation.api, 1).await;
    installation.update("cart", "2.0.0");
    installation.apply("pay", "1.0.0");
    installation.api.compact();
    installation.api.mend();
    installation.becomes_ready("cart").await;
    installation.becomes_ready("pay").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_told_with_verb_and_resource_and_not_asked_for_in_a_loop() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    let refusal = "services \"cart\" is forbidden: User \"system:serviceaccount:spindle:operator\" cannot patch resource \"services\" in API group \"\" in the namespace \"shop\"";
    api.script(writes("services"), Fault::Status(403, refusal, None));
    let began = Instant::now();
    installation.apply("cart", "1.0.0");
    let message = until("the refusal in the status", || {
        let app = api.get(&format!("{APPS}/cart"))?;
        let text = app["status"].to_string();
        text.contains("cannot patch resource").then_some(text)
    })
    .await;
    assert!(message.contains("WriteFailed") && message.contains("the chart's ClusterRole"), "{message}");
    until("runtimes to be told all the same", || (installation.holders("cart").len() == 2).then_some(())).await;
    rounds(api, 3).await;
    let tries = api.count(writes("services"));
    assert!((2..few(began)).contains(&tries), "{tries} tries in {:?}", began.elapsed());
    api.mend();
    installation.becomes_ready("cart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_is_put_in_other_words_each_time_is_no_news() {
    let (installation, _operator) = Installation::with_runtimes(1).await;
    let api = &installation.api;
    // Each half of the tries meets other words.
    let odd = std::sync::atomic::AtomicBool::default();
    let turns = move |seen: &Seen| writes("services")(seen) && odd.fetch_xor(true, std::sync::atomic::Ordering::SeqCst);
    api.script(turns, Fault::Status(500, "webhook call 4711 failed", None));
    api.script(writes("services"), Fault::Status(500, "webhook call 4712 failed", None));
    let began = Instant::now();
    installation.apply("cart", "1.0.0");
    until("a try", || (api.count(writes("services")) > 1).then_some(())).await;
    rounds(api, 3).await;
    let tries = api.count(writes("services"));
    assert!(tries < few(began), "{tries} tries in {:?}", began.elapsed());
    api.mend();
    installation.becomes_ready("cart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_and_a_namespace_that_is_gone_cost_a_few_tries_and_other_apps_nothing() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    let of = |name: &'static str| move |seen: &Seen| seen.is_write() && seen.path.contains(name);
    api.script(of("lost"), Fault::Status(404, "namespaces \"shop\" not found", None));
    api.script(
        of("torn"),
        Fault::Status(409, "Apply failed with 1 conflict: conflict with \"other\": .spec.ports", None),
    );
    let began = Instant::now();
    for name in ["lost", "torn", "well"] {
        installation.apply(name, "1.0.0");
    }
    installation.becomes_ready("well").await;
    rounds(api, 3).await;
    for name in ["lost", "torn"] {
        let tries = api.count(of(name));
        assert!((1..few(began)).contains(&tries), "{tries} tries for {name} in {:?}", began.elapsed());
    }
    // The namespace takes its apps with it.
    api.delete(&format!("{APPS}/lost"));
    until("runtimes to let go of it", || installation.holders("lost").is_empty().then_some(())).await;
    rounds(api, 1).await;
    api.take_seen();
    rounds(api, 2).await;
    assert_eq!(api.count(of("lost")), 0);
    api.mend();
    installation.becomes_ready("torn").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_to_be_left_alone_is_and_then_everything_is_done() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    api.script(anything, Fault::Status(429, "too many requests", Some(4)));
    api.take_seen();
    for number in 0..50 {
        installation.apply(&format!("new-{number}"), "1.0.0");
    }
    // Each time that it is asked how it is, two seconds have passed at least.
    let asked = |api: &Api| api.count(|seen| seen.path == "/version");
    until("some questions", || (asked(api) >= 3).then_some(())).await;
    let seen = api.take_seen();
    let times: Vec<_> = seen.iter().filter(|seen| seen.path == "/version").map(|seen| seen.at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(1900)), "{times:?}");
    // After each question some try, side by side, until the first of them is refused; watches come back in between.
    let others = seen.iter().filter(|seen| anything(seen)).count();
    assert!(others < 100 * (times.len() + 1), "{others} requests in {} times two seconds", times.len());
    api.mend();
    for number in 0..50 {
        installation.becomes_ready(&format!("new-{number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_changes_nothing_for_callers_costs_few_requests_and_is_made_up_for() {
    for fault in [Fault::Status(503, "not now", None), Fault::Reset] {
        let (installation, _operator) = Installation::with_runtimes(3).await;
        let api = &installation.api;
        for number in 0..100 {
            installation.apply(&format!("a{number}"), "1.0.0");
        }
        for number in 0..100 {
            installation.becomes_ready(&format!("a{number}")).await;
        }
        let removes = || installation.runtimes.iter().map(|runtime| runtime.heard().removes).sum::<usize>();
        let before = (removes(), ready_addresses(api, "a1"));
        // What the watch brings before it ends is acted on as far as runtimes are concerned.
        api.script(|seen| seen.is_write() || seen.path == "/version", fault.clone());
        let told = installation.messages();
        for number in 0..100 {
            installation.update(&format!("a{number}"), "2.0.0");
        }
        until("an update to reach a runtime", || (installation.messages() > told).then_some(())).await;
        api.script(anything, fault.clone());
        api.take_seen();
        let began = Instant::now();
        until("some seconds of outage", || (api.count(|seen| seen.path == "/version") >= 5).then_some(())).await;
        let asked = api.count(anything);
        // Eleven watches and a hundred apps, each once or twice.
        assert!(asked < 240 + few(began), "{asked} requests in {:?} of {fault:?}", began.elapsed());
        assert_eq!((removes(), ready_addresses(api, "a1")), before);
        api.mend();
        for number in 0..100 {
            installation.becomes_ready(&format!("a{number}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_writes_keeps_no_runtime_waiting() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    api.script(Seen::is_write, Fault::Hang);
    // More than there are writers.
    for number in 0..150 {
        installation.apply(&format!("a{number}"), "1.0.0");
    }
    until("runtimes to have every app", || {
        installation.runtimes.iter().all(|runtime| runtime.heard().assigned.len() == 150).then_some(())
    })
    .await;
    api.mend();
    for number in 0..150 {
        installation.becomes_ready(&format!("a{number}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_slow_is_waited_for() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    installation.api.script(anything, Fault::Slow(Duration::from_millis(400)));
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    installation.update("cart", "2.0.0");
    installation.becomes_ready("cart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_or_a_list_that_says_nothing_any_more_is_given_up() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    api.script(|seen| seen.is_watch() && seen.path.ends_with("/spinapps"), Fault::Mute);
    rounds(api, 2).await;
    installation.apply("cart", "1.0.0");
    api.mend();
    installation.becomes_ready("cart").await;
    for fault in [Fault::Mute, Fault::Hang] {
        api.script(|seen| seen.path.ends_with("/spinapps") && !seen.is_watch(), fault);
        api.take_seen();
        api.compact();
        until("a list that stalls", || {
            (api.count(|seen| seen.path.ends_with("/spinapps") && !seen.is_watch()) > 0).then_some(())
        })
        .await;
        api.mend();
        installation.update("cart", "2.0.0");
        installation.becomes_ready("cart").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_end_as_soon_as_they_begin_are_begun_again_less_and_less_often() {
    let (installation, _operator) = Installation::with_runtimes(1).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    let watches = |seen: &Seen| seen.is_watch() && seen.path.ends_with("/spinapps");
    api.script(Seen::is_watch, Fault::End);
    rounds(api, 1).await;
    api.take_seen();
    rounds(api, 5).await;
    let times: Vec<_> = api.take_seen().into_iter().filter(watches).map(|seen| seen.at).collect();
    // The pauses from the second on are 200, 400, 800 and 1600 milliseconds, less a quarter at most; a busy machine
    // makes them longer.
    let all = times[4] - times[0];
    assert!(all > Duration::from_secs(2), "{all:?}: {times:?}");
    api.mend();
    installation.update("cart", "2.0.0");
    installation.becomes_ready("cart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_cannot_be_read_is_left_as_it_is_and_the_others_go_on() {
    let (mut installation, operator) = Installation::with_runtimes(2).await;
    for name in ["bad", "good"] {
        installation.apply(name, "1.0.0");
        installation.becomes_ready(name).await;
    }
    let port = installation.api.get(&format!("{APPS}/bad")).unwrap()["status"]["port"].clone();
    let spoil = |app: &mut serde_json::Value| app["spec"]["replicas"] = json!("two");
    installation.api.edit(&format!("{APPS}/bad"), spoil);
    installation.update("good", "2.0.0");
    installation.becomes_ready("good").await;
    // A new operator knows it from the list alone.
    operator.stop().await;
    let _operator = installation.operator("operator-1");
    installation.update("good", "3.0.0");
    installation.becomes_ready("good").await;
    installation.add_runtime().await;
    until("everything to be compared", || (installation.runtimes[2].heard().synced > 0).then_some(())).await;
    let holders = installation.holders("bad");
    assert_eq!(holders.len(), 2);
    for runtime in holders {
        assert_eq!(json!(runtime.heard().assigned[&key("bad")].port), port);
    }
    assert_eq!(ready_addresses(&installation.api, "bad").len(), 2);
    let told = until("an event that says so", || {
        let events = installation.api.all("events");
        events.into_iter().find(|event| event["regarding"]["name"] == "bad" && event["reason"] == "InvalidSpec")
    })
    .await;
    assert!(told["note"].as_str().unwrap().contains("\"two\""), "{told}");
    installation.api.edit(&format!("{APPS}/bad"), |app| app["spec"]["replicas"] = json!(2));
    installation.becomes_ready("bad").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_loses_its_lease_writes_and_says_nothing_more_and_the_next_one_takes_over() {
    let (installation, first) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    let term = first.operator.term().unwrap();
    let _second = installation.operator("operator-1");
    // The lease is taken away as by a partition: the first one can reach everything but the lease.
    let (path, holder) = ("/apis/coordination.k8s.io/v1/namespaces/spindle/leases/spindle-operator", "operator-1");
    api.edit(path, |lease| {
        lease["spec"]["holderIdentity"] = json!(holder);
        lease["spec"]["leaseTransitions"] = json!(term + 1);
    });
    until("the first one to stop leading", || first.operator.term().is_none().then_some(())).await;
    installation.update("cart", "2.0.0");
    installation.becomes_ready("cart").await;
    assert_eq!(first.operator.term(), None);
    for runtime in &installation.runtimes {
        assert!(runtime.heard().streams >= 2, "the second one has streams of its own");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_for_longer_than_its_lease_does_nothing_when_it_goes_on() {
    let mut installation = Installation::new(QUICK).await;
    let first = installation.apart("operator-0", 1);
    installation.add_runtimes(2).await;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    // A request that is on its way when the thread stops arrives when it goes on: that is none of the first one's decisions.
    installation.at_rest().await;
    let frozen = first.freeze();
    let second = installation.operator("operator-1");
    until("the second one to lead", || second.operator.term()).await;
    // All of this waits for the first one, too, when it goes on.
    installation.update("cart", "2.0.0");
    installation.becomes_ready("cart").await;
    installation.apply("pay", "1.0.0");
    installation.becomes_ready("pay").await;
    until("nothing old to be left", || {
        let heard: Vec<_> = installation.runtimes.iter().map(Simulated::heard).collect();
        let mut held = heard.iter().flat_map(|heard| heard.assigned.values());
        held.all(|assignment| assignment.revisions.len() == 1).then_some(())
    })
    .await;
    installation.at_rest().await;
    let told = installation.messages();
    installation.api.take_seen();
    assert!(first.replica.operator.term().is_some(), "it has had no time to notice");

    drop(frozen);
    until("the first one to notice", || first.replica.operator.term().is_none().then_some(())).await;
    rounds(&installation.api, 2).await;
    installation.at_rest().await;
    let writes: Vec<Seen> = installation.api.take_seen().into_iter().filter(Seen::is_write).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(installation.messages(), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over_without_a_word_to_runtimes_that_are_right() {
    let (installation, first) = Installation::with_runtimes(2).await;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    // The last word about an app, an event, is written after its status.
    rounds(&installation.api, 1).await;
    let second = installation.operator("operator-1");
    let before = (installation.messages(), ready_addresses(&installation.api, "cart"));
    installation.api.take_seen();
    first.stop().await;
    until("the second one to lead", || second.operator.term()).await;
    until("everything to be compared", || {
        installation.runtimes.iter().all(|runtime| runtime.heard().synced >= 2).then_some(())
    })
    .await;
    assert_eq!((installation.messages(), ready_addresses(&installation.api, "cart")), before);
    let writes: Vec<Seen> = installation.api.take_seen().into_iter().filter(Seen::is_write).collect();
    let states = installation.api.states(&format!("{APPS}/cart"));
    let statuses: Vec<_> = states.iter().map(|state| state["status"].to_string()).collect();
    assert!(writes.is_empty(), "{writes:#?}\n{}", statuses.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_secrets_config_maps_and_nodes_as_metadata_alone() {
    let (installation, _operator) = Installation::with_runtimes(1).await;
    let api = &installation.api;
    api.put(
        "/api/v1/namespaces/shop/secrets/db",
        json!({ "metadata": { "namespace": "shop", "name": "db" }, "data": { "url": "cGc6Ly8=" } }),
    );
    api.put("/api/v1/namespaces/shop/secrets/other", json!({ "metadata": { "namespace": "shop", "name": "other" } }));
    let with_secret = |app: &mut serde_json::Value| {
        app["spec"]["variables"] =
            json!([{ "name": "dsn", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } }]);
    };
    installation.apply("cart", "1.0.0");
    api.edit(&format!("{APPS}/cart"), with_secret);
    until("the Secret to be watched and read", || {
        let watched = api.count(|seen| seen.is_watch() && seen.path == "/api/v1/secrets");
        let read = api.count(|seen| seen.path == "/api/v1/namespaces/shop/secrets/db");
        (watched > 0 && read > 0).then_some(())
    })
    .await;
    let seen = api.take_seen();
    let collections = seen.iter().filter(|seen| seen.path.matches('/').count() <= 4 && !seen.is_apart());
    for request in collections.filter(|seen| seen.method == Method::GET) {
        assert!(request.is_watch() || request.query.contains("limit=500"), "{request:?}");
        let metadata_alone = request.accept.contains("as=PartialObjectMetadata");
        let wanted = ["/secrets", "/configmaps", "/nodes"].iter().any(|kind| request.path.ends_with(kind));
        assert_eq!(metadata_alone, wanted, "{request:?}");
    }
    // The content of a Secret is read when an app names it, and that of no other.
    let read = |name: &str| seen.iter().any(|seen| seen.path == format!("/api/v1/namespaces/shop/secrets/{name}"));
    assert!(!read("other"));
    assert!(api.get(&format!("{PODS}/r1")).is_some() && api.get(&format!("{SERVICES}/cart")).is_some());
}

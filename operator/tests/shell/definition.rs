//! The CRD is deleted, comes back, or is of another release; and apps whose end nobody tells.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api::{Api, Fault, Seen},
    failures::{few, rounds},
    installation::{APPS, Installation, QUICK, SERVICES, app, until},
};

/// What an API server answers about a kind that it does not know.
const UNKNOWN: Fault = Fault::Status(404, "404 page not found", None);

fn about_apps(seen: &Seen) -> bool {
    seen.path.contains("/spinapps")
}

/// What Kubernetes's garbage collector does when an app is gone.
fn collect(api: &Api, name: &str) {
    api.delete(&format!("{SERVICES}/{name}"));
    for (resource, group) in [("endpointslices", "discovery.k8s.io"), ("controllerrevisions", "apps")] {
        for object in api.all_about(resource, name) {
            let own = object["metadata"]["name"].as_str().unwrap();
            api.delete(&format!("/apis/{group}/v1/namespaces/shop/{resource}/{own}"));
        }
    }
}

/// The uids of the owners of everything that was made for an app.
fn owners(api: &Api, name: &str) -> Vec<Value> {
    let kinds = ["services", "endpointslices", "controllerrevisions"];
    let children = kinds.iter().flat_map(|kind| api.all_about(kind, name));
    children.map(|child| child["metadata"]["ownerReferences"][0]["uid"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_is_deleted_takes_its_apps_and_those_that_are_made_when_it_is_back_are_served() {
    let (installation, operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    for name in ["cart", "pay"] {
        installation.apply(name, "1.0.0");
        installation.becomes_ready(name).await;
    }
    installation.at_rest().await;
    // The API server deletes every app first; then it does not know the kind any more.
    for name in ["cart", "pay"] {
        api.delete(&format!("{APPS}/{name}"));
        collect(api, name);
    }
    until("runtimes to let go of them", || {
        installation.runtimes.iter().all(|runtime| runtime.heard().assigned.is_empty()).then_some(())
    })
    .await;
    api.script(about_apps, UNKNOWN);
    api.take_seen();
    let began = Instant::now();
    until("some tries", || (api.count(about_apps) >= 5).then_some(())).await;
    let tries = api.count(about_apps);
    assert!(tries < few(began), "{tries} tries in {:?}", began.elapsed());
    assert!(operator.operator.term().is_some());
    api.mend();
    installation.apply("cart", "2.0.0");
    installation.becomes_ready("cart").await;
    let uid = &api.get(&format!("{APPS}/cart")).unwrap()["metadata"]["uid"];
    until("everything to be made for the new app", || {
        let owners = owners(api, "cart");
        (owners.len() == 3 && owners.iter().all(|owner| owner == uid)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_is_there_before_the_definition_waits_for_it() {
    let mut installation = Installation::new(QUICK).await;
    installation.api.script(about_apps, UNKNOWN);
    let began = Instant::now();
    let _operator = installation.operator("operator-0");
    until("some lists", || (installation.api.count(about_apps) >= 3).then_some(())).await;
    let tries = installation.api.count(about_apps);
    assert!(tries < few(began), "{tries} tries in {:?}", began.elapsed());
    installation.api.mend();
    installation.add_runtimes(2).await;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_again_for_an_app_that_is_gone_though_no_watch_says_so() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    api.script(|seen| about_apps(seen) && seen.is_watch(), Fault::Mute);
    // The watch from before has ended.
    rounds(api, 2).await;
    api.delete(&format!("{APPS}/cart"));
    collect(api, "cart");
    until("runtimes to let go of it", || installation.holders("cart").is_empty().then_some(())).await;
    assert_eq!(api.all_about("services", "cart"), [Value::Null; 0]);
    api.mend();
    installation.apply("cart", "2.0.0");
    installation.becomes_ready("cart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_waits_for_somebodys_finalizer_is_served_and_keeps_its_port_until_it_is_gone() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    installation.at_rest().await;
    let slices = api.all_about("endpointslices", "cart");
    api.edit(&format!("{APPS}/cart"), |app| app["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    // Each kind has a watch of its own: this one is heard of first.
    rounds(api, 2).await;
    api.delete(&format!("{SERVICES}/cart"));
    rounds(api, 2).await;
    assert_eq!(api.all_about("endpointslices", "cart"), slices);
    assert_eq!(installation.holders("cart").len(), 2, "those who are sent there are served");
    assert_eq!(api.all_about("services", "cart"), [Value::Null; 0], "Kubernetes may be deleting what it owns");
    api.delete(&format!("{APPS}/cart"));
    until("runtimes to let go of it", || installation.holders("cart").is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_that_is_a_path_is_never_asked_for_though_an_older_definition_lets_it_in() {
    let (installation, _operator) = Installation::with_runtimes(1).await;
    let api = &installation.api;
    api.put("/api/v1/namespaces/other/secrets/db", json!({ "data": { "password": "aHVudGVyMg==" } }));
    let mut app = app("cart", "1.0.0");
    let reference = json!({ "name": "../../other/secrets/db", "key": "password" });
    app["spec"]["variables"] = json!([{ "name": "password", "valueFrom": { "secretKeyRef": reference } }]);
    api.put(&format!("{APPS}/cart"), app);
    let said = until("a word about it", || {
        let status = api.get(&format!("{APPS}/cart"))?["status"].to_string();
        status.contains("VariableMissing").then_some(status)
    })
    .await;
    assert!(said.contains("there is no Secret ../../other/secrets/db in namespace shop"), "{said}");
    let asked = api.count(|seen| seen.path.contains("/other/") || seen.path.contains(".."));
    assert_eq!(asked, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_no_watch_has_told_of_stays_its_owners() {
    let (installation, _operator) = Installation::with_runtimes(1).await;
    let api = &installation.api;
    api.script(|seen| seen.path.ends_with("/services") && seen.is_watch(), Fault::Mute);
    // The watch from before has ended.
    rounds(api, 2).await;
    let theirs =
        json!({ "metadata": { "name": "cart", "namespace": "shop" }, "spec": { "ports": [{ "port": 8080 }] } });
    api.put(&format!("{SERVICES}/cart"), theirs);
    let before = api.get(&format!("{SERVICES}/cart"));
    let mut wanted = app("cart", "1.0.0");
    wanted["spec"]["serviceAnnotations"] = json!({ "example.com/a": "b" });
    api.put(&format!("{APPS}/cart"), wanted);
    let said = |word: &'static str| {
        let path = format!("{APPS}/cart");
        move || api.get(&path)?["status"]["conditions"].to_string().contains(word).then_some(())
    };
    until("a word about it", said("delete that Service")).await;
    assert_eq!(api.get(&format!("{SERVICES}/cart")), before);
    api.mend();
    api.delete(&format!("{SERVICES}/cart"));
    installation.becomes_ready("cart").await;
    let made = api.get(&format!("{SERVICES}/cart")).unwrap();
    assert_eq!(made["metadata"]["annotations"]["example.com/a"], json!("b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_apps_is_kept_while_nobody_knows_their_kind_and_nothing_is_made_for_them() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    api.script(about_apps, UNKNOWN);
    rounds(api, 2).await;
    api.delete(&format!("{APPS}/cart"));
    api.take_seen();
    let began = Instant::now();
    collect(api, "cart");
    let looks = |seen: &Seen| seen.query.contains("metadata.name=cart");
    until("the app to be looked up", || (api.count(looks) >= 3).then_some(())).await;
    let tries = api.count(|seen| seen.is_write() || looks(seen));
    assert!(tries < few(began), "{tries} tries in {:?}", began.elapsed());
    assert_eq!(installation.holders("cart").len(), 2, "an API server that does not know a kind may know it again");
    assert_eq!(api.all_about("services", "cart"), [Value::Null; 0]);
    api.mend();
    until("runtimes to let go of it", || installation.holders("cart").is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_made_again_before_its_children_are_collected_takes_them() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    installation.apply("cart", "1.0.0");
    installation.becomes_ready("cart").await;
    api.delete(&format!("{APPS}/cart"));
    installation.apply("cart", "2.0.0");
    installation.becomes_ready("cart").await;
    let app = api.get(&format!("{APPS}/cart")).unwrap();
    until("everything to be the new app's", || {
        let owners = owners(api, "cart");
        let revisions = api.all_about("controllerrevisions", "cart").len();
        // The old one's revision stays for the garbage collector.
        let mine = owners.iter().filter(|owner| **owner == app["metadata"]["uid"]).count();
        (mine == owners.len() + 1 - revisions).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_of_an_older_release_costs_no_write_more() {
    let (installation, _operator) = Installation::with_runtimes(2).await;
    let api = &installation.api;
    for (name, field) in [("cart", "rollout"), ("pay", "latestRevision")] {
        api.prune_status(field);
        installation.apply(name, "1.0.0");
        installation.becomes_ready(name).await;
        installation.at_rest().await;
        api.take_seen();
        for number in 0..3 {
            let annotations = json!({ "n": number.to_string() });
            api.edit(&format!("{APPS}/{name}"), |app| app["metadata"]["annotations"] = annotations);
            rounds(api, 1).await;
        }
        let writes: Vec<Seen> = api.take_seen().into_iter().filter(Seen::is_write).collect();
        assert!(writes.is_empty(), "{field}: {writes:#?}");
        installation.update(name, "2.0.0");
        installation.becomes_ready(name).await;
    }
}

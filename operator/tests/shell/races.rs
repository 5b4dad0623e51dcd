//! What somebody else does to an object after it was looked at and before what was decided then is carried out: the object
//! is theirs by then, and stays so.

use http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    api::{Api, Fault},
    failures::rounds,
    installation::{APPS, Installation, SERVICES, until},
};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
const HISTORY: &str = "/apis/apps/v1/namespaces/shop/controllerrevisions";

/// Requests of this method to `path` wait until what is returned is dropped or told to go on.
fn hold(api: &Api, method: Method, path: &str) -> watch::Sender<bool> {
    let (go_on, told) = watch::channel(false);
    let path = path.to_owned();
    api.script(move |seen| seen.method == method && seen.path == path, Fault::Until(told));
    go_on
}

/// Does `meanwhile` while a request of this method to `path` is under way, and lets the operator have its time then.
async fn race(api: &Api, method: Method, path: &str, begin: impl FnOnce(), meanwhile: impl FnOnce()) {
    let go_on = hold(api, method.clone(), path);
    api.take_seen();
    begin();
    let comes = || (api.count(|seen| seen.method == method && seen.path == path) > 0).then_some(());
    until("a request to be under way", comes).await;
    meanwhile();
    api.mend();
    go_on.send_replace(true);
    rounds(api, 2).await;
}

/// What is at `path`, without what the API server counts.
fn content(api: &Api, path: &str) -> Value {
    let mut object = api.get(path).unwrap_or_else(|| panic!("nobody should have deleted {path}"));
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .retain(|field, _| !matches!(field.as_str(), "resourceVersion" | "generation"));
    object
}

/// An app that is served, with this in its spec.
async fn served(spec: &Value) -> (Installation, crate::installation::Replica) {
    let (installation, operator) = Installation::with_runtimes(2).await;
    installation.apply("cart", "1.0.0");
    installation.api.edit(&format!("{APPS}/cart"), |app| {
        app["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    });
    installation.becomes_ready("cart").await;
    installation.at_rest().await;
    (installation, operator)
}

/// The status and reason of a condition of the app.
fn says(api: &Api, condition: &str) -> Option<(String, String)> {
    let app = api.get(&format!("{APPS}/cart"))?;
    let found = app["status"]["conditions"].as_array()?.iter().find(|found| found["type"] == condition)?.clone();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_that_is_another_by_the_time_it_is_to_be_deleted_stays_and_that_is_no_failure() {
    let (installation, _operator) = served(&json!({})).await;
    let api = &installation.api;
    let path = format!("{SLICES}/cart-ipv4-2");
    let theirs = json!({ "kubernetes.io/service-name": "cart", "endpointslice.kubernetes.io/managed-by": "somebody" });
    let superfluous = || {
        let mut slice = api.get(&format!("{SLICES}/cart-ipv4")).unwrap();
        slice["metadata"] = json!({
            "namespace": "shop", "name": "cart-ipv4-2",
            "labels": slice["metadata"]["labels"], "ownerReferences": slice["metadata"]["ownerReferences"],
        });
        api.put(&path, slice);
    };
    let made_again = || {
        api.delete(&path);
        let metadata = json!({ "namespace": "shop", "name": "cart-ipv4-2", "labels": theirs.clone() });
        api.put(&path, json!({ "metadata": metadata, "addressType": "IPv4", "endpoints": [] }));
    };
    let taken = || {
        api.edit(&path, |slice| {
            slice["metadata"]["labels"] = theirs.clone();
            slice["metadata"]["ownerReferences"] = json!([]);
        });
    };
    for meanwhile in [&made_again as &dyn Fn(), &taken] {
        race(api, Method::DELETE, &path, superfluous, meanwhile).await;
        assert_eq!(content(api, &path)["metadata"]["labels"], theirs);
        assert_eq!(says(api, "RoutesProgrammed"), Some(("True".to_owned(), "Programmed".to_owned())));
        api.delete(&path);
    }
    race(api, Method::DELETE, &path, superfluous, || {}).await;
    until("one that nobody has touched to be deleted", || api.get(&path).is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_revision_that_is_anothers_object_by_the_time_it_is_to_be_forgotten_stays() {
    let (installation, _operator) = served(&json!({ "revisionHistoryLimit": 0 })).await;
    let api = &installation.api;
    let entry = until("an entry", || api.all_about("controllerrevisions", "cart").pop()).await;
    let name = entry["metadata"]["name"].as_str().unwrap();
    let path = format!("{HISTORY}/{name}");
    let theirs = json!({ "metadata": { "namespace": "shop", "name": name, "uid": "theirs" }, "revision": 7 });
    let made_again = || {
        api.delete(&path);
        api.put(&path, theirs.clone());
    };
    let update = || {
        api.edit(&format!("{APPS}/cart"), |app| app["spec"]["source"]["bindle"]["id"] = json!("shop/2.0.0"));
    };
    race(api, Method::DELETE, &path, update, made_again).await;
    assert_eq!(content(api, &path)["metadata"]["uid"], "theirs");
    installation.becomes_ready("cart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_or_slice_that_somebody_makes_while_ours_is_being_written_is_not_taken_over() {
    let (installation, _operator) = served(&json!({})).await;
    let api = &installation.api;
    let path = format!("{SERVICES}/cart");
    let metadata = json!({ "namespace": "shop", "name": "cart", "uid": "theirs" });
    let theirs =
        json!({ "metadata": metadata, "spec": { "selector": { "app": "theirs" }, "ports": [{ "port": 80 }] } });
    let made_again = |path: &str, object: &Value| {
        api.delete(path);
        api.put(path, object.clone());
        content(api, path)
    };
    let annotate = || api.edit(&format!("{APPS}/cart"), |app| app["spec"]["serviceAnnotations"] = json!({ "a": "b" }));
    let mut as_made = Value::Null;
    race(api, Method::PATCH, &path, annotate, || as_made = made_again(&path, &theirs)).await;
    let conflict = Some(("False".to_owned(), "ServiceConflict".to_owned()));
    until("the conflict to be told", || (says(api, "RoutesProgrammed") == conflict).then_some(())).await;
    assert_eq!(content(api, &path), as_made);

    api.delete(&path);
    installation.becomes_ready("cart").await;
    installation.at_rest().await;
    let path = format!("{SLICES}/cart-ipv4");
    let metadata = json!({ "namespace": "shop", "name": "cart-ipv4", "uid": "theirs" });
    let theirs = json!({ "metadata": metadata, "addressType": "IPv4", "endpoints": [] });
    let edited = || api.edit(&path, |slice| slice["endpoints"] = json!([]));
    race(api, Method::PATCH, &path, edited, || as_made = made_again(&path, &theirs)).await;
    until("the conflict to be told", || (says(api, "RoutesProgrammed") == conflict).then_some(())).await;
    assert_eq!(content(api, &path), as_made);
}

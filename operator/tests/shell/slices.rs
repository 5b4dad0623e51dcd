//! The EndpointSlices of an app on very many runtimes with addresses of both families: how they are split, what is in them,
//! and that they are put right whatever somebody makes of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    api::{Api, Seen},
    failures::rounds,
    installation::{APPS, Installation, PODS, QUICK, app, until},
};

const RUNTIMES: u8 = 230;
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

fn node(number: u8, zone: &str) -> Value {
    let labels = json!({ "topology.kubernetes.io/zone": zone });
    json!({ "metadata": { "name": format!("n{number}"), "labels": labels } })
}

/// The slices by name, without what the API server counts.
fn slices(api: &Api) -> BTreeMap<String, Value> {
    let bare = |mut slice: Value| {
        let metadata = slice["metadata"].as_object_mut().unwrap();
        ["resourceVersion", "uid", "generation", "managedFields"]
            .iter()
            .for_each(|field| drop(metadata.remove(*field)));
        (slice["metadata"]["name"].as_str().unwrap().to_owned(), slice)
    };
    api.all("endpointslices").into_iter().map(bare).collect()
}

fn endpoints(slice: &Value) -> &[Value] {
    slice["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn sizes(slices: &BTreeMap<String, Value>) -> Vec<(&str, usize)> {
    slices.iter().map(|(name, slice)| (name.as_str(), endpoints(slice).len())).collect()
}

/// An app on all of [`RUNTIMES`] runtimes, which are on three nodes, each in a zone of its own.
async fn spread() -> (Installation, crate::installation::Replica) {
    let mut installation = Installation::new(QUICK).await;
    for number in 1..=3 {
        installation.api.put(&format!("/api/v1/nodes/n{number}"), node(number, &format!("z{number}")));
    }
    let operator = installation.operator("operator-0");
    for number in 1..=RUNTIMES {
        installation.add_runtime().await;
        installation.api.edit(&format!("{PODS}/r{number}"), |pod| {
            let (v4, v6) = (pod["status"]["podIP"].clone(), format!("fd00::{number:x}"));
            pod["status"]["podIPs"] = json!([{ "ip": v4 }, { "ip": v6 }]);
            pod["spec"]["nodeName"] = json!(format!("n{}", number % 3 + 1));
        });
    }
    installation.add_runtimes(0).await;
    let mut wide = app("wide", "1.0.0");
    wide["spec"]["replicas"] = json!(RUNTIMES);
    installation.api.put(&format!("{APPS}/wide"), wide);
    installation.becomes_ready("wide").await;
    installation.at_rest().await;
    (installation, operator)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_of_both_families_are_split_by_hundreds_name_nodes_and_zones_and_are_put_right() {
    let (installation, _operator) = spread().await;
    let api = &installation.api;
    let before = slices(api);
    let split = [("wide-ipv4", 100), ("wide-ipv4-2", 100), ("wide-ipv4-3", 30)];
    let split = split.iter().chain(&[("wide-ipv6", 100), ("wide-ipv6-2", 100), ("wide-ipv6-3", 30)]);
    assert_eq!(sizes(&before), split.copied().collect::<Vec<_>>());
    let mut seen = BTreeSet::new();
    for slice in before.values() {
        let family = slice["addressType"].as_str().unwrap();
        for endpoint in endpoints(slice) {
            let number: u8 = endpoint["targetRef"]["name"].as_str().unwrap().trim_start_matches('r').parse().unwrap();
            let on = number % 3 + 1;
            let address = if family == "IPv4" { format!("127.0.0.{number}") } else { format!("fd00::{number:x}") };
            assert_eq!(endpoint["addresses"], json!([address]));
            assert_eq!(endpoint["conditions"], json!({ "ready": true, "serving": true, "terminating": false }));
            assert_eq!(
                (&endpoint["nodeName"], &endpoint["zone"]),
                (&json!(format!("n{on}")), &json!(format!("z{on}")))
            );
            assert!(seen.insert((family, number)), "{number} is there twice");
        }
    }
    assert_eq!(seen.len(), 2 * usize::from(RUNTIMES));

    let edit = |name: &str, edit: fn(&mut Value)| api.edit(&format!("{SLICES}/{name}"), edit);
    let mut another = before["wide-ipv4-3"].clone();
    another["metadata"]["name"] = json!("wide-ipv4-4");
    another["endpoints"][0]["addresses"] = json!(["10.9.9.9"]);
    api.put(&format!("{SLICES}/wide-ipv4-4"), another);
    api.delete(&format!("{SLICES}/wide-ipv6-2"));
    edit("wide-ipv4-3", |slice| slice["endpoints"] = json!([]));
    edit("wide-ipv4", |slice| slice["endpoints"][7]["zone"] = json!("elsewhere"));
    edit("wide-ipv4-2", |slice| drop(slice["endpoints"][99].as_object_mut().unwrap().remove("nodeName")));
    edit("wide-ipv6", |slice| slice["ports"][0]["port"] = json!(1));
    until("every slice to be put right", || (slices(api) == before).then_some(())).await;
    // Somebody's endpoint among ours, another port beside it, and slices that are made another app's or nobody's.
    edit("wide-ipv4-3", |slice| slice["endpoints"].as_array_mut().unwrap().push(json!({ "addresses": ["10.9.9.9"] })));
    edit("wide-ipv6-3", |slice| slice["ports"].as_array_mut().unwrap().push(json!({ "name": "web", "port": 1 })));
    edit("wide-ipv4", |slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] = json!("other"));
    edit("wide-ipv6", |slice| {
        drop(slice["metadata"]["labels"].as_object_mut().unwrap().remove("kubernetes.io/service-name"));
    });
    until("every slice to be put right", || (slices(api) == before).then_some(())).await;
    installation.at_rest().await;
    api.take_seen();
    rounds(api, 2).await;
    let writes: Vec<Seen> = api.take_seen().into_iter().filter(Seen::is_write).collect();
    assert!(writes.is_empty(), "{writes:#?}");

    // A node is somewhere else now: so are its endpoints.
    api.put("/api/v1/nodes/n1", node(1, "z9"));
    let zones = |slices: &BTreeMap<String, Value>| {
        let of = |slice: &Value| endpoints(slice).iter().map(|one| one["zone"].as_str().unwrap().to_owned()).collect();
        slices.values().flat_map(|slice| -> Vec<String> { of(slice) }).collect::<BTreeSet<_>>()
    };
    let moved = BTreeSet::from(["z2", "z3", "z9"].map(str::to_owned));
    until("endpoints to be in the other zone", || (zones(&slices(api)) == moved).then_some(())).await;

    api.edit(&format!("{APPS}/wide"), |app| app["spec"]["replicas"] = json!(2));
    until("one slice of each family", || (sizes(&slices(api)) == [("wide-ipv4", 2), ("wide-ipv6", 2)]).then_some(()))
        .await;
}

//! `kubectl spindle runtimes`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, ResourceExt as _, api::ListParams};
use operator_api::names;

use super::{
    Place, app, output,
    table::{age, table},
};

/// The pods of runtimes, as the chart labels them.
const SELECTOR: &str = "app.kubernetes.io/part-of=spindle,app.kubernetes.io/component=node-runtime";

pub(super) async fn run(place: &Place) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::all(place.client.clone());
    let pods =
        pods.list(&ListParams::default().labels(SELECTOR)).await.context("cannot read pods of all namespaces")?.items;
    if pods.is_empty() {
        output::print("No runtimes found: is the chart installed?\n")?;
        return Ok(());
    }
    let slices: Api<EndpointSlice> = Api::all(place.client.clone());
    let ours = format!("{}={}", names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGED_BY);
    let slices = slices
        .list(&ListParams::default().labels(&ours))
        .await
        .context("cannot read EndpointSlices of all namespaces")?
        .items;
    let serving = apps_by_pod(&slices);
    let rows: Vec<Vec<String>> = pods.iter().map(|pod| row(pod, &serving)).collect();
    output::print(&table(&["NAMESPACE", "NAME", "READY", "APPS", "NODE", "RESTARTS", "AGE"], &rows))?;
    Ok(())
}

/// How many apps' requests go to each pod. A slice is of one address family, so an app counts once per pod.
fn apps_by_pod(slices: &[EndpointSlice]) -> BTreeMap<(String, String), usize> {
    let mut seen = std::collections::BTreeSet::new();
    for slice in slices {
        let app = slice.metadata.labels.as_ref().and_then(|labels| labels.get(names::SLICE_SERVICE_LABEL));
        let app = (slice.namespace(), app.cloned());
        seen.extend(
            app::endpoints(slice)
                .into_iter()
                .filter(|one| one.ready)
                .map(|one| ((one.namespace, one.pod), app.clone())),
        );
    }
    let mut counts = BTreeMap::new();
    for (pod, _) in seen {
        *counts.entry(pod).or_default() += 1;
    }
    counts
}

fn row(pod: &Pod, serving: &BTreeMap<(String, String), usize>) -> Vec<String> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|one| one.type_ == "Ready").map_or("Unknown", |one| &one.status).to_owned();
    let ready = if pod.metadata.deletion_timestamp.is_some() { "Terminating".to_owned() } else { ready };
    let restarts: i32 = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
        .iter()
        .map(|one| one.restart_count)
        .sum();
    let apps = serving.get(&(namespace.clone(), name.clone())).copied().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_else(|| "-".to_owned());
    let age = app::seconds_since_creation(&pod.metadata).map_or_else(|| "-".to_owned(), age);
    vec![namespace, name, ready, apps.to_string(), node, restarts.to_string(), age]
}

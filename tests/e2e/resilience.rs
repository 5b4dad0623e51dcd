//! Parts go away and come back; callers do not notice.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{SYSTEM, spin_app},
    expect,
    prober::{Prober, client, failures, get},
    until,
};

use crate::{PATIENCE, world};

const ROLLOUT: &str = "--timeout=120s";

#[tokio::test]
async fn deleting_a_runtime_pod_and_restarting_the_operator_lose_no_request() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let namespace = "e2e-resilience";
    cluster.namespace(namespace).await?;
    let id = world.publish("steady", "1.0.0").await?;
    cluster.apply(&spin_app(namespace, "steady", &id)).await?;
    let before = cluster.wait(namespace, "steady", "Ready", "True", PATIENCE).await?;
    let url = format!("{}/v", cluster.service_url(namespace, "steady").await?);
    let client = client()?;
    until(&url, PATIENCE, || async { get(&client, &url, None).await.map(drop) }).await?;
    let prober = Prober::start(&url, None, 100)?;

    // The operator goes and comes back: what is right stays as it is.
    cluster.kubectl(&["-n", SYSTEM, "rollout", "restart", "deployment/spindle-operator"]).await?;
    cluster.kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/spindle-operator", ROLLOUT]).await?;
    let after = cluster.wait(namespace, "steady", "Ready", "True", PATIENCE).await?;
    for field in ["/status/port", "/status/activeRevision", "/metadata/generation"] {
        expect(before.pointer(field) == after.pointer(field), || format!("{field}: {:?}", after.pointer(field)))?;
    }

    // A runtime goes.
    let slices = cluster.get(&["-n", namespace, "endpointslices", "-l", "kubernetes.io/service-name=steady"]).await?;
    let victim = slices
        .pointer("/items/0/endpoints/0/targetRef/name")
        .and_then(Value::as_str)
        .context("no targetRef")?
        .to_owned();
    cluster.kubectl(&["-n", SYSTEM, "delete", "pod", &victim]).await?;
    until("two endpoints again, none of them the deleted pod's", Duration::from_secs(60), || async {
        let slices =
            cluster.get(&["-n", namespace, "endpointslices", "-l", "kubernetes.io/service-name=steady"]).await?;
        let pods: Vec<&str> = slices
            .pointer("/items/0/endpoints")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|endpoint| endpoint.pointer("/targetRef/name").and_then(Value::as_str))
            .collect();
        expect(pods.len() == 2 && !pods.contains(&victim.as_str()), || format!("{pods:?}"))
    })
    .await?;

    let samples = prober.stop().await?;
    let failed = failures(&samples);
    expect(failed.is_empty(), || {
        format!("{} of {} failed, the first: {:?}", failed.len(), samples.len(), failed.first())
    })?;

    // Least privilege was enough for all of this.
    let log =
        cluster.kubectl(&["-n", SYSTEM, "logs", "-l", "app.kubernetes.io/component=operator", "--tail=-1"]).await?;
    let forbidden: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
    expect(forbidden.is_empty(), || forbidden.join("\n"))
}

//! How one revision takes over from another: only after its check, and never beside it where the app asks for that.

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::{cluster::condition, expect, prober::Sample, traffic::Traffic};

use crate::{PATIENCE, World, with_replicas, world};

const NAMESPACE: &str = "e2e-rollouts";

/// Publishes a version of an app and makes its spec ask for it, with `more` beside.
async fn update(world: &World, app: &str, version: &str, more: serde_json::Value) -> Result<()> {
    let mut spec = json!({ "source": { "bindle": { "id": world.publish(app, version).await? } } });
    if let (Some(spec), serde_json::Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    let patch = json!({ "spec": spec }).to_string();
    world.cluster.kubectl(&["-n", NAMESPACE, "patch", "spinapp", app, "--type=merge", "-p", &patch]).await.map(drop)
}

fn readiness(path: &str) -> serde_json::Value {
    json!({ "checks": { "readiness": { "httpGet": { "path": path }, "periodSeconds": 1, "failureThreshold": 2 } } })
}

/// Which version answered, if one did.
fn version(sample: &Sample) -> Option<&str> {
    match &sample.outcome {
        Ok((200, body)) => Some(body.trim()),
        _ => None,
    }
}

#[tokio::test]
async fn a_revision_that_fails_its_check_takes_no_request_until_it_passes() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    cluster.namespace(NAMESPACE).await?;
    let traffic = world.called(NAMESPACE, "checked", 2).await?;

    update(world, "checked", "2.0.0", readiness("/status?code=418")).await?;
    let failed = cluster.wait(NAMESPACE, "checked", "Degraded", "True", PATIENCE).await?;
    let ready = condition(&failed, "Ready").context("no Ready")?;
    expect(ready["status"] == "False" && ready["reason"] == "CheckFailed", || format!("{ready:#}"))?;
    expect(ready["message"].as_str().is_some_and(|message| message.contains("418")), || format!("{ready:#}"))?;
    expect(failed.pointer("/status/version") == Some(&json!("1.0.0")), || format!("{failed:#}"))?;
    let before = traffic.lost_nothing("an update whose check fails").await?;
    let wrong: Vec<&Sample> = before.iter().filter(|sample| version(sample) != Some("1.0.0")).collect();
    expect(wrong.is_empty(), || format!("{wrong:?}"))?;

    let traffic = Traffic::start(cluster, NAMESPACE, "checked", "/v").await?;
    update(world, "checked", "2.0.0", readiness("/v")).await?;
    world.ready(NAMESPACE, "checked", "2.0.0").await?;
    traffic.lost_nothing("an update whose check passes").await.map(drop)
}

#[tokio::test]
async fn with_recreate_no_request_meets_the_old_revision_after_the_new_one_has_answered() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    cluster.namespace(NAMESPACE).await?;
    let id = world.publish("single", "1.0.0").await?;
    cluster.apply(&with_replicas(NAMESPACE, "single", &id, 2)).await?;
    world.ready(NAMESPACE, "single", "1.0.0").await?;
    let traffic = Traffic::start(cluster, NAMESPACE, "single", "/v").await?;
    update(world, "single", "2.0.0", json!({ "rollout": { "strategy": "Recreate" } })).await?;
    world.ready(NAMESPACE, "single", "2.0.0").await?;
    world.settled(NAMESPACE, "single", 2).await?;
    for (way, samples) in traffic.stop("recreated").await? {
        let of = |wanted: &'static str| samples.iter().filter(move |sample| version(sample) == Some(wanted));
        let first = of("2.0.0").map(|sample| sample.at + sample.took).min();
        let first = first.with_context(|| format!("{way}: nobody met the new revision"))?;
        let late: Vec<&Sample> = of("1.0.0").filter(|sample| sample.at > first).collect();
        expect(of("1.0.0").count() > 0 && late.is_empty(), || format!("{way}: after {first:?}: {late:?}"))?;
    }
    Ok(())
}

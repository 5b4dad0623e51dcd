//! `helm upgrade` and `helm rollback` while apps are called.

use anyhow::Result;
use tests::{
    cluster::SYSTEM,
    command, expect,
    fleet::{OPERATORS, RUNTIMES},
};

use crate::{World, world};

/// The value of the annotation `release` of every operator and runtime.
async fn releases(world: &World) -> Result<Vec<String>> {
    let (operators, runtimes) = (world.cluster.pods(OPERATORS).await?, world.cluster.pods(RUNTIMES).await?);
    let release = |pod: &serde_json::Value| {
        pod.pointer("/metadata/annotations/release").and_then(|value| value.as_str()).unwrap_or("none").to_owned()
    };
    Ok(operators.iter().chain(&runtimes).map(release).collect())
}

#[tokio::test]
async fn an_upgrade_by_helm_and_back_costs_no_request() -> Result<()> {
    let world = world().await?;
    let namespace = "e2e-upgrade";
    world.cluster.namespace(namespace).await?;
    let (two, one) = (world.called(namespace, "upgraded", 2).await?, world.called(namespace, "upgraded-one", 1).await?);
    let more = ["--set", "operator.podAnnotations.release=next", "--set", "runtime.podAnnotations.release=next"];
    world.install(&more).await?;
    let now = releases(world).await?;
    expect(now.len() == 4 && now.iter().all(|release| release == "next"), || format!("{now:?}"))?;
    world.deploy(namespace, "during", "1.0.0", 2).await?;

    let back = ["rollback", "spindle", "--namespace", SYSTEM, "--wait", "--timeout", "120s"];
    command::succeed("helm", &back, "").await?;
    let now = releases(world).await?;
    expect(now.len() == 4 && now.iter().all(|release| release == "none"), || format!("{now:?}"))?;
    world.deploy(namespace, "during", "2.0.0", 2).await?;
    world.settled(namespace, "upgraded", 2).await?;
    two.lost_nothing("helm upgrade and rollback").await?;
    one.lost_nothing("helm upgrade and rollback, an app on one runtime").await.map(drop)
}

//! `helm upgrade` and `helm rollback` while apps are called.

use anyhow::Result;
use serde_json::Value;
use tests::{
    cluster::SYSTEM,
    command, expect,
    fleet::{OPERATORS, RUNTIMES},
    until,
};

use crate::{PATIENCE, World, world};

/// Waits until two operators and two runtimes are of a release, as their annotation says, and there are no others.
async fn released(world: &World, wanted: &str) -> Result<()> {
    let release =
        |pod: &Value| pod.pointer("/metadata/annotations/release").and_then(Value::as_str).unwrap_or("none").to_owned();
    until(wanted, PATIENCE, || async {
        let (operators, runtimes) = (world.cluster.pods(OPERATORS).await?, world.cluster.pods(RUNTIMES).await?);
        let releases: Vec<String> = operators.iter().chain(&runtimes).map(release).collect();
        expect(releases.len() == 4 && releases.iter().all(|release| release == wanted), || format!("{releases:?}"))
    })
    .await
}

#[tokio::test]
async fn an_upgrade_by_helm_and_back_costs_no_request() -> Result<()> {
    let world = world().await?;
    let namespace = "e2e-upgrade";
    world.cluster.namespace(namespace).await?;
    let (two, one) = (world.called(namespace, "upgraded", 2).await?, world.called(namespace, "upgraded-one", 1).await?);
    let more = ["--set", "operator.podAnnotations.release=next", "--set", "runtime.podAnnotations.release=next"];
    world.install(&more).await?;
    released(world, "next").await?;
    world.deploy(namespace, "during", "1.0.0", 2).await?;

    let back = ["rollback", "spindle", "--namespace", SYSTEM, "--wait", "--timeout", "120s"];
    command::succeed("helm", &back, "").await?;
    released(world, "none").await?;
    world.deploy(namespace, "during", "2.0.0", 2).await?;
    world.settled(namespace, "upgraded", 2).await?;
    two.lost_nothing("helm upgrade and rollback").await?;
    one.lost_nothing("helm upgrade and rollback, an app on one runtime").await.map(drop)
}

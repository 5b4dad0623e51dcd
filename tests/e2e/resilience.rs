//! Runtimes go away and come back; callers do not notice, or only those whom a process that dies was answering.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::{
    cluster::SYSTEM,
    command, expect,
    fleet::{self, RUNTIMES, SliceWatch, is_ready, items, name_of, restarts},
    prober::failures,
    traffic::RATE,
    until,
};

use crate::{PATIENCE, World, world};

const NAMESPACE: &str = "e2e-resilience";

/// How long a dead runtime may be noticed for.
const NOTICED: Duration = Duration::from_secs(2);

/// The names of all runtimes' pods, those on their way out included.
async fn runtimes(world: &World) -> Result<Vec<String>> {
    let pods = world.cluster.get(&["-n", SYSTEM, "pods", "-l", RUNTIMES]).await?;
    Ok(items(&pods).iter().map(name_of).collect())
}

/// Waits until none of the `old` pods is left, and two others are ready.
async fn replaced(world: &World, old: &[String]) -> Result<()> {
    until("other runtimes instead of these", PATIENCE * 2, || async {
        let all = runtimes(world).await?;
        let ready = world.cluster.pods(RUNTIMES).await?.iter().filter(|pod| is_ready(pod)).count();
        expect(ready == 2 && all.len() == 2 && !all.iter().any(|name| old.contains(name)), || format!("{all:?}"))
    })
    .await
}

/// Asks for a pod's eviction, as a node's drain does; what is said to it.
async fn evict(pod: &str) -> Result<command::Output> {
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod, "namespace": SYSTEM },
    });
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}/eviction");
    command::run("kubectl", &["create", "--raw", &path, "-f", "-"], &eviction.to_string()).await
}

#[tokio::test]
async fn a_runtime_pod_that_is_deleted_costs_no_request() -> Result<()> {
    let world = world().await?;
    world.cluster.namespace(NAMESPACE).await?;
    let traffic = world.called(NAMESPACE, "deleted", 2).await?;
    let victim = world.settled(NAMESPACE, "deleted", 2).await?.first().context("no endpoint")?.pod.clone();
    world.cluster.kubectl(&["-n", SYSTEM, "delete", "pod", &victim]).await?;
    let after = world.settled(NAMESPACE, "deleted", 2).await?;
    expect(after.iter().all(|endpoint| endpoint.pod != victim), || format!("{after:?}"))?;
    traffic.lost_nothing("a runtime's pod deleted").await.map(drop)
}

#[tokio::test]
async fn a_rolling_restart_of_runtimes_costs_no_request_of_apps_on_two_or_on_one() -> Result<()> {
    let world = world().await?;
    world.cluster.namespace(NAMESPACE).await?;
    let (two, one) = (world.called(NAMESPACE, "rolled", 2).await?, world.called(NAMESPACE, "rolled-one", 1).await?);
    let before = runtimes(world).await?;
    world.cluster.kubectl(&["-n", SYSTEM, "rollout", "restart", "deployment/spindle-node-runtime"]).await?;
    replaced(world, &before).await?;
    world.settled(NAMESPACE, "rolled", 2).await?;
    two.lost_nothing("rolling restart").await?;
    one.lost_nothing("rolling restart of an app's only runtime").await.map(drop)
}

#[tokio::test]
async fn a_node_is_drained_without_a_failed_request_one_runtime_at_a_time() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    cluster.namespace(NAMESPACE).await?;
    let nodes = cluster.nodes().await?;
    expect(nodes.len() > 1, || format!("a drain needs somewhere to go to, and there is only {nodes:?}"))?;
    let (two, one) = (world.called(NAMESPACE, "drained", 2).await?, world.called(NAMESPACE, "drained-one", 1).await?);

    // The budget lets one of two go.
    let pods = runtimes(world).await?;
    let [first, second] = pods.as_slice() else { anyhow::bail!("not two runtimes: {pods:?}") };
    let watch = SliceWatch::start(NAMESPACE, "drained")?;
    let evicted = evict(first).await?;
    expect(evicted.code == 0, || evicted.stderr.clone())?;
    let refused = evict(second).await?;
    expect(refused.code != 0 && refused.stderr.contains("disruption budget"), || format!("{refused:?}"))?;
    replaced(world, std::slice::from_ref(first)).await?;
    let changes = watch.stop().await?;
    let gone_gently = |endpoint: &fleet::Endpoint| {
        endpoint.pod == *first && endpoint.terminating && endpoint.serving && !endpoint.ready
    };
    expect(changes.iter().flatten().any(gone_gently), || format!("never terminating and serving: {changes:#?}"))?;
    let served = changes.iter().skip_while(|endpoints| endpoints.is_empty());
    expect(served.clone().all(|endpoints| endpoints.iter().any(|endpoint| endpoint.ready)), || {
        format!("at some time nobody was ready: {changes:#?}")
    })?;

    // Not the node of the Bindle server, whose bundles here live as long as its pod.
    let keeper = cluster.get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/component=bindle-server"]).await?;
    let kept = items(&keeper).first().and_then(|pod| pod.pointer("/spec/nodeName")?.as_str()).unwrap_or_default();
    let node = nodes.iter().find(|node| *node != kept).context("no node to drain")?;
    cluster.kubectl(&["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"]).await?;
    let after = world.settled(NAMESPACE, "drained", 2).await?;
    expect(after.iter().all(|endpoint| endpoint.node != *node), || format!("{after:?}"))?;
    cluster.kubectl(&["uncordon", node]).await?;
    two.lost_nothing("node drained").await?;
    one.lost_nothing("node drained, an app on one runtime").await.map(drop)
}

#[tokio::test]
async fn a_runtime_that_is_killed_costs_at_most_its_share_for_at_most_two_seconds() -> Result<()> {
    let world = world().await?;
    world.cluster.namespace(NAMESPACE).await?;
    let traffic = world.called(NAMESPACE, "killed", 2).await?;
    let victim = world.settled(NAMESPACE, "killed", 2).await?.first().context("no endpoint")?.pod.clone();
    fleet::kill(&victim).await?;
    until("the container is back", PATIENCE, || async {
        let pod = world.cluster.get(&["-n", SYSTEM, "pod", &victim]).await?;
        expect(restarts(&pod) > 0 && is_ready(&pod), || format!("{:#}", pod["status"]))
    })
    .await?;
    world.settled(NAMESPACE, "killed", 2).await?;
    for (way, samples) in traffic.stop("a runtime killed").await? {
        let failed = failures(&samples);
        let (Some(first), Some(last)) = (failed.first(), failed.last()) else { continue };
        let span = last.at.saturating_sub(first.at);
        // One runtime of two: of the requests of two seconds, half.
        let share = usize::try_from(u64::from(RATE) * NOTICED.as_secs() / 2)?;
        expect(span <= NOTICED && failed.len() <= share, || {
            format!("{way}: {} failed, within {span:?}; the first: {first:?}, the last: {last:?}", failed.len())
        })?;
    }
    Ok(())
}

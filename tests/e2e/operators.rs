//! Operators go away and come back, and so does what they live from; callers do not notice.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{Cluster, SYSTEM, condition},
    command, expect,
    fleet::{self, OPERATORS, is_ready, items, name_of, restarts},
    prober::{client, get, report},
    until,
};
use tokio::time::{Instant, sleep_until};

use crate::{PATIENCE, World, with_replicas, world};

/// How long nobody leads.
const AWAY: Duration = Duration::from_secs(120);

/// How long the API server refuses the operators: longer than their lease holds.
const REFUSED: Duration = Duration::from_secs(14);

/// How many requests a second may come from operators that are refused: two of them, each with eleven watches and a lease.
const REFUSED_A_SECOND: f64 = 40.0;

/// What an operator that returns must leave as it is: the versions of an app's children.
async fn children(world: &World, namespace: &str, app: &str) -> Result<Vec<String>> {
    let selector = format!("spindle.dev/app={app}");
    let all =
        world.cluster.get(&["-n", namespace, "services,endpointslices,controllerrevisions", "-l", &selector]).await?;
    let version = |object: &Value| {
        let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        format!("{} {} {version} {}", object["kind"], name_of(object), object["endpoints"])
    };
    Ok(items(&all).iter().map(version).collect())
}

/// Waits until a pod leads, and no pod of `others`.
async fn led(world: &World, others: &[String], within: Duration) -> Result<String> {
    until("another leader", within, || async {
        let leader = world.cluster.leader().await?.context("nobody leads")?;
        expect(!others.contains(&leader), || format!("{leader} still leads"))?;
        Ok(leader)
    })
    .await
}

#[tokio::test]
async fn a_leader_that_goes_hands_over_within_seconds_and_changes_nothing_that_is_right() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-hand-over");
    cluster.namespace(namespace).await?;
    let traffic = world.called(namespace, "handed", 2).await?;
    world.settled(namespace, "handed", 2).await?;
    cluster.wait(namespace, "handed", "Progressing", "False", PATIENCE).await?;
    let before =
        (children(world, namespace, "handed").await?, cluster.get(&["-n", namespace, "spinapp", "handed"]).await?);

    let old = led(world, &[], PATIENCE).await?;
    cluster.kubectl(&["-n", SYSTEM, "delete", "pod", &old, "--wait=false"]).await?;
    // A leader that goes gives the lease back; without that it takes ten seconds.
    let new = led(world, std::slice::from_ref(&old), Duration::from_secs(9)).await?;
    // And one that is killed does not.
    fleet::kill(&new).await?;
    until("a leader that lives", PATIENCE, || async {
        let pods = cluster.pods(OPERATORS).await?;
        let leader = cluster.leader().await?.context("nobody leads")?;
        let alive = pods.iter().filter(|pod| is_ready(pod)).any(|pod| name_of(pod) == leader);
        expect(alive && pods.len() == 2, || format!("{leader} leads"))
    })
    .await?;
    world.deploy(namespace, "after", "1.0.0", 1).await?;

    let after =
        (children(world, namespace, "handed").await?, cluster.get(&["-n", namespace, "spinapp", "handed"]).await?);
    expect(before.0 == after.0 && before.1["status"] == after.1["status"], || {
        format!("was {:?} {:#}, is {:?} {:#}", before.0, before.1["status"], after.0, after.1["status"])
    })?;
    traffic.lost_nothing("leader deleted, then killed").await.map(drop)
}

/// A Secret that a variable is taken from.
fn secret(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: late, namespace: {namespace} }}\nstringData: {{ token: hunter2 }}\n"
    )
}

#[tokio::test]
async fn two_minutes_without_an_operator_cost_no_request_and_what_was_applied_meanwhile_is_made_real() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace, client) = (&world.cluster, "e2e-operator-away", client()?);
    cluster.namespace(namespace).await?;
    let traffic = world.called(namespace, "waiting", 1).await?;
    let update = world.publish("waiting", "2.0.0").await?;
    world.deploy(namespace, "other", "1.0.0", 2).await?;
    let early = world.publish("early", "1.0.0").await?;
    let serving = world.settled(namespace, "waiting", 1).await?.first().context("no endpoint")?.pod.clone();
    let others = world.settled(namespace, "other", 2).await?;
    let before = children(world, namespace, "other").await?;

    cluster.kubectl(&["-n", SYSTEM, "scale", "deployment/spindle-operator", "--replicas=0"]).await?;
    until("no operator", PATIENCE, || async {
        let left = cluster.get(&["-n", SYSTEM, "pods", "-l", OPERATORS]).await?;
        expect(items(&left).is_empty(), || "an operator is left".to_owned())
    })
    .await?;
    let back = Instant::now() + AWAY;

    // Nobody refuses what is right, or takes what is wrong, because nobody is there.
    cluster.apply(&with_replicas(namespace, "waiting", &update, 1)).await?;
    cluster.refusal(&with_replicas(namespace, "wrong", "nonsense", 1)).await?;
    let with_variable = with_replicas(namespace, "early", &early, 1).replace(
        "replicas: 1",
        "replicas: 1\n  variables: [{ name: token, valueFrom: { secretKeyRef: { name: late, key: token } } }]",
    );
    cluster.apply(&with_variable).await?;

    // A runtime that crashes meanwhile serves from its disk what it served before.
    let victim = others.iter().find(|endpoint| endpoint.pod != serving).context("all on one runtime")?;
    let port = cluster.get(&["-n", namespace, "spinapp", "other"]).await?["status"]["port"].to_string();
    let direct = format!("http://{}:{port}/v", victim.address);
    fleet::kill(&victim.pod).await?;
    until("the runtime serves from its disk", PATIENCE, || async {
        let pod = cluster.get(&["-n", SYSTEM, "pod", &victim.pod]).await?;
        expect(restarts(&pod) > 0 && is_ready(&pod), || format!("{:#}", pod["status"]))?;
        let answer = get(&client, &direct, None).await?;
        expect((answer.0, answer.1.trim()) == (200, "1.0.0"), || format!("{answer:?}"))
    })
    .await?;
    sleep_until(back).await;
    let waiting = cluster.get(&["-n", namespace, "spinapp", "waiting"]).await?;
    expect(waiting["status"]["version"] == "1.0.0", || format!("{:#}", waiting["status"]))?;

    cluster.kubectl(&["-n", SYSTEM, "scale", "deployment/spindle-operator", "--replicas=2"]).await?;
    world.ready(namespace, "waiting", "2.0.0").await?;
    let object = cluster.wait(namespace, "early", "Resolved", "False", PATIENCE).await?;
    let said = condition(&object, "Resolved").and_then(|found| found["message"].as_str()).unwrap_or_default();
    expect(said.contains("late"), || format!("it does not say which Secret is missing: {said}"))?;
    cluster.apply(&secret(namespace)).await?;
    world.ready(namespace, "early", "1.0.0").await?;
    let after = children(world, namespace, "other").await?;
    expect(before == after, || format!("the operator changed what was right: {before:?} to {after:?}"))?;

    let samples = traffic.lost_nothing("two minutes without an operator").await?;
    let strange = samples.iter().find(|sample| !matches!(sample.body(), Some("1.0.0" | "2.0.0")));
    expect(strange.is_none(), || format!("{strange:?}"))
}

/// Makes the API server refuse (429) whatever operators ask, with its own means.
const STARVED: &str = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: { name: starved }
spec:
  type: Limited
  limited: { nominalConcurrencyShares: 0, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: { type: Reject } }
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: { name: starved }
spec:
  matchingPrecedence: 2
  priorityLevelConfiguration: { name: starved }
  rules:
    - subjects: [{ kind: ServiceAccount, serviceAccount: { name: spindle-operator, namespace: spindle-system } }]
      resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true, namespaces: ['*'] }]
";

/// How many requests the API server has refused since it was started.
async fn refused(world: &World) -> Result<f64> {
    let metrics = world.cluster.kubectl(&["get", "--raw", "/metrics"]).await?;
    let counts = metrics
        .lines()
        .filter(|line| {
            line.starts_with("apiserver_flowcontrol_rejected_requests_total") && line.contains("\"starved\"")
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.sum())
}

#[tokio::test]
async fn an_api_server_that_is_restarted_and_then_refuses_the_operators_costs_no_request() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-api-server");
    cluster.namespace(namespace).await?;
    let traffic = world.called(namespace, "patient", 2).await?;
    let update = world.publish("patient", "2.0.0").await?;
    let pods_before = world.restarts().await?;

    cluster.component("restart-component", "kube-apiserver").await?;
    until("the API server answers", PATIENCE, || async { cluster.nodes().await.map(drop) }).await?;
    cluster.apply(&with_replicas(namespace, "patient", &update, 2)).await?;
    world.ready(namespace, "patient", "2.0.0").await?;

    // Refused: every watch has to be opened again in the middle of it, and the lease is lost.
    cluster.apply(STARVED).await?;
    cluster.component("restart-component", "kube-apiserver").await?;
    let third = world.publish("patient", "3.0.0").await?;
    until("an update waits", PATIENCE, || async {
        cluster.apply(&with_replicas(namespace, "patient", &third, 2)).await
    })
    .await?;
    let (began, before) = (Instant::now(), refused(world).await?);
    sleep_until(began + REFUSED).await;
    let a_second = (refused(world).await? - before) / began.elapsed().as_secs_f64();
    report(&format!("refused operators ask {a_second:.1} times a second"));
    expect(a_second > 0.0 && a_second < REFUSED_A_SECOND, || format!("{a_second} requests a second"))?;
    cluster.kubectl(&["delete", "flowschema,prioritylevelconfiguration", "starved"]).await?;
    world.ready(namespace, "patient", "3.0.0").await?;

    let pods_after = world.restarts().await?;
    expect(pods_before == pods_after, || format!("something crashed: {pods_before:?} to {pods_after:?}"))?;
    traffic.lost_nothing("API server restarted, then refusing").await.map(drop)
}

/// Every operator is cut off from every runtime, until [`Cut::mend`].
struct Cut<'a> {
    cluster: &'a Cluster,
    nodes: usize,
}

impl<'a> Cut<'a> {
    async fn make(cluster: &'a Cluster) -> Result<Self> {
        let cut = Self { cluster, nodes: cluster.nodes().await?.len() };
        cut.rules("-I").await?;
        Ok(cut)
    }

    async fn mend(self) -> Result<()> {
        self.rules("-D").await
    }

    /// Adds or takes away, on each node, what drops the packets of the control port. Nobody else uses that table.
    async fn rules(&self, action: &str) -> Result<()> {
        for node in 1..=self.nodes {
            for side in ["--dport", "--sport"] {
                let node = node.to_string();
                let rule = ["iptables", "-t", "raw", action, "PREROUTING", "-p", "tcp", side, "9443", "-j", "DROP"];
                let args = [&["exec", "--name", &self.cluster.name, "--node", &node, "--"], rule.as_slice()].concat();
                command::succeed("spindle-cluster", &args, "").await?;
            }
        }
        Ok(())
    }
}

/// Nobody is taken out by the leader that has lost its runtimes, nor by the next one, which has never had any.
async fn during_the_cut(world: &World, namespace: &str, before: &[fleet::Endpoint]) -> Result<()> {
    let cluster = &world.cluster;
    let unreachable = || cluster.wait(namespace, "cut", "Degraded", "True", PATIENCE);
    let update = world.publish("cut", "2.0.0").await?;
    let old = led(world, &[], PATIENCE).await?;
    let mut told = vec![unreachable().await?];
    cluster.apply(&with_replicas(namespace, "cut", &update, 2)).await?;
    for leader in [None, Some(&old)] {
        if let Some(leader) = leader {
            cluster.kubectl(&["-n", SYSTEM, "delete", "pod", leader, "--wait=false"]).await?;
            led(world, std::slice::from_ref(leader), PATIENCE).await?;
        }
        // Longer than a silent runtime keeps its apps where others could have them.
        sleep_until(Instant::now() + Duration::from_secs(12)).await;
        told.push(unreachable().await?);
        let during = cluster.endpoints(namespace, "cut").await?;
        expect(during == before, || format!("{before:?} became {during:?}"))?;
    }
    for app in told {
        let degraded = condition(&app, "Degraded").context("no Degraded")?;
        expect(degraded["reason"] == "RuntimeUnreachable", || degraded.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn operators_that_reach_no_runtime_take_nobody_out_and_say_so() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-cut");
    cluster.namespace(namespace).await?;
    let traffic = world.called(namespace, "cut", 2).await?;
    let before = world.settled(namespace, "cut", 2).await?;
    let cut = Cut::make(cluster).await?;
    let said = during_the_cut(world, namespace, &before).await;
    cut.mend().await?;
    said?;
    world.ready(namespace, "cut", "2.0.0").await?;
    traffic.lost_nothing("operators cut off from runtimes").await.map(drop)
}

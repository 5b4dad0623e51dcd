//! What apps and streams are given changes: variables from a Secret, and the certificates of the control stream.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tests::{
    cluster::{Cluster, SYSTEM},
    expect,
    fleet::{OPERATORS, name_of},
    package::{Package, guest},
    traffic::Traffic,
    until,
};

use crate::{PATIENCE, with_replicas, world};

/// A component that answers `/var/token` with a variable.
const VARIABLES: &str = "
[component.main.variables]
token = \"{{ token }}\"
motd = \"{{ motd }}\"

[variables]
token = { required = true, secret = true }
motd = { default = \"none\" }
";

fn objects(namespace: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: shop, namespace: {namespace} }}\nstringData: {{ token: {token} }}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: shop, namespace: {namespace} }}\ndata: {{ motd: welcome }}\n"
    )
}

#[tokio::test]
async fn another_value_in_a_secret_rolls_the_app_without_a_failed_request() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-secret");
    cluster.namespace(namespace).await?;
    let package = Package::with_component("secretive", "1.0.0", &guest("http-spin-sdk.wasm")?, VARIABLES)?;
    world.publisher.publish(cluster, &package).await?;
    cluster.apply(&objects(namespace, "one")).await?;
    let app = with_replicas(namespace, "secretive", &package.id, 2).replace(
        "replicas: 2",
        "replicas: 2
  variables:
    - { name: token, valueFrom: { secretKeyRef: { name: shop, key: token } } }
    - { name: motd, valueFrom: { configMapKeyRef: { name: shop, key: motd } } }",
    );
    cluster.apply(&app).await?;
    let before = world.ready(namespace, "secretive", "1.0.0").await?;
    let traffic = Traffic::start(cluster, namespace, "secretive", "/var/token").await?;
    cluster.apply(&objects(namespace, "two")).await?;
    let after = until("another revision", PATIENCE, || async {
        let app = cluster.get(&["-n", namespace, "spinapp", "secretive"]).await?;
        expect(app["status"]["activeRevision"] != before["status"]["activeRevision"], || {
            format!("{:#}", app["status"])
        })?;
        Ok(app)
    })
    .await?;
    expect(!after.to_string().contains("two\""), || format!("the value is in the app: {after:#}"))?;
    world.ready(namespace, "secretive", "1.0.0").await?;
    let samples = traffic.lost_nothing("a Secret changed").await?;
    let values: BTreeSet<_> = samples.iter().filter_map(|sample| sample.body()).collect();
    expect(values == BTreeSet::from(["one", "two"]), || format!("{values:?}"))
}

/// The authorities in the operators' Secret, by name.
async fn authorities(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let secret = cluster.get(&["-n", SYSTEM, "secret", "spindle-ca"]).await?;
    let data = secret.get("data").and_then(Value::as_object).context("an empty Secret")?;
    Ok(data.keys().filter_map(|key| key.strip_suffix(".crt")).map(str::to_owned).collect())
}

#[tokio::test]
async fn a_rotated_authority_costs_no_stream_and_no_request() -> Result<()> {
    let world = world().await?;
    let (cluster, namespace) = (&world.cluster, "e2e-authority");
    cluster.namespace(namespace).await?;
    let traffic = world.called(namespace, "trusting", 2).await?;
    let leader = cluster.leader().await?.context("nobody leads")?;
    let old = authorities(cluster).await?;
    let since = Timestamp::now().to_string();
    let now = format!("spindle.dev/rotate-before={since}");
    cluster.kubectl(&["-n", SYSTEM, "annotate", "secret", "spindle-ca", "--overwrite", &now]).await?;
    until("both authorities", PATIENCE, || async {
        let now = authorities(cluster).await?;
        expect(now.is_superset(&old) && now.len() == old.len() + 1, || format!("{old:?} became {now:?}"))
    })
    .await?;
    let new = until("the new authority alone", PATIENCE * 3, || async {
        let now = authorities(cluster).await?;
        expect(now.is_disjoint(&old) && now.len() == 1, || format!("{old:?} became {now:?}"))?;
        Ok(now)
    })
    .await?;
    let log = cluster.kubectl(&["-n", SYSTEM, "logs", &leader, "--since-time", &since]).await?;
    let lost: Vec<&str> = log.lines().filter(|line| line.contains("lost the stream")).collect();
    expect(cluster.leader().await?.as_deref() == Some(&leader) && lost.is_empty(), || lost.join("\n"))?;

    // Streams from now on are of the new authority: another leader, another revision.
    cluster.kubectl(&["-n", SYSTEM, "delete", "pod", &leader, "--wait=false"]).await?;
    until("another leader", PATIENCE, || async {
        let now = cluster.leader().await?.context("nobody leads")?;
        expect(now != leader, || format!("{now} still leads"))
    })
    .await?;
    world.deploy(namespace, "trusting", "2.0.0", 2).await?;
    expect(authorities(cluster).await? == new, || "it was rotated again".to_owned())?;
    let operators: Vec<Value> = cluster.pods(OPERATORS).await?;
    expect(operators.len() == 2, || format!("{:?}", operators.iter().map(name_of).collect::<Vec<_>>()))?;
    traffic.lost_nothing("authority rotated").await.map(drop)
}

//! The data flow of `ARCHITECTURE.md`, as a user sees it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{condition, ingress, spin_app},
    command, expect,
    package::{Package, guest},
    prober::{Prober, Sample, client, get},
    until,
};

use crate::{PATIENCE, world};

const NAMESPACE: &str = "e2e-data-flow";
const HOST: Option<&str> = Some("shop.test");

#[tokio::test]
async fn an_app_is_published_applied_updated_broken_and_deleted_without_a_failed_request() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    cluster.namespace(NAMESPACE).await?;
    let client = client()?;

    // Publish, apply, first 200 through ClusterIP and ingress.
    let one = world.publish("shop", "1.0.0").await?;
    cluster.apply(&spin_app(NAMESPACE, "shop", &one)).await?;
    let app = cluster.wait(NAMESPACE, "shop", "Ready", "True", PATIENCE).await?;
    expect(app.pointer("/status/readyReplicas") == Some(&Value::from(2)), || format!("{:#}", app["status"]))?;
    cluster.apply(&ingress(NAMESPACE, "shop")).await?;
    let service = format!("{}/v", cluster.service_url(NAMESPACE, "shop").await?);
    let ingress = format!("{}/v", cluster.ingress);
    for (url, host) in [(&service, None), (&ingress, HOST)] {
        until(url, PATIENCE, || async {
            let (status, body) = get(&client, url, host).await?;
            expect((status, body.trim()) == (200, "1.0.0"), || format!("{status} {body}"))
        })
        .await?;
    }

    // From here on there is constant traffic.
    let probers = [Prober::start(&service, None, 100)?, Prober::start(&ingress, HOST, 100)?];

    // Version 2 takes over.
    let two = world.publish("shop", "2.0.0").await?;
    cluster.apply(&spin_app(NAMESPACE, "shop", &two)).await?;
    let app = cluster.wait(NAMESPACE, "shop", "Ready", "True", PATIENCE).await?;
    expect(app.pointer("/status/version") == Some(&Value::from("2.0.0")), || format!("{:#}", app["status"]))?;

    // Version 3 exports no handler: version 2 goes on, and status says why.
    let broken = Package::new("shop", "3.0.0", &guest("noexport.wasm")?)?;
    world.publisher.publish(cluster, &broken).await?;
    cluster.apply(&spin_app(NAMESPACE, "shop", &broken.id)).await?;
    let app = cluster.wait(NAMESPACE, "shop", "Degraded", "True", PATIENCE).await?;
    let status = |name| condition(&app, name).and_then(|found| found["status"].as_str()).unwrap_or("missing");
    expect((status("Ready"), status("Available")) == ("False", "True"), || format!("{:#}", app["status"]))?;
    let ready = condition(&app, "Ready").context("no Ready")?;
    let message = ready["message"].as_str().unwrap_or_default();
    expect(message.contains("main"), || format!("the message does not name the component: {ready}"))?;
    until("a Warning event", PATIENCE, || async {
        let events = cluster.kubectl(&["-n", NAMESPACE, "get", "events", "--field-selector", "type=Warning"]).await?;
        expect(events.contains("spinapp/shop"), || events.clone())
    })
    .await?;
    let (code, body) = get(&client, &service, None).await?;
    expect((code, body.trim()) == (200, "2.0.0"), || format!("{code} {body}"))?;

    // Repaired by going back to what served all the while.
    cluster.apply(&spin_app(NAMESPACE, "shop", &two)).await?;
    let app = cluster.wait(NAMESPACE, "shop", "Degraded", "False", PATIENCE).await?;
    expect(condition(&app, "Ready").is_some_and(|ready| ready["status"] == "True"), || format!("{:#}", app["status"]))?;
    for (prober, way) in probers.into_iter().zip(["Service", "ingress"]) {
        let samples = prober.lost_nothing(&format!("updated, broken and repaired, {way}")).await?;
        only_one_then_only_two(&samples)?;
    }

    // Delete: everything goes, without a finalizer.
    let port = app.pointer("/status/port").and_then(Value::as_u64).context("no port")?;
    let slices = cluster.get(&["-n", NAMESPACE, "endpointslices", "-l", "kubernetes.io/service-name=shop"]).await?;
    let address =
        slices.pointer("/items/0/endpoints/0/addresses/0").and_then(Value::as_str).context("no endpoint")?.to_owned();
    cluster.kubectl(&["-n", NAMESPACE, "delete", "spinapp,ingress", "shop"]).await?;
    until("children are gone", PATIENCE, || async {
        let left = cluster.kubectl(&["-n", NAMESPACE, "get", "services,endpointslices", "-o", "name"]).await?;
        expect(left.trim().is_empty(), || left.clone())
    })
    .await?;
    until("the runtime has let go of the port", PATIENCE, || async {
        let answer = get(&client, &format!("http://{address}:{port}/v"), None).await;
        expect(answer.is_err(), || format!("{answer:?}"))
    })
    .await
}

/// The versions that callers saw: ones, then twos. Two runtimes switch within a moment of each other, so a
/// request that left in that moment may still see the old one. How long it is depends on what else the machine does: the
/// second runtime has the word, and may have no processor.
fn only_one_then_only_two(samples: &[Sample]) -> Result<()> {
    const MOMENT: Duration = Duration::from_secs(1);
    let bodies: Vec<(Duration, &str)> = samples
        .iter()
        .filter_map(|sample| sample.outcome.as_ref().ok().map(|(_, body)| (sample.at, body.trim())))
        .collect();
    let first_two = bodies.iter().find(|(_, body)| *body == "2.0.0").context("nobody saw version 2")?.0;
    expect(bodies.first().is_some_and(|(_, body)| *body == "1.0.0"), || "nobody saw version 1".to_owned())?;
    let strays: Vec<_> = bodies
        .iter()
        .filter(|(at, body)| match *body {
            "1.0.0" => *at > first_two + MOMENT,
            "2.0.0" => false,
            _ => true,
        })
        .collect();
    expect(strays.is_empty(), || format!("version 2 first answered at {first_two:?}, then: {strays:?}"))
}

#[tokio::test]
async fn every_example_runs_unchanged_on_the_cluster() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let namespace = "e2e-examples";
    cluster.namespace(namespace).await?;
    let client = client()?;
    let mut found = 0;
    for example in std::fs::read_dir(tests::cluster::checkout().join("examples"))? {
        let example = example?.path();
        if !example.join("spin.toml").is_file() {
            continue;
        }
        found += 1;
        world.publisher.publish_manifest(cluster, &example.join("spin.toml")).await?;
        let file = example.join("spinapp.yaml").display().to_string();
        command::succeed("kubectl", &["-n", namespace, "apply", "-f", &file], "").await?;
    }
    expect(found >= 4, || format!("{found} examples"))?;
    let apps = cluster.get(&["-n", namespace, "spinapps"]).await?;
    for app in apps["items"].as_array().context("no items")? {
        let name = app.pointer("/metadata/name").and_then(Value::as_str).context("no name")?;
        // A Go program takes a minute to compile on a machine that does other things too.
        cluster.wait(namespace, name, "Ready", "True", PATIENCE * 3).await?;
        let host = format!("{name}.localhost");
        until(name, PATIENCE, || async {
            let (status, body) = get(&client, &format!("{}/", cluster.ingress), Some(&host)).await?;
            expect(status == 200 && !body.is_empty(), || format!("{status} {body}"))
        })
        .await?;
    }
    Ok(())
}

//! Wrong input: refused with a sentence, and nobody else disturbed.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{condition, spin_app},
    expect,
    prober::{Prober, client, failures, get},
    until,
};

use crate::{PATIENCE, world};

#[tokio::test]
async fn a_malformed_spec_is_refused_at_apply_with_the_field_and_the_fix() -> Result<()> {
    let world = world().await?;
    let namespace = "e2e-refusals";
    world.cluster.namespace(namespace).await?;
    let app = |spec: &str| {
        format!("apiVersion: spindle.dev/v1alpha1\nkind: SpinApp\nmetadata: {{ name: wrong, namespace: {namespace} }}\nspec: {spec}\n")
    };
    for (spec, words) in [
        ("{}", "source"),
        ("{ source: {} }", "bindle"),
        ("{ source: { bindle: { id: nonsense } } }", "id"),
        ("{ source: { bindle: { id: '../../etc/1.0.0' } } }", "id"),
        ("{ source: { bindle: { id: shop/1.0.0, server: 'ftp://x' } } }", "server"),
        ("{ source: { bindle: { id: shop/1.0.0 } }, replicas: -1 }", "replicas"),
        ("{ source: { bindle: { id: shop/1.0.0 } }, variables: [{ name: Bad-Name, value: x }] }", "name"),
        ("{ source: { bindle: { id: shop/1.0.0 } }, unknownField: 1 }", "unknownField"),
    ] {
        let said = world.cluster.refusal(&app(spec)).await?;
        expect(said.contains(words), || format!("`{spec}` was refused without a word of {words}: {said}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_bundle_and_a_dead_server_are_conditions_and_disturb_nobody() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let namespace = "e2e-unresolvable";
    cluster.namespace(namespace).await?;
    let id = world.publish("bystander", "1.0.0").await?;
    cluster.apply(&spin_app(namespace, "bystander", &id)).await?;
    cluster.wait(namespace, "bystander", "Ready", "True", PATIENCE).await?;
    let url = format!("{}/v", cluster.service_url(namespace, "bystander").await?);
    let client = client()?;
    until(&url, PATIENCE, || async { get(&client, &url, None).await.map(drop) }).await?;
    let prober = Prober::start(&url, None, 50)?;

    cluster.apply(&spin_app(namespace, "missing", "nobody/1.0.0")).await?;
    let dead = spin_app(namespace, "dead", "nobody/1.0.0").replace("id: nobody/1.0.0", "id: nobody/1.0.0, server: 'http://127.0.0.1:9/v1'");
    cluster.apply(&dead).await?;
    for (app, reason, words) in [("missing", "NotFound", "nobody/1.0.0"), ("dead", "Unreachable", "127.0.0.1:9")] {
        let object = cluster.wait(namespace, app, "Resolved", "False", PATIENCE).await?;
        let resolved = condition(&object, "Resolved").context("no Resolved")?;
        expect(resolved["reason"] == reason && resolved["message"].as_str().is_some_and(|message| message.contains(words)), || {
            format!("{app}: {resolved}")
        })?;
        let ready = condition(&object, "Ready").context("no Ready")?;
        expect(ready["status"] == "False", || format!("{app}: {ready}"))?;
    }

    let samples = prober.stop().await?;
    expect(failures(&samples).is_empty(), || format!("the bystander suffered: {:?}", failures(&samples).first()))
}

#[tokio::test]
async fn a_service_of_somebody_else_is_never_taken_over() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let namespace = "e2e-foreign";
    cluster.namespace(namespace).await?;
    cluster.kubectl(&["-n", namespace, "create", "service", "clusterip", "mine", "--tcp=80:8080"]).await?;
    let before = cluster.get(&["-n", namespace, "service", "mine"]).await?;
    let id = world.publish("foreign", "1.0.0").await?;
    cluster.apply(&spin_app(namespace, "mine", &id)).await?;
    let app = cluster.wait(namespace, "mine", "RoutesProgrammed", "False", PATIENCE).await?;
    let routes = condition(&app, "RoutesProgrammed").context("no RoutesProgrammed")?;
    expect(routes["message"].as_str().is_some_and(|message| message.contains("mine")), || routes.to_string())?;
    let after = cluster.get(&["-n", namespace, "service", "mine"]).await?;
    expect(before["spec"] == after["spec"] && after.pointer("/metadata/ownerReferences").is_none_or(Value::is_null), || {
        format!("the Service was changed: {after:#}")
    })
}

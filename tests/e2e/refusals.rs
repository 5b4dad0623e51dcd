//! Wrong input: refused with a sentence, and nobody else disturbed.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{condition, spin_app},
    expect,
    liar::{Liar, Lie},
    package::{self, Package},
    prober::{Prober, client, get},
    until,
};

use crate::{PATIENCE, world};

/// Fields of a spec that the API server refuses, and a word of what it says. Each rule of the CRD is met by one at least.
const WRONG: &[(&str, &str)] = &[
    ("", "source"),
    ("source: {}", "bindle"),
    ("source: { bindle: { id: nonsense } }", "id"),
    ("source: { bindle: { id: '../../etc/1.0.0' } }", "id"),
    ("source: { bindle: { id: shop/1.0.0, server: 'ftp://x' } }", "server"),
    ("replicas: -1", "replicas"),
    ("unknownField: 1", "unknownField"),
    ("variables: [{ name: Bad-Name, value: x }]", "name"),
    ("variables: [{ name: both, value: x, valueFrom: { secretKeyRef: { name: a, key: b } } }]", "valueFrom"),
    ("variables: [{ name: neither }]", "valueFrom"),
    ("variables: [{ name: nothing, valueFrom: {} }]", "configMapKeyRef"),
    ("variables: [{ name: v, valueFrom: { secretKeyRef: { name: ../../other/secrets/db, key: a } } }]", "secretKeyRef"),
    ("variables: [{ name: v, valueFrom: { configMapKeyRef: { name: a, key: 'a b' } } }]", "configMapKeyRef"),
    ("source: { bindle: { id: shop/1.0.0, credentialsSecret: My_Login } }", "credentialsSecret"),
    ("runtimeConfig: { loadFromSecret: 'a?b' }", "loadFromSecret"),
    ("serviceAnnotations: { spindle.dev/service-annotations: x }", "serviceAnnotations"),
    ("serviceAnnotations: { 'a b': x }", "serviceAnnotations"),
    ("invocationLimits: { memory: lots }", "memory"),
    ("invocationLimits: { memory: 0Mi }", "memory"),
    ("invocationLimits: { timeout: soon }", "timeout"),
    ("invocationLimits: { cpu: 0s }", "cpu"),
    ("invocationLimits: { body: 1.5Mi }", "body"),
    ("invocationLimits: { output: 64KiB }", "output"),
    ("invocationLimits: { disk: '-1' }", "disk"),
    ("checks: { readiness: {} }", "httpGet.path"),
    ("checks: { readiness: { httpGet: { path: healthz } } }", "httpGet.path"),
    ("checks: { readiness: { httpGet: { path: /%zz } } }", "httpGet.path"),
    ("checks: { readiness: { httpGet: { path: /, httpHeaders: [{ name: 'a b', value: x }] } } }", "httpHeaders"),
    ("checks: { readiness: { httpGet: { path: /, httpHeaders: [{ name: a, value: ä }] } } }", "httpHeaders"),
    ("checks: { liveness: { httpGet: { path: / } } }", "spec.checks.readiness"),
    ("rollout: { strategy: Canary }", "RollingUpdate or Recreate"),
    ("rollout: { rollingUpdate: { maxSurge: 0 } }", "maxSurge"),
    ("rollout: { rollingUpdate: { maxSurge: 150% } }", "maxSurge"),
    ("rollout: { rollingUpdate: { maxUnavailable: 1 } }", "maxUnavailable"),
    ("rollout: { strategy: Recreate, rollingUpdate: { maxSurge: 1 } }", "strategy Recreate"),
    ("rollout: { progressDeadlineSeconds: 0 }", "progressDeadlineSeconds"),
    ("runtimeConfig: { loadFromSecret: s, keyValueStores: [{ name: default, type: redis }] }", "loadFromSecret"),
    ("runtimeConfig: { keyValueStores: [{ name: default, type: memory }] }", "keyValueStores"),
    ("runtimeConfig: { keyValueStores: [{ name: default, type: redis, options: [{ name: url }] }] }", "valueFrom"),
    (
        "runtimeConfig: { keyValueStores: [{ name: default, type: spin, options: [{ name: path, value: /x }] }] }",
        "path",
    ),
    ("runtimeConfig: { sqliteDatabases: [{ name: default, type: postgres }] }", "sqliteDatabases"),
    ("runtimeConfig: { llmCompute: { type: spin } }", "remote_http"),
];

/// The sentence of every rule below `value`.
fn messages(value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
            all.extend(rules.filter_map(|rule| rule["message"].as_str()).map(str::to_owned));
            fields.values().for_each(|field| messages(field, all));
        }
        Value::Array(items) => items.iter().for_each(|item| messages(item, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn a_malformed_spec_is_refused_at_apply_with_the_field_and_the_fix() -> Result<()> {
    let world = world().await?;
    let namespace = "e2e-refusals";
    world.cluster.namespace(namespace).await?;
    let app = |name: &str, spec: &str| {
        format!(
            "apiVersion: spindle.dev/v1alpha1\nkind: SpinApp\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec: {spec}\n"
        )
    };
    let crd = world.cluster.get(&["crd", "spinapps.spindle.dev"]).await?;
    let mut unmet = BTreeSet::new();
    messages(&crd, &mut unmet);
    for (more, words) in WRONG {
        let spec = if more.starts_with("source") || more.is_empty() {
            format!("{{ {more} }}")
        } else {
            format!("{{ source: {{ bindle: {{ id: shop/1.0.0 }} }}, {more} }}")
        };
        let said = world.cluster.refusal(&app("wrong", &spec)).await?;
        expect(said.contains(words), || format!("`{spec}` was refused without a word of {words}: {said}"))?;
        unmet.retain(|message| !said.contains(message));
    }
    let said = world.cluster.refusal(&app("not.a-service", "{ source: { bindle: { id: shop/1.0.0 } } }")).await?;
    unmet.retain(|message| !said.contains(message));
    expect(unmet.is_empty(), || format!("no wrong spec meets {unmet:#?}"))
}

#[tokio::test]
async fn the_guides_example_of_every_field_is_taken() -> Result<()> {
    let world = world().await?;
    let namespace = "e2e-guide";
    world.cluster.namespace(namespace).await?;
    let page = std::fs::read_to_string(tests::cluster::checkout().join("docs/guide/spinapp.md"))?;
    let (_, rest) = page.split_once("```yaml\n").context("the guide has no example")?;
    let (example, _) = rest.split_once("\n```").context("the example has no end")?;
    let dry_run = ["apply", "--namespace", namespace, "--dry-run=server", "--filename", "-"];
    tests::command::succeed("kubectl", &dry_run, example).await.map(drop)
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
    let dead = spin_app(namespace, "dead", "nobody/1.0.0")
        .replace("id: nobody/1.0.0", "id: nobody/1.0.0, server: 'http://127.0.0.1:9/v1'");
    cluster.apply(&dead).await?;
    for (app, reason, words) in [("missing", "NotFound", "nobody/1.0.0"), ("dead", "Unreachable", "127.0.0.1:9")] {
        let object = cluster.wait(namespace, app, "Resolved", "False", PATIENCE).await?;
        let resolved = condition(&object, "Resolved").context("no Resolved")?;
        expect(
            resolved["reason"] == reason && resolved["message"].as_str().is_some_and(|message| message.contains(words)),
            || format!("{app}: {resolved}"),
        )?;
        let ready = condition(&object, "Ready").context("no Ready")?;
        expect(ready["status"] == "False", || format!("{app}: {ready}"))?;
    }

    prober.lost_nothing("others' bundles missing or unreachable").await.map(drop)
}

#[tokio::test]
async fn a_server_that_lies_is_found_out_named_and_believed_again_when_it_stops() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let namespace = "e2e-liars";
    cluster.namespace(namespace).await?;
    let real = world.publisher.server(cluster).await?;

    let before = world.restarts().await?;
    let mut liars = Vec::new();
    for (app, lie, reason) in
        [("corrupt", Lie::Corrupt, "Corrupt"), ("longer", Lie::Longer, "Corrupt"), ("hanging", Lie::Hang, "Timeout")]
    {
        // Content of its own, or the runtimes would have it already.
        let wasm = package::stamped(&package::guest("http-rust.wasm")?, app);
        let package = Package::new(app, "1.0.0", &wasm)?;
        world.publisher.publish(cluster, &package).await?;
        let liar = Liar::start(&cluster.node_ip, &real, lie).await?;
        let source = format!("id: {}, server: '{}'", package.id, liar.url());
        cluster.apply(&spin_app(namespace, app, &package.id).replace(&format!("id: {}", package.id), &source)).await?;
        liars.push((app, liar, reason));
    }
    for (app, liar, reason) in &liars {
        let object = cluster.wait(namespace, app, "Loaded", "False", PATIENCE).await?;
        let object = until(app, PATIENCE * 2, || async {
            let object = cluster.get(&["-n", namespace, "spinapp", app]).await?;
            let loaded = condition(&object, "Loaded").context("no Loaded")?;
            expect(loaded["reason"] == *reason, || loaded.to_string())?;
            Ok(object)
        })
        .await
        .with_context(|| format!("{:#}", object["status"]))?;
        let ready = condition(&object, "Ready").context("no Ready")?;
        expect(ready["status"] == "False", || ready.to_string())?;
        liar.tell(Lie::Honest);
    }
    for (app, _liar, _reason) in &liars {
        cluster.wait(namespace, app, "Ready", "True", PATIENCE * 3).await?;
    }
    // Nobody crashed over it.
    let after = world.restarts().await?;
    expect(before == after, || format!("something crashed: {before:?} became {after:?}"))
}

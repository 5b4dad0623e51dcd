//! Runtime configurations: stores that all runtimes share, from Secrets that change and break.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{Cluster, condition, spin_app},
    command, expect,
    package::{Package, guest},
    prober::{Prober, client, get},
    until,
};

use crate::{PATIENCE, world};

const NAMESPACE: &str = "e2e-runtime-config";

/// A Redis that pods reach at the node's address; gone when this is dropped.
struct Redis {
    url: String,
    host: String,
    port: String,
    password: String,
    _process: tokio::process::Child,
}

impl Redis {
    async fn start(cluster: &Cluster, port: u16, password: &str) -> Result<Self> {
        let (ip, number) = (&cluster.node_ip, port.to_string());
        let process = tokio::process::Command::new("redis-server")
            .args(["--bind", ip, "--port", &number, "--requirepass", password, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("redis-server: apt-get install redis-server")?;
        until("Redis", Duration::from_secs(10), || async {
            tokio::net::TcpStream::connect((ip.as_str(), port)).await.map(drop).map_err(Into::into)
        })
        .await?;
        Ok(Self {
            url: format!("redis://:{password}@{ip}:{port}"),
            host: ip.clone(),
            port: number,
            password: password.to_owned(),
            _process: process,
        })
    }

    /// All keys, one in a line.
    async fn keys(&self) -> Result<String> {
        let args = ["--no-auth-warning", "-h", &self.host, "-p", &self.port, "-a", &self.password, "keys", "*"];
        Ok(command::succeed("redis-cli", &args, "").await?.trim().to_owned())
    }
}

/// A Secret with a runtime configuration whose `default` key-value store is at `url`.
fn secret(url: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{ name: config, namespace: {NAMESPACE} }}
stringData:
  runtime-config.toml: |
    [key_value_store.default]
    type = \"redis\"
    url = \"{url}\"
"
    )
}

fn with_config(name: &str, id: &str) -> String {
    spin_app(NAMESPACE, name, id).replace("replicas: 2", "replicas: 2\n  runtimeConfig: { loadFromSecret: config }")
}

async fn put(client: &reqwest::Client, url: &str, value: &str) -> Result<()> {
    let status = client.put(url).body(value.to_owned()).send().await?.status();
    expect(status == 204, || format!("PUT {url}: {status}"))
}

fn revision(app: &Value) -> Option<&str> {
    app.pointer("/status/activeRevision").and_then(Value::as_str)
}

#[tokio::test]
async fn a_store_from_a_secret_is_shared_and_a_change_rolls_and_a_mistake_leaves_what_serves() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    cluster.namespace(NAMESPACE).await?;
    let client = client()?;
    let wasm = guest("http-spin-sdk.wasm")?;
    let package = Package::with_component("notes", "1.0.0", &wasm, "key_value_stores = [\"default\"]\n")?;
    world.publisher.publish(cluster, &package).await?;

    // Without a configuration each runtime keeps its own, and status says so.
    cluster.apply(&spin_app(NAMESPACE, "local", &package.id)).await?;
    let app = cluster.wait(NAMESPACE, "local", "Ready", "True", PATIENCE).await?;
    let hint = condition(&app, "Resolved").and_then(|found| found["message"].as_str()).unwrap_or_default();
    expect(hint.contains("the key-value store `default`"), || hint.to_owned())?;
    let local = format!("{}/kv/note", cluster.service_url(NAMESPACE, "local").await?);
    until(&local, PATIENCE, || async { put(&client, &local, "here").await }).await?;

    // With a Redis, what one request writes every other reads, whichever runtime it comes to.
    let first = Redis::start(cluster, 16_379, "hunter2").await?;
    cluster.apply(&secret(&first.url)).await?;
    cluster.apply(&with_config("shared", &package.id)).await?;
    let app = cluster.wait(NAMESPACE, "shared", "Ready", "True", PATIENCE).await?;
    let before = revision(&app).context("no active revision")?.to_owned();
    let base = cluster.service_url(NAMESPACE, "shared").await?;
    let shared = format!("{base}/kv/note");
    until(&shared, PATIENCE, || async { put(&client, &shared, "one").await }).await?;
    for _ in 0..20 {
        let answer = get(&client, &shared, None).await?;
        expect(answer == (200, "one".to_owned()), || format!("{answer:?}"))?;
    }
    let prober = Prober::start(&format!("{base}/"), None, 50)?;

    // Another Redis in the Secret is another revision, without a failed request.
    let second = Redis::start(cluster, 16_380, "hunter3").await?;
    cluster.apply(&secret(&second.url)).await?;
    let after = until("another revision", PATIENCE, || async {
        let app = cluster.get(&["-n", NAMESPACE, "spinapp", "shared"]).await?;
        let now = revision(&app).filter(|now| *now != before).map(str::to_owned);
        now.with_context(|| format!("{:#}", app["status"]))
    })
    .await?;
    until("the other store", PATIENCE, || async {
        let answer = get(&client, &shared, None).await?;
        expect(answer.0 == 404, || format!("{answer:?}"))
    })
    .await?;
    put(&client, &shared, "two").await?;

    // A mistake is told with Secret, line and field, and not with the password; what serves goes on.
    cluster.apply(&secret(&second.url.replace("redis:", "reddis:"))).await?;
    let app = cluster.wait(NAMESPACE, "shared", "Resolved", "False", PATIENCE).await?;
    let said = condition(&app, "Resolved").and_then(|found| found["message"].as_str()).unwrap_or_default();
    for part in ["Secret config", "runtime-config.toml:3:7", "key_value_store.default.url"] {
        expect(said.contains(part), || format!("no {part} in: {said}"))?;
    }
    expect(!app.to_string().contains("hunter3"), || format!("{:#}", app["status"]))?;
    expect(revision(&app) == Some(after.as_str()), || format!("{:#}", app["status"]))?;
    let answer = get(&client, &shared, None).await?;
    expect(answer == (200, "two".to_owned()), || format!("{answer:?}"))?;

    prober.lost_nothing("a store's Secret changed, then wrong").await?;
    let keys = second.keys().await?;
    expect(keys == "note", || format!("an app's own store has its keys as they are: {keys}"))
}

#[tokio::test]
async fn a_store_for_every_app_is_shared_by_runtimes_and_not_by_apps() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    let namespace = "e2e-pool-config";
    cluster.namespace(namespace).await?;
    let client = client()?;
    let redis = Redis::start(cluster, 16_381, "hunter2").await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), format!("[key_value_store.default]\ntype = \"redis\"\nurl = \"{}\"\n", redis.url))?;
    let value = format!("runtime.defaultRuntimeConfig={}", file.path().display());
    world.install(&["--set-file", &value]).await?;

    let wasm = guest("http-spin-sdk.wasm")?;
    let package = Package::with_component("pool-notes", "1.0.0", &wasm, "key_value_stores = [\"default\"]\n")?;
    world.publisher.publish(cluster, &package).await?;
    for app in ["one", "two"] {
        cluster.apply(&spin_app(namespace, app, &package.id)).await?;
        let found = cluster.wait(namespace, app, "Ready", "True", PATIENCE).await?;
        let said = condition(&found, "Resolved").and_then(|found| found["message"].as_str()).unwrap_or_default();
        expect(!said.contains("on its own"), || said.to_owned())?;
    }
    let url = async |app| Ok::<_, anyhow::Error>(format!("{}/kv/note", cluster.service_url(namespace, app).await?));
    let (one, two) = (url("one").await?, url("two").await?);
    until(&one, PATIENCE, || async { put(&client, &one, "mine").await }).await?;
    for _ in 0..10 {
        let answer = get(&client, &one, None).await?;
        expect(answer == (200, "mine".to_owned()), || format!("{answer:?}"))?;
    }
    until(&two, PATIENCE, || async {
        let answer = get(&client, &two, None).await?;
        expect(answer.0 == 404, || format!("one app reads another's: {answer:?}"))
    })
    .await?;
    let keys = redis.keys().await?;
    expect(keys == format!("spindle:{namespace}/one:default:note"), || keys.clone())?;
    // For the tests that come after.
    cluster.kubectl(&["delete", "namespace", namespace, "--wait"]).await?;
    world.install(&[]).await
}

#[tokio::test]
async fn a_runtime_config_that_contradicts_itself_is_refused_at_apply() -> Result<()> {
    let world = world().await?;
    let namespace = "e2e-runtime-config-refused";
    world.cluster.namespace(namespace).await?;
    let app = |config: &str| {
        format!(
            "apiVersion: spindle.dev/v1alpha1\nkind: SpinApp\nmetadata: {{ name: wrong, namespace: {namespace} }}\nspec: {{ source: {{ bindle: {{ id: shop/1.0.0 }} }}, {config} }}\n"
        )
    };
    for (config, words) in [
        (
            "runtimeConfig: { loadFromSecret: a, keyValueStores: [{ name: default, type: spin }] }",
            "loadFromSecret, which is the whole configuration",
        ),
        ("runtimeConfig: { keyValueStores: [{ name: default, type: azure_cosmos }] }", "use redis or spin"),
        ("runtimeConfig: { sqliteDatabases: [{ name: default, type: mysql }] }", "use libsql or spin"),
        ("runtimeConfig: { llmCompute: { type: spin } }", "use remote_http"),
        (
            "runtimeConfig: { keyValueStores: [{ name: default, type: redis, options: [{ name: url }] }] }",
            "exactly one of value and valueFrom",
        ),
        (
            "runtimeConfig: { keyValueStores: [{ name: default, type: spin, options: [{ name: path, value: /etc }] }] }",
            "has the name path",
        ),
        ("invocationLimits: { cpu: fast }", "spec.invocationLimits.cpu is not a time"),
        ("invocationLimits: { body: 0Mi }", "spec.invocationLimits.body is not a size"),
        ("invocationLimits: { concurrency: 0 }", "concurrency"),
    ] {
        let said = world.cluster.refusal(&app(config)).await?;
        expect(said.contains(words), || format!("`{config}` was refused without `{words}`: {said}"))?;
    }
    Ok(())
}

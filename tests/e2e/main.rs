//! End to end: the chart installed by Helm on a real Kubernetes, apps published, applied and called.
//!
//! Promise: each test reads like what a user does and sees. `make e2e` starts the cluster and runs this
//! inside the cluster's network namespace.

mod chart;
mod children;
mod data_flow;
mod install;
mod operators;
mod plugin;
mod refusals;
mod resilience;
mod rollouts;
mod rotation;
mod runtime_config;
mod upgrade;
// The last by name, as it looks back at all of them.
mod wrap_up;

use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::Value;
use tests::{
    cluster::{Cluster, spin_app},
    expect,
    fleet::{Endpoint, OPERATORS, RUNTIMES, name_of, restarts},
    package,
    publisher::Publisher,
    traffic::Traffic,
    until,
};
use tokio::sync::OnceCell;

/// What all tests share: one cluster with Spindle on it.
struct World {
    cluster: Cluster,
    publisher: Publisher,
}

/// Nothing that a test waits for takes longer than this on the slowest machine that we know.
const PATIENCE: Duration = Duration::from_secs(60);

/// What tests set and users leave alone: certificates that change are everywhere within seconds here, not within an hour.
const VALUES: [&str; 2] = ["--set", "operator.extraArgs={--propagation-seconds=15}"];

/// The cluster, with Spindle installed by the first test that asks. Others do not try again what failed.
async fn world() -> Result<&'static World> {
    static WORLD: OnceCell<Result<World, String>> = OnceCell::const_new();
    let made = WORLD.get_or_init(|| async { make().await.map_err(|error| format!("{error:#}")) }).await;
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

async fn make() -> Result<World> {
    let cluster = Cluster::from_environment().await?;
    let publisher = Publisher::new().await?;
    cluster.install(&publisher.keyring(), &VALUES).await?;
    Ok(World { cluster, publisher })
}

impl World {
    /// Installs again, with more values.
    async fn install(&self, more: &[&str]) -> Result<()> {
        self.cluster.install(&self.publisher.keyring(), &[&VALUES, more].concat()).await.map(drop)
    }

    /// Publishes a version of an app that answers `/v` with it, applies it and waits until it is Ready.
    async fn deploy(&self, namespace: &str, app: &str, version: &str, replicas: u32) -> Result<Value> {
        let id = self.publish(app, version).await?;
        self.cluster.apply(&with_replicas(namespace, app, &id, replicas)).await?;
        self.ready(namespace, app, version).await
    }

    /// Waits until a version of an app is what takes its requests, everywhere.
    async fn ready(&self, namespace: &str, app: &str, version: &str) -> Result<Value> {
        let object = self.cluster.wait(namespace, app, "Ready", "True", PATIENCE).await?;
        let now = object.pointer("/status/version").and_then(Value::as_str);
        expect(now == Some(version), || format!("{object:#}"))?;
        Ok(object)
    }

    /// How often the container of each operator and runtime was started again.
    async fn restarts(&self) -> Result<Vec<(String, u64)>> {
        let (operators, runtimes) = (self.cluster.pods(OPERATORS).await?, self.cluster.pods(RUNTIMES).await?);
        Ok(operators.iter().chain(&runtimes).map(|pod| (name_of(pod), restarts(pod))).collect())
    }

    /// An app with callers.
    async fn called(&self, namespace: &str, app: &str, replicas: u32) -> Result<Traffic> {
        self.deploy(namespace, app, "1.0.0", replicas).await?;
        Traffic::start(&self.cluster, namespace, app, "/v").await
    }

    /// Waits until exactly these many endpoints of an app are ready and none is on its way out.
    async fn settled(&self, namespace: &str, app: &str, endpoints: usize) -> Result<Vec<Endpoint>> {
        until(&format!("{endpoints} endpoints of {app}"), PATIENCE * 2, || async {
            let found = self.cluster.endpoints(namespace, app).await?;
            let good = found.iter().filter(|endpoint| endpoint.ready && !endpoint.terminating).count();
            expect(good == endpoints && found.len() == endpoints, || format!("{found:?}"))?;
            Ok(found)
        })
        .await
    }

    /// Publishes the Rust HTTP guest as `name/version`; it answers `/v` with the version.
    async fn publish(&self, name: &str, version: &str) -> Result<String> {
        let package = package::Package::new(name, version, &package::guest("http-rust.wasm")?)?;
        self.publisher.publish(&self.cluster, &package).await?;
        Ok(package.id)
    }
}

/// The YAML of an app on this many runtimes.
fn with_replicas(namespace: &str, app: &str, id: &str, replicas: u32) -> String {
    spin_app(namespace, app, id).replace("replicas: 2", &format!("replicas: {replicas}"))
}

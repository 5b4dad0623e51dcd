//! End to end: the chart installed by Helm on a real Kubernetes, apps published, applied and called.
//!
//! Promise: each test reads like what a user does and sees. `make e2e` starts the cluster and runs this
//! inside the cluster's network namespace.

mod data_flow;
mod install;
mod plugin;
mod refusals;
mod resilience;
mod runtime_config;

use std::time::Duration;

use anyhow::{Result, anyhow};
use tests::{cluster::Cluster, package, publisher::Publisher};
use tokio::sync::OnceCell;

/// What all tests share: one cluster with Spindle on it.
struct World {
    cluster: Cluster,
    publisher: Publisher,
    /// How long `helm install --wait` took.
    installed_in: Duration,
}

/// Nothing that a test waits for takes longer than this on the slowest machine that we know.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster, with Spindle installed by the first test that asks. Others do not try again what failed.
async fn world() -> Result<&'static World> {
    static WORLD: OnceCell<Result<World, String>> = OnceCell::const_new();
    let made = WORLD.get_or_init(|| async { make().await.map_err(|error| format!("{error:#}")) }).await;
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

async fn make() -> Result<World> {
    let cluster = Cluster::from_environment().await?;
    let publisher = Publisher::new().await?;
    let installed_in = cluster.install(&publisher.keyring(), &[]).await?;
    Ok(World { cluster, publisher, installed_in })
}

impl World {
    /// Publishes the Rust HTTP guest as `name/version`; it answers `/v` with the version.
    async fn publish(&self, name: &str, version: &str) -> Result<String> {
        let package = package::Package::new(name, version, &package::guest("http-rust.wasm")?)?;
        self.publisher.publish(&self.cluster, &package).await?;
        Ok(package.id)
    }
}

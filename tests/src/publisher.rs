//! Publishes to the Bindle server in the cluster, with the product's own command.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    cluster::{Cluster, SYSTEM, setting},
    command,
    package::Package,
};

/// A creator's key and the command that signs with it.
#[derive(Debug)]
pub struct Publisher {
    directory: TempDir,
    spindle: String,
}

impl Publisher {
    /// Makes a key.
    ///
    /// # Errors
    /// When `spindle` is not built or fails.
    pub async fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let spindle = format!("{}/spindle", setting("SPINDLE_BIN")?);
        let key = directory.path().join("creator.toml").display().to_string();
        command::succeed(&spindle, &["bindle", "keys", "create", "Tests <tests@example.com>", "--key-file", &key], "")
            .await?;
        let keyring = command::succeed(&spindle, &["bindle", "keys", "export", "--key-file", &key], "").await?;
        std::fs::write(directory.path().join("keyring.toml"), keyring)?;
        Ok(Self { directory, spindle })
    }

    /// The public keyring that a server must have.
    #[must_use]
    pub fn keyring(&self) -> PathBuf {
        self.directory.path().join("keyring.toml")
    }

    /// The base URL of the server in the cluster.
    ///
    /// # Errors
    /// When it is not installed.
    pub async fn server(&self, cluster: &Cluster) -> Result<String> {
        Ok(format!("{}:8080/v1", cluster.service_url(SYSTEM, "spindle-bindle-server").await?))
    }

    /// Publishes a package.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn publish(&self, cluster: &Cluster, package: &Package) -> Result<()> {
        self.publish_manifest(cluster, &package.manifest()).await
    }

    /// Publishes the application of a `spin.toml`.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn publish_manifest(&self, cluster: &Cluster, manifest: &Path) -> Result<()> {
        let server = self.server(cluster).await?;
        let key = self.directory.path().join("creator.toml").display().to_string();
        let manifest = manifest.display().to_string();
        let args = ["bindle", "push", "-f", &manifest, "--bindle-server", &server, "--key-file", &key];
        command::succeed(&self.spindle, &args, "").await.map(drop)
    }
}

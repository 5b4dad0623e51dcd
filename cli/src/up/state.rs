//! What outlives requests: where stores are, what they hold at the start, and the runtime configuration.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use manifest::{
    RuntimeConfig,
    runtime_config::{self, Directory, Origin},
};

use super::application::Source;

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "State")]
pub(super) struct StateArgs {
    /// Where stores and logs are; '' for nowhere [default: .spin beside the manifest, nowhere for a bindle]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<OsString>,
    /// Stores, databases, providers of variables and limits: Spin's runtime-config.toml
    #[arg(long, env = "RUNTIME_CONFIG_FILE", value_name = "FILE")]
    runtime_config_file: Option<PathBuf>,
    /// Set a key of the default key-value store first; repeatable
    #[arg(long = "key-value", value_name = "KEY=VALUE", value_parser = super::guests::key_value)]
    key_values: Vec<(String, String)>,
    /// Execute a statement, or those in @FILE, in the default SQLite database first; repeatable
    #[arg(long, value_name = "STATEMENT|@FILE")]
    sqlite: Vec<String>,
}

impl StateArgs {
    /// The runtime configuration.
    ///
    /// # Errors
    /// When it cannot be read or is wrong.
    pub(super) fn runtime_config(&self) -> anyhow::Result<RuntimeConfig> {
        let Some(file) = &self.runtime_config_file else { return Ok(RuntimeConfig::default()) };
        let shown = file.display();
        let text =
            std::fs::read_to_string(file).with_context(|| format!("--runtime-config-file: cannot read {shown}"))?;
        let dir = file.parent().unwrap_or(Path::new(""));
        Ok(runtime_config::parse(&text, &shown.to_string(), Origin::Local(dir))?)
    }

    /// The state directory of an application from `source`, if there is one.
    pub(super) fn state_dir(&self, config: &RuntimeConfig, source: &Source) -> Option<PathBuf> {
        if let Some(dir) = &self.state_dir {
            return Some(PathBuf::from(dir)).filter(|dir| !dir.as_os_str().is_empty());
        }
        match (&config.state_dir, source) {
            (Directory::At(dir), _) => Some(dir.clone()),
            (Directory::None, _) | (Directory::Default, Source::Bindle(_)) => None,
            (Directory::Default, Source::Local(manifest)) => {
                Some(manifest.parent().unwrap_or(Path::new("")).join(".spin"))
            }
        }
    }

    /// Whether anything is to be written into stores first.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.key_values.is_empty(), "--key-value: not supported yet");
        anyhow::ensure!(self.sqlite.is_empty(), "--sqlite: not supported yet");
        Ok(())
    }
}

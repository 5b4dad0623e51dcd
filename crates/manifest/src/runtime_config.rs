//! [`RuntimeConfig`]: what `runtime-config.toml` says, Spin's file for whoever *runs* an application: which stores, databases,
//! variable providers and limits its components find behind the labels and names of the manifest.
//!
//! Promise: every table and key of Spin's is understood or refused by name with what there is instead, never dropped; the
//! same goes for those of Spin 0.x (`config_provider`). All problems are told at once, each with line, column and field,
//! and none repeats a value: values are secrets.
//!
//! Absent on purpose: opening anything, files as well. A store that cannot be reached is found by the guest that opens it.

mod merge;
mod network;
mod providers;
mod read;
mod stores;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use network::{BlockedNetwork, ClientTls, OutboundHttp, OutboundNetworking, Pem};
pub use providers::DEFAULT_PREFIX as DEFAULT_ENVIRONMENT_PREFIX;

pub use crate::secret::Secret;
use crate::{problem::ManifestError, reader};

/// Who wrote a runtime configuration, which decides what it may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'d> {
    /// Whoever started the process. Relative paths start at this directory, the file's own.
    Local(&'d Path),
    /// The author of an app on a cluster: paths and the environment would be those of a machine that runs other people's
    /// apps as well, so both are refused.
    App,
    /// Whoever installed the cluster's runtimes, for all of their apps: as [`Origin::App`], and without what one app could
    /// take from another.
    Pool,
}

/// Reads `text`, which problems call `file`.
///
/// # Errors
/// When it is no runtime configuration that Spindle can honour; all its problems at once.
pub fn parse(text: &str, file: &str, origin: Origin<'_>) -> Result<RuntimeConfig, ManifestError> {
    reader::read(file, text, |root| read::config(root, origin))
}

/// The settings of one application's run. The default is Spin's: everything below the state directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// `state_dir`: where stores are that name no place of their own.
    pub state_dir: Directory,
    /// `log_dir`: where guests' output goes, one file per component and stream.
    pub log_dir: Directory,
    /// `max_instance_memory`: linear memory of one instance, in bytes.
    pub max_instance_memory: Option<u64>,
    /// `[key_value_store.<label>]`.
    pub key_value_stores: BTreeMap<String, KeyValueStore>,
    /// `[sqlite_database.<label>]`.
    pub sqlite_databases: BTreeMap<String, SqliteDatabase>,
    /// `[[variables_provider]]`, the first that has a value wins.
    pub variables_providers: Vec<VariablesProvider>,
    /// `[llm_compute]`.
    pub llm_compute: Option<LlmCompute>,
    /// `[outbound_http]`.
    pub outbound_http: OutboundHttp,
    /// `[outbound_networking]`.
    pub outbound_networking: OutboundNetworking,
    /// `[outbound_redis]`: at most so many connections; `None` means no limit of its own.
    pub outbound_redis_connections: Option<usize>,
    /// `[outbound_pg]`.
    pub outbound_pg_connections: Option<usize>,
    /// `[outbound_mysql]`.
    pub outbound_mysql_connections: Option<usize>,
    /// `[outbound_mqtt]`.
    pub outbound_mqtt_connections: Option<usize>,
    /// `[[client_tls]]`.
    pub client_tls: Vec<ClientTls>,
}

/// A directory that has a default place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Directory {
    /// Nothing was said.
    #[default]
    Default,
    /// There is to be none: `""` in the file.
    None,
    /// This one.
    At(PathBuf),
}

/// What is behind a key-value label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyValueStore {
    /// `type = "spin"`: SQLite in a file.
    Spin {
        /// Default: `sqlite_key_value.db` in the state directory, in memory without one.
        path: Option<PathBuf>,
    },
    /// `type = "redis"`.
    Redis {
        /// `redis://` or `rediss://`; may hold a password.
        url: Secret,
        /// Goes before every key, so that apps can share a server without seeing each other's keys. Not in the file:
        /// [`RuntimeConfig::over_pool`] sets it for stores that the pool gives to all apps.
        prefix: Option<String>,
    },
}

/// What is behind a SQLite label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqliteDatabase {
    /// `type = "spin"`: a local file.
    Spin {
        /// Default: `sqlite_db.db` (for `default`) or `<label>_sqlite_db.db` in the state directory.
        path: Option<PathBuf>,
        /// `allow_attach_file`: whether guests may `ATTACH` other files. Default false.
        allow_attach_file: bool,
    },
    /// `type = "libsql"`: a server that speaks libSQL's HTTP protocol.
    Libsql {
        /// `http://`, `https://` or `libsql://`.
        url: String,
        /// The bearer token.
        token: Secret,
    },
}

/// Where values of variables come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariablesProvider {
    /// `type = "static"`.
    Static {
        /// By variable.
        values: BTreeMap<String, Secret>,
    },
    /// `type = "env"`: `<PREFIX>_<NAME>` in upper case.
    Env {
        /// Default `SPIN_VARIABLE`.
        prefix: String,
        /// A file of `NAME=value` lines that stand in for the environment's.
        dotenv_path: Option<PathBuf>,
    },
    /// `type = "vault"`: HashiCorp Vault's key-value engine, version 2; the field `value` of a secret.
    Vault {
        /// The server.
        url: String,
        /// Who to ask as.
        token: Secret,
        /// Where the engine is mounted.
        mount: String,
        /// Goes before the variable's name, separated by `/`.
        prefix: Option<String>,
    },
}

/// `[llm_compute]` with `type = "remote_http"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LlmCompute {
    /// The server.
    pub url: String,
    /// The bearer token.
    pub auth_token: Secret,
    /// Which API it speaks.
    pub api: LlmApi,
}

/// The API of an [`LlmCompute`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LlmApi {
    /// `default`: Spin's own (`POST /infer`, `POST /embed`).
    #[default]
    Spin,
    /// `open_ai`: chat completions and embeddings.
    OpenAi,
}

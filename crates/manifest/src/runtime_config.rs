//! [`RuntimeConfig`]: what `runtime-config.toml` says, Spin's file for whoever *runs* an application: which stores, databases,
//! variable providers and limits its components find behind the labels and names of the manifest.
//!
//! Absent on purpose: opening anything. A store that cannot be reached is found by the guest that opens it.

use std::{collections::BTreeMap, path::PathBuf};

/// The settings of one application's run. The default is Spin's: everything below the state directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// `state_dir`: where stores are that name no place of their own.
    pub state_dir: Option<PathBuf>,
    /// `log_dir`: where guests' output goes, one file per component and stream.
    pub log_dir: Option<PathBuf>,
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
    },
}

/// What is behind a SQLite label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqliteDatabase {
    /// `type = "spin"`: a local file.
    Spin {
        /// Default: `sqlite_db.db` (for `default`) or `<label>_sqlite_db.db` in the state directory.
        path: Option<PathBuf>,
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

/// `[outbound_http]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboundHttp {
    /// `connection_pooling`: whether connections are used again. Default true.
    pub connection_pooling: bool,
    /// `max_connections`: at a time, over all components; `None` means no limit of its own.
    pub max_connections: Option<usize>,
}

impl Default for OutboundHttp {
    fn default() -> Self {
        Self { connection_pooling: true, max_connections: None }
    }
}

/// `[outbound_networking]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundNetworking {
    /// `block_networks`: `private`, or networks such as `10.0.0.0/8`.
    pub block_networks: Vec<String>,
    /// `max_socket_connections`: of `wasi:sockets`, at a time.
    pub max_socket_connections: Option<usize>,
    /// `max_total_connections`: of all kinds, at a time.
    pub max_total_connections: Option<usize>,
}

/// One `[[client_tls]]`: how components prove themselves to servers, and whom they trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// For these components.
    pub component_ids: Vec<String>,
    /// When they call these hosts.
    pub hosts: Vec<String>,
    /// `ca_use_platform_roots`: trust the system's authorities. Default true, false with a `ca_roots_file`.
    pub platform_roots: bool,
    /// `ca_use_webpki_roots`: trust Mozilla's authorities.
    pub webpki_roots: bool,
    /// Authorities to trust, in PEM form.
    pub ca_roots_file: Option<PathBuf>,
    /// A certificate chain, in PEM form.
    pub client_cert_file: Option<PathBuf>,
    /// Its key, in PEM form.
    pub client_private_key_file: Option<PathBuf>,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

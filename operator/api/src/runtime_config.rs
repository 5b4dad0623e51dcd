//! The `runtimeConfig` of a `SpinApp`: what Spin's `runtime-config.toml` says, under the names of `SpinKube`'s.
//!
//! The operator turns it into that file and reads it as Spindle reads every such file, so whatever is wrong beyond the rules
//! below is a condition that names the field.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::spinapp::{ValueSource, object_name};

/// Which stores, databases and models the application's components find behind their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "!has(self.loadFromSecret) || !(has(self.keyValueStores) || has(self.sqliteDatabases) || has(self.llmCompute))",
    "message": "spec.runtimeConfig has loadFromSecret, which is the whole configuration: remove it, or remove keyValueStores, sqliteDatabases and llmCompute",
}])))]
pub struct RuntimeConfig {
    /// The name of a Secret in the app's namespace whose key `runtime-config.toml` is the whole configuration, as the file
    /// of that name for `spin up`. A change of the Secret makes another revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = object_name("spec.runtimeConfig.loadFromSecret")))]
    pub load_from_secret: Option<String>,
    /// What is behind the labels in `key_value_stores` of the application's components. Without an entry, `default` is a
    /// store that each runtime keeps for the app on its own disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub key_value_stores: Vec<KeyValueStoreConfig>,
    /// What is behind the labels in `sqlite_databases` of the application's components. Without an entry, `default` is a
    /// database that each runtime keeps for the app on its own disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub sqlite_databases: Vec<SqliteDatabaseConfig>,
    /// Where large language models are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_compute: Option<LlmComputeConfig>,
}

/// What is behind a key-value label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyValueStoreConfig {
    /// The label.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// `redis` with the option `url`, or `spin` without options: a file that each runtime keeps for the app on its own.
    #[serde(rename = "type")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = json!([{
        "rule": "self in ['spin', 'redis']",
        "message": "a type in spec.runtimeConfig.keyValueStores is not one that Spindle has: use redis or spin",
    }])))]
    pub kind: String,
    /// The options of this type, as in `runtime-config.toml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub options: Vec<ConfigOption>,
}

/// What is behind a SQLite label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqliteDatabaseConfig {
    /// The label.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// `libsql` with the options `url` and `token`, or `spin` without options: a file that each runtime keeps for the app
    /// on its own.
    #[serde(rename = "type")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = json!([{
        "rule": "self in ['spin', 'libsql']",
        "message": "a type in spec.runtimeConfig.sqliteDatabases is not one that Spindle has: use libsql or spin",
    }])))]
    pub kind: String,
    /// The options of this type, as in `runtime-config.toml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub options: Vec<ConfigOption>,
}

/// Where large language models are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlmComputeConfig {
    /// `remote_http` with the options `url`, `auth_token` and, if wanted, `api_type`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = json!([{
        "rule": "self == 'remote_http'",
        "message": "the type of spec.runtimeConfig.llmCompute is not one that Spindle has: use remote_http, with the url of a server that runs models",
    }])))]
    pub kind: String,
    /// The options of this type, as in `runtime-config.toml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub options: Vec<ConfigOption>,
}

/// One option of a store, database or model server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "has(self.value) != has(self.valueFrom)",
    "message": "an option in spec.runtimeConfig must have exactly one of value and valueFrom: remove one, or add the missing one",
}, {
    "rule": "self.name != 'path'",
    "message": "an option in options of spec.runtimeConfig has the name path, and apps have no paths on a cluster, where they share runtimes: remove it",
}])))]
pub struct ConfigOption {
    /// Its name in `runtime-config.toml`.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// The value itself. Not for secrets: everyone who can read the object can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where the value is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

//! [`SpinAppStatus`]: what the operator says is true of an app.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What is true of an app, as of [`SpinAppStatus::observed_generation`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpinAppStatus {
    /// The `metadata.generation` that everything here is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions, each type once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many runtimes the app is placed on.
    #[serde(default)]
    pub replicas: i32,
    /// How many runtimes serve the app and take its requests.
    #[serde(default)]
    pub ready_replicas: i32,
    /// `ready/desired`, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What the scale subresource shows as selector. Runtimes are shared, so no pod carries it: scale on
    /// external or object metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The port of the app on every runtime. Never changes while the app exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Where the app answers within the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The digest of the bundle that the current spec names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_digest: Option<String>,
    /// The version that its author gave the application that takes requests; until one does, that of the current
    /// spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The revision of the current spec, once resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<String>,
    /// The revision that takes requests. Another than `latestRevision` during an update and after one that
    /// failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_revision: Option<String>,
}

//! [`SpinAppStatus`]: what the operator says is true of an app.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

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
    /// The last change of revision: when it began, and how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// A change of revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that takes over; unknown while the spec is being resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// When the operator first saw the change.
    pub started_at: MicroTime,
    /// When it last got further. `spec.rollout.progressDeadlineSeconds` counts from here.
    pub progressed_at: MicroTime,
    /// When the revision took the app's requests on every runtime of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<MicroTime>,
    /// How long each phase took, once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<RolloutTimings>,
}

/// How long the phases of a change took, in milliseconds. One phase begins where the one before ends; a phase that the
/// operator did not see from beginning to end, because it was restarted meanwhile, is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTimings {
    /// Asking the source, Secrets and ConfigMaps until the revision was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_milliseconds: Option<i64>,
    /// Until it was loaded on every runtime of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_milliseconds: Option<i64>,
    /// Of that, fetching its content, on the slowest runtime; what was there already takes no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_milliseconds: Option<i64>,
    /// Of that, compiling and linking it, on the slowest runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_milliseconds: Option<i64>,
    /// Until it had passed its check on every runtime; left out without a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_milliseconds: Option<i64>,
    /// Until every runtime had switched to it. With strategy Recreate this includes stopping the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_milliseconds: Option<i64>,
    /// Writing the Service and its EndpointSlices, as far as they had to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_milliseconds: Option<i64>,
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_milliseconds: Option<i64>,
}

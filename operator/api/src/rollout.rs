//! The `rollout` of a `SpinApp`: how one revision takes over from the one before. The names are those of a Deployment.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How a new revision takes over from the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "!has(self.rollingUpdate) || !has(self.strategy) || self.strategy != 'Recreate'",
    "message": "spec.rollout.rollingUpdate means nothing with strategy Recreate: remove it, or set strategy to RollingUpdate",
}])))]
pub struct Rollout {
    /// `RollingUpdate`: the new revision is loaded beside the old one on every runtime of the app, and takes its requests
    /// when it is ready on all of them; no request is lost. `Recreate`, for apps that must not run twice: the new revision
    /// is loaded, then the old one is stopped everywhere, and only then is the new one checked and given requests; meanwhile
    /// requests are refused.
    #[serde(default = "rolling_update")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = json!([{
        "rule": "self in ['RollingUpdate', 'Recreate']",
        "message": "spec.rollout.strategy is not one that Spindle has: use RollingUpdate or Recreate",
    }])))]
    pub strategy: String,
    /// How a rolling update goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
    /// After how many seconds without getting further a change of the spec counts as failed: Progressing becomes false with
    /// the reason ProgressDeadlineExceeded. The operator goes on trying.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub progress_deadline_seconds: i32,
}

/// How a rolling update goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([
    {
        "rule": "!has(self.maxSurge) || (type(self.maxSurge) == int ? self.maxSurge >= 1 : self.maxSurge.matches('^([1-9][0-9]?|100)%$'))",
        "message": "spec.rollout.rollingUpdate.maxSurge is not a number of runtimes: write a whole number above zero, or a percentage of the app's runtimes from 1% to 100%",
    },
    {
        "rule": "!has(self.maxUnavailable) || (type(self.maxUnavailable) == int ? self.maxUnavailable == 0 : self.maxUnavailable == '0%')",
        "message": "spec.rollout.rollingUpdate.maxUnavailable is always 0 here, because the old revision serves until the new one takes over: remove it, or set it to 0",
    },
])))]
pub struct RollingUpdate {
    /// On how many runtimes at a time the new revision is loaded and checked beside the old one: a number, or a percentage of
    /// the app's runtimes, rounded up. Without it, on all of them at once. A revision that fails is tried on no more than
    /// that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub max_surge: Option<IntOrString>,
    /// Always 0: an update takes no runtime away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub max_unavailable: Option<IntOrString>,
}

fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true })
}

fn rolling_update() -> String {
    "RollingUpdate".to_owned()
}

const fn ten_minutes() -> i32 {
    600
}

//! The `checks` of a `SpinApp`, under the names of `SpinKube`'s.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a revision must answer on a runtime before it takes requests there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "!has(self.liveness)",
    "message": "spec.checks.liveness has no meaning here: each request runs in a fresh instance, so there is no process to restart, and spec.invocationLimits.timeout ends a request that takes too long; remove it, or make it spec.checks.readiness",
}])))]
pub struct Checks {
    /// A request that each new revision must answer well on a runtime before that runtime sends it the app's requests. Until
    /// then the revision before it goes on serving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<HealthProbe>,
    /// Refused: there is no process that a failed check could restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub liveness: Option<Value>,
}

/// A check. The runtime makes the request itself, through the app's routes and under its limits, not over a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "has(self.httpGet)",
    "message": "a check in spec.checks asks for nothing: set httpGet.path to a path that the app answers",
}])))]
pub struct HealthProbe {
    /// The request. An answer with a status between 200 and 399 is a good one; redirects are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// How many seconds after the revision was loaded the first request is made.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: i32,
    /// How many seconds an answer may take.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i32,
    /// How many seconds there are from one request to the next, if another is needed.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: i32,
    /// How many good answers in a row the revision needs.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: i32,
    /// After how many bad answers in a row the revision has failed. The check is then made again with growing pauses, and
    /// the revision is ready when it passes later.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,
}

/// A check's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// The path, and the query if there is one.
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches(\"^/([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*$\")",
        "message": "a check's httpGet.path is not a path: begin it with `/`, and write what is not a letter, a digit or one of -._~!$&'()*+,;=:@/? as %XX",
    }])))]
    pub path: String,
    /// Headers of the request. `Host` is `localhost` unless it is among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub http_headers: Vec<HttpHeader>,
}

/// A header of a check's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// Its name.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[A-Za-z0-9_-]+$')",
        "message": "a name in a check's httpGet.httpHeaders is not a header's: use letters, digits, `-` and `_`",
    }])))]
    pub name: String,
    /// Its value. Not for secrets: everyone who can read the object can read it.
    #[schemars(length(max = 1024), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[ -~]*$')",
        "message": "a value in a check's httpGet.httpHeaders cannot be sent: use printable ASCII characters",
    }])))]
    pub value: String,
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

const fn one() -> i32 {
    1
}

const fn three() -> i32 {
    3
}

const fn ten() -> i32 {
    10
}

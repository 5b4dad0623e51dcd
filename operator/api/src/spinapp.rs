//! [`SpinApp`]: what a user applies.
//!
//! Promise: every field does what it says; there is none that is accepted and ignored. The rules below
//! are checked by the API server itself (OpenAPI and CEL), so a wrong object is refused with a sentence
//! at apply time, also when no operator runs.

use std::collections::BTreeMap;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{checks::Checks, rollout::Rollout, runtime_config::RuntimeConfig, status::SpinAppStatus};

/// What to run, how often, and with which configuration.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "spindle.dev",
    version = "v1alpha1",
    kind = "SpinApp",
    plural = "spinapps",
    singular = "spinapp",
    namespaced,
    status = "SpinAppStatus",
    derive = "PartialEq",
    category = "spindle",
    doc = "A Spin application, served by Spindle's runtimes behind a Service of the same name.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "description": "Whether the current spec is served"}"#,
    printcolumn = r#"{"name": "Replicas", "type": "string", "jsonPath": ".status.summary", "description": "Runtimes that serve the app, of those that should"}"#,
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.version", "description": "The version that the application's author gave it"}"#,
    printcolumn = r#"{"name": "URL", "type": "string", "jsonPath": ".status.url", "description": "Where the app answers within the cluster"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason", "description": "Why it is ready or not", "priority": 1}"#,
    printcolumn = r#"{"name": "Revision", "type": "string", "jsonPath": ".status.activeRevision", "description": "The revision that takes requests", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    crates(
        kube_core = "::kube_core",
        k8s_openapi = "::k8s_openapi",
        schemars = "::schemars",
        serde = "::serde",
        serde_json = "::serde_json"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SpinAppSpec {
    /// Where the application is.
    pub source: Source,
    /// How many runtimes serve the app. 0 keeps its port and Service and stops serving it. When there are
    /// fewer runtimes than this, all of them serve it and the Degraded condition says so.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: i32,
    /// The values of the application's variables. Variables that are not listed keep the defaults that the
    /// application gives them; those without a default must be listed, or have a value from a variables provider of the
    /// runtime configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub variables: Vec<SpinAppVariable>,
    /// Which stores, databases and models the application's components find behind their labels, and where the values of
    /// variables come from. Without it, that of the installation holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_config: Option<RuntimeConfig>,
    /// The ids of the components to run; those that they call by service chaining run as well. Without it, all run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub components: Vec<String>,
    /// What one invocation, or all of the app on one runtime, may use. Without it, the runtime's own limits hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_limits: Option<InvocationLimits>,
    /// What each new revision must pass before it takes requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
    /// How a new revision takes over from the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Annotations for the app's Service, for ingress controllers, meshes and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "x-kubernetes-validations" = json!([{
        "rule": "self.all(key, !key.startsWith('spindle.dev/'))",
        "message": "a key in spec.serviceAnnotations begins with spindle.dev/, as those do that the operator writes: use another, or remove it",
    }, {
        "rule": "self.all(key, key.matches('^([A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
        "message": "a key in spec.serviceAnnotations is not an annotation's: write NAME or example.com/NAME, where NAME has at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit first and last",
    }])))]
    pub service_annotations: BTreeMap<String, String>,
    /// How many old revisions are remembered to go back to, as ControllerRevisions of the app's namespace. Only one that
    /// has been ready is.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 100))]
    pub revision_history_limit: i32,
}

impl SpinAppSpec {
    /// The fields, as in an object, that make no revision: changing one moves no app to another, and going back to a
    /// revision leaves them as they are.
    pub const NOT_OF_A_REVISION: [&str; 4] = ["replicas", "serviceAnnotations", "revisionHistoryLimit", "rollout"];
}

/// The rule that a text is an object's name, with the beginning of what is said of one that is not. Beyond being of use, it
/// keeps out what would be another path in a request for the object.
pub(crate) fn object_name(what: &str) -> Value {
    json!([{
        "rule": "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "message": format!(
            "{what} is not the name of an object: use lower-case letters, digits, `-` and `.`, with a letter or digit first and last"
        ),
    }])
}

const fn default_history() -> i32 {
    10
}

const fn default_replicas() -> i32 {
    2
}

/// Where an application is. Exactly one kind of source is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "has(self.bindle)",
    "message": "spec.source names no application: set spec.source.bindle.id to its name/version on a Bindle server",
}])))]
pub struct Source {
    /// A bundle on a Bindle server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindle: Option<BindleSource>,
}

/// A bundle on a Bindle server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindleSource {
    /// The bundle's name and version, as in `example.com/shop/1.2.0`. A bundle never changes: to run other
    /// content, name another version.
    #[schemars(length(min = 3, max = 512), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/[0-9]+[.][0-9]+[.][0-9]+([-+][0-9A-Za-z.+-]+)?$')",
        "message": "spec.source.bindle.id is not a bundle's name and version: write it as name/1.2.3, where the name may have further parts separated by `/`",
    }])))]
    pub id: String,
    /// The base URL of the server, which ends with its path prefix, as in `https://bindle.example.com/v1`.
    /// Without it, the server that the operator was installed with is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^https?://[^/?#@ ]+(/[^?# ]*)?$')",
        "message": "spec.source.bindle.server is not the base URL of a server: write it as https://HOST/v1, without user, query or fragment (a user and password go into the Secret that credentialsSecret names)",
    }])))]
    pub server: Option<String>,
    /// The name of a Secret of type `kubernetes.io/basic-auth` in the app's namespace, with keys `username`
    /// and `password`. Without it, the server is asked anonymously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = object_name("spec.source.bindle.credentialsSecret")))]
    pub credentials_secret: Option<String>,
}

/// One variable's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "has(self.value) != has(self.valueFrom)",
    "message": "a variable in spec.variables must have exactly one of value and valueFrom: remove one, or add the missing one",
}])))]
pub struct SpinAppVariable {
    /// The variable's name, as the application declares it: lower-case letters, digits and single `_`.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[a-z][a-z0-9]*(_[a-z0-9]+)*$')",
        "message": "a name in spec.variables is not a Spin variable's: use lower-case letters, digits and single underscores between them, starting with a letter",
    }])))]
    pub name: String,
    /// The value itself. Not for secrets: everyone who can read the object can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub value: Option<String>,
    /// Where the value is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// Where a value is. Exactly one is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = json!([{
    "rule": "has(self.secretKeyRef) != has(self.configMapKeyRef)",
    "message": "valueFrom must have exactly one of secretKeyRef and configMapKeyRef: remove one, or add the missing one",
}])))]
pub struct ValueSource {
    /// A key of a Secret in the app's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeySelector>,
    /// A key of a ConfigMap in the app's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeySelector>,
}

/// One key of an object in the app's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySelector {
    /// The object's name.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = object_name("the name in a secretKeyRef or configMapKeyRef")))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[-._a-zA-Z0-9]+$')",
        "message": "the key in a secretKeyRef or configMapKeyRef is not one that a Secret or ConfigMap can have: use letters, digits, `-`, `_` and `.`",
    }])))]
    pub key: String,
    /// Whether the variable is left at its default, or the option out, when the object or the key does not exist.
    /// Without it, the app waits until both do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// What one invocation of a component, or all of the app on one runtime, may use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvocationLimits {
    /// The linear memory of one instance, as a Kubernetes quantity such as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[0-9]+([kMGT]|[KMGT]i)?$') && !self.matches('^0+([kMGT]|[KMGT]i)?$')",
        "message": "spec.invocationLimits.memory is not an amount of memory: write a whole number of bytes above zero with a suffix such as Ki, Mi or Gi, as in 64Mi",
    }])))]
    pub memory: Option<String>,
    /// The wall-clock time of one request, such as `30s` or `1m30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^([0-9]{1,9}(ms|s|m|h))+$') && self.matches('[1-9]')",
        "message": "spec.invocationLimits.timeout is not a time: write whole numbers above zero with the units ms, s, m or h, as in 30s or 1m30s",
    }])))]
    pub timeout: Option<String>,
    /// The CPU time of one request, such as `500ms`: time spent computing, not waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^([0-9]{1,9}(ms|s|m|h))+$') && self.matches('[1-9]')",
        "message": "spec.invocationLimits.cpu is not a time: write whole numbers above zero with the units ms, s, m or h, as in 500ms",
    }])))]
    pub cpu: Option<String>,
    /// How many requests of the app run at a time on one runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<i32>,
    /// How many requests may wait on one runtime for one of those to end; others are answered with 503 at once. 0 means
    /// that none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub queue: Option<i32>,
    /// The body of one request, as a Kubernetes quantity such as `10Mi`; a larger one is answered with 413.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[0-9]+([kMGT]|[KMGT]i)?$') && !self.matches('^0+([kMGT]|[KMGT]i)?$')",
        "message": "spec.invocationLimits.body is not a size: write a whole number of bytes above zero with a suffix such as Ki, Mi or Gi, as in 10Mi",
    }])))]
    pub body: Option<String>,
    /// What the app's guests print on one runtime in one second, as a Kubernetes quantity such as `64Ki`; the rest is
    /// dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[0-9]+([kMGT]|[KMGT]i)?$') && !self.matches('^0+([kMGT]|[KMGT]i)?$')",
        "message": "spec.invocationLimits.output is not a size: write a whole number of bytes above zero with a suffix such as Ki, Mi or Gi, as in 64Ki",
    }])))]
    pub output: Option<String>,
    /// How many outgoing connections of the app are open at a time on one runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<i32>,
    /// What the app's stores may take on one runtime's disk, as a Kubernetes quantity such as `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = json!([{
        "rule": "self.matches('^[0-9]+([kMGT]|[KMGT]i)?$') && !self.matches('^0+([kMGT]|[KMGT]i)?$')",
        "message": "spec.invocationLimits.disk is not a size: write a whole number of bytes above zero with a suffix such as Ki, Mi or Gi, as in 1Gi",
    }])))]
    pub disk: Option<String>,
}

//! What each variant applies.

use std::fmt;

use serde_json::{Value, json};

/// One way to bring an app to its callers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Variant {
    /// This system.
    Spindle,
    /// The objects alone.
    HandWritten,
    /// A Deployment per app.
    Pod,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spindle => "spindle",
            Self::HandWritten => "hand-written",
            Self::Pod => "pod",
        })
    }
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Spindle, Self::HandWritten, Self::Pod];

    /// The objects for an app `name`, in the order in which they are applied.
    pub(crate) fn objects(self, name: &str, bundle: &str, node_ip: &str, port: u16) -> Vec<Value> {
        match self {
            Self::Spindle => vec![spin_app(name, bundle), ingress(name)],
            Self::HandWritten => vec![service(name, port, None), slice(name, node_ip, port), ingress(name)],
            Self::Pod => vec![deployment(name, port), service(name, port, Some(name)), ingress(name)],
        }
    }
}

/// A SpinApp on two runtimes.
pub(crate) fn spin_app(name: &str, bundle: &str) -> Value {
    json!({
        "apiVersion": "spindle.dev/v1alpha1", "kind": "SpinApp", "metadata": { "name": name },
        "spec": { "source": { "bindle": { "id": bundle } }, "replicas": 2 },
    })
}

fn ingress(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": name },
        "spec": { "rules": [{ "host": format!("{name}.test"), "http": { "paths": [{
            "path": "/", "pathType": "Prefix", "backend": { "service": { "name": name, "port": { "number": 80 } } },
        }] } }] },
    })
}

fn service(name: &str, port: u16, selector: Option<&str>) -> Value {
    let ports = json!([{ "name": "http", "port": 80, "targetPort": port, "protocol": "TCP" }]);
    let spec = match selector {
        Some(app) => json!({ "ports": ports, "selector": { "app": app } }),
        None => json!({ "ports": ports }),
    };
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
}

fn slice(name: &str, address: &str, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
    })
}

fn deployment(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "server", "image": "spindle/bench:dev", "imagePullPolicy": "IfNotPresent", "args": ["serve"],
                    "ports": [{ "containerPort": port }],
                }] },
            },
        },
    })
}

//! What the operator may do, declared once; the chart's roles are generated from it.
//!
//! Promise: sufficient and minimal, as an end-to-end test finds in the API server's audit log: nothing was refused, and each verb
//! was needed. No `*`, no write outside the kinds that it makes, Secrets written in its own namespace only.

/// One rule of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What it is needed for, for the reference.
    pub why: &'static str,
    /// The API groups; the empty one is Kubernetes's core.
    pub groups: &'static [&'static str],
    /// The resources and subresources.
    pub resources: &'static [&'static str],
    /// The names that it is limited to; empty means all.
    pub names: &'static [&'static str],
    /// The verbs.
    pub verbs: &'static [&'static str],
}

/// The Secret of the certificate authorities, in the operator's namespace.
pub const CA_SECRET: &str = "spindle-ca";

/// The Secret of what runtimes present and trust, in the operator's namespace.
pub const RUNTIME_SECRET: &str = "spindle-runtime-tls";

/// The Lease by which one operator of several leads, in the operator's namespace.
pub const LEASE: &str = "spindle-operator";

/// In every namespace.
pub const CLUSTER: &[Rule] = &[
    Rule {
        why: "To know the apps.",
        groups: &["spindle.dev"],
        resources: &["spinapps"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "To say how they are.",
        groups: &["spindle.dev"],
        resources: &["spinapps/status"],
        names: &[],
        verbs: &["patch"],
    },
    Rule {
        why: "Each app has a Service of its name. It is deleted by Kubernetes, together with the app.",
        groups: &[""],
        resources: &["services"],
        names: &[],
        verbs: &["list", "watch", "create", "patch"],
    },
    Rule {
        why: "Each app has EndpointSlices that lead to the runtimes that serve it.",
        groups: &["discovery.k8s.io"],
        resources: &["endpointslices"],
        names: &[],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
    Rule {
        why: "Each app has ControllerRevisions: the revisions that one can go back to.",
        groups: &["apps"],
        resources: &["controllerrevisions"],
        names: &[],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
    Rule {
        why: "OpenShift asks for this before it lets anybody write the address of a pod into an EndpointSlice.",
        groups: &["discovery.k8s.io"],
        resources: &["endpointslices/restricted"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "To read the variables and credentials that apps refer to. Changes are noticed by a watch of metadata; only what an app refers to is read.",
        groups: &[""],
        resources: &["secrets", "configmaps"],
        names: &[],
        verbs: &["get", "list", "watch"],
    },
    Rule {
        why: "To know the zones of runtimes, for topology-aware routing.",
        groups: &[""],
        resources: &["nodes"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Rule {
        why: "To tell what happens to an app.",
        groups: &["events.k8s.io"],
        resources: &["events"],
        names: &[],
        verbs: &["create", "patch"],
    },
];

/// In the operator's own namespace.
pub const NAMESPACE: &[Rule] = &[
    Rule { why: "To find the runtimes.", groups: &[""], resources: &["pods"], names: &[], verbs: &["list", "watch"] },
    Rule {
        why: "To make the two Secrets of certificates. Kubernetes cannot limit the making to names.",
        groups: &[""],
        resources: &["secrets"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "To keep them up to date.",
        groups: &[""],
        resources: &["secrets"],
        names: &[CA_SECRET, RUNTIME_SECRET],
        verbs: &["get", "update"],
    },
    Rule {
        why: "To stand for leader.",
        groups: &["coordination.k8s.io"],
        resources: &["leases"],
        names: &[],
        verbs: &["create"],
    },
    Rule {
        why: "To lead.",
        groups: &["coordination.k8s.io"],
        resources: &["leases"],
        names: &[LEASE],
        verbs: &["get", "update"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_has_a_wildcard() {
        for rule in CLUSTER.iter().chain(NAMESPACE) {
            assert!(!rule.verbs.is_empty() && !rule.resources.is_empty() && !rule.groups.is_empty());
            let words = rule.groups.iter().chain(rule.resources).chain(rule.names).chain(rule.verbs);
            assert!(words.into_iter().all(|word| !word.contains('*')), "{rule:?}");
        }
    }

    #[test]
    fn no_rule_writes_secrets_of_others() {
        let writes = |rule: &&Rule| {
            rule.resources.contains(&"secrets")
                && rule.verbs.iter().any(|verb| !["get", "list", "watch"].contains(verb))
        };
        assert_eq!(CLUSTER.iter().find(writes), None);
    }
}

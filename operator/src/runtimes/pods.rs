//! What Kubernetes says about a pod, as far as it matters for the runtime in it.

use std::{net::IpAddr, sync::Arc};

use control::RuntimeName;
use k8s_openapi::{api::core::v1 as core, jiff::Timestamp};
use operator_core::{Pod, view::Identity};

use super::PodFacts;

/// The name of the runtime in a pod.
pub(super) fn name_of(pod: &core::Pod) -> Option<RuntimeName> {
    pod.metadata.name.clone().map(RuntimeName)
}

/// What matters of a pod; `None` when it has ended for good.
pub(super) fn facts(pod: &core::Pod) -> Option<PodFacts> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let id = Identity {
        name: name_of(pod)?,
        uid: pod.metadata.uid.clone()?,
        namespace: pod.metadata.namespace.clone()?,
        ips: addresses(status),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
    };
    Some(PodFacts { id: Arc::new(id), state: state(pod) })
}

/// At most one address of each family, the primary one first.
fn addresses(status: Option<&core::PodStatus>) -> Vec<IpAddr> {
    let Some(status) = status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in all.filter_map(|ip| ip.parse::<IpAddr>().ok()) {
        if addresses.iter().all(|known| known.is_ipv4() != ip.is_ipv4()) {
            addresses.push(ip);
        }
    }
    addresses
}

fn state(pod: &core::Pod) -> Pod {
    if pod.metadata.deletion_timestamp.is_some() {
        return Pod::Terminating;
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => Pod::Ready,
        _ => {
            let since = ready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            Pod::NotReady { since: since.or(created).unwrap_or_else(Timestamp::now) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> core::Pod {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_dual_stack_pod_has_one_address_of_each_family_and_the_primary_one_first() {
        let facts = facts(&pod(serde_json::json!({
            "metadata": { "name": "r1", "namespace": "spindle", "uid": "u1" },
            "status": { "podIP": "10.0.0.7", "podIPs": [{ "ip": "10.0.0.7" }, { "ip": "fd00::7" }] },
        })))
        .unwrap();
        assert_eq!(facts.id.ips, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
    }

    #[test]
    fn a_pod_that_has_ended_is_no_runtime() {
        let ended = pod(serde_json::json!({
            "metadata": { "name": "r1", "namespace": "spindle", "uid": "u1" },
            "status": { "phase": "Failed", "podIP": "10.0.0.7" },
        }));
        assert_eq!(facts(&ended), None);
    }

    #[test]
    fn a_pod_being_deleted_is_terminating_even_while_it_is_ready() {
        let leaving = pod(serde_json::json!({
            "metadata": { "name": "r1", "namespace": "spindle", "uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        }));
        assert_eq!(facts(&leaving).unwrap().state, Pod::Terminating);
    }
}

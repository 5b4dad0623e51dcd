//! Which app an object of each watched kind concerns, and what of it is kept.

use control::AppKey;
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{Service, ServiceSpec},
    discovery::v1::EndpointSlice,
};
use kube::Resource as _;
use operator_api::{SpinApp, names};

use crate::cache::Concerns;

/// What `kubectl apply` leaves behind: a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Concerns for SpinApp {
    fn app(&self) -> Option<AppKey> {
        AppKey::new(self.metadata.namespace.as_deref()?, self.metadata.name.as_deref()?).ok()
    }

    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
    }
}

impl Concerns for Service {
    fn app(&self) -> Option<AppKey> {
        AppKey::new(self.metadata.namespace.as_deref()?, self.metadata.name.as_deref()?).ok()
    }

    /// Of a Service that no app owns and that we have not made, only that it exists matters.
    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        self.status = None;
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        let labels = self.metadata.labels.as_ref();
        let made_by_us =
            labels.and_then(|labels| labels.get(names::MANAGED_BY_LABEL)).is_some_and(|by| by == names::MANAGED_BY);
        if made_by_us || owners.iter().any(|owner| owner.kind == SpinApp::kind(&())) {
            if let Some(spec) = self.spec.take() {
                let ServiceSpec { ports, selector, .. } = spec;
                self.spec = Some(ServiceSpec { ports, selector, ..ServiceSpec::default() });
            }
        } else {
            self.metadata.annotations = None;
            self.metadata.labels = None;
            self.spec = None;
        }
    }
}

impl Concerns for ControllerRevision {
    fn app(&self) -> Option<AppKey> {
        let app = self.metadata.labels.as_ref()?.get(names::APP_LABEL)?;
        AppKey::new(self.metadata.namespace.as_deref()?, app).ok()
    }

    /// What it holds is for whoever goes back to it.
    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        self.data = None;
    }
}

impl Concerns for EndpointSlice {
    fn app(&self) -> Option<AppKey> {
        let service = self.metadata.labels.as_ref()?.get(names::SLICE_SERVICE_LABEL)?;
        AppKey::new(self.metadata.namespace.as_deref()?, service).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(labels: &serde_json::Value, owner: &str) -> Service {
        let mut service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {
                "namespace": "shop", "name": "cart", "labels": labels, "annotations": { "a": "b" },
                "ownerReferences": [{ "apiVersion": "v1", "kind": owner, "name": "cart", "uid": "u" }],
            },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }], "selector": { "app": "other" } },
        }))
        .unwrap();
        service.trim();
        service
    }

    #[test]
    fn of_a_service_everything_is_kept_that_tells_whether_it_is_ours_and_right() {
        let ours = serde_json::json!({ names::MANAGED_BY_LABEL: names::MANAGED_BY, names::APP_LABEL: "cart" });
        for kept in [service(&ours, "Nobody"), service(&serde_json::json!({}), "SpinApp")] {
            let spec = kept.spec.unwrap();
            assert!(spec.ports.is_some() && spec.selector.is_some() && kept.metadata.labels.is_some());
            assert_eq!(spec.cluster_ip, None);
        }
    }

    #[test]
    fn of_a_service_of_somebody_else_only_that_it_exists_is_kept() {
        let theirs = service(&serde_json::json!({ names::MANAGED_BY_LABEL: "Helm" }), "Nobody");
        assert!(theirs.spec.is_none() && theirs.metadata.labels.is_none() && theirs.metadata.annotations.is_none());
    }
}

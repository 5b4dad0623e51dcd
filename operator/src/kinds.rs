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

    /// Of a Service that no app owns, only that it exists matters.
    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        self.status = None;
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        if owners.iter().any(|owner| owner.kind == SpinApp::kind(&())) {
            if let Some(spec) = self.spec.take() {
                self.spec = Some(ServiceSpec { ports: spec.ports, ..ServiceSpec::default() });
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

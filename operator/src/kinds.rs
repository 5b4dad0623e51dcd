//! Which app an object of each watched kind concerns, and what of it is kept.

use std::{borrow::Cow, sync::Arc};

use control::AppKey;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::ControllerRevision,
        core::v1::{Service, ServiceSpec},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use operator_api::{SpinApp, names};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use crate::cache::Concerns;

/// What `kubectl apply` leaves behind: a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A SpinApp as the API server has it. One that was stored under another version of the CRD may say what this
/// operator cannot read; it stops no other, neither in a list nor in a watch.
#[derive(Debug, Clone)]
pub enum AppObject {
    /// One that can be read.
    Readable(Arc<SpinApp>),
    /// One that cannot.
    Unreadable(Box<Unreadable>),
}

/// What is known of a SpinApp that cannot be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Its name, namespace, uid and version; more if that can be read.
    pub metadata: ObjectMeta,
    /// The port that its status has, which nobody else may get.
    pub port: Option<i32>,
    /// What is wrong with it.
    pub why: String,
}

impl AppObject {
    /// The app's uid and the port of its status.
    #[must_use]
    pub fn claim(&self) -> Option<(&str, i32)> {
        let port = match self {
            Self::Readable(app) => app.status.as_ref()?.port?,
            Self::Unreadable(app) => app.port?,
        };
        Some((self.meta().uid.as_deref()?, port))
    }
}

impl<'de> Deserialize<'de> for AppObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let why = match SpinApp::deserialize(&value) {
            Ok(app) => return Ok(Self::Readable(Arc::new(app))),
            Err(why) => why.to_string(),
        };
        let Some(metadata) = value.get("metadata") else { return Err(D::Error::custom(why)) };
        let text = |field: &str| metadata.get(field).and_then(Value::as_str).map(str::to_owned);
        let metadata = ObjectMeta::deserialize(metadata).unwrap_or_else(|_| ObjectMeta {
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        });
        let port = value.pointer("/status/port").and_then(Value::as_i64).and_then(|port| i32::try_from(port).ok());
        Ok(Self::Unreadable(Box::new(Unreadable { metadata, port, why })))
    }
}

impl Resource for AppObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        SpinApp::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        SpinApp::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        SpinApp::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        SpinApp::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Readable(app) => &app.metadata,
            Self::Unreadable(app) => &app.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Readable(app) => &mut Arc::make_mut(app).metadata,
            Self::Unreadable(app) => &mut app.metadata,
        }
    }
}

impl Concerns for AppObject {
    const BY_NAME: bool = true;

    fn app(&self) -> Option<AppKey> {
        let meta = self.meta();
        AppKey::new(meta.namespace.as_deref()?, meta.name.as_deref()?).ok()
    }

    fn trim(&mut self) {
        let meta = self.meta_mut();
        meta.managed_fields = None;
        if let Some(annotations) = &mut meta.annotations {
            annotations.remove(LAST_APPLIED);
        }
    }
}

impl Concerns for Service {
    const BY_NAME: bool = true;

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
                let ServiceSpec { ports, selector, type_, .. } = spec;
                self.spec = Some(ServiceSpec { ports, selector, type_, ..ServiceSpec::default() });
            }
        } else {
            self.metadata.annotations = None;
            self.metadata.labels = None;
            self.spec = None;
        }
    }
}

impl Concerns for ControllerRevision {
    const BY_NAME: bool = false;

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
    const BY_NAME: bool = false;

    fn app(&self) -> Option<AppKey> {
        let service = self.metadata.labels.as_ref()?.get(names::SLICE_SERVICE_LABEL)?;
        AppKey::new(self.metadata.namespace.as_deref()?, service).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> AppObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_app_that_cannot_be_read_keeps_its_name_its_version_and_its_port() {
        let app = read(json!({
            "metadata": { "namespace": "shop", "name": "cart", "uid": "u", "resourceVersion": "7" },
            "spec": { "source": { "bindle": { "id": "a/1.0.0" } }, "replicas": "two" },
            "status": { "port": 12_000 },
        }));
        assert_eq!(app.app(), AppKey::new("shop", "cart").ok());
        assert_eq!(app.claim(), Some(("u", 12_000)));
        let AppObject::Unreadable(app) = app else { panic!("it was read") };
        assert_eq!(app.metadata.resource_version.as_deref(), Some("7"));
        assert!(app.why.contains("two"), "{}", app.why);
    }

    #[test]
    fn what_nobody_reads_of_an_app_is_not_kept() {
        let mut app = read(json!({
            "metadata": {
                "namespace": "shop", "name": "cart", "managedFields": [{ "manager": "kubectl" }],
                "annotations": { LAST_APPLIED: "a copy of everything", "mine": "kept" },
            },
            "spec": { "source": { "bindle": { "id": "a/1.0.0" } } },
        }));
        app.trim();
        let meta = app.meta();
        assert_eq!(meta.managed_fields, None);
        assert_eq!(meta.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["mine"]);
    }

    fn service(labels: &Value, owner: &str) -> Service {
        let mut service: Service = serde_json::from_value(json!({
            "metadata": {
                "namespace": "shop", "name": "cart", "labels": labels, "annotations": { "a": "b" },
                "ownerReferences": [{ "apiVersion": "v1", "kind": owner, "name": "cart", "uid": "u" }],
            },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }], "selector": { "app": "other" }, "type": "ExternalName" },
        }))
        .unwrap();
        service.trim();
        service
    }

    #[test]
    fn of_a_service_everything_is_kept_that_tells_whether_it_is_ours_and_right() {
        let ours = json!({ names::MANAGED_BY_LABEL: names::MANAGED_BY, names::APP_LABEL: "cart" });
        for kept in [service(&ours, "Nobody"), service(&json!({}), "SpinApp")] {
            let spec = kept.spec.unwrap();
            assert!(spec.ports.is_some() && spec.selector.is_some() && spec.type_.is_some());
            assert!(kept.metadata.labels.is_some());
            assert_eq!(spec.cluster_ip, None);
        }
    }

    #[test]
    fn of_a_service_of_somebody_else_only_that_it_exists_is_kept() {
        let theirs = service(&json!({ names::MANAGED_BY_LABEL: "Helm" }), "Nobody");
        assert!(theirs.spec.is_none() && theirs.metadata.labels.is_none() && theirs.metadata.annotations.is_none());
    }
}

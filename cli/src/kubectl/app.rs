//! An app, and who serves it.

use std::collections::BTreeSet;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, api::ListParams};
use operator_api::{Condition, ConditionType, SpinApp, names};

use super::Place;

/// A runtime that an app's requests go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serving {
    /// The pod's namespace.
    pub(super) namespace: String,
    /// The pod's name.
    pub(super) pod: String,
    /// The app's port there.
    pub(super) port: u16,
    /// Whether it is sent new requests.
    pub(super) ready: bool,
}

/// The name in `NAME` or, as `kubectl` has it elsewhere, in `spinapp/NAME`.
pub(super) fn name(text: &str) -> Result<String, String> {
    let (kind, name) = text.split_once('/').map_or((None, text), |(kind, name)| (Some(kind), name));
    let is_kind =
        kind.is_none_or(|kind| ["spinapp", "spinapps", "spinapp.spindle.dev", "spinapps.spindle.dev"].contains(&kind));
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    if is_kind && is_name {
        Ok(name.to_owned())
    } else {
        Err("it is not the name of a SpinApp: write NAME or spinapp/NAME".to_owned())
    }
}

/// The app `name`.
pub(super) async fn get(place: &Place, name: &str) -> anyhow::Result<SpinApp> {
    let api: Api<SpinApp> = Api::namespaced(place.client.clone(), &place.namespace);
    api.get(name).await.map_err(|error| unreadable(error, &place.namespace))
}

/// The apps of a namespace, or of all.
pub(super) async fn list(place: &Place, all_namespaces: bool) -> anyhow::Result<Vec<SpinApp>> {
    let api: Api<SpinApp> = if all_namespaces {
        Api::all(place.client.clone())
    } else {
        Api::namespaced(place.client.clone(), &place.namespace)
    };
    let found = api.list(&ListParams::default()).await;
    Ok(found.map_err(|error| unreadable(error, &place.namespace))?.items)
}

/// Why SpinApps cannot be read. An API server that knows the kind names the object that it has not; what it says of a path that
/// it does not know is plain text, of which only the code can be told.
fn unreadable(error: kube::Error, namespace: &str) -> anyhow::Error {
    let kube::Error::Api(status) = &error else {
        return anyhow::Error::new(error).context(format!("cannot read SpinApps of namespace {namespace}"));
    };
    let named = status.details.as_ref().map(|details| details.name.as_str()).filter(|name| !name.is_empty());
    match named {
        Some(name) if status.code == 404 => anyhow!(
            "there is no SpinApp `{name}` in namespace {namespace}: `kubectl get spinapps -A` lists them all (-n sets the namespace)"
        ),
        None if status.code == 404 => anyhow!(
            "this cluster knows no SpinApps: install Spindle (`helm install`), or apply its CRD (`kubectl apply -f crds/`)"
        ),
        Some(_) | None => anyhow::Error::new(error).context(format!("cannot read SpinApps of namespace {namespace}")),
    }
}

/// The runtimes that serve the app `name`, each once.
pub(super) async fn serving(place: &Place, name: &str) -> anyhow::Result<BTreeSet<Serving>> {
    let api: Api<EndpointSlice> = Api::namespaced(place.client.clone(), &place.namespace);
    let ours =
        format!("{}={},{}={name}", names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGED_BY, names::SLICE_SERVICE_LABEL);
    let slices = api.list(&ListParams::default().labels(&ours)).await.context("cannot read EndpointSlices")?;
    Ok(slices.items.iter().flat_map(endpoints).collect())
}

/// The runtimes in a slice.
pub(super) fn endpoints(slice: &EndpointSlice) -> Vec<Serving> {
    let port = slice.ports.as_deref().and_then(<[_]>::first).and_then(|port| port.port);
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
    let serving = slice.endpoints.iter().filter_map(|endpoint| {
        let target = endpoint.target_ref.as_ref()?;
        Some(Serving {
            namespace: target.namespace.clone()?,
            pod: target.name.clone()?,
            port,
            ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or_default(),
        })
    });
    serving.collect()
}

/// A condition of the app, if it has it.
pub(super) fn condition(app: &SpinApp, kind: ConditionType) -> Option<&Condition> {
    app.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Where the spec says that the application is.
pub(super) fn source(app: &SpinApp) -> String {
    app.spec.source.bindle.as_ref().map_or_else(|| "-".to_owned(), |bindle| bindle.id.clone())
}

/// How long ago the object was made, in seconds.
pub(super) fn seconds_since_creation(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<i64> {
    let made = meta.creation_timestamp.as_ref()?.0;
    Some(k8s_openapi::jiff::Timestamp::now().duration_since(made).as_secs())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn said(status: serde_json::Value) -> String {
        let status: Status = serde_json::from_value(status).unwrap();
        format!("{:#}", unreadable(kube::Error::Api(Box::new(status)), "demo"))
    }

    #[test]
    fn an_app_is_named_as_kubectl_has_it_and_what_would_be_another_path_is_not() {
        for text in ["shop", "spinapp/shop", "spinapps/shop", "spinapp.spindle.dev/shop"] {
            assert_eq!(name(text).as_deref(), Ok("shop"), "{text}");
        }
        for text in ["", "spinapp/", "pod/shop", "spinapp/a/b", "../shop", "Shop", "shop?watch=true"] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_app_that_is_not_there_is_told_from_a_cluster_without_spindle_and_from_a_right_that_lacks() {
        let details = json!({ "name": "shop", "group": "spindle.dev", "kind": "spinapps" });
        let missing = said(json!({ "code": 404, "reason": "NotFound", "message": "not found", "details": details }));
        assert!(missing.starts_with("there is no SpinApp `shop` in namespace demo"), "{missing}");
        let unknown =
            said(json!({ "code": 404, "reason": "Failed to parse error data", "message": "404 page not found" }));
        assert!(unknown.starts_with("this cluster knows no SpinApps: install Spindle"), "{unknown}");
        let details = json!({ "group": "spindle.dev", "kind": "spinapps" });
        let forbidden =
            said(json!({ "code": 403, "reason": "Forbidden", "message": "you may not", "details": details }));
        assert!(forbidden.contains("cannot read SpinApps") && forbidden.contains("you may not"), "{forbidden}");
    }
}

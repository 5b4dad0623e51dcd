//! Between the plan's words and Kubernetes's objects: what is written, and what of it is read back.
//!
//! Promise: reading what was written gives what was meant, whatever the API server has filled in. The
//! Service's type, cluster address and session settings are not ours, so nobody's edit of them is undone.

use std::{collections::BTreeMap, net::IpAddr};

use control::RuntimeName;
use k8s_openapi::{
    api::{
        apps::v1 as apps,
        core::v1::{self as core, ObjectReference},
        discovery::v1 as discovery,
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        runtime::RawExtension,
        util::intstr::IntOrString,
    },
};
use operator_api::names;

use crate::{
    history::{Entry, Record},
    publish::{Endpoint, Family, Service, Slice},
    view::{App, ServiceState},
};

/// On a Service: the keys of the annotations that the spec asked for, so that one which it no longer asks
/// for is noticed.
const ANNOTATION_KEYS: &str = "spindle.dev/service-annotations";

/// The object to apply for a [`Service`] of `app`.
#[must_use]
pub fn service_object(app: &App, service: &Service) -> core::Service {
    let mut annotations = service.annotations.clone();
    if !annotations.is_empty() {
        let keys: Vec<&str> = service.annotations.keys().map(String::as_str).collect();
        annotations.insert(ANNOTATION_KEYS.to_owned(), keys.join(","));
    }
    core::Service {
        metadata: ObjectMeta {
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..metadata(app, app.key.name(), BTreeMap::new())
        },
        spec: Some(core::ServiceSpec {
            ip_family_policy: Some("PreferDualStack".to_owned()),
            ports: Some(vec![core::ServicePort {
                name: Some(names::PORT_NAME.to_owned()),
                app_protocol: Some("http".to_owned()),
                protocol: Some("TCP".to_owned()),
                port: i32::from(names::SERVICE_PORT),
                target_port: Some(IntOrString::Int(i32::from(service.target_port))),
                node_port: None,
            }]),
            ..core::ServiceSpec::default()
        }),
        status: None,
    }
}

/// What the object of the app's name is to the app.
#[must_use]
pub fn service_of(app: &App, object: Option<&core::Service>) -> ServiceState {
    let Some(object) = object else { return ServiceState::Absent };
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    if !owners.iter().any(|owner| owner.uid == app.uid) {
        return ServiceState::Foreign(owners.first().map_or_else(
            || "a Service that was not made for it".to_owned(),
            |owner| format!("a Service of {} {}", owner.kind, owner.name),
        ));
    }
    let all = object.metadata.annotations.clone().unwrap_or_default();
    let keys = all.get(ANNOTATION_KEYS).cloned().unwrap_or_default();
    let annotations =
        keys.split(',').filter_map(|key| all.get(key).map(|value| (key.to_owned(), value.clone()))).collect();
    ServiceState::Ours(Service { annotations, target_port: target_port(object).unwrap_or_default() })
}

/// The port that the Service leads to, if its one port is as we write it.
fn target_port(object: &core::Service) -> Option<u16> {
    let ports = object.spec.as_ref()?.ports.as_deref()?;
    let [port] = ports else { return None };
    let ours = port.port == i32::from(names::SERVICE_PORT) && port.name.as_deref() == Some(names::PORT_NAME);
    match port.target_port.as_ref()? {
        IntOrString::Int(number) if ours => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// The object to apply for a [`Slice`] of `app`.
#[must_use]
pub fn slice_object(app: &App, slice: &Slice) -> discovery::EndpointSlice {
    let labels = BTreeMap::from([
        (names::SLICE_SERVICE_LABEL.to_owned(), app.key.name().to_owned()),
        (names::SLICE_MANAGED_BY_LABEL.to_owned(), names::SLICE_MANAGED_BY.to_owned()),
    ]);
    discovery::EndpointSlice {
        metadata: metadata(app, &slice.name, labels),
        address_type: slice.family.as_str().to_owned(),
        endpoints: slice.endpoints.iter().map(endpoint_object).collect(),
        ports: Some(vec![discovery::EndpointPort {
            name: Some(names::PORT_NAME.to_owned()),
            app_protocol: Some("http".to_owned()),
            protocol: Some("TCP".to_owned()),
            port: Some(i32::from(slice.port)),
        }]),
    }
}

fn endpoint_object(endpoint: &Endpoint) -> discovery::Endpoint {
    discovery::Endpoint {
        addresses: vec![endpoint.address.to_string()],
        conditions: Some(discovery::EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        node_name: endpoint.node.clone(),
        zone: endpoint.zone.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(endpoint.namespace.clone()),
            name: Some(endpoint.runtime.0.clone()),
            uid: Some(endpoint.uid.clone()),
            ..ObjectReference::default()
        }),
        ..discovery::Endpoint::default()
    }
}

/// The slice that `object` is, if it is one of this app's: our label, the app's Service, the app's uid as
/// owner.
///
/// An endpoint that we did not write is left out, so the slice differs from the one that is wanted and is
/// written again.
#[must_use]
pub fn slice_of(app: &App, object: &discovery::EndpointSlice) -> Option<Slice> {
    let labels = object.metadata.labels.as_ref()?;
    let owners = object.metadata.owner_references.as_deref()?;
    let is = |label: &str, value: &str| labels.get(label).is_some_and(|found| found == value);
    let ours = is(names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGED_BY)
        && is(names::SLICE_SERVICE_LABEL, app.key.name())
        && object.metadata.namespace.as_deref() == Some(app.key.namespace())
        && owners.iter().any(|owner| owner.uid == app.uid);
    let port = object.ports.as_deref().and_then(<[_]>::first).and_then(|port| port.port);
    ours.then_some(Slice {
        name: object.metadata.name.clone()?,
        family: Family::parse(&object.address_type)?,
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default(),
        endpoints: object.endpoints.iter().filter_map(endpoint_of).collect(),
    })
}

fn endpoint_of(object: &discovery::Endpoint) -> Option<Endpoint> {
    let target = object.target_ref.as_ref()?;
    let conditions = object.conditions.as_ref()?;
    let [address] = object.addresses.as_slice() else { return None };
    Some(Endpoint {
        runtime: RuntimeName(target.name.clone()?),
        namespace: target.namespace.clone()?,
        uid: target.uid.clone()?,
        address: address.parse::<IpAddr>().ok()?,
        node: object.node_name.clone(),
        zone: object.zone.clone(),
        ready: conditions.ready?,
        serving: conditions.serving?,
        terminating: conditions.terminating?,
    })
}

/// The object to apply for an entry of `app`'s history.
#[must_use]
pub fn entry_object(app: &App, record: &Record) -> apps::ControllerRevision {
    let mut metadata = metadata(app, &record.entry.name, BTreeMap::new());
    let words = [(names::VERSION_ANNOTATION, &record.version), (names::REVISION_ANNOTATION, &record.revision)];
    let words = words.into_iter().filter_map(|(name, word)| Some((name.to_owned(), word.clone()?)));
    metadata.annotations = Some(words.collect());
    apps::ControllerRevision {
        metadata,
        data: Some(RawExtension(serde_json::json!({ "spec": *record.template.spec }))),
        revision: record.entry.number,
    }
}

/// The entry that `object` is, if it is one of this app's.
#[must_use]
pub fn entry_of(app: &App, object: &apps::ControllerRevision) -> Option<Entry> {
    let owners = object.metadata.owner_references.as_deref()?;
    let ours = owners.iter().any(|owner| owner.uid == app.uid);
    ours.then_some(Entry { name: object.metadata.name.clone()?, number: object.revision })
}

/// The metadata of everything that is made for an app: deleted with it, and easy to find.
fn metadata(app: &App, name: &str, mut labels: BTreeMap<String, String>) -> ObjectMeta {
    labels.insert(names::APP_LABEL.to_owned(), app.key.name().to_owned());
    labels.insert(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned());
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(app.key.namespace().to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", names::GROUP, names::VERSION),
            kind: "SpinApp".to_owned(),
            name: app.key.name().to_owned(),
            uid: app.uid.clone(),
            controller: Some(true),
            // Blocking would need permission on the finalizers of every app, and gains nothing.
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{app, endpoint};

    #[test]
    fn service_reads_back_as_it_was_written_whatever_others_annotate() {
        let app = app("shop");
        let service = Service {
            annotations: BTreeMap::from([("a.example/b".to_owned(), "c,d".to_owned())]),
            target_port: 12_345,
        };
        let mut object = service_object(&app, &service);
        object.metadata.annotations.as_mut().unwrap().insert("other".to_owned(), "1".to_owned());
        assert_eq!(service_of(&app, Some(&object)), ServiceState::Ours(service));
    }

    #[test]
    fn service_that_somebody_else_made_is_foreign() {
        let shop = app("shop");
        let mut object = service_object(&shop, &Service { annotations: BTreeMap::new(), target_port: 1 });
        object.metadata.owner_references = None;
        assert!(matches!(service_of(&shop, Some(&object)), ServiceState::Foreign(_)));
        assert_eq!(service_of(&shop, None), ServiceState::Absent);
    }

    #[test]
    fn slice_reads_back_as_it_was_written() {
        let app = app("shop");
        let slice = Slice {
            name: "shop-ipv4".to_owned(),
            family: Family::V4,
            port: 12_345,
            endpoints: vec![endpoint("r1", "10.0.0.1")],
        };
        assert_eq!(slice_of(&app, &slice_object(&app, &slice)), Some(slice));
    }

    #[test]
    fn slice_of_an_app_that_had_the_same_name_is_not_this_apps() {
        let old = app("shop");
        let new = App { uid: "another".to_owned(), ..old.clone() };
        let slice = Slice { name: "shop-ipv4".to_owned(), family: Family::V4, port: 1, endpoints: vec![] };
        assert_eq!(slice_of(&new, &slice_object(&old, &slice)), None);
    }

    #[test]
    fn service_selects_no_pods() {
        let object = service_object(&app("shop"), &Service { annotations: BTreeMap::new(), target_port: 1 });
        assert_eq!(object.spec.unwrap().selector, None);
    }
}

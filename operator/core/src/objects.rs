//! Between the plan's words and Kubernetes's objects: what is written, and what of it is read back.
//!
//! Promise: reading what was written gives what was meant, whatever the API server has filled in. The
//! Service's type, cluster address and session settings are not ours, so nobody's edit of them is undone. What bears our
//! labels and belongs to nobody (its owner was removed, deleted with `--cascade=orphan`, or deleted and made again before
//! Kubernetes had collected what it owned) is ours to take back.

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

/// What is spoken at the one port of an app's Service and slices.
const PROTOCOL: &str = "http";

/// The object to apply for a [`Service`] of `app`.
#[must_use]
pub fn service_object(app: &App, service: &Service) -> core::Service {
    let mut annotations = service.annotations.clone();
    if !annotations.is_empty() {
        let keys: Vec<&str> = service.annotations.keys().map(String::as_str).collect();
        annotations.insert(names::ANNOTATION_KEYS_ANNOTATION.to_owned(), keys.join(","));
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
                app_protocol: Some(PROTOCOL.to_owned()),
                protocol: Some("TCP".to_owned()),
                port: i32::from(names::SERVICE_PORT),
                target_port: Some(IntOrString::Int(i32::from(service.target_port))),
                node_port: None,
            }]),
            // None, and ours: with one, Kubernetes's own controller would add pods that do not run the app.
            selector: Some(BTreeMap::new()),
            ..core::ServiceSpec::default()
        }),
        status: None,
    }
}

/// What the object of the app's name is to the app.
#[must_use]
pub fn service_of(app: &App, object: Option<&core::Service>) -> ServiceState {
    let Some(object) = object else { return ServiceState::Absent };
    let possession = possession(app, &object.metadata);
    if possession == Possession::Foreign {
        let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
        return ServiceState::Foreign(owners.first().map_or_else(
            || "a Service that was not made for it".to_owned(),
            |owner| format!("a Service of {} {}", owner.kind, owner.name),
        ));
    }
    let all = object.metadata.annotations.clone().unwrap_or_default();
    let keys = all.get(names::ANNOTATION_KEYS_ANNOTATION).cloned().unwrap_or_default();
    let annotations =
        keys.split(',').filter_map(|key| all.get(key).map(|value| (key.to_owned(), value.clone()))).collect();
    // One that is to be written again reads as one that leads nowhere.
    let is_whole = possession == Possession::Ours && is_labelled(app, &object.metadata);
    let target_port = target_port(object).filter(|_| is_whole).unwrap_or_default();
    ServiceState::Ours(Service { annotations, target_port })
}

/// Whose an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Possession {
    /// The app owns it.
    Ours,
    /// We made it for an app of this name, and nobody owns it, or only one that is gone.
    Orphaned,
    /// Somebody else's.
    Foreign,
}

/// Whose an object of the app's namespace is.
#[must_use]
pub fn possession(app: &App, metadata: &ObjectMeta) -> Possession {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.uid == app.uid) {
        return Possession::Ours;
    }
    if is_labelled(app, metadata) && owners.iter().all(|owner| is_earlier(app, owner)) {
        Possession::Orphaned
    } else {
        Possession::Foreign
    }
}

/// Whether an object has the labels of everything that is made for the app.
fn is_labelled(app: &App, metadata: &ObjectMeta) -> bool {
    let label = |name: &str| metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    label(names::MANAGED_BY_LABEL) == Some(names::MANAGED_BY) && label(names::APP_LABEL) == Some(app.key.name())
}

/// Whether `owner` was an app of this name, which is gone: no two have one name at a time.
fn is_earlier(app: &App, owner: &OwnerReference) -> bool {
    let group = owner.api_version.split_once('/').map(|(group, _)| group);
    group == Some(names::GROUP) && owner.kind == "SpinApp" && owner.name == app.key.name()
}

/// The port that the Service leads to, if its one port is as we write it and nothing else leads anywhere.
fn target_port(object: &core::Service) -> Option<u16> {
    let spec = object.spec.as_ref()?;
    if spec.selector.as_ref().is_some_and(|selector| !selector.is_empty()) || is_another_host(spec) {
        return None;
    }
    let ports = spec.ports.as_deref()?;
    let [port] = ports else { return None };
    let ours = is_our_port(port)
        && port.name.as_deref() == Some(names::PORT_NAME)
        && port.app_protocol.as_deref() == Some(PROTOCOL);
    match port.target_port.as_ref()? {
        IntOrString::Int(number) if ours => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// Whether the API server takes the port for the one that we write: that is what it tells ports apart by.
fn is_our_port(port: &core::ServicePort) -> bool {
    port.port == i32::from(names::SERVICE_PORT) && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
}

/// Whether the Service is another name of some host, and leads to no endpoint.
fn is_another_host(spec: &core::ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

/// What somebody has made of the Service that applying `wanted` would leave as it is, put right by a merge patch of its
/// spec: ports beside ours, which lead nowhere, and the name of another host. `None` when there is nothing.
#[must_use]
pub fn corrections(known: &core::Service, wanted: &core::Service) -> Option<serde_json::Value> {
    let known = known.spec.as_ref()?;
    let ports = wanted.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let strange = known.ports.iter().flatten().any(|port| !is_our_port(port));
    if is_another_host(known) {
        Some(serde_json::json!({ "type": "ClusterIP", "externalName": null, "ports": ports }))
    } else {
        strange.then(|| serde_json::json!({ "ports": ports }))
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
            app_protocol: Some(PROTOCOL.to_owned()),
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

/// The slice that `object` is, if it is one of this app's: our label, the app's Service, and nobody else's.
///
/// What we would not write is left out, and the slice is said to be altered.
#[must_use]
pub fn slice_of(app: &App, object: &discovery::EndpointSlice) -> Option<Slice> {
    let labels = object.metadata.labels.as_ref()?;
    let possession = possession(app, &object.metadata);
    let is = |label: &str, value: &str| labels.get(label).is_some_and(|found| found == value);
    let ours = is(names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGED_BY)
        && is(names::SLICE_SERVICE_LABEL, app.key.name())
        && object.metadata.namespace.as_deref() == Some(app.key.namespace())
        && possession != Possession::Foreign;
    if !ours {
        return None;
    }
    let port = object.ports.as_deref().and_then(<[_]>::first).and_then(|port| port.port);
    let slice = Slice {
        name: object.metadata.name.clone()?,
        family: Family::parse(&object.address_type)?,
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default(),
        endpoints: object.endpoints.iter().filter_map(endpoint_of).collect(),
        is_altered: false,
    };
    let written = slice_object(app, &slice);
    let same = written.endpoints == object.endpoints && written.ports == object.ports;
    let is_whole = same && possession == Possession::Ours && is_labelled(app, &object.metadata);
    Some(Slice { is_altered: !is_whole, ..slice })
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
        object.metadata.labels = None;
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
            is_altered: false,
        };
        assert_eq!(slice_of(&app, &slice_object(&app, &slice)), Some(slice));
    }

    #[test]
    fn slice_that_somebody_has_altered_in_whatever_way_is_not_the_one_that_was_written() {
        let app = app("shop");
        let slice = Slice {
            name: "shop-ipv4".to_owned(),
            family: Family::V4,
            port: 12_345,
            endpoints: vec![endpoint("r1", "10.0.0.1")],
            is_altered: false,
        };
        let another = discovery::Endpoint { addresses: vec!["10.9.9.9".to_owned()], ..discovery::Endpoint::default() };
        type Alteration<'a> = &'a dyn Fn(&mut discovery::EndpointSlice, &mut discovery::EndpointPort);
        let alterations: [Alteration<'_>; 8] = [
            &|object, _| object.endpoints.push(another.clone()),
            &|object, _| object.endpoints[0].addresses.push("10.9.9.9".to_owned()),
            &|object, _| object.endpoints[0].hints = Some(discovery::EndpointHints::default()),
            &|object, _| object.endpoints.clear(),
            &|object, port| object.ports.as_mut().unwrap().push(port.clone()),
            &|_, port| port.name = Some("web".to_owned()),
            &|_, port| port.protocol = Some("UDP".to_owned()),
            &|_, port| port.app_protocol = None,
        ];
        for (number, alter) in alterations.iter().enumerate() {
            let mut object = slice_object(&app, &slice);
            let mut port = object.ports.as_mut().unwrap().remove(0);
            alter(&mut object, &mut port);
            object.ports.as_mut().unwrap().push(port);
            assert_ne!(slice_of(&app, &object), Some(slice.clone()), "{number}");
        }
        let mut object = slice_object(&app, &slice);
        object.metadata.labels.as_mut().unwrap().remove(names::APP_LABEL);
        assert_eq!(slice_of(&app, &object), Some(Slice { is_altered: true, ..slice }));
    }

    #[test]
    fn slice_is_what_kubernetes_asks_of_one_in_either_family() {
        let leaving = Endpoint {
            zone: Some("eu-1b".to_owned()),
            node: Some("worker-7".to_owned()),
            ready: false,
            terminating: true,
            ..endpoint("runtime-x7", "2001:db8::5")
        };
        let slice = Slice {
            name: "shop-ipv6-2".to_owned(),
            family: Family::V6,
            port: 31_999,
            endpoints: vec![leaving, Endpoint { node: None, ..endpoint("runtime-q2", "2001:db8::6") }],
            is_altered: false,
        };
        let object = slice_object(&app("shop"), &slice);
        let target = |pod: &str| serde_json::json!({ "kind": "Pod", "name": pod, "namespace": "spindle", "uid": format!("uid-of-{pod}") });
        assert_eq!(
            serde_json::to_value(&object).unwrap(),
            serde_json::json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "shop-ipv6-2",
                    "namespace": "demo",
                    "labels": {
                        "app.kubernetes.io/managed-by": "spindle",
                        "endpointslice.kubernetes.io/managed-by": "operator.spindle.dev",
                        "kubernetes.io/service-name": "shop",
                        "spindle.dev/app": "shop",
                    },
                    "ownerReferences": [{ "apiVersion": "spindle.dev/v1alpha1", "kind": "SpinApp", "name": "shop", "uid": "uid-of-shop", "controller": true }],
                },
                "addressType": "IPv6",
                "endpoints": [
                    {
                        "addresses": ["2001:db8::5"],
                        "conditions": { "ready": false, "serving": true, "terminating": true },
                        "nodeName": "worker-7",
                        "zone": "eu-1b",
                        "targetRef": target("runtime-x7"),
                    },
                    {
                        "addresses": ["2001:db8::6"],
                        "conditions": { "ready": true, "serving": true, "terminating": false },
                        "targetRef": target("runtime-q2"),
                    },
                ],
                "ports": [{ "name": "http", "port": 31_999, "protocol": "TCP", "appProtocol": "http" }],
            })
        );
        assert_eq!(slice_of(&app("shop"), &object), Some(slice));
    }

    #[test]
    fn slice_that_has_lost_its_owner_is_taken_back_and_one_that_another_owns_is_not() {
        let old = app("shop");
        let new = App { uid: "another".to_owned(), ..old.clone() };
        let slice =
            Slice { name: "shop-ipv4-2".to_owned(), family: Family::V4, port: 1, endpoints: vec![], is_altered: false };
        let mut object = slice_object(&old, &slice);
        let altered = Some(Slice { is_altered: true, ..slice });
        assert_eq!(slice_of(&new, &object), altered, "an app of this name is gone");
        object.metadata.owner_references = None;
        assert_eq!(slice_of(&new, &object), altered);
        object.metadata.labels.as_mut().unwrap().remove(names::APP_LABEL);
        assert_eq!(slice_of(&new, &object), None);
    }

    #[test]
    fn service_selects_no_pods_and_one_that_was_made_to_is_written_again() {
        let shop = app("shop");
        let service = Service { annotations: BTreeMap::new(), target_port: 12_345 };
        let mut object = service_object(&shop, &service);
        assert_eq!(object.spec.as_ref().unwrap().selector, Some(BTreeMap::new()));
        object.spec.as_mut().unwrap().selector = Some(BTreeMap::from([("app".to_owned(), "other".to_owned())]));
        let ServiceState::Ours(found) = service_of(&shop, Some(&object)) else { panic!("not ours") };
        assert_ne!(found, service);
    }

    #[test]
    fn ports_that_somebody_adds_are_strange_and_ours_is_not() {
        let shop = app("shop");
        let service = Service { annotations: BTreeMap::new(), target_port: 12_345 };
        let mut object = service_object(&shop, &service);
        let wanted = object.clone();
        assert_eq!(corrections(&object, &wanted), None);
        let ports = object.spec.as_mut().unwrap().ports.as_mut().unwrap();
        ports.push(core::ServicePort { port: 80, protocol: Some("UDP".to_owned()), ..core::ServicePort::default() });
        let corrected = corrections(&object, &wanted).unwrap();
        assert_eq!((corrected["ports"].as_array().unwrap().len(), corrected.get("type")), (1, None));
        assert!(matches!(service_of(&shop, Some(&object)), ServiceState::Ours(found) if found != service));
    }

    #[test]
    fn service_that_somebody_has_altered_in_whatever_way_leads_nowhere() {
        let shop = app("shop");
        let service = Service { annotations: BTreeMap::new(), target_port: 12_345 };
        let alterations: [fn(&mut core::ServiceSpec); 5] = [
            |spec| spec.ports.as_mut().unwrap()[0].protocol = Some("UDP".to_owned()),
            |spec| spec.ports.as_mut().unwrap()[0].app_protocol = Some("tcp".to_owned()),
            |spec| spec.ports.as_mut().unwrap()[0].name = None,
            |spec| spec.ports = None,
            |spec| spec.type_ = Some("ExternalName".to_owned()),
        ];
        for (number, alter) in alterations.iter().enumerate() {
            let mut object = service_object(&shop, &service);
            let wanted = object.clone();
            alter(object.spec.as_mut().unwrap());
            let found = service_of(&shop, Some(&object));
            assert!(matches!(found, ServiceState::Ours(found) if found != service), "{number}");
            let corrected = corrections(&object, &wanted);
            assert_eq!(corrected.is_some(), number == 0 || number == 4, "{number}: {corrected:?}");
        }
        let mut object = service_object(&shop, &service);
        object.metadata.labels = None;
        assert!(matches!(service_of(&shop, Some(&object)), ServiceState::Ours(found) if found != service));
        // Ways to be reached from outside are whoever's they are.
        let mut object = service_object(&shop, &service);
        object.spec.as_mut().unwrap().type_ = Some("LoadBalancer".to_owned());
        assert_eq!(service_of(&shop, Some(&object)), ServiceState::Ours(service));
    }

    #[test]
    fn what_we_made_and_nobody_owns_is_taken_back_and_what_another_owns_is_not() {
        let shop = app("shop");
        let service = Service { annotations: BTreeMap::new(), target_port: 12_345 };
        let mut object = service_object(&App { uid: "earlier".to_owned(), ..shop.clone() }, &service);
        assert_eq!(possession(&shop, &object.metadata), Possession::Orphaned, "an app of this name is gone");
        assert_eq!(possession(&app("cart"), &object.metadata), Possession::Foreign);
        for change in [
            |owner: &mut OwnerReference| "other".clone_into(&mut owner.name),
            |owner: &mut OwnerReference| "Deployment".clone_into(&mut owner.kind),
            |owner: &mut OwnerReference| "core.spinkube.dev/v1alpha1".clone_into(&mut owner.api_version),
        ] {
            let mut theirs = object.metadata.clone();
            theirs.owner_references.iter_mut().flatten().for_each(change);
            assert_eq!(possession(&shop, &theirs), Possession::Foreign, "{theirs:?}");
        }
        object.metadata.owner_references = Some(vec![]);
        assert_eq!(possession(&shop, &object.metadata), Possession::Orphaned);
        assert!(matches!(service_of(&shop, Some(&object)), ServiceState::Ours(found) if found != service));
        assert_eq!(possession(&app("cart"), &object.metadata), Possession::Foreign, "it was another app's");
        object.metadata.labels.as_mut().unwrap().remove(names::MANAGED_BY_LABEL);
        assert_eq!(possession(&shop, &object.metadata), Possession::Foreign);
    }
}

//! From an [`Application`] to the parcels and the manifest of a bundle.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    LayoutError, MANIFEST_MEDIA_TYPE, WASM_MEDIA_TYPE,
    invoice::{BINDLE_VERSION, Conditions, Group, Header, Invoice, Label, Parcel},
};
use crate::{
    application::{Application, Component, ComponentId, Content, Executor, Pattern, Route, Target},
    digest::Digest,
    hosts,
};

/// Everything that a bundle consists of, except its id and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The content of the first of [`Publication::parcels`]; every other parcel's content is known by digest.
    pub manifest_toml: String,
    /// The parcels, in the order of Spin's publishers: manifest, wasm, files.
    pub parcels: Vec<ParcelPlan>,
    /// The groups, one per component.
    pub groups: Vec<String>,
}

/// One parcel of a [`Publication`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParcelPlan {
    /// `label.name`: for files, the path that the component sees.
    pub name: String,
    /// `label.mediaType`.
    pub media_type: String,
    /// The bytes.
    pub content: Content,
    /// The groups that it belongs to; `None` writes no `conditions` at all (the manifest), an empty
    /// list the empty table that Spin's publishers wrote for wasm.
    pub member_of: Option<Vec<String>>,
}

/// Lays out `application` as Spin's publishers (v0.2 to v1.5) did.
///
/// `wasm_names` are the names of the wasm parcels, by tradition the paths in `spin.toml`; a component
/// that is not in it gets `<id>.wasm`.
///
/// The same input always gives the same bytes. What the traditional manifest cannot say (several
/// routes for a component, static responses, outbound hosts beyond `allowedHttpHosts`) is written in
/// fields of our own, which Spin refuses rather than misunderstands: see [`super`].
///
/// # Errors
/// Never for an application that this crate made; the signature is the TOML writer's.
pub fn publish(
    application: &Application,
    wasm_names: &BTreeMap<ComponentId, String>,
) -> Result<Publication, LayoutError> {
    let manifest_toml = manifest_text(application)?;
    let manifest = Content {
        digest: Digest::of(manifest_toml.as_bytes()),
        size: u64::try_from(manifest_toml.len()).unwrap_or(u64::MAX),
    };
    let mut parcels = vec![ParcelPlan {
        name: format!("spin.{}.toml", manifest.digest.hex()),
        media_type: MANIFEST_MEDIA_TYPE.to_owned(),
        content: manifest,
        member_of: None,
    }];
    let order = component_order(application);
    parcels.extend(wasm_parcels(application, &order, wasm_names));
    parcels.extend(file_parcels(application));
    Ok(Publication { manifest_toml, parcels, groups: order.into_iter().map(group_of).collect() })
}

/// The group of a component's files.
fn group_of(id: &ComponentId) -> String {
    format!("files-{id}")
}

/// The components in the order of their first route, then the others by id.
fn component_order(application: &Application) -> Vec<&ComponentId> {
    let routed = application.routes.iter().filter_map(|route| match &route.target {
        Target::Component { id, .. } => Some(id),
        Target::Static { .. } => None,
    });
    let mut seen = BTreeSet::new();
    routed.chain(application.components.keys()).filter(|id| seen.insert(*id)).collect()
}

fn wasm_parcels(
    application: &Application,
    order: &[&ComponentId],
    names: &BTreeMap<ComponentId, String>,
) -> Vec<ParcelPlan> {
    let mut seen = BTreeSet::new();
    order
        .iter()
        .filter_map(|id| Some((*id, application.components.get(*id)?)))
        .map(|(id, component)| (names.get(id).cloned().unwrap_or_else(|| format!("{id}.wasm")), component.source))
        .filter(|wasm| seen.insert(wasm.clone()))
        .map(|(name, content)| ParcelPlan {
            name,
            media_type: WASM_MEDIA_TYPE.to_owned(),
            content,
            member_of: Some(Vec::new()),
        })
        .collect()
}

/// One parcel per path and content, a member of the group of every component that has it.
fn file_parcels(application: &Application) -> Vec<ParcelPlan> {
    let mut groups: BTreeMap<(&str, Content), Vec<String>> = BTreeMap::new();
    for (id, component) in &application.components {
        for file in &component.files {
            groups.entry((&file.path, file.content)).or_default().push(group_of(id));
        }
    }
    groups
        .into_iter()
        .map(|((path, content), member_of)| ParcelPlan {
            name: path.to_owned(),
            media_type: mime_guess::from_path(path).first_or_octet_stream().to_string(),
            content,
            member_of: Some(member_of),
        })
        .collect()
}

impl Publication {
    /// The unsigned invoice of `application`'s bundle.
    ///
    /// `build_info` is appended to the version as build metadata, so that one version can be published
    /// several times.
    ///
    /// # Errors
    /// When name or version do not make a Bindle id.
    pub fn invoice(&self, application: &Application, build_info: Option<&str>) -> Result<Invoice, LayoutError> {
        let version = match build_info {
            Some(info) => format!("{}+{info}", application.version),
            None => application.version.clone(),
        };
        check_id(&application.name, &version)?;
        Ok(Invoice {
            bindle_version: BINDLE_VERSION.to_owned(),
            yanked: None,
            yanked_signature: None,
            bindle: Header {
                name: application.name.clone(),
                version,
                description: application.description.clone(),
                authors: (!application.authors.is_empty()).then(|| application.authors.clone()),
            },
            annotations: None,
            parcel: self.parcels.iter().map(ParcelPlan::parcel).collect(),
            group: self
                .groups
                .iter()
                .map(|name| Group { name: name.clone(), required: None, satisfied_by: None })
                .collect(),
            signature: Vec::new(),
        })
    }
}

/// Whether `name/version` can be asked for at a Bindle server: path-like segments, strict version.
fn check_id(name: &str, version: &str) -> Result<(), LayoutError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let segment =
        |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && part.chars().all(inner);
    if !name.split('/').all(segment) {
        return Err(LayoutError::Name { name: name.to_owned() });
    }
    match semver::Version::parse(version) {
        Ok(_) => Ok(()),
        Err(source) => Err(LayoutError::Version { version: version.to_owned(), source }),
    }
}

impl ParcelPlan {
    fn parcel(&self) -> Parcel {
        Parcel {
            label: Label {
                sha256: self.content.digest,
                media_type: self.media_type.clone(),
                name: self.name.clone(),
                size: self.content.size,
                annotations: None,
                feature: None,
                origin: None,
            },
            conditions: self
                .member_of
                .as_ref()
                .map(|groups| Conditions { member_of: (!groups.is_empty()).then(|| groups.clone()), requires: None }),
        }
    }
}

/// The manifest parcel's form, in the field order of Spin's publishers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOut<'a> {
    trigger: AppTriggerOut<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<&'a str, VariableOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    component: Vec<ComponentOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    route: Vec<RouteOut<'a>>,
}

#[derive(Serialize)]
struct AppTriggerOut<'a> {
    r#type: &'a str,
    base: &'a str,
}

#[derive(Serialize)]
struct VariableOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    required: bool,
    secret: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ComponentOut<'a> {
    source: String,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_http_hosts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_outbound_hosts: Option<&'a [String]>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    key_value_stores: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sqlite_databases: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ai_models: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<TriggerOut<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    config: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct TriggerOut<'a> {
    route: &'a str,
    executor: ExecutorOut<'a>,
}

#[derive(Serialize)]
struct RouteOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    private: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    executor: Option<ExecutorOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<ResponseOut<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum ExecutorOut<'a> {
    Spin,
    Wagi { entrypoint: &'a str, argv: &'a str },
}

#[derive(Serialize)]
struct ResponseOut<'a> {
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    body: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: &'a BTreeMap<String, String>,
}

fn manifest_text(application: &Application) -> Result<String, LayoutError> {
    let triggers = one_route_each(application);
    let out = ManifestOut {
        trigger: AppTriggerOut { r#type: "http", base: &application.base },
        variables: application
            .variables
            .iter()
            .map(|(name, variable)| {
                let out = VariableOut {
                    default: variable.default.as_deref(),
                    description: variable.description.as_deref(),
                    required: variable.default.is_none(),
                    secret: variable.secret,
                };
                (name.as_str(), out)
            })
            .collect(),
        component: component_order(application)
            .into_iter()
            .filter_map(|id| Some((id, application.components.get(id)?)))
            .map(|(id, component)| component_out(id, component, triggers.as_ref().and_then(|all| all.get(id))))
            .collect(),
        route: if triggers.is_some() { Vec::new() } else { application.routes.iter().map(route_out).collect() },
    };
    toml::to_string(&out).map_err(LayoutError::Write)
}

/// Each component's route, when the application is one that the traditional form can say: every
/// component has exactly one public route and nothing else has any.
fn one_route_each(application: &Application) -> Option<BTreeMap<&ComponentId, (&str, &Executor)>> {
    let mut routes = BTreeMap::new();
    for route in &application.routes {
        let (Pattern::Path(path), Target::Component { id, executor }) = (&route.pattern, &route.target) else {
            return None;
        };
        if routes.insert(id, (path.as_str(), executor)).is_some() {
            return None;
        }
    }
    (routes.len() == application.components.len()).then_some(routes)
}

fn component_out<'a>(
    id: &'a ComponentId,
    component: &'a Component,
    trigger: Option<&(&'a str, &'a Executor)>,
) -> ComponentOut<'a> {
    let allowed_http_hosts = hosts::to_allowed_http_hosts(&component.allowed_outbound_hosts);
    ComponentOut {
        source: component.source.digest.hex(),
        id: id.as_str(),
        description: component.description.as_deref(),
        files: (!component.files.is_empty()).then(|| group_of(id)),
        allowed_outbound_hosts: allowed_http_hosts.is_none().then_some(component.allowed_outbound_hosts.as_slice()),
        allowed_http_hosts: allowed_http_hosts.filter(|hosts| !hosts.is_empty()),
        key_value_stores: &component.key_value_stores,
        sqlite_databases: &component.sqlite_databases,
        ai_models: &component.ai_models,
        environment: &component.environment,
        trigger: trigger.map(|(route, executor)| TriggerOut { route, executor: executor_out(executor) }),
        config: &component.variables,
    }
}

fn route_out(route: &Route) -> RouteOut<'_> {
    let (component, executor, response) = match &route.target {
        Target::Component { id, executor } => (Some(id.as_str()), Some(executor_out(executor)), None),
        Target::Static { status, headers, body } => (None, None, Some(ResponseOut { status: *status, body, headers })),
    };
    let path = match &route.pattern {
        Pattern::Path(path) => Some(path.as_str()),
        Pattern::Private => None,
    };
    RouteOut { component, route: path, private: path.is_none(), executor, response }
}

fn executor_out(executor: &Executor) -> ExecutorOut<'_> {
    match executor {
        Executor::Spin => ExecutorOut::Spin,
        Executor::Wagi(wagi) => ExecutorOut::Wagi { entrypoint: &wagi.entrypoint, argv: &wagi.argv },
    }
}

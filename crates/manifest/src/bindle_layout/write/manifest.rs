//! The manifest of a bundle, as Spin's publishers wrote it, and what we add where that cannot say all.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{component_order, group_of};
use crate::{
    application::{Application, Component, ComponentId, Executor, Pattern, Route, Target},
    bindle_layout::LayoutError,
    hosts,
};

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

/// The text of the manifest parcel of `application`.
pub(super) fn manifest_text(application: &Application) -> Result<String, LayoutError> {
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

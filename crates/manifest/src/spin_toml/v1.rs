//! `spin.toml` of version 1, and of the releases before there was a number (Spin v0.1 to v1.x).

use std::collections::BTreeMap;

use super::{
    ComponentSpec, Manifest,
    component::{Sources, read_build, read_exclude_files, read_files, read_source},
};
use crate::{
    application::{ComponentId, Pattern, Route, Target, Variable},
    fields::{
        read_base, read_environment, read_executor, read_hosts, read_id, read_labels, read_pattern, read_templates,
        read_variables, unsupported_trigger,
    },
    reader::Table,
};

pub(super) fn read(file: &str, root: &Table<'_>) -> Manifest {
    root.ignore(&["spin_manifest_version", "spin_version", "namespace"]);
    let mut variables = BTreeMap::new();
    read_variables(root, "config", &mut variables);
    read_variables(root, "variables", &mut variables);
    let mut manifest = Manifest {
        file: file.to_owned(),
        name: super::read_name(root),
        version: root.required_string("version", "`version = \"1.0.0\"`"),
        description: root.string("description").filter(|text| !text.is_empty()),
        authors: root.strings("authors"),
        base: read_trigger(root),
        variables,
        routes: Vec::new(),
        components: BTreeMap::new(),
    };
    let components = root.list("component");
    for field in &components {
        if let Some(table) = field.table() {
            read_component(table, &mut manifest);
        }
    }
    if components.is_empty() {
        root.missing(
            "component",
            "`[[component]]` with `id`, `source` and `[component.trigger]`: an application needs one",
        );
    }
    root.finish();
    manifest
}

/// The trigger that all components share; its base path.
fn read_trigger(root: &Table<'_>) -> String {
    let hint = "`trigger = { type = \"http\", base = \"/\" }`";
    let Some(trigger) = root.required("trigger", hint).and_then(|field| field.table()) else { return "/".to_owned() };
    let Some(kind) = trigger.required("type", "`type = \"http\"`") else { return "/".to_owned() };
    match kind.string() {
        Some(name) if name != "http" => {
            // Its other fields mean nothing to us.
            kind.report(unsupported_trigger(&name));
            return "/".to_owned();
        }
        _ => {}
    }
    let base = read_base(&trigger);
    trigger.finish();
    base
}

fn read_component(mut table: Table<'_>, manifest: &mut Manifest) {
    let id_field = table.required("id", "`id = \"hello\"`");
    let id = id_field.as_ref().and_then(read_id);
    if let Some(id) = &id {
        table.rename(format!("component.{id}"));
    }
    let spec = read_spec(&table, &manifest.variables);
    let target = id.clone().map(|id| (id, table.required("trigger", "`[component.trigger]` with `route = \"/...\"`")));
    if let Some((id, Some(trigger))) = target
        && let Some(route) = trigger.table().and_then(|trigger| read_route(&trigger, id))
    {
        manifest.routes.push(route);
    }
    table.ignore(&["trigger"]);
    table.finish();
    let (Some(id), Some(spec), Some(id_field)) = (id, spec, id_field) else { return };
    if manifest.components.insert(id.clone(), spec).is_some() {
        id_field.report(format!("there is another component `{id}`: ids must be unique"));
    }
}

fn read_spec(table: &Table<'_>, variables: &BTreeMap<String, Variable>) -> Option<ComponentSpec> {
    let source =
        table.required("source", "`source = \"main.wasm\"`").and_then(|field| read_source(&field, Sources::V1));
    let spec = |source| ComponentSpec {
        place: table.place(),
        description: table.string("description").filter(|text| !text.is_empty()),
        source,
        files: read_files(table),
        exclude_files: read_exclude_files(table),
        environment: read_environment(table),
        variables: read_templates(table, "config", variables),
        allowed_outbound_hosts: read_hosts(table, ("allowed_outbound_hosts", "allowed_http_hosts"), true, variables),
        key_value_stores: read_labels(table, "key_value_stores"),
        sqlite_databases: read_labels(table, "sqlite_databases"),
        ai_models: read_labels(table, "ai_models"),
        build: read_build(table),
        profiles: BTreeMap::new(),
    };
    super::read_with(source, spec)
}

fn read_route(trigger: &Table<'_>, id: ComponentId) -> Option<Route> {
    let pattern = trigger.required("route", "`route = \"/...\"`").and_then(|field| read_pattern(&field));
    let executor = read_executor(trigger);
    trigger.finish();
    Some(Route { pattern: Pattern::Path(pattern?), target: Target::Component { id, executor } })
}

//! `spin.toml` of version 1, and of the releases before there was a number (Spin v0.1 to v1.x).

use std::collections::BTreeMap;

use super::{
    Manifest,
    component::{Format, read_component},
    dependency::is_kebab,
};
use crate::{
    application::{ComponentId, Pattern, Route, Target},
    fields::{read_base, read_executor, read_id, read_pattern, read_variables, unsupported_trigger},
    reader::{Field, Table},
};

pub(super) fn read(file: &str, root: &Table<'_>) -> Manifest {
    root.ignore(&["spin_manifest_version", "spin_version", "namespace"]);
    let mut variables = BTreeMap::new();
    read_variables(root, "config", &mut variables);
    read_variables(root, "variables", &mut variables);
    let mut manifest = Manifest {
        file: file.to_owned(),
        format: Format::V1,
        name: super::read_name(root),
        version: read_version(root),
        description: root.string("description").filter(|text| !text.is_empty()),
        authors: root.strings("authors"),
        base: read_trigger(root),
        variables,
        routes: Vec::new(),
        components: BTreeMap::new(),
    };
    root.misplaced(
        "application",
        "it is of version 2: write `spin_manifest_version = 2`, or what is in it without the table",
    );
    let listed = "`[[component]]` with `id = \"…\"` for each: `[component.ID]` is of version 2";
    let components = root.get("component").map(|field| field.list_such_as(listed)).unwrap_or_default();
    for field in &components {
        if let Some(table) = field.table() {
            read_listed(table, &mut manifest);
        }
    }
    // What is no list has been reported.
    if components.is_empty() && root.get("component").is_none_or(|field| field.is_list()) {
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
    let Some(kind) = trigger.required("type", "`type = \"http\"` (`[[trigger.http]]` is of version 2)") else {
        return "/".to_owned();
    };
    match kind.string() {
        Some(name) if name != "http" => {
            // Its other fields mean nothing to us.
            kind.report(unsupported_trigger(&name));
            return "/".to_owned();
        }
        _ => {}
    }
    if let Some(base) = trigger.get("base")
        && base.if_string().is_some_and(|path| !path.starts_with('/'))
    {
        base.report("must start with `/`, such as `/base`: no path of a request would start with it");
    }
    let base = read_base(&trigger);
    trigger.finish();
    base
}

/// The version of the application, which version 1 needs.
fn read_version(root: &Table<'_>) -> String {
    let Some(field) = root.required("version", "`version = \"1.0.0\"`") else { return String::new() };
    if field.if_string().is_some_and(|version| version.trim().is_empty()) {
        field.report("must be a version, such as `1.0.0`");
    }
    field.string().unwrap_or_default()
}

fn read_listed(mut table: Table<'_>, manifest: &mut Manifest) {
    let id_field = table.required("id", "`id = \"hello\"`");
    let id = id_field.as_ref().and_then(read_component_id);
    if let Some(id) = &id {
        table.rename(format!("component.{id}"));
    }
    let spec = read_component(&table, Format::V1, &manifest.variables);
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
        id_field.report(format!(
            "there is another component `{id}`: ids must be unique, also once `_` is `-` and capitals are small"
        ));
    }
}

/// The id that Spin gives the component in version 2: an old one that cannot be one there becomes one with `-` for `_` and
/// in lower case, if that helps, and stays as it is otherwise.
fn read_component_id(field: &Field<'_>) -> Option<ComponentId> {
    let id = read_id(field)?;
    let modern = id.as_str().replace('_', "-").to_lowercase();
    match modern.parse() {
        Ok(modern_id) if !is_kebab(id.as_str()) && is_kebab(&modern) => Some(modern_id),
        _ => Some(id),
    }
}

fn read_route(trigger: &Table<'_>, id: ComponentId) -> Option<Route> {
    let pattern = trigger.required("route", "`route = \"/...\"`").and_then(|field| read_pattern(&field));
    let executor = read_executor(trigger);
    trigger.finish();
    Some(Route { pattern: Pattern::Path(pattern?), target: Target::Component { id, executor } })
}

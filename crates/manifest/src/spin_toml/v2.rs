//! `spin.toml` of version 2 (Spin v2 and later).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ComponentSpec, Manifest,
    component::{DEPENDENCIES_ADVICE, Sources, read_build, read_exclude_files, read_files, read_profiles, read_source},
};
use crate::{
    application::{ComponentId, Pattern, Route, Target, Variable},
    fields::{
        read_environment, read_executor, read_hosts, read_labels, read_pattern, read_templates, read_variables,
        unsupported_trigger,
    },
    reader::{Field, Table, suggest},
};

pub(super) fn read(file: &str, root: &Table<'_>) -> Manifest {
    root.ignore(&["spin_manifest_version"]);
    let mut variables = BTreeMap::new();
    read_variables(root, "variables", &mut variables);
    let mut manifest = Manifest {
        file: file.to_owned(),
        name: String::new(),
        version: String::new(),
        description: None,
        authors: Vec::new(),
        base: "/".to_owned(),
        variables,
        routes: Vec::new(),
        components: BTreeMap::new(),
    };
    let application = root.required("application", "`[application]` with `name = \"…\"`");
    if let Some(application) = application.and_then(|field| field.table()) {
        read_application(&application, &mut manifest);
    }
    let mut declared = BTreeSet::new();
    for (id, field) in root.table("component").iter().flat_map(Table::entries) {
        declared.insert(id);
        let id_read = read_kebab_id(&field, id);
        let spec = field.table().and_then(|table| read_component(&table, &manifest.variables));
        if let (Some(id), Some(spec)) = (id_read, spec) {
            manifest.components.insert(id, spec);
        }
    }
    read_triggers(root, &declared, &mut manifest);
    root.finish();
    manifest
}

fn read_application(application: &Table<'_>, manifest: &mut Manifest) {
    manifest.name = super::read_name(application);
    manifest.version = application.string("version").unwrap_or_default();
    manifest.description = application.string("description").filter(|text| !text.is_empty());
    manifest.authors = application.strings("authors");
    application.ignore(&["targets", "tool"]);
    for (kind, field) in application.table("trigger").iter().flat_map(Table::entries) {
        match field.table() {
            Some(settings) if kind == "http" => read_http_settings(&settings),
            Some(_) => field.report(unsupported_trigger(kind)),
            None => {}
        }
    }
    application.finish();
}

/// Version 2 keeps the base path of version 1 only to refuse it.
fn read_http_settings(settings: &Table<'_>) {
    if let Some(base) = settings.get("base")
        && base.string().is_some_and(|path| path != "/")
    {
        base.report("a base path other than `/` is not possible in version 2: put it in front of every `route`");
    }
    settings.finish();
}

/// An id as version 2 wants them, so that `<id>.spin.internal` is a host name.
fn read_kebab_id(field: &Field<'_>, id: &str) -> Option<ComponentId> {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.bytes().all(|b| b.is_ascii_alphanumeric())
            && (word.bytes().all(|b| !b.is_ascii_uppercase()) || word.bytes().all(|b| !b.is_ascii_lowercase()))
    };
    if id.split('-').all(word)
        && let Ok(id) = id.parse()
    {
        return Some(id);
    }
    field.report(format!("`{id}` is not a component id: use words of ASCII letters and digits with `-` between them, each starting with a letter, such as `my-component`"));
    None
}

fn read_component(table: &Table<'_>, variables: &BTreeMap<String, Variable>) -> Option<ComponentSpec> {
    let source =
        table.required("source", "`source = \"main.wasm\"`").and_then(|field| read_source(&field, Sources::V2));
    table.ignore(&["targets", "tool", "dependencies_inherit_configuration"]);
    table.unsupported("dependencies", DEPENDENCIES_ADVICE);
    let spec = |source| ComponentSpec {
        place: table.place(),
        description: table.string("description").filter(|text| !text.is_empty()),
        source,
        files: read_files(table),
        exclude_files: read_exclude_files(table),
        environment: read_environment(table),
        variables: read_templates(table, "variables", variables),
        allowed_outbound_hosts: read_hosts(table, ("allowed_outbound_hosts", "allowed_http_hosts"), false, variables),
        key_value_stores: read_labels(table, "key_value_stores"),
        sqlite_databases: read_labels(table, "sqlite_databases"),
        ai_models: read_labels(table, "ai_models"),
        build: read_build(table),
        profiles: read_profiles(table),
    };
    let spec = super::read_with(source, spec);
    table.finish();
    spec
}

fn read_triggers(root: &Table<'_>, declared: &BTreeSet<&str>, manifest: &mut Manifest) {
    let hint = "`[[trigger.http]]` with `route = \"/...\"` and `component = \"…\"`: an application needs one";
    let Some(triggers) = root.required("trigger", hint).and_then(|field| field.table()) else { return };
    let http = triggers.list("http");
    for (kind, field) in triggers.entries() {
        if kind != "http" {
            field.report(unsupported_trigger(kind));
        }
    }
    if http.is_empty() {
        triggers.missing("http", hint);
    }
    for table in http.iter().filter_map(Field::table) {
        if let Some(route) = read_trigger(&table, declared, manifest) {
            manifest.routes.push(route);
        }
    }
}

fn read_trigger(table: &Table<'_>, declared: &BTreeSet<&str>, manifest: &mut Manifest) -> Option<Route> {
    let trigger_id = table.string("id");
    let pattern = table
        .required("route", "`route = \"/...\"` or `route = { private = true }`")
        .and_then(|field| read_route(&field));
    table.unsupported("components", "name one component with `component`");
    table.unsupported("dependencies", "middleware cannot be run; remove it");
    let executor = read_executor(table);
    let component = table.get("component");
    let target = match (component, table.table("static_response")) {
        (Some(field), None) => {
            let id = match field.if_table() {
                Some(component) => read_inline(&component, trigger_id.as_deref(), manifest),
                None => read_reference(&field, declared, manifest),
            };
            id.map(|id| Target::Component { id, executor })
        }
        (None, Some(response)) => read_static(&response),
        (Some(_), Some(_)) => {
            table.report("a trigger has either `component` or `static_response`: remove one of the two");
            None
        }
        (None, None) => {
            table.missing("component", "`component = \"…\"` or `static_response = { … }`");
            None
        }
    };
    table.finish();
    Some(Route { pattern: pattern?, target: target? })
}

fn read_route(field: &Field<'_>) -> Option<Pattern> {
    let Some(table) = field.if_table() else { return read_pattern(field).map(Pattern::Path) };
    let private = table.boolean("private");
    table.finish();
    if private != Some(true) {
        table.report("must be a path such as `\"/...\"`, or `{ private = true }`");
        return None;
    }
    Some(Pattern::Private)
}

/// A component in the place of its id.
fn read_inline(table: &Table<'_>, trigger_id: Option<&str>, manifest: &mut Manifest) -> Option<ComponentId> {
    let spec = read_component(table, &manifest.variables)?;
    let id = inline_id(trigger_id, manifest)?;
    manifest.components.insert(id.clone(), spec);
    Some(id)
}

/// The id of one of the `declared` components; one that could not be read has been reported already.
fn read_reference(field: &Field<'_>, declared: &BTreeSet<&str>, manifest: &Manifest) -> Option<ComponentId> {
    let text = field.string()?;
    if !declared.contains(text.as_str()) {
        let known: Vec<&str> = declared.iter().copied().collect();
        let hint = if known.is_empty() { String::new() } else { format!("; {}", suggest(&text, &known)) };
        field.report(format!("there is no component `{text}`: add `[component.{text}]`{hint}"));
    }
    text.parse().ok().filter(|id| manifest.components.contains_key(id))
}

/// The id that Spin gives to a component without one: after its trigger, or the next number.
fn inline_id(trigger_id: Option<&str>, manifest: &Manifest) -> Option<ComponentId> {
    let natural = trigger_id.map(|id| format!("{id}-component"));
    let numbered = (1..).map(|number: u32| format!("inline-component{number}"));
    natural
        .into_iter()
        .chain(numbered)
        .filter_map(|id| id.parse().ok())
        .find(|id| !manifest.components.contains_key(id))
}

fn read_static(response: &Table<'_>) -> Option<Target> {
    let status = match response.get("status_code") {
        None => Some(200),
        Some(field) => {
            let status = field.integer().map(u16::try_from);
            let status = status.map(|status| status.ok().filter(|status| (100..=599).contains(status)));
            if status == Some(None) {
                field.report("must be a status code from 100 to 599");
            }
            status.flatten()
        }
    };
    let headers = response.string_map("headers");
    for (name, field) in response.table("headers").iter().flat_map(Table::entries) {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let value_ok = |value: &str| !value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f);
        if name.is_empty() || !name.bytes().all(token) || !field.if_string().is_none_or(value_ok) {
            field.report("is not an HTTP header");
        }
    }
    let body = response.string("body").unwrap_or_default();
    response.finish();
    Some(Target::Static { status: status?, headers, body })
}

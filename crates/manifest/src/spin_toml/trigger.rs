//! `[[trigger.http]]` of version 2: routes, and the components, static responses and middleware behind them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ComponentSpec, Dependency, Manifest,
    component::{Format, read_component},
    dependency::{is_kebab, read_middleware},
};
use crate::{
    application::{ComponentId, Executor, Pattern, Route, Target, WagiExecutor},
    fields::{check_header, read_executor, read_pattern, read_status, unsupported_trigger},
    reader::{Field, Table, suggest},
};

/// A trigger, read but not part of the manifest yet.
struct Trigger {
    id: String,
    route: Route,
    middleware: Vec<Dependency>,
}

/// Everything that is needed while triggers are read.
struct Reading<'a> {
    /// The ids of `[component]`; those that could not be read have been reported already.
    declared: &'a BTreeSet<&'a str>,
    manifest: &'a mut Manifest,
    /// The ids of triggers, given and made.
    ids: BTreeSet<String>,
    /// The numbers of the last trigger and the last component that had to have one.
    numbers: (u32, u32),
}

/// All triggers: the routes of the manifest, and the components that are written in them.
pub(super) fn read_triggers(root: &Table<'_>, declared: &BTreeSet<&str>, manifest: &mut Manifest) {
    let hint = "`[[trigger.http]]` with `route = \"/...\"` and `component = \"…\"`: an application needs one";
    let Some(triggers) = root.required("trigger", hint).and_then(|field| field.table()) else { return };
    let http = triggers.get("http").map(|field| field.list_such_as("`[[trigger.http]]` for each")).unwrap_or_default();
    for (kind, field) in triggers.entries() {
        match field.if_string() {
            _ if kind == "http" => {}
            Some(_) => {
                field
                    .report("version 2 has `[[trigger.http]]` with `route` and `component = \"…\"` instead: remove it");
            }
            None => field.report(unsupported_trigger(kind)),
        }
    }
    // What is no list has been reported.
    if http.is_empty() && triggers.get("http").is_none_or(|field| field.is_list()) {
        triggers.missing("http", hint);
    }
    let tables: Vec<Table<'_>> = http.iter().filter_map(Field::table).collect();
    let given = tables.iter().filter_map(|table| table.get("id")?.if_string()).filter(|id| !id.is_empty());
    let mut reading = Reading { declared, ids: given.map(str::to_owned).collect(), manifest, numbers: (0, 0) };
    let read: Vec<Trigger> = tables.iter().filter_map(|table| reading.trigger(table)).collect();
    if !read.is_empty()
        && read.len() == http.len()
        && read.iter().all(|trigger| trigger.route.pattern == Pattern::Private)
    {
        triggers.missing("http", "a trigger with a path as its `route`: private ones are reached by other components only, so nothing could reach this application");
    }
    add_routes(read, reading.manifest);
}

impl Reading<'_> {
    fn trigger(&mut self, table: &Table<'_>) -> Option<Trigger> {
        let pattern = table
            .required("route", "`route = \"/...\"` or `route = { private = true }`")
            .and_then(|field| read_route(&field));
        let executor = read_executor(table);
        check_entrypoint(table, &executor);
        let id = self.trigger_id(table);
        let (component, others) = (table.get("component"), table.table("components"));
        let others = others.iter().flat_map(Table::entries).flat_map(|(_, field)| one_or_many(field));
        let mut specs: Vec<Field<'_>> = others.collect();
        let answer = "`{ status_code = 200, body = \"…\" }`";
        let static_field = table.get("static_response");
        let static_response = static_field.as_ref().and_then(|field| field.table_such_as(answer));
        let middleware = read_middleware(table);
        if !middleware.is_empty() && (static_response.is_some() || matches!(executor, Executor::Wagi(_))) {
            table.report("has middleware, which wraps components that handle HTTP themselves: not static responses, and not the Wagi executor");
        }
        let several = !specs.is_empty() && component.is_some() || specs.len() > 1;
        let target = match (component, static_response) {
            (Some(field), None) => {
                let id = self.component(&field, &id, several);
                id.map(|id| Target::Component { id, executor })
            }
            (None, Some(response)) => read_static(&response),
            (Some(_), Some(_)) => {
                table.report("a trigger has either `component` or `static_response`: remove one of the two");
                None
            }
            // It is there, and has been reported.
            (None, None) if static_field.is_some() => None,
            (None, None) => {
                table.missing("component", "`component = \"…\"` or `static_response = { … }`");
                None
            }
        };
        for field in specs.drain(..) {
            self.component(&field, &id, several);
        }
        table.finish();
        Some(Trigger { id, route: Route { pattern: pattern?, target: target? }, middleware })
    }

    /// The id of a trigger: its own, or the one that Spin gives it.
    fn trigger_id(&mut self, table: &Table<'_>) -> String {
        let own = table.string("id").filter(|id| !id.is_empty());
        if let Some(id) = own {
            return id;
        }
        let component = table.get("component").and_then(|field| field.if_string());
        let mut id = component.map(|component| format!("{component}-http-trigger")).unwrap_or_default();
        while id.is_empty() || self.ids.contains(&id) {
            self.numbers.0 += 1;
            id = format!("http-trigger{}", self.numbers.0);
        }
        self.ids.insert(id.clone());
        id
    }

    /// The id of the component that `field` names, or that is written there.
    fn component(&mut self, field: &Field<'_>, trigger: &str, several: bool) -> Option<ComponentId> {
        let Some(table) = field.if_table() else { return self.reference(field) };
        let spec = read_component(&table, Format::V2, &self.manifest.variables);
        table.finish();
        let natural = (!several).then(|| format!("{trigger}-component")).filter(|id| is_kebab(id));
        let mut id = natural.and_then(|id| self.free(&id));
        while id.is_none() {
            self.numbers.1 += 1;
            id = self.free(&format!("inline-component{}", self.numbers.1));
        }
        let id = id?;
        self.manifest.components.insert(id.clone(), spec?);
        Some(id)
    }

    /// The id, if no component has it.
    fn free(&self, id: &str) -> Option<ComponentId> {
        let parsed = id.parse().ok()?;
        (!self.declared.contains(id) && !self.manifest.components.contains_key(&parsed)).then_some(parsed)
    }

    /// The id of one of the declared components.
    fn reference(&self, field: &Field<'_>) -> Option<ComponentId> {
        let text = field.string()?;
        if !self.declared.contains(text.as_str()) {
            let known: Vec<&str> = self.declared.iter().copied().collect();
            let hint = if known.is_empty() { String::new() } else { format!("; {}", suggest(&text, &known)) };
            field.report(format!("there is no component `{text}`: add `[component.{text}]`{hint}"));
        }
        text.parse().ok().filter(|id| self.manifest.components.contains_key(id))
    }
}

/// `components` of a trigger has one component or a list of them under each key. HTTP triggers give them no meaning.
fn one_or_many(field: Field<'_>) -> Vec<Field<'_>> {
    if field.is_list() { field.list() } else { vec![field] }
}

/// Version 2 kept the field, but not what it is for.
fn check_entrypoint(table: &Table<'_>, executor: &Executor) {
    let standard = WagiExecutor::default().entrypoint;
    if let Executor::Wagi(wagi) = executor
        && wagi.entrypoint != standard
        && let Some(field) = table.get("executor").and_then(|field| field.if_table()?.get("entrypoint"))
    {
        field.report(format!("must be `{standard}` in version 2, where it says nothing else: remove it"));
    }
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

fn read_static(response: &Table<'_>) -> Option<Target> {
    let status = response.get("status_code").map_or(Some(200), |field| read_status(&field));
    let headers = response.string_map("headers");
    for (name, field) in response.table("headers").iter().flat_map(Table::entries) {
        check_header(name, &field);
    }
    let body = response.string("body").unwrap_or_default();
    response.finish();
    Some(Target::Static { status: status?, headers, body })
}

/// Makes the triggers routes. A component that is behind middleware for some of its triggers only, or behind different
/// ones, is there once more for each of those.
fn add_routes(triggers: Vec<Trigger>, manifest: &mut Manifest) {
    // The one chain of a component, or that it has several.
    let mut chains: BTreeMap<ComponentId, Option<Vec<Dependency>>> = BTreeMap::new();
    for trigger in &triggers {
        if let Target::Component { id, .. } = &trigger.route.target {
            let chain = chains.entry(id.clone()).or_insert_with(|| Some(trigger.middleware.clone()));
            if chain.as_ref().is_some_and(|chain| !same_chain(chain, &trigger.middleware)) {
                *chain = None;
            }
        }
    }
    let mut number = 0;
    for trigger in triggers {
        let mut route = trigger.route;
        if let Target::Component { id, .. } = &mut route.target
            && !trigger.middleware.is_empty()
        {
            if chains.get(id).is_some_and(Option::is_none) {
                wrap(id, &trigger.id, trigger.middleware, &mut number, manifest);
            } else if let Some(spec) = manifest.components.get_mut(id) {
                spec.middleware = trigger.middleware;
            }
        }
        manifest.routes.push(route);
    }
}

fn same_chain(one: &[Dependency], other: &[Dependency]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.wasm == other.wasm && one.inherit == other.inherit)
}

/// Makes `component` the id of a copy of it behind the middleware of a trigger: the id that Spin would give one in its place.
fn wrap(
    component: &mut ComponentId,
    trigger: &str,
    middleware: Vec<Dependency>,
    number: &mut u32,
    manifest: &mut Manifest,
) {
    let Some(spec) = manifest.components.get(component) else { return };
    let spec = ComponentSpec { middleware, copy_of: Some(component.clone()), ..spec.clone() };
    let natural = Some(format!("{trigger}-component")).filter(|id| is_kebab(id)).and_then(|id| id.parse().ok());
    let mut id: Option<ComponentId> = natural.filter(|id| !manifest.components.contains_key(id));
    while id.is_none() {
        *number += 1;
        let numbered = format!("middleware{number}-component").parse().ok();
        id = numbered.filter(|id| !manifest.components.contains_key(id));
    }
    if let Some(id) = id {
        manifest.components.insert(id.clone(), spec);
        *component = id;
    }
}

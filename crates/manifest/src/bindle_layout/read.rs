//! From an invoice and its manifest parcel to an [`Application`].

use std::collections::BTreeMap;

use super::{
    LayoutError, MANIFEST_MEDIA_TYPE, WASM_MEDIA_TYPE,
    invoice::{Invoice, Label, Parcel},
};
use crate::{
    application::{Application, Component, ComponentId, Content, File, Pattern, Route, Target, Variable, check_files},
    digest::Digest,
    fields::{
        Hosts, check_header, read_base, read_environment, read_executor, read_hosts, read_id, read_labels,
        read_pattern, read_status, read_templates, read_variables, unsupported_trigger,
    },
    problem::ManifestError,
    reader,
    reader::{Field, Table},
};

/// The label of the parcel that describes the application: what to fetch before [`application`] can be called.
///
/// # Errors
/// When the invoice is withdrawn, of a format that we do not know, or has not exactly one manifest.
pub fn manifest_parcel(invoice: &Invoice) -> Result<&Label, LayoutError> {
    if !invoice.bindle_version.starts_with("1.") {
        return Err(LayoutError::BindleVersion { found: invoice.bindle_version.clone() });
    }
    if invoice.yanked == Some(true) {
        return Err(LayoutError::Yanked { id: invoice.id() });
    }
    let mut manifests = invoice.parcel.iter().filter(|parcel| parcel.label.media_type == MANIFEST_MEDIA_TYPE);
    match (manifests.next(), manifests.count()) {
        (Some(parcel), 0) => Ok(&parcel.label),
        (Some(_), more) => Err(LayoutError::Manifests { id: invoice.id(), count: more + 1 }),
        (None, _) if invoice.parcel.iter().any(is_wagi) => Err(LayoutError::Wagi { id: invoice.id() }),
        (None, _) => Err(LayoutError::NoManifest { id: invoice.id() }),
    }
}

/// Whether a parcel carries the settings of Wagi's own layout, which came before Spin's.
fn is_wagi(parcel: &Parcel) -> bool {
    parcel.label.feature.as_ref().is_some_and(|feature| feature.contains_key("wagi"))
}

/// The application that `invoice` and the text of its manifest parcel describe.
///
/// Everything that the layout promises is checked; that the parcels' bytes are what their digests say
/// is for whoever fetches them.
///
/// # Errors
/// When the bundle is not a Spin application that Spindle can run; the text says what is wrong where.
pub fn application(invoice: &Invoice, manifest_text: &str) -> Result<Application, LayoutError> {
    let label = manifest_parcel(invoice)?;
    let size = u64::try_from(manifest_text.len()).ok();
    if size != Some(label.size) || Digest::of(manifest_text.as_bytes()) != label.sha256 {
        return Err(LayoutError::WrongManifest { id: invoice.id(), expected: label.sha256 });
    }
    check_sizes(invoice)?;
    let manifest = parse(manifest_text, &label.name)?;
    let mut components = BTreeMap::new();
    for (id, spec) in manifest.components {
        let source = wasm(invoice, &id, spec.source)?;
        let files = spec.group.map_or_else(|| Ok(Vec::new()), |group| files(invoice, &id, &group))?;
        components.insert(id, Component { source, files, ..spec.component });
    }
    let header = &invoice.bindle;
    let application = Application {
        name: header.name.clone(),
        version: header.version.clone(),
        description: header.description.clone(),
        authors: header.authors.clone().unwrap_or_default(),
        base: manifest.base,
        variables: manifest.variables,
        routes: manifest.routes,
        components,
    };
    application.check()?;
    Ok(application)
}

/// All parcels of the same content must agree about its size.
fn check_sizes(invoice: &Invoice) -> Result<(), LayoutError> {
    let mut sizes = BTreeMap::new();
    for Parcel { label, .. } in &invoice.parcel {
        if *sizes.entry(label.sha256).or_insert(label.size) != label.size {
            return Err(LayoutError::Sizes { id: invoice.id(), parcel: label.sha256 });
        }
    }
    Ok(())
}

/// The content of a component's wasm parcel.
fn wasm(invoice: &Invoice, component: &ComponentId, source: Digest) -> Result<Content, LayoutError> {
    let missing = || LayoutError::NoSuchParcel { component: component.clone(), parcel: source };
    let labels = || invoice.parcel.iter().map(|parcel| &parcel.label).filter(|label| label.sha256 == source);
    let wasm = |kind: &str| kind == WASM_MEDIA_TYPE || kind.ends_with("+wasm") || kind == "application/octet-stream";
    let first = labels().next().ok_or_else(missing)?;
    match labels().find(|label| wasm(&label.media_type)) {
        Some(label) => Ok(Content { digest: label.sha256, size: label.size }),
        None => Err(LayoutError::NotWasm {
            component: component.clone(),
            parcel: source,
            media_type: first.media_type.clone(),
        }),
    }
}

/// The files in `group`: none when there is no such group, as every publisher and loader had it.
fn files(invoice: &Invoice, component: &ComponentId, group: &str) -> Result<Vec<File>, LayoutError> {
    let mut files: Vec<File> = invoice
        .parcel
        .iter()
        .filter(|parcel| parcel.member_of().iter().any(|name| name == group))
        .map(|Parcel { label, .. }| File {
            path: label.name.clone(),
            content: Content { digest: label.sha256, size: label.size },
        })
        .collect();
    files.sort_by(|a, b| (&a.path, a.content).cmp(&(&b.path, b.content)));
    files.dedup();
    check_files(&files).map_err(|(path, problem)| LayoutError::File {
        component: component.clone(),
        group: group.to_owned(),
        path: path.to_owned(),
        problem,
    })?;
    Ok(files)
}

/// The manifest parcel, understood.
struct BundleManifest {
    base: String,
    variables: BTreeMap<String, Variable>,
    routes: Vec<Route>,
    components: BTreeMap<ComponentId, BundleComponent>,
}

/// A component of the manifest parcel, before its parcels are looked up.
struct BundleComponent {
    source: Digest,
    group: Option<String>,
    /// Everything else; its source and its files are placeholders.
    component: Component,
}

fn parse(text: &str, file: &str) -> Result<BundleManifest, ManifestError> {
    reader::read(file, text, |root| {
        let mut variables = BTreeMap::new();
        read_variables(root, "config", &mut variables);
        read_variables(root, "variables", &mut variables);
        let base = read_trigger(root);
        let mut manifest = BundleManifest { base, variables, routes: Vec::new(), components: BTreeMap::new() };
        let listed = root.get("route");
        for table in root.list("component").iter().filter_map(Field::table) {
            read_component(table, listed.is_some(), &mut manifest);
        }
        for table in listed.iter().flat_map(Field::list).filter_map(|field| field.table()) {
            read_listed_route(&table, &mut manifest);
        }
        if manifest.routes.is_empty() {
            root.report("the application has no HTTP trigger, so nothing could reach it");
        }
        root.finish();
        manifest
    })
}

/// The trigger that all components share; its base path.
fn read_trigger(root: &Table<'_>) -> String {
    let root_path = "/".to_owned();
    let Some(trigger) = root.required("trigger", "`[trigger]` with `type = \"http\"`").and_then(|field| field.table())
    else {
        return root_path;
    };
    let Some(kind) = trigger.required("type", "`type = \"http\"`") else { return root_path };
    if let Some(name) = kind.string()
        && name != "http"
    {
        kind.report(unsupported_trigger(&name));
        return root_path;
    }
    let base = read_base(&trigger);
    trigger.finish();
    base
}

fn read_component(mut table: Table<'_>, routes_listed: bool, manifest: &mut BundleManifest) {
    let id_field = table.required("id", "`id`");
    let id = id_field.as_ref().and_then(read_id);
    if let Some(id) = &id {
        table.rename(format!("component.{id}"));
    }
    let source = table
        .required("source", "`source`, the id of the wasm parcel")
        .and_then(|field| field.string()?.parse::<Digest>().map_err(|error| field.report(format!("{error}"))).ok());
    let group = table.string("files");
    let component = read_settings(&table, &manifest.variables);
    match (id.clone(), routes_listed) {
        (Some(id), false) => {
            let trigger = table.required("trigger", "`[component.trigger]`").and_then(|field| field.table());
            manifest.routes.extend(trigger.and_then(|trigger| read_route(&trigger, id)));
        }
        (Some(_), true) => {}
        (None, _) => table.ignore(&["trigger"]),
    }
    table.finish();
    let (Some(id), Some(source), Some(id_field)) = (id, source, id_field) else { return };
    if manifest.components.insert(id.clone(), BundleComponent { source, group, component }).is_some() {
        id_field.report(format!("there is another component `{id}`: ids must be unique"));
    }
}

/// Everything of a component except what its parcels say.
fn read_settings(table: &Table<'_>, variables: &BTreeMap<String, Variable>) -> Component {
    Component {
        description: table.string("description").filter(|text| !text.is_empty()),
        source: Content { digest: Digest::from_bytes([0; 32]), size: 0 },
        files: Vec::new(),
        environment: read_environment(table),
        variables: read_templates(table, "config", variables),
        allowed_outbound_hosts: read_hosts(table, ("allowedOutboundHosts", "allowedHttpHosts"), Hosts::V1, variables),
        key_value_stores: read_labels(table, "keyValueStores"),
        sqlite_databases: read_labels(table, "sqliteDatabases"),
        ai_models: read_labels(table, "aiModels"),
    }
}

fn read_route(trigger: &Table<'_>, id: ComponentId) -> Option<Route> {
    let pattern = trigger.required("route", "`route`").and_then(|field| read_pattern(&field));
    let executor = read_executor(trigger);
    trigger.finish();
    Some(Route { pattern: Pattern::Path(pattern?), target: Target::Component { id, executor } })
}

/// A route of our own list of routes.
fn read_listed_route(table: &Table<'_>, manifest: &mut BundleManifest) {
    let pattern = match (table.get("route"), table.boolean("private")) {
        (Some(field), None | Some(false)) => read_pattern(&field).map(Pattern::Path),
        (None, Some(true)) => Some(Pattern::Private),
        _ => {
            table.report("must have either `route` or `private = true`");
            None
        }
    };
    let executor = read_executor(table);
    let target = match (table.get("component"), table.table("response")) {
        (Some(field), None) => read_id(&field)
            .filter(|id| {
                let known = manifest.components.contains_key(id);
                if !known {
                    field.report(format!("there is no component `{id}`"));
                }
                known
            })
            .map(|id| Target::Component { id, executor }),
        (None, Some(response)) => read_response(&response),
        _ => {
            table.report("must have either `component` or `response`");
            None
        }
    };
    table.finish();
    if let (Some(pattern), Some(target)) = (pattern, target) {
        manifest.routes.push(Route { pattern, target });
    }
}

fn read_response(response: &Table<'_>) -> Option<Target> {
    let code = response.required("status", "`status = 200`").and_then(|field| read_status(&field));
    let headers = response.string_map("headers");
    for (name, field) in response.table("headers").iter().flat_map(Table::entries) {
        check_header(name, &field);
    }
    let body = response.string("body").unwrap_or_default();
    response.finish();
    Some(Target::Static { status: code?, headers, body })
}

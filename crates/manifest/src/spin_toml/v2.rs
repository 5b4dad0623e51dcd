//! `spin.toml` of version 2 (Spin v2 and later).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Manifest,
    component::{Format, read_component},
    dependency::is_kebab,
    trigger::read_triggers,
};
use crate::{
    application::ComponentId,
    fields::read_variables,
    reader::{Field, Table},
};

pub(super) fn read(file: &str, root: &Table<'_>) -> Manifest {
    root.ignore(&["spin_manifest_version"]);
    let mut variables = BTreeMap::new();
    read_variables(root, "variables", &mut variables);
    let mut manifest = Manifest {
        file: file.to_owned(),
        format: Format::V2,
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
    for key in ["name", "version", "description", "authors"] {
        root.misplaced(key, "it belongs to `[application]`");
    }
    let components = "`[component.ID]` for each: `[[component]]` is of version 1";
    let components = root.get("component").and_then(|field| field.table_such_as(components));
    for (id, field) in components.iter().flat_map(Table::entries) {
        declared.insert(id);
        let id_read = read_kebab_id(&field, id);
        let spec = field.table().and_then(|table| {
            let spec = read_component(&table, Format::V2, &manifest.variables);
            table.finish();
            spec
        });
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
        // What is said of other triggers is free, and means nothing where there is none: those that there are are refused.
        if let Some(settings) = field.table()
            && kind == "http"
        {
            read_http_settings(&settings);
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
    if is_kebab(id)
        && let Ok(id) = id.parse()
    {
        return Some(id);
    }
    field.report(format!("`{id}` is not a component id: use words of ASCII letters and digits with `-` between them, each starting with a letter, such as `my-component`"));
    None
}

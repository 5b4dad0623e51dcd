//! `[component.x.dependencies]` and the middleware of triggers: what a component imports from other components.

mod library;
mod name;

use std::collections::BTreeSet;

use semver::VersionReq;

use super::{
    Location, PackageVersion,
    source::{read_path, read_registry, read_url},
};
use crate::{
    application::ComponentId,
    problem::Place,
    reader::{Field, Table, list, suggest},
};

pub(super) use library::library_problems;
pub use name::{DependencyName, DependencyNameError, is_compatible};
pub(super) use name::{is_kebab, is_package};

/// A component that is composed into another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Where it is in the manifest.
    pub place: Place,
    /// Which imports it is for; `None` for middleware, which is for the handler.
    pub name: Option<DependencyName>,
    /// Its wasm.
    pub wasm: DependencyWasm,
    /// The name of the export that is used, where it is not that of the import.
    pub export: Option<String>,
    /// What it may do of what the component may do.
    pub inherit: Inherit,
}

/// The wasm of a [`Dependency`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DependencyWasm {
    /// Its own.
    Own(Location),
    /// The source of a component of the application.
    Component(ComponentId),
}

/// What a dependency may do of what its component may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inherit {
    /// Everything.
    All,
    /// These only; nothing if it is empty.
    Only(BTreeSet<Capability>),
}

impl Default for Inherit {
    /// Nothing.
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Inherit {
    /// Whether `capability` is inherited.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        match self {
            Self::All => true,
            Self::Only(capabilities) => capabilities.contains(&capability),
        }
    }
}

/// Something that a component's manifest grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// `ai_models`.
    AiModels,
    /// `allowed_outbound_hosts`: HTTP, sockets, and clients of servers such as Redis and PostgreSQL.
    AllowedOutboundHosts,
    /// `environment`.
    Environment,
    /// `files`.
    Files,
    /// `key_value_stores`.
    KeyValueStores,
    /// `sqlite_databases`.
    SqliteDatabases,
    /// `variables`.
    Variables,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AiModels,
        Self::AllowedOutboundHosts,
        Self::Environment,
        Self::Files,
        Self::KeyValueStores,
        Self::SqliteDatabases,
        Self::Variables,
    ];

    /// The key of a component in the manifest that grants it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::AiModels => "ai_models",
            Self::AllowedOutboundHosts => "allowed_outbound_hosts",
            Self::Environment => "environment",
            Self::Files => "files",
            Self::KeyValueStores => "key_value_stores",
            Self::SqliteDatabases => "sqlite_databases",
            Self::Variables => "variables",
        }
    }
}

/// `dependencies` of a component or of a profile.
pub(super) fn read_dependencies(table: &Table<'_>, inherit: &Inherit) -> Vec<Dependency> {
    let mut dependencies: Vec<Dependency> = Vec::new();
    for (key, field) in table.table("dependencies").iter().flat_map(Table::entries) {
        let name: DependencyName = match key.parse() {
            Ok(name) => name,
            Err(error) => {
                field.report(format!("{error}"));
                continue;
            }
        };
        dependencies.extend(read_dependency(&field, Some(name), inherit));
    }
    dependencies
}

/// `dependencies` of a trigger: only `middleware` means something.
pub(super) fn read_middleware(table: &Table<'_>) -> Vec<Dependency> {
    let Some(dependencies) = table.table("dependencies") else { return Vec::new() };
    let listed = "a list of tables such as `[{ component = \"…\" }]`";
    let fields = dependencies.get("middleware").map(|field| field.list_such_as(listed)).unwrap_or_default();
    dependencies.finish();
    fields.iter().filter_map(|field| read_dependency(field, None, &Inherit::default())).collect()
}

/// Whether dependencies inherit everything when they say nothing.
pub(super) fn read_inherit_all(table: &Table<'_>) -> Inherit {
    match table.boolean("dependencies_inherit_configuration") {
        Some(true) => Inherit::All,
        _ => Inherit::default(),
    }
}

/// What a table must be that says where a dependency is.
const FORMS: &str = "a table with one of `version`, `path`, `url` and `component`";

fn read_dependency(field: &Field<'_>, name: Option<DependencyName>, inherit: &Inherit) -> Option<Dependency> {
    let place = field.place();
    if field.if_string().is_some() {
        let wasm = name.as_ref().and_then(|name| read_version_only(field, name));
        if name.is_none() {
            field.report(format!("must be {FORMS}"));
        }
        return Some(Dependency {
            place,
            name,
            wasm: DependencyWasm::Own(wasm?),
            export: None,
            inherit: inherit.clone(),
        });
    }
    let Some(table) = field.if_table() else {
        let version = if name.is_some() { "a version such as `\"1.0\"`, or " } else { "" };
        field.report(format!("must be {version}{FORMS}"));
        return None;
    };
    let wasm = read_wasm(&table, name.as_ref());
    let export = if name.is_some() { read_export(&table, name.as_ref()) } else { None };
    let inherit = table.get("inherit_configuration").and_then(|field| read_inherit(&field)).unwrap_or(inherit.clone());
    table.finish();
    Some(Dependency { place, name, wasm: wasm?, export, inherit })
}

/// `"ns:pkg/iface" = "1.0"`: from the default registry, the package that the name names.
fn read_version_only(field: &Field<'_>, name: &DependencyName) -> Option<Location> {
    let requirement = read_requirement(field);
    let DependencyName::Package { package, .. } = name else {
        field.report(format!(
            "does not say which package: write `{{ package = \"namespace:{name}\", version = \"…\" }}`"
        ));
        return None;
    };
    Some(Location::Registry { registry: None, package: package.clone(), version: requirement? })
}

/// A version that is to be matched, as Cargo does.
pub(super) fn read_requirement(field: &Field<'_>) -> Option<PackageVersion> {
    let text = field.string()?;
    match VersionReq::parse(&text) {
        Ok(requirement) => Some(PackageVersion::Matching(requirement)),
        Err(error) => {
            field.report(format!(
                "`{text}` is not a requirement for versions ({error}): write `1.2.3`, `^1.2`, `>=1.0, <2` or the like"
            ));
            None
        }
    }
}

fn read_wasm(table: &Table<'_>, name: Option<&DependencyName>) -> Option<DependencyWasm> {
    let (path, url, component) = (table.get("path"), table.get("url"), table.get("component"));
    let version = table.get("version");
    match (path, url, component, version) {
        (Some(path), None, None, None) => Some(DependencyWasm::Own(read_path(&path, &path.string()?)?)),
        (None, Some(url), None, None) => {
            let digest = table.get("digest");
            Some(DependencyWasm::Own(read_url(table, &url, digest.as_ref())?))
        }
        (None, None, Some(component), None) => {
            let id = component.string()?;
            id.parse().map(DependencyWasm::Component).map_err(|error| component.report(format!("{error}"))).ok()
        }
        (None, None, None, Some(version)) => {
            let requirement = read_requirement(&version);
            let default = match name {
                Some(DependencyName::Package { package, .. }) => Some(package.as_str()),
                _ => None,
            };
            let (registry, package) = read_registry(table, default);
            Some(DependencyWasm::Own(Location::Registry { registry, package: package?, version: requirement? }))
        }
        (None, None, None, None) => {
            table.ignore(&["registry", "package", "digest"]);
            table.report("does not say where the dependency is: add one of `version`, `path`, `url` and `component`");
            None
        }
        _ => {
            table.ignore(&["registry", "package", "digest"]);
            table.report("must have exactly one of `version`, `path`, `url` and `component`");
            None
        }
    }
}

fn read_export(table: &Table<'_>, name: Option<&DependencyName>) -> Option<String> {
    let field = table.get("export")?;
    let export = field.string()?;
    if let Some(DependencyName::Package { interface: None, .. }) = name {
        field.report(
            "cannot be chosen for a whole package: name one interface of it, such as `namespace:package/interface`",
        );
    } else if export.parse::<DependencyName>().is_err() {
        field.report(format!("`{export}` is not the name of an export: use `namespace:package/interface`, with a version if it has one, or a plain name"));
    }
    Some(export)
}

fn read_inherit(field: &Field<'_>) -> Option<Inherit> {
    if let Some(all) = field.if_boolean() {
        return Some(if all { Inherit::All } else { Inherit::default() });
    }
    if !field.is_list() {
        let keys = Capability::ALL.map(Capability::key);
        field.report(format!("must be true, false or a list of {}", list(&keys)));
        return None;
    }
    let capabilities = field.list().iter().filter_map(read_capability).collect();
    Some(Inherit::Only(capabilities))
}

fn read_capability(field: &Field<'_>) -> Option<Capability> {
    let text = field.string()?;
    let found = Capability::ALL.into_iter().find(|capability| capability.key() == text);
    if found.is_none() {
        let hint = suggest(&text, &Capability::ALL.map(Capability::key));
        field.report(format!("`{text}` is nothing that can be inherited: {hint}"));
    }
    found
}

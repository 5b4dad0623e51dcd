//! `spin.toml`: what an author writes.
//!
//! Promise: every field is understood, deliberately ignored (`build`, `tool` and `targets` mean nothing at run
//! time) or refused by name; never silently dropped. All problems of a manifest are reported at once, each
//! with line, column and field.
//!
//! [`parse`] gives a [`Manifest`], which still names paths, patterns and URLs; whoever resolved them
//! turns it into an [`Application`] with [`Manifest::into_application`].
//!
//! Absent on purpose: looking at files. Triggers other than HTTP are refused.

mod component;
mod dependency;
mod profile;
mod source;
mod trigger;
mod v1;
mod v2;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use semver::{Version, VersionReq};

use crate::{
    application,
    application::{
        Application, ApplicationError, Component, ComponentId, Content, File, Route, Target, UnknownComponents,
        Variable,
    },
    digest::Digest,
    problem::{ManifestError, Place},
    reader,
    reader::Table,
};

pub use component::Format;
pub use dependency::{
    Capability, Dependency, DependencyName, DependencyNameError, DependencyWasm, Inherit, is_compatible,
};
pub use profile::{Build, Profile, ProfileError};

/// A `spin.toml`, understood but not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it was called when it was parsed, for messages.
    pub file: String,
    /// Which version of the manifest it is.
    pub format: Format,
    /// As [`Application::name`].
    pub name: String,
    /// As [`Application::version`].
    pub version: String,
    /// As [`Application::description`].
    pub description: Option<String>,
    /// As [`Application::authors`].
    pub authors: Vec<String>,
    /// As [`Application::base`].
    pub base: String,
    /// As [`Application::variables`].
    pub variables: BTreeMap<String, Variable>,
    /// As [`Application::routes`].
    pub routes: Vec<Route>,
    /// The components, by id. Those that version 2 allows inside a trigger have Spin's ids; a component behind
    /// the middleware of some of its triggers is there once more for them.
    pub components: BTreeMap<ComponentId, ComponentSpec>,
}

/// A component of a [`Manifest`]: as [`Component`], with its content still to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSpec {
    /// Where it is in the manifest.
    pub place: Place,
    /// As [`Component::description`].
    pub description: Option<String>,
    /// Where its wasm is.
    pub source: Source,
    /// Which files it is given.
    pub files: Vec<FilesEntry>,
    /// Which files it is not given.
    pub exclude_files: Vec<Exclusion>,
    /// As [`Component::environment`].
    pub environment: BTreeMap<String, String>,
    /// As [`Component::variables`].
    pub variables: BTreeMap<String, String>,
    /// As [`Component::allowed_outbound_hosts`].
    pub allowed_outbound_hosts: Vec<String>,
    /// As [`Component::key_value_stores`].
    pub key_value_stores: Vec<String>,
    /// As [`Component::sqlite_databases`].
    pub sqlite_databases: Vec<String>,
    /// As [`Component::ai_models`].
    pub ai_models: Vec<String>,
    /// How it is built.
    pub build: Option<Build>,
    /// What is different in a profile, by its name.
    pub profiles: BTreeMap<String, Profile>,
    /// What its imports are satisfied with, no two for the same import.
    pub dependencies: Vec<Dependency>,
    /// What wraps its handler, the outermost first.
    pub middleware: Vec<Dependency>,
    /// The component that this one is a copy of, for triggers with other middleware.
    pub copy_of: Option<ComponentId>,
}

/// The `source` of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is in the manifest.
    pub place: Place,
    /// Where the wasm is.
    pub location: Location,
}

/// Where some wasm is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file, relative to the manifest's directory.
    Path(String),
    /// Behind a URL.
    Url {
        /// An `https` URL.
        url: String,
        /// What must be there.
        digest: Digest,
    },
    /// A parcel of another bundle (version 1).
    Bindle {
        /// The id of the bundle.
        reference: String,
        /// The parcel.
        parcel: Digest,
    },
    /// A package in a component registry (version 2).
    Registry {
        /// The registry, if not the default one.
        registry: Option<String>,
        /// The package, such as `namespace:name`.
        package: String,
        /// The version.
        version: PackageVersion,
    },
}

/// Which version of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageVersion {
    /// This one.
    Exact(Version),
    /// The highest that matches.
    Matching(VersionReq),
}

impl fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(version) => version.fmt(f),
            Self::Matching(requirement) => requirement.fmt(f),
        }
    }
}

/// One entry of `files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesEntry {
    /// Where it is in the manifest.
    pub place: Place,
    /// Which files.
    pub pattern: FilesPattern,
}

/// One entry of `exclude_files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Where it is in the manifest.
    pub place: Place,
    /// The files, relative to the manifest's directory.
    pub pattern: String,
}

/// Which files, and where the component sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesPattern {
    /// Those that match a pattern relative to the manifest's directory, at the same relative path.
    Glob(String),
    /// A file or a directory, elsewhere.
    Placed {
        /// The path, relative to the manifest's directory; `..` leads out of it.
        source: String,
        /// The path in the guest, without its leading `/`; empty for the root.
        destination: String,
    },
}

/// What the source and the files of a component turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its wasm.
    pub source: Content,
    /// Its files, in any order.
    pub files: Vec<File>,
}

/// Why a [`Manifest`] does not become an [`Application`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntoApplicationError {
    /// The content of a component was not given.
    #[error("component `{0}` has not been resolved")]
    Unresolved(ComponentId),
    /// The content makes no application.
    #[error(transparent)]
    Application(#[from] ApplicationError),
}

/// Reads `text`, which problems call `file`.
///
/// # Errors
/// When it is not a `spin.toml` that Spindle can run; all its problems at once.
pub fn parse(text: &str, file: &str) -> Result<Manifest, ManifestError> {
    reader::read(file, text, |root| match version(root) {
        Some(1) => Some(v1::read(file, root)),
        Some(_) => Some(v2::read(file, root)),
        None => None,
    })
    .and_then(|manifest| {
        // `version` reports why there is none, so this is never reached with `None`.
        let manifest = manifest.ok_or_else(|| ManifestError { file: file.to_owned(), problems: Vec::new() })?;
        let problems = dependency::library_problems(&manifest);
        if problems.is_empty() { Ok(manifest) } else { Err(ManifestError { file: file.to_owned(), problems }) }
    })
}

/// 1 or 2, or `None` after reporting why neither.
fn version(root: &Table<'_>) -> Option<u8> {
    let (old, new) = (root.get("spin_version"), root.get("spin_manifest_version"));
    let field = match (old, new) {
        (Some(_), Some(new)) => {
            new.report("is the newer name of `spin_version`: remove one of the two");
            return None;
        }
        (Some(old), None) => old,
        (None, Some(new)) => {
            if new.if_integer() == Some(2) {
                return Some(2);
            }
            new
        }
        (None, None) => {
            root.missing("spin_manifest_version", "`spin_manifest_version = 2`");
            return None;
        }
    };
    if field.if_string() == Some("1") || field.if_integer() == Some(1) {
        return Some(1);
    }
    field.report(
        "is not a version that Spindle knows: write `spin_manifest_version = 2`, or `\"1\"` for the old format",
    );
    None
}

/// The name of the application.
fn read_name(table: &Table<'_>) -> String {
    let hint = "`name = \"my-app\"`";
    let Some(field) = table.required("name", hint) else { return String::new() };
    let name = field.string().unwrap_or_default();
    if field.if_string().is_some_and(|name| name.trim().is_empty() || name.contains(char::is_control)) {
        field.report("must be a name, such as `my-app`");
    }
    name
}

impl Manifest {
    /// The manifest with some of its components only: see [`Application::select`].
    ///
    /// # Errors
    /// When it has not all of them.
    pub fn select<S: AsRef<str>>(mut self, ids: &[S]) -> Result<Self, UnknownComponents> {
        let hosts = self.components.iter().map(|(id, spec)| (id, spec.allowed_outbound_hosts.as_slice()));
        let mut selected = application::select(ids, &hosts.collect(), &self.variables)?;
        let is_copy = |spec: &ComponentSpec| spec.copy_of.as_ref().is_some_and(|id| selected.contains(id));
        let copies: Vec<ComponentId> =
            self.components.iter().filter(|(_, spec)| is_copy(spec)).map(|(id, _)| id.clone()).collect();
        selected.extend(copies);
        let specs = self.components.iter().filter(|(id, _)| selected.contains(id));
        let used: Vec<ComponentId> = specs.flat_map(|(_, spec)| spec.uses().cloned()).collect();
        selected.extend(used);
        self.components.retain(|id, _| selected.contains(id));
        application::retain_routes(&mut self.routes, &selected);
        Ok(self)
    }

    /// The components that no trigger leads to: others use them as dependencies or middleware, or nobody does. They are
    /// no components of the application.
    #[must_use]
    pub fn unrouted(&self) -> BTreeSet<ComponentId> {
        let mut unrouted: BTreeSet<ComponentId> = self.components.keys().cloned().collect();
        for route in &self.routes {
            if let Target::Component { id, .. } = &route.target {
                unrouted.remove(id);
            }
        }
        unrouted
    }

    /// The application, once the content of every component is known that is not one of [`Manifest::unrouted`].
    ///
    /// # Errors
    /// When the content of a component is missing, or files have bad or clashing paths.
    pub fn into_application(
        self,
        mut resolved: BTreeMap<ComponentId, Resolved>,
    ) -> Result<Application, IntoApplicationError> {
        let unrouted = self.unrouted();
        let mut components = BTreeMap::new();
        for (id, spec) in self.components.into_iter().filter(|(id, _)| !unrouted.contains(id)) {
            let content = resolved.remove(&id).ok_or_else(|| IntoApplicationError::Unresolved(id.clone()))?;
            components.insert(id, spec.into_component(content));
        }
        let application = Application {
            name: self.name,
            version: self.version,
            description: self.description,
            authors: self.authors,
            base: self.base,
            variables: self.variables,
            routes: self.routes,
            components,
        };
        application.check()?;
        Ok(application)
    }
}

impl ComponentSpec {
    /// The components of the application that it is composed with.
    fn uses(&self) -> impl Iterator<Item = &ComponentId> {
        self.dependencies.iter().chain(&self.middleware).filter_map(|dependency| match &dependency.wasm {
            DependencyWasm::Component(id) => Some(id),
            DependencyWasm::Own(_) => None,
        })
    }

    fn into_component(self, content: Resolved) -> Component {
        let mut files = content.files;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup();
        Component {
            description: self.description,
            source: content.source,
            files,
            environment: self.environment,
            variables: self.variables,
            allowed_outbound_hosts: self.allowed_outbound_hosts,
            key_value_stores: self.key_value_stores,
            sqlite_databases: self.sqlite_databases,
            ai_models: self.ai_models,
        }
    }
}

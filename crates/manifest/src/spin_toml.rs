//! `spin.toml`: what an author writes.
//!
//! Promise: every field is understood, deliberately ignored (`build`, `tool` and `targets` mean nothing at run
//! time) or refused by name; never silently dropped. All problems of a manifest are reported at once, each
//! with line, column and field.
//!
//! [`parse`] gives a [`Manifest`], which still names paths, patterns and URLs; whoever resolved them
//! turns it into an [`Application`] with [`Manifest::into_application`].
//!
//! Absent on purpose: looking at files. Component dependencies and triggers other than HTTP are refused.

mod component;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    application::{Application, ApplicationError, Component, ComponentId, Content, File, Route, Variable},
    digest::Digest,
    problem::{ManifestError, Place},
    reader,
    reader::Table,
};

/// A `spin.toml`, understood but not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it was called when it was parsed, for messages.
    pub file: String,
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
    /// The components, by id; those that version 2 allows inside a trigger have Spin's ids.
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
    /// Patterns of files that it is not given, relative to the manifest's directory.
    pub exclude_files: Vec<String>,
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
        version: String,
    },
}

/// One entry of `files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesEntry {
    /// Where it is in the manifest.
    pub place: Place,
    /// Which files.
    pub pattern: FilesPattern,
}

/// Which files, and where the component sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesPattern {
    /// Those that match a pattern relative to the manifest's directory, at the same relative path.
    Glob(String),
    /// A file or a directory, elsewhere.
    Placed {
        /// The path, relative to the manifest's directory.
        source: String,
        /// The path in the guest, without its leading `/`; empty for the root.
        destination: String,
    },
}

/// How a component is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The commands, in order.
    pub commands: Vec<String>,
    /// Where they run, relative to the manifest's directory.
    pub workdir: Option<String>,
}

/// What is different about a component in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Another wasm.
    pub source: Option<Source>,
    /// More environment variables, or other values.
    pub environment: BTreeMap<String, String>,
    /// Another build.
    pub build: Option<Build>,
}

/// What the source and the files of a component turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its wasm.
    pub source: Content,
    /// Its files, in any order.
    pub files: Vec<File>,
}

/// A profile that no component has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: there is no profile `{name}`: {hint}")]
pub struct UnknownProfile {
    file: String,
    name: String,
    hint: String,
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
        manifest.ok_or_else(|| ManifestError { file: file.to_owned(), problems: Vec::new() })
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

/// Reads the rest of a component even when its source is wrong, so that all its problems are reported.
fn read_with(source: Option<Source>, read: impl Fn(Source) -> ComponentSpec) -> Option<ComponentSpec> {
    let found = source.is_some();
    let nowhere = Place { line: 0, column: 0, field: String::new() };
    let spec = read(source.unwrap_or(Source { place: nowhere, location: Location::Path(String::new()) }));
    found.then_some(spec)
}

impl Manifest {
    /// The manifest as it is in the profile `name`: components that have it use its source and build, and
    /// its environment on top of theirs.
    ///
    /// # Errors
    /// When no component has such a profile.
    pub fn with_profile(mut self, name: &str) -> Result<Self, UnknownProfile> {
        let known: BTreeSet<&str> =
            self.components.values().flat_map(|spec| spec.profiles.keys()).map(String::as_str).collect();
        if !known.contains(name) {
            let known: Vec<&str> = known.into_iter().collect();
            let hint = if known.is_empty() {
                format!("add `[component.….profile.{name}]`")
            } else {
                reader::suggest(name, &known)
            };
            return Err(UnknownProfile { file: self.file, name: name.to_owned(), hint });
        }
        for spec in self.components.values_mut() {
            if let Some(profile) = spec.profiles.remove(name) {
                spec.source = profile.source.unwrap_or_else(|| spec.source.clone());
                spec.environment.extend(profile.environment);
                spec.build = profile.build.or_else(|| spec.build.take());
            }
        }
        Ok(self)
    }

    /// The application, once the content of every component is known.
    ///
    /// # Errors
    /// When the content of a component is missing, or files have bad or clashing paths.
    pub fn into_application(
        self,
        mut resolved: BTreeMap<ComponentId, Resolved>,
    ) -> Result<Application, IntoApplicationError> {
        let mut components = BTreeMap::new();
        for (id, spec) in self.components {
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

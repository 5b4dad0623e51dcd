//! An application in a directory: `spin.toml`, and what it names.
//!
//! Promise: the same directory always gives the same [`Application`]; every byte that it names is in the [`Store`];
//! and no component is given a file from outside the directory, whatever patterns and symbolic links say, unless a pair
//! of `source` and `destination` names it. (Its wasm may come from outside: build tools put it into a shared target
//! directory.)
//!
//! Everything here blocks: call it from a thread that may.
//!
//! Absent on purpose: building, and compiling the wasm, which is the runtime's part.

mod files;
#[cfg(test)]
mod tests;
mod wasm;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use manifest::{
    Application, ComponentId, File, Manifest, ManifestError, Place, UnknownComponents,
    spin_toml::{self, Build, ComponentSpec, IntoApplicationError, Location, ProfileError, Resolved},
};
use toml::Value;

use crate::{
    bindle::BindleClient,
    http::Trust,
    registry::RegistrySettings,
    store::{Store, StoreError},
};

/// What can be chosen about loading.
#[derive(Debug, Clone)]
pub struct Options {
    /// The profile, if not the default one.
    pub profile: Option<String>,
    /// The ids of the components to load, with those that they reach by service chaining; all if it is empty.
    pub components: Vec<String>,
    /// Whom to ask for a `source` that is a parcel of another bundle.
    pub bindle: Option<BindleClient>,
    /// Where packages of component registries come from.
    pub registry: RegistrySettings,
    /// Which certificates to accept when wasm is downloaded.
    pub trust: Trust,
    /// The largest wasm that is downloaded, in bytes.
    pub largest_download: u64,
    /// Whether to leave out the files of components, because whoever runs them gives them directories instead.
    pub without_files: bool,
}

impl Default for Options {
    /// The default profile, no Bindle server, the system's certificate authorities, 256 MiB.
    fn default() -> Self {
        Self {
            profile: None,
            components: Vec::new(),
            bindle: None,
            registry: RegistrySettings::default(),
            trust: Trust::default(),
            largest_download: 256 << 20,
            without_files: false,
        }
    }
}

/// What a directory turned out to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The application; its content is in the store.
    pub application: Application,
    /// The name of each component's wasm in its manifest, for publishers; only components whose wasm was a file.
    pub wasm_names: BTreeMap<ComponentId, String>,
}

/// Why a directory is not an application.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no manifest.
    #[error("there is no application at {path}: name a spin.toml, a directory with one, or a wasm file")]
    NoManifest {
        /// Where one was expected.
        path: PathBuf,
    },
    /// The manifest cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no such profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// There are no such components.
    #[error("{file}")]
    Components {
        /// The manifest.
        file: String,
        /// Which.
        source: UnknownComponents,
    },
    /// Something that the manifest names is not there, or is not what it should be.
    #[error("{at}: {problem}")]
    Content {
        /// File, line, column and field.
        at: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Something that the manifest names cannot be had.
    #[error("{at}: cannot get {what}")]
    Unavailable {
        /// File, line, column and field.
        at: String,
        /// What.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The content cannot be stored.
    #[error("{at}: cannot store {what}")]
    Store {
        /// File, line, column and field.
        at: String,
        /// What.
        what: String,
        /// Why.
        source: StoreError,
    },
    /// Together, the parts make no application.
    #[error("{file}")]
    Application {
        /// The manifest.
        file: String,
        /// Why.
        source: IntoApplicationError,
    },
}

impl LocalError {
    /// One word for conditions, events and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoManifest { .. } | Self::Read { .. } => "NoManifest",
            Self::Manifest(_) | Self::Profile(_) | Self::Components { .. } => "InvalidManifest",
            Self::Content { .. } | Self::Application { .. } => "InvalidContent",
            Self::Unavailable { .. } => "Unavailable",
            Self::Store { source, .. } => source.reason(),
        }
    }
}

/// Loads the application whose manifest, or whose directory, is `path`, with the default [`Options`].
///
/// # Errors
/// As [`load_with`].
pub fn load(path: &Path, store: &Store) -> Result<Loaded, LocalError> {
    load_with(path, &Options::default(), store)
}

/// Loads the application whose manifest, whose directory or whose only wasm file is `path`. Its content is in `store` afterwards.
///
/// # Errors
/// When the manifest is wrong or what it names is not there; the text says where and what to do.
pub fn load_with(path: &Path, options: &Options, store: &Store) -> Result<Loaded, LocalError> {
    let path = if path.is_dir() { path.join("spin.toml") } else { path.to_path_buf() };
    let text = read_manifest(&path)?;
    let file = path.display().to_string();
    let mut manifest = spin_toml::parse(&text, &file)?;
    if let Some(profile) = &options.profile {
        manifest = manifest.with_profile(profile)?;
    }
    if !options.components.is_empty() {
        let selected = manifest.select(&options.components);
        manifest = selected.map_err(|source| LocalError::Components { file: file.clone(), source })?;
    }
    let root = dir_of(&path).map_err(|source| LocalError::Read { path: path.clone(), source })?;
    let app = AppDir { root, file, manifest: &manifest, options, store };
    let (mut contents, mut wasm_names) = (BTreeMap::new(), BTreeMap::new());
    let unrouted = manifest.unrouted();
    for (id, spec) in manifest.components.iter().filter(|(id, _)| !unrouted.contains(*id)) {
        contents.insert(id.clone(), app.resolve(id, spec)?);
        if let Location::Path(name) = &spec.source.location {
            wasm_names.insert(id.clone(), name.clone());
        }
    }
    let file = app.file;
    let application = manifest.into_application(contents).map_err(|source| LocalError::Application { file, source })?;
    Ok(Loaded { application, wasm_names })
}

/// The text of the manifest at `path`; of a wasm file, that of the manifest that it stands for, as in Spin: one component
/// that answers every path.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn read_manifest(path: &Path) -> Result<String, LocalError> {
    let read = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LocalError::NoManifest { path: path.to_path_buf() },
        _ => LocalError::Read { path: path.to_path_buf(), source },
    };
    if !is_wasm(path) {
        return open(path).and_then(io::read_to_string).map_err(read);
    }
    open(path).map_err(read)?;
    let as_text = |name: Option<&OsStr>| name.and_then(OsStr::to_str).map(|name| Value::from(name).to_string());
    match (as_text(path.file_stem()), as_text(path.file_name())) {
        (Some(name), Some(source)) => Ok(format!(
            "spin_manifest_version = 2\napplication.name = {name}\n\
             [[trigger.http]]\nroute = \"/...\"\ncomponent = {{ source = {source} }}\n"
        )),
        _ => Err(read(io::Error::other("its name is not UTF-8"))),
    }
}

/// Whether `path` names a wasm file, or one of its text format (`.wat`), which stands for a manifest ([`read_manifest`]).
#[must_use]
pub fn is_wasm(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm") || is_text(path)
}

/// Whether `path` names a file of wasm's text format.
fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wat")
}

/// The directory, without symbolic links, that the paths in `manifest` are relative to. It is where the manifest was found, also
/// if there is only a link to it, as in Spin.
///
/// # Errors
/// When there is no such directory.
pub fn dir_of(manifest: &Path) -> io::Result<PathBuf> {
    let dir = manifest.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    dir.canonicalize()
}

/// The directory of a manifest, and where its content goes.
struct AppDir<'a> {
    /// Without symbolic links.
    root: PathBuf,
    /// The manifest, as it was named.
    file: String,
    manifest: &'a Manifest,
    options: &'a Options,
    store: &'a Store,
}

impl AppDir<'_> {
    /// The content of a component, all of it in the store.
    fn resolve(&self, id: &ComponentId, spec: &ComponentSpec) -> Result<Resolved, LocalError> {
        let source = self.composed(id, spec)?;
        let mut files = Vec::new();
        if self.options.without_files {
            return Ok(Resolved { source, files });
        }
        for (path, found) in self.find_files(spec)? {
            let stored = self.store.insert_file(&found.file);
            let content = stored.map_err(self.not_stored(&found.place, found.file.display().to_string()))?;
            files.push(File { path, content });
        }
        Ok(Resolved { source, files })
    }

    /// A place in the manifest, for messages; the file alone where nobody wrote a manifest.
    fn at(&self, place: &Place) -> String {
        if is_wasm(Path::new(&self.file)) { self.file.clone() } else { format!("{}:{place}", self.file) }
    }

    /// What an error of the store means for `what`, which is named at `place`.
    fn not_stored(&self, place: &Place, what: String) -> impl FnOnce(StoreError) -> LocalError {
        let at = self.at(place);
        |source| LocalError::Store { at, what, source }
    }

    fn problem(&self, place: &Place, problem: impl Into<String>) -> LocalError {
        LocalError::Content { at: self.at(place), problem: problem.into() }
    }
}

/// Opens a file to read. A pipe or a device, which may never end, is an error.
fn open(path: &Path) -> io::Result<fs::File> {
    if fs::metadata(path)?.is_file() { fs::File::open(path) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The advice to build a component, if its manifest says how.
fn build_advice(build: Option<&Build>) -> String {
    let Some(build) = build else { return "check the path, or build the component first".to_owned() };
    let place = build.workdir.as_ref().map(|dir| format!(" in {dir}")).unwrap_or_default();
    format!("check the path, or run the component's build command{place}: {}", build.commands.join(" && "))
}

//! wkg's `config.toml`: which registry has which package.

use std::{collections::BTreeMap, fs, io, path::Path};

use base64::Engine as _;
use control::{Credentials, SecretString};
use serde::Deserialize;

use super::{DOCUMENT, Metadata, PackageRef, RegistryError};

/// Where packages of these namespaces are when nobody says anything.
const WELL_KNOWN_NAMESPACES: [(&str, &str); 2] = [("wasi", "wasi.dev"), ("ba", "bytecodealliance.org")];

/// The parts of the file that matter for fetching.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    default_registry: Option<String>,
    namespace_registries: BTreeMap<String, Mapping>,
    package_registry_overrides: BTreeMap<String, Mapping>,
    registry: BTreeMap<String, RegistrySection>,
}

/// A registry, by name or with what it would say about itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Mapping {
    Registry(String),
    Custom { registry: String, metadata: Metadata },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistrySection {
    oci: Option<OciSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OciSection {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Auth {
    /// `user:password`, in base64.
    Encoded(String),
    Plain {
        username: String,
        password: String,
    },
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// The registry of a package, and what it says about itself if that is known already.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) registry: String,
    pub(super) metadata: Option<Metadata>,
}

impl Config {
    /// Reads the file; there may be none.
    pub(super) fn read(path: &Path) -> Result<Self, RegistryError> {
        let problem = |problem: String| RegistryError::Settings { path: path.to_path_buf(), problem };
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(found) if found.len() > DOCUMENT => return Err(problem("it is too large".to_owned())),
            _ => {}
        }
        let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        // The message alone: the whole error quotes the line, which may have a password in it.
        toml::from_str(&text).map_err(|error| problem(error.message().to_owned()))
    }

    /// The first of: what the manifest says, what this says about the package, about its namespace, the default.
    pub(super) fn place(&self, wanted: PackageRef<'_>, default: Option<&str>) -> Option<Place> {
        if let Some(registry) = wanted.registry {
            return Some(Place { registry: registry.to_owned(), metadata: None });
        }
        let namespace = wanted.package.split(':').next().unwrap_or_default();
        let mapping = self.package_registry_overrides.get(wanted.package);
        if let Some(mapping) = mapping.or_else(|| self.namespace_registries.get(namespace)) {
            return Some(match mapping.clone() {
                Mapping::Registry(registry) => Place { registry, metadata: None },
                Mapping::Custom { registry, metadata } => Place { registry, metadata: Some(metadata) },
            });
        }
        let fallback =
            WELL_KNOWN_NAMESPACES.iter().find(|(known, _)| *known == namespace).map(|(_, registry)| *registry);
        let registry = default.or(self.default_registry.as_deref()).or(fallback)?;
        Some(Place { registry: registry.to_owned(), metadata: None })
    }

    /// The credentials for a registry, under its own name or that of its OCI registry.
    pub(super) fn credentials(&self, registry: &str, host: &str) -> Option<Credentials> {
        let section = |name: &str| self.registry.get(name)?.oci.as_ref()?.auth.as_ref();
        let (username, password) = match section(registry).or_else(|| section(host))? {
            Auth::Plain { username, password } => (username.clone(), password.clone()),
            Auth::Encoded(encoded) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
                let text = String::from_utf8(bytes).ok()?;
                let (username, password) = text.split_once(':')?;
                (username.to_owned(), password.to_owned())
            }
        };
        Some(Credentials { username, password: SecretString::new(password) })
    }
}

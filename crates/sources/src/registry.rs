//! Component registries: from `namespace:package` and a version to wasm in the store, the way `wkg` does it.
//!
//! Promise: a package is looked for in one registry, which the manifest, wkg's configuration or the default names; what a
//! registry answers has a largest size, and its content enters the store under the digest that its manifest has.
//! Credentials of a registry go nowhere else, and plain HTTP is used on this machine only.
//!
//! Absent on purpose: the Warg protocol, signatures, and publishing.

mod config;
mod oci;

use std::path::PathBuf;

use manifest::{Content, spin_toml::PackageVersion};
use semver::Version;
use serde::Deserialize;
use url::{Host, Url};

use crate::{
    http::{self, HttpClient, HttpError, HttpOptions, Redirects, Trust},
    store::{Store, StoreError},
};

use config::Config;
use oci::Repository;

/// The largest well-known document and configuration file that are read.
const DOCUMENT: u64 = 64 * 1024;

/// Where packages come from that say no registry, and as whom registries are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The registry of packages for which nothing else names one.
    pub default_registry: Option<String>,
    /// wkg's `config.toml`. It may be missing.
    pub wasm_pkg_config: Option<PathBuf>,
    /// Docker's `config.json`, for credentials. It may be missing.
    pub docker_config: Option<PathBuf>,
}

/// A package of a registry, as a manifest has it.
#[derive(Debug, Clone, Copy)]
pub struct PackageRef<'a> {
    /// The registry, if the manifest names one.
    pub registry: Option<&'a str>,
    /// `namespace:name`.
    pub package: &'a str,
    /// Which version.
    pub version: &'a PackageVersion,
}

/// Why a package cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody says where the package is.
    #[error(
        "no registry is known for `{package}`: add `registry = \"…\"`, give --default-registry, or name one in wkg's configuration"
    )]
    NoRegistry {
        /// The package.
        package: String,
    },
    /// A file with settings cannot be used.
    #[error("cannot use {}: {problem}", .path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What is called a registry is no host.
    #[error("`{0}` is not a registry: write its host, such as `registry.example.com`")]
    Name(String),
    /// The registry describes itself in a way that is not understood.
    #[error("the registry `{registry}` says in {}: {problem}", WELL_KNOWN)]
    WellKnown {
        /// The registry.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such package, or none for us.
    #[error("there is no package `{package}` at {registry}")]
    NoPackage {
        /// The package.
        package: String,
        /// The registry.
        registry: String,
    },
    /// The package has no such version.
    #[error("`{package}` at {registry} has no version {version}: {}", versions(.known))]
    NoVersion {
        /// The package.
        package: String,
        /// The registry.
        registry: String,
        /// What was asked for.
        version: String,
        /// The versions that there are, the highest first.
        known: Vec<String>,
    },
    /// The registry wants to know who asks, or does not let them.
    #[error(
        "{registry} does not let us read `{package}` ({status}): check the credentials for it in docker's config.json (`docker login`)"
    )]
    Forbidden {
        /// The package.
        package: String,
        /// The registry.
        registry: String,
        /// The status of its answer.
        status: u16,
    },
    /// The registry answers, but not as one.
    #[error("{registry} {problem}")]
    Answer {
        /// The registry.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// What the package has is no wasm.
    #[error("`{package}` at {registry} is not a component: {problem}")]
    NotWasm {
        /// The package.
        package: String,
        /// The registry.
        registry: String,
        /// What it has instead.
        problem: String,
    },
    /// The registry cannot be reached, or its answer is cut off or too long.
    #[error("cannot ask {registry}")]
    Http {
        /// The registry.
        registry: String,
        /// Why.
        source: HttpError,
    },
    /// The content is not what its digest says, or cannot be stored.
    #[error("cannot store the package")]
    Store(#[from] StoreError),
}

/// Where a registry describes itself.
const WELL_KNOWN: &str = "/.well-known/wasm-pkg/registry.json";

fn versions(known: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = known.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match known.len() {
        0 => "it has none that is a version".to_owned(),
        count if count > SHOWN => format!("it has {shown} and {} more", count - SHOWN),
        _ => format!("it has {shown}"),
    }
}

/// Fetches packages.
#[derive(Debug)]
pub struct RegistryClient {
    settings: RegistrySettings,
    config: Config,
    trust: Trust,
    largest: u64,
}

impl RegistryClient {
    /// A client with `settings` that accepts the certificates of `trust` and packages of at most `largest` bytes.
    ///
    /// # Errors
    /// When wkg's configuration is there and cannot be used.
    pub fn new(settings: RegistrySettings, trust: Trust, largest: u64) -> Result<Self, RegistryError> {
        let config = settings.wasm_pkg_config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        Ok(Self { settings, config, trust, largest })
    }

    /// The wasm of a package, in `store` afterwards.
    ///
    /// # Errors
    /// When it cannot be had; the text says from where and why.
    pub async fn fetch(&self, wanted: PackageRef<'_>, store: &Store) -> Result<Content, RegistryError> {
        let place = self.config.place(wanted, self.settings.default_registry.as_deref());
        let place = place.ok_or_else(|| RegistryError::NoRegistry { package: wanted.package.to_owned() })?;
        let (metadata, from_registry) = match place.metadata {
            Some(metadata) => (metadata, false),
            None => (self.well_known(&place.registry).await?, true),
        };
        let repository = self.repository(&place.registry, &metadata, from_registry, wanted.package).await?;
        let version = match wanted.version {
            PackageVersion::Exact(version) => version.clone(),
            PackageVersion::Matching(requirement) => {
                let mut known = repository.versions().await?;
                known.sort_by(|a, b| b.cmp(a));
                let found = known.iter().find(|version| requirement.matches(version)).cloned();
                found.ok_or_else(|| RegistryError::NoVersion {
                    package: wanted.package.to_owned(),
                    registry: place.registry.clone(),
                    version: requirement.to_string(),
                    known: known.iter().map(Version::to_string).collect(),
                })?
            }
        };
        repository.fetch(&version, self.largest, store).await
    }

    /// What the registry says about itself; nothing, if it has no such document.
    async fn well_known(&self, registry: &str) -> Result<Metadata, RegistryError> {
        let origin = origin(registry)?;
        let http = |source| RegistryError::Http { registry: registry.to_owned(), source };
        let options = HttpOptions { trust: self.trust.clone(), redirects: Redirects::Https, ..HttpOptions::default() };
        let client = HttpClient::new(&options).map_err(http)?;
        let url = origin.join(WELL_KNOWN).map_err(|_| RegistryError::Name(registry.to_owned()))?;
        let response = client.get(url).await.map_err(http)?;
        let status = response.status();
        if !status.is_success() {
            return match status.as_u16() {
                404 | 410 => Ok(Metadata::default()),
                _ => Err(RegistryError::Answer {
                    registry: registry.to_owned(),
                    problem: format!("answered {status} to {WELL_KNOWN}"),
                }),
            };
        }
        let body = http::body(response, DOCUMENT).await.map_err(http)?;
        let wrong = |problem| RegistryError::WellKnown { registry: registry.to_owned(), problem };
        serde_json::from_slice(&body).map_err(|error| wrong(format!("what is no such document ({error})")))
    }

    /// Where `package` is.
    async fn repository(
        &self,
        registry: &str,
        metadata: &Metadata,
        from_registry: bool,
        package: &str,
    ) -> Result<Repository, RegistryError> {
        if let Some(protocol) = metadata.preferred_protocol.as_deref().filter(|protocol| *protocol != "oci")
            && metadata.oci().is_none()
        {
            let problem = format!("it speaks `{protocol}`, and only `oci` is understood");
            return Err(RegistryError::WellKnown { registry: registry.to_owned(), problem });
        }
        let oci = metadata.oci().unwrap_or_default();
        let host = oci.registry.unwrap_or_else(|| registry.to_owned());
        // A registry elsewhere must not send us to a service of this machine; the user's own configuration may.
        if from_registry && is_local(&host) && !is_local(registry) {
            let problem = format!("its packages are at `{host}`, which is this machine");
            return Err(RegistryError::WellKnown { registry: registry.to_owned(), problem });
        }
        let name = package.replace(':', "/");
        let path = format!("{}{name}", oci.namespace_prefix.unwrap_or_default());
        let path = path.trim_matches('/').to_owned();
        let credentials = match self.config.credentials(registry, &host) {
            Some(credentials) => Some(credentials),
            None => oci::docker_credentials(self.settings.docker_config.as_deref(), &host)?,
        };
        let package = package.to_owned();
        Repository::open(oci::Target { host, path, package, credentials, trust: self.trust.clone() }).await
    }
}

/// What a registry says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    preferred_protocol: Option<String>,
    oci: Option<OciMetadata>,
    /// The older way to say [`OciMetadata::registry`].
    oci_registry: Option<String>,
    /// The older way to say [`OciMetadata::namespace_prefix`].
    oci_namespace_prefix: Option<String>,
}

/// Where in OCI registries packages are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OciMetadata {
    registry: Option<String>,
    namespace_prefix: Option<String>,
}

impl Metadata {
    fn oci(&self) -> Option<OciMetadata> {
        let old =
            OciMetadata { registry: self.oci_registry.clone(), namespace_prefix: self.oci_namespace_prefix.clone() };
        match &self.oci {
            None if old == OciMetadata::default() => None,
            None => Some(old),
            Some(new) => Some(OciMetadata {
                registry: new.registry.clone().or(old.registry),
                namespace_prefix: new.namespace_prefix.clone().or(old.namespace_prefix),
            }),
        }
    }
}

/// `http://` for hosts of this machine, `https://` for all others.
fn origin(host: &str) -> Result<Url, RegistryError> {
    let scheme = if is_local(host) { "http" } else { "https" };
    let bad = || RegistryError::Name(host.to_owned());
    let url = Url::parse(&format!("{scheme}://{host}/")).map_err(|_| bad())?;
    let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
    if plain { Ok(url) } else { Err(bad()) }
}

/// Whether `host[:port]` is this machine.
fn is_local(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

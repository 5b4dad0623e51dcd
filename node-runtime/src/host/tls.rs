//! [`TlsIdentity`]: whom a component trusts when it connects over TLS, and how it proves itself.
//!
//! By default that is the system's certificate authorities and Mozilla's, and no certificate of its own. `[[client_tls]]`
//! of the runtime configuration says otherwise for components and hosts; the first entry that names both counts. Servers that
//! the runtime configuration names itself (stores, databases, Vault) are no component's: for them an entry counts whatever
//! components it names.
//!
//! Promise: files are read when a revision is built, so that a wrong one is known before it serves; its error names file and
//! component.

mod any_name;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use manifest::runtime_config::{ClientTls, Pem};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _};

use self::any_name::AnyName;

/// The authorities that are trusted by default. Read when they are first needed: once in a process.
#[derive(Default)]
pub(crate) struct Roots {
    system: OnceLock<Vec<CertificateDer<'static>>>,
    default: OnceLock<HostIdentity>,
}

/// The identities of a revision's components.
pub(crate) struct TlsIdentities {
    components: BTreeMap<String, Arc<TlsIdentity>>,
    other: Arc<TlsIdentity>,
    application: Arc<TlsIdentity>,
}

/// The identity of one component, by host.
pub(crate) struct TlsIdentity {
    hosts: BTreeMap<String, HostIdentity>,
    roots: Arc<Roots>,
}

/// The identity towards some hosts.
#[derive(Clone)]
struct HostIdentity {
    config: Arc<ClientConfig>,
    authorities: Arc<RootCertStore>,
}

/// Why a `[[client_tls]]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or not readable.
    #[error("client_tls of component `{component}`: cannot read {}: {source}", .path.display())]
    File {
        /// Whose.
        component: String,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something else.
    #[error("client_tls of component `{component}`: {place} holds no {what} in PEM form: {source}")]
    Pem {
        /// Whose.
        component: String,
        /// Where.
        place: String,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// What is there is no certificate, or does not fit together.
    #[error("client_tls of component `{component}`: {place} cannot be used: {source}")]
    Unusable {
        /// Whose.
        component: String,
        /// Where.
        place: String,
        /// Why.
        source: rustls::Error,
    },
    /// A certificate without a key, or the other way round.
    #[error(
        "client_tls of component `{component}`: a certificate needs its key: set both client_cert_file (or client_cert_pem) and \
         client_private_key_file (or client_private_key_pem), or none"
    )]
    Half {
        /// Whose.
        component: String,
    },
    /// Nobody is trusted.
    #[error(
        "client_tls of component `{component}`: it trusts nobody: set ca_roots_file or ca_roots_pem, ca_use_platform_roots or \
         ca_use_webpki_roots"
    )]
    NoRoots {
        /// Whose.
        component: String,
    },
    /// It is for no component or no host, or a host is none.
    #[error("client_tls: {0}")]
    Entry(String),
    /// No version of TLS is possible.
    #[error("no TLS configuration")]
    Provider(#[from] rustls::Error),
}

impl Roots {
    /// The system's authorities. What cannot be read of them is left out: Mozilla's are there too.
    fn system(&self) -> &[CertificateDer<'static>] {
        self.system.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for problem in &found.errors {
                tracing::debug!(error = %problem, "certificate authorities of the system not read");
            }
            found.certs
        })
    }

    fn store(&self, system: bool, webpki: bool) -> RootCertStore {
        let mut store = RootCertStore::empty();
        if webpki {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if system {
            let (_added, ignored) = store.add_parsable_certificates(self.system().iter().cloned());
            if ignored > 0 {
                tracing::debug!(ignored, "certificate authorities of the system not understood");
            }
        }
        store
    }

    /// The identity towards hosts of which nothing is said.
    fn default(&self) -> Result<HostIdentity, TlsError> {
        if let Some(identity) = self.default.get() {
            return Ok(identity.clone());
        }
        let authorities = Arc::new(self.store(true, true));
        let config = builder()?.with_root_certificates(Arc::clone(&authorities)).with_no_client_auth();
        let identity = HostIdentity { config: Arc::new(config), authorities };
        Ok(self.default.get_or_init(|| identity).clone())
    }
}

impl TlsIdentities {
    /// Reads the files of all `entries`.
    ///
    /// # Errors
    /// The first entry that cannot be used.
    pub(crate) fn load(entries: &[ClientTls], roots: &Arc<Roots>) -> Result<Self, TlsError> {
        let mut components: BTreeMap<String, BTreeMap<String, HostIdentity>> = BTreeMap::new();
        let mut application: BTreeMap<String, HostIdentity> = BTreeMap::new();
        for entry in entries {
            let component = entry.component_ids.join("`, `");
            if entry.component_ids.is_empty() || entry.hosts.is_empty() {
                return Err(TlsError::Entry("component_ids and hosts must each name at least one".to_owned()));
            }
            let hosts = entry.hosts.iter().map(|host| checked_host(host)).collect::<Result<Vec<_>, _>>()?;
            let identity = identity(entry, &component, roots)?;
            for host in &hosts {
                application.entry(host.clone()).or_insert_with(|| identity.clone());
            }
            for id in &entry.component_ids {
                let own = components.entry(id.clone()).or_default();
                for host in &hosts {
                    own.entry(host.clone()).or_insert_with(|| identity.clone());
                }
            }
        }
        let of = |hosts| Arc::new(TlsIdentity { hosts, roots: Arc::clone(roots) });
        Ok(Self {
            components: components.into_iter().map(|(id, hosts)| (id, of(hosts))).collect(),
            other: of(BTreeMap::new()),
            application: of(application),
        })
    }

    /// The identity of the application itself.
    pub(crate) fn of_application(&self) -> Arc<TlsIdentity> {
        Arc::clone(&self.application)
    }

    /// The identity of the component `id`. Components without one of their own share one.
    pub(crate) fn of_component(&self, id: &str) -> Arc<TlsIdentity> {
        Arc::clone(self.components.get(id).unwrap_or(&self.other))
    }
}

impl TlsIdentity {
    /// The configuration of connections to `host` (without a port).
    ///
    /// # Errors
    /// When TLS is not possible at all.
    pub(crate) async fn config(&self, host: &str) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(self.towards(host).await?.config)
    }

    /// The same, by which a server may have a certificate for any name.
    ///
    /// # Errors
    /// As [`Self::config`].
    pub(crate) async fn config_for_any_name(&self, host: &str) -> Result<Arc<ClientConfig>, TlsError> {
        let HostIdentity { config, authorities } = self.towards(host).await?;
        let mut config = (*config).clone();
        config.dangerous().set_certificate_verifier(Arc::new(AnyName::of(authorities)?));
        Ok(Arc::new(config))
    }

    async fn towards(&self, host: &str) -> Result<HostIdentity, TlsError> {
        if let Some(identity) = self.own(host) {
            return Ok(identity.clone());
        }
        if let Some(identity) = self.roots.default.get() {
            return Ok(identity.clone());
        }
        // Reads many small files.
        let roots = Arc::clone(&self.roots);
        let made = tokio::task::spawn_blocking(move || roots.default()).await;
        made.map_err(|stopped| TlsError::Provider(rustls::Error::General(stopped.to_string())))?
    }

    /// The configuration of connections to `host`, if the runtime configuration says something about it.
    pub(crate) fn own_config(&self, host: &str) -> Option<Arc<ClientConfig>> {
        self.own(host).map(|identity| Arc::clone(&identity.config))
    }

    fn own(&self, host: &str) -> Option<&HostIdentity> {
        if self.hosts.is_empty() {
            return None;
        }
        self.hosts.get(&comparable(host))
    }
}

/// The identity that `entry` describes, for `component`.
fn identity(entry: &ClientTls, component: &str, roots: &Roots) -> Result<HostIdentity, TlsError> {
    let part = |pem, key| Part { pem, key, component };
    let mut store = roots.store(entry.platform_roots, entry.webpki_roots);
    if let Some(authorities) = entry.ca_roots.as_ref().map(|pem| part(pem, "ca_roots_pem")) {
        for certificate in authorities.certificates()? {
            store.add(certificate).map_err(|source| authorities.unusable(source))?;
        }
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots { component: component.to_owned() });
    }
    let authorities = Arc::new(store);
    let config = builder()?.with_root_certificates(Arc::clone(&authorities));
    let config = match (&entry.client_cert, &entry.client_private_key) {
        (None, None) => config.with_no_client_auth(),
        (Some(chain), Some(key)) => {
            let (chain, key) = (part(chain, "client_cert_pem"), part(key, "client_private_key_pem"));
            let signed = config.with_client_auth_cert(chain.certificates()?, key.private_key()?);
            signed.map_err(|source| key.unusable(source))?
        }
        _ => return Err(TlsError::Half { component: component.to_owned() }),
    };
    Ok(HostIdentity { config: Arc::new(config), authorities })
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?)
}

/// A part of an entry, and what to say of it when it is wrong.
struct Part<'a> {
    pem: &'a Pem,
    /// Under which key it is if it is in no file.
    key: &'static str,
    component: &'a str,
}

impl Part<'_> {
    fn read(&self) -> Result<Cow<'_, [u8]>, TlsError> {
        match self.pem {
            Pem::Text(text) => Ok(Cow::Borrowed(text.expose().as_bytes())),
            Pem::File(path) => fs::read(path).map(Cow::Owned).map_err(|source| TlsError::File {
                component: self.component.to_owned(),
                path: path.clone(),
                source,
            }),
        }
    }

    /// At least one certificate.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = CertificateDer::pem_slice_iter(&self.read()?).collect::<Result<Vec<_>, _>>();
        let found = found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
        found.map_err(|source| self.malformed("certificate", source))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.read()?).map_err(|source| self.malformed("private key", source))
    }

    fn malformed(&self, what: &'static str, source: pem::Error) -> TlsError {
        TlsError::Pem { component: self.component.to_owned(), place: self.place(), what, source }
    }

    fn unusable(&self, source: rustls::Error) -> TlsError {
        TlsError::Unusable { component: self.component.to_owned(), place: self.place(), source }
    }

    fn place(&self) -> String {
        match self.pem {
            Pem::File(path) => path.display().to_string(),
            Pem::Text(_) => self.key.to_owned(),
        }
    }
}

/// A host of an entry, as connections have it.
fn checked_host(host: &str) -> Result<String, TlsError> {
    match host.parse::<http::uri::Authority>() {
        Ok(authority) if authority.port().is_none() && authority.host() == host => Ok(comparable(host)),
        _ => Err(TlsError::Entry(format!("`{host}` is no host: write a name or an address, without a port"))),
    }
}

fn comparable(host: &str) -> String {
    host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsIdentities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.components).finish()
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.hosts.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use manifest::Secret;

    use super::*;

    fn entry(dir: &Path) -> ClientTls {
        ClientTls {
            component_ids: vec!["shop".to_owned()],
            hosts: vec!["Pay.example".to_owned(), "[::1]".to_owned()],
            platform_roots: false,
            webpki_roots: false,
            ca_roots: Some(Pem::File(dir.join("ca.pem"))),
            client_cert: None,
            client_private_key: None,
        }
    }

    /// A directory with `ca.pem`, `cert.pem` and `key.pem`.
    fn files() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["pay.example".to_owned()]).unwrap();
        fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        dir
    }

    fn load(entries: &[ClientTls]) -> Result<TlsIdentities, TlsError> {
        TlsIdentities::load(entries, &Arc::default())
    }

    #[tokio::test]
    async fn the_first_entry_of_a_component_and_a_host_counts_and_others_have_the_default() {
        let dir = files();
        let with_certificate = ClientTls {
            client_cert: Some(Pem::File(dir.path().join("cert.pem"))),
            client_private_key: Some(Pem::File(dir.path().join("key.pem"))),
            ..entry(dir.path())
        };
        let identities = load(&[with_certificate, entry(dir.path())]).unwrap();
        let shop = identities.of_component("shop");
        for host in ["pay.example", "PAY.example.", "[::1]", "::1"] {
            let config = shop.config(host).await.unwrap();
            assert!(config.client_auth_cert_resolver.has_certs(), "{host}");
        }
        let default = shop.config("other.example").await.unwrap();
        let other = identities.of_component("blog").config("pay.example").await.unwrap();
        assert!(Arc::ptr_eq(&default, &other) && !default.client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn a_wrong_entry_is_refused_with_its_component_and_file() {
        let dir = files();
        let good = entry(dir.path());
        fs::write(dir.path().join("junk"), "junk").unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        fs::write(dir.path().join("other.pem"), other).unwrap();
        let file = |name: &str| Some(Pem::File(dir.path().join(name)));
        let text = |text: &str| Some(Pem::Text(Secret::new(text)));
        let cases = [
            (ClientTls { ca_roots: file("none"), ..good.clone() }, "`shop`: cannot read "),
            (ClientTls { ca_roots: file("junk"), ..good.clone() }, "/junk holds no certificate"),
            (ClientTls { ca_roots: None, ..good.clone() }, "it trusts nobody"),
            (ClientTls { client_cert: file("cert.pem"), ..good.clone() }, "needs its key"),
            (
                ClientTls { client_cert: file("cert.pem"), client_private_key: file("junk"), ..good.clone() },
                "/junk holds no private key",
            ),
            (
                ClientTls { client_cert: file("cert.pem"), client_private_key: file("other.pem"), ..good.clone() },
                "/other.pem cannot be used",
            ),
            (ClientTls { ca_roots: text("hunter2"), ..good.clone() }, "ca_roots_pem holds no certificate"),
            (ClientTls { hosts: Vec::new(), ..good.clone() }, "at least one"),
            (ClientTls { hosts: vec!["a:1".to_owned()], ..good.clone() }, "`a:1` is no host"),
        ];
        for (entry, expected) in cases {
            let error = load(&[entry]).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn certificates_in_the_configuration_itself_are_as_good_and_count_for_what_it_names_itself() {
        let dir = files();
        let text = |name: &str| Some(Pem::Text(Secret::new(fs::read_to_string(dir.path().join(name)).unwrap())));
        let inline = ClientTls {
            ca_roots: text("ca.pem"),
            client_cert: text("cert.pem"),
            client_private_key: text("key.pem"),
            ..entry(dir.path())
        };
        let identities = load(&[inline, entry(dir.path())]).unwrap();
        for identity in [identities.of_component("shop"), identities.of_application()] {
            assert!(identity.own_config("pay.example").unwrap().client_auth_cert_resolver.has_certs());
            assert!(identity.own_config("other.example").is_none());
        }
    }
}

//! Authorities and leaves: made, read and checked.
//!
//! ECDSA P-256; a runtime's certificate is good for servers only, the operator's for clients only, so one
//! that leaks from a runtime cannot command another.

use std::sync::Arc;

use control::wire::{OPERATOR_DNS_NAME, RUNTIME_DNS_NAME};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use manifest::Digest;
use operator_core::pki::Validity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
    version::TLS13,
};
use x509_parser::prelude::FromDer as _;

use super::secrets::Material;

/// How far clocks may be apart: certificates hold from this long before they are made.
const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// Why a certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It cannot be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// Its dates cannot be expressed.
    #[error("a certificate cannot have the dates that were asked for")]
    Dates,
    /// It should be issued by an authority that there is not.
    #[error("there is no authority {0}")]
    NoAuthority(String),
    /// It cannot be used for TLS.
    #[error("a certificate cannot be used for TLS")]
    Tls(#[from] rustls::Error),
    /// It was just made and can't be read.
    #[error("a certificate that was just made cannot be read")]
    Unreadable,
}

/// Whose a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The operator's, a client.
    Operator,
    /// Every runtime's, a server.
    Runtime,
}

impl Role {
    /// Its name in decisions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Runtime => "runtime",
        }
    }

    /// Its one DNS name.
    #[must_use]
    pub const fn dns_name(self) -> &'static str {
        match self {
            Self::Operator => OPERATOR_DNS_NAME,
            Self::Runtime => RUNTIME_DNS_NAME,
        }
    }

    const fn usage(self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Operator => ExtendedKeyUsagePurpose::ClientAuth,
            Self::Runtime => ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}

/// An authority with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// What it is told apart by: from its certificate.
    pub id: String,
    /// When it holds.
    pub validity: Validity,
    /// Its certificate.
    pub certificate: String,
    /// Its key. Never shown.
    pub key: String,
}

/// A certificate that a process presents, with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose.
    pub role: Role,
    /// When it holds.
    pub validity: Validity,
    /// The certificate.
    pub certificate: String,
    /// Its key. Never shown.
    pub key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("id", &self.id).field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("role", &self.role).field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority, from `now` for `life`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(now: Timestamp, life: SignedDuration) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(now, life, Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("Spindle control authority {now:.0}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Self::read(&certificate, &key.serialize_pem()).ok_or(IssueError::Unreadable)
    }

    /// The authority with this certificate and key, as PEM; `None` when they are none, or not each other's.
    #[must_use]
    pub fn read(certificate: &str, key: &str) -> Option<Self> {
        let (der, validity) = inspect(certificate)?;
        if !belong_together(&der, key) {
            return None;
        }
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).ok()?;
        parsed.is_ca().then(|| Self {
            id: Digest::of(&der).short(),
            validity,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Itself, for decisions.
    #[must_use]
    pub fn fact(&self) -> operator_core::pki::Authority {
        operator_core::pki::Authority { id: self.id.clone(), validity: self.validity }
    }

    /// A leaf for `role`, from `now` for `life` but no longer than the authority itself.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn issue(&self, role: Role, now: Timestamp, life: SignedDuration) -> Result<Leaf, IssueError> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let life = life.min(self.validity.until.duration_since(now));
        let mut params = params(now, life, vec![role.dns_name().to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, role.dns_name());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![role.usage()];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Leaf::read(role, &certificate, &key.serialize_pem()).ok_or(IssueError::Unreadable)
    }

    fn roots(&self) -> Option<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).ok()?).ok()?;
        Some(Arc::new(roots))
    }
}

impl Leaf {
    /// The leaf with this certificate and key, as PEM; `None` when they are none, or not each other's.
    #[must_use]
    pub fn read(role: Role, certificate: &str, key: &str) -> Option<Self> {
        let (der, validity) = inspect(certificate)?;
        let leaf = Self { role, validity, certificate: certificate.to_owned(), key: key.to_owned() };
        belong_together(&der, key).then_some(leaf)
    }

    /// The authority that a peer would find to have issued this for its role.
    #[must_use]
    pub fn issuer<'a>(&self, material: &'a Material) -> Option<&'a Authority> {
        material.authorities.iter().find(|authority| self.is_issued_by(authority))
    }

    /// Whether a peer that trusts `authority` alone accepts this for its role, while it holds.
    fn is_issued_by(&self, authority: &Authority) -> bool {
        let (Some(roots), Ok(der)) = (authority.roots(), CertificateDer::from_pem_slice(self.certificate.as_bytes()))
        else {
            return false;
        };
        let Ok(seconds) = u64::try_from(self.validity.made.as_second()) else { return false };
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        match self.role {
            Role::Runtime => WebPkiServerVerifier::builder_with_provider(roots, provider())
                .build()
                .ok()
                .zip(ServerName::try_from(self.role.dns_name()).ok())
                .is_some_and(|(peer, name)| peer.verify_server_cert(&der, &[], &name, &[], then).is_ok()),
            Role::Operator => WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .is_ok_and(|peer| peer.verify_client_cert(&der, &[], then).is_ok()),
        }
    }
}

/// How to dial runtimes: TLS 1.3, trusting `material`, as `operator`.
///
/// # Errors
/// When a certificate or key cannot be used.
pub fn client_config(material: &Material, operator: &Leaf) -> Result<ClientConfig, IssueError> {
    let mut roots = RootCertStore::empty();
    for authority in &material.authorities {
        roots.add(pem_certificate(&authority.certificate)?)?;
    }
    let key = PrivateKeyDer::from_pem_slice(operator.key.as_bytes()).map_err(|_| IssueError::Unreadable)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![pem_certificate(&operator.certificate)?], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn pem_certificate(pem: &str) -> Result<CertificateDer<'static>, IssueError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| IssueError::Unreadable)
}

/// The one implementation of cryptography in use.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate's bytes and dates.
fn inspect(pem: &str) -> Option<(CertificateDer<'static>, Validity)> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).ok()?;
    let validity = certificate.validity();
    let made = Timestamp::from_second(validity.not_before.timestamp()).ok()?.checked_add(CLOCKS).ok()?;
    let until = Timestamp::from_second(validity.not_after.timestamp()).ok()?;
    Some((der, Validity { made, until }))
}

/// Whether `key` is the certificate's.
fn belong_together(certificate: &CertificateDer<'static>, key: &str) -> bool {
    PrivateKeyDer::from_pem_slice(key.as_bytes())
        .ok()
        .and_then(|key| provider().key_provider.load_private_key(key).ok())
        .is_some_and(|key| CertifiedKey::new(vec![certificate.clone()], key).keys_match().is_ok())
}

fn params(now: Timestamp, life: SignedDuration, names: Vec<String>) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date(now.checked_sub(CLOCKS).map_err(|_| IssueError::Dates)?)?;
    params.not_after = date(now.checked_add(life).map_err(|_| IssueError::Dates)?)?;
    Ok(params)
}

/// rcgen's dates are those of the `time` crate, which it does not export by name.
fn date<T: TryFrom<std::time::SystemTime>>(at: Timestamp) -> Result<T, IssueError> {
    T::try_from(std::time::SystemTime::from(at)).map_err(|_| IssueError::Dates)
}

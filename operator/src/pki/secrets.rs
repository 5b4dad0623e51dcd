//! What the two Secrets hold, and how it is written there.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use operator_api::names;
use operator_core::RevisionKey;

use super::issue::{Authority, IssueError, Leaf, Role, provider};

/// The key of the Secret under which the key of revision names is.
const REVISION_KEY: &str = "revision.key";

/// Everything that operators share: what the Secret of the authorities holds.
///
/// Each authority is under `<id>.crt` and `<id>.key`; what can't be read is as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// The bundle, the oldest first.
    pub authorities: Vec<Authority>,
    /// What revision names are made with.
    pub revision_key: RevisionKey,
}

impl Material {
    /// No authority, and a new key for revision names.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn empty() -> Result<Self, IssueError> {
        let mut key = [0; 32];
        provider().secure_random.fill(&mut key).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
        Ok(Self { authorities: Vec::new(), revision_key: RevisionKey(key) })
    }

    /// What `secret` holds; `None` without a key for revision names.
    #[must_use]
    pub fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let revision_key = RevisionKey(data.get(REVISION_KEY)?.0.as_slice().try_into().ok()?);
        let certificates = data.keys().filter_map(|key| key.strip_suffix(".crt"));
        let mut authorities: Vec<_> = certificates.filter_map(|id| authority(data, id)).collect();
        sort(&mut authorities);
        Some(Self { authorities, revision_key })
    }

    /// With the authorities of `known` that `secret` names and nobody can read any more, or with all of them when it has
    /// none that can be read: everybody trusts those.
    #[must_use]
    pub fn mended(mut self, secret: Option<&Secret>, known: &Self) -> Self {
        let data = secret.and_then(|secret| secret.data.as_ref());
        let named = |id: &str| {
            data.is_some_and(|data| data.contains_key(&format!("{id}.crt")) || data.contains_key(&format!("{id}.key")))
        };
        let none = self.authorities.is_empty();
        let is_lost = |authority: &&Authority| {
            (none || named(&authority.id)) && self.authorities.iter().all(|found| found.id != authority.id)
        };
        let lost: Vec<Authority> = known.authorities.iter().filter(is_lost).cloned().collect();
        self.authorities.extend(lost);
        sort(&mut self.authorities);
        self
    }

    /// The Secret to write.
    #[must_use]
    pub fn secret(&self) -> Secret {
        let mut data = BTreeMap::from([(REVISION_KEY.to_owned(), ByteString(self.revision_key.0.to_vec()))]);
        for authority in &self.authorities {
            data.insert(format!("{}.crt", authority.id), bytes(&authority.certificate));
            data.insert(format!("{}.key", authority.id), bytes(&authority.key));
        }
        secret(data, "Opaque")
    }

    /// The certificates of all authorities, as PEM.
    #[must_use]
    pub fn bundle(&self) -> String {
        let mut authorities = self.authorities.clone();
        sort(&mut authorities);
        authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }
}

/// When somebody asked for other authorities, as an annotation of the Secret says; what is no time says nothing.
#[must_use]
pub fn rotate_before(secret: &Secret) -> Option<Timestamp> {
    let asked = secret.metadata.annotations.as_ref()?.get(names::ROTATE_BEFORE_ANNOTATION)?;
    let time = asked.parse().ok();
    if time.is_none() {
        tracing::warn!(annotation = names::ROTATE_BEFORE_ANNOTATION, "is no time as in 2026-01-31T12:00:00Z");
    }
    time
}

fn sort(authorities: &mut [Authority]) {
    authorities.sort_by(|a, b| (a.validity.made, &a.id).cmp(&(b.validity.made, &b.id)));
}

fn authority(data: &BTreeMap<String, ByteString>, id: &str) -> Option<Authority> {
    let authority = Authority::read(text(data, &format!("{id}.crt"))?, text(data, &format!("{id}.key"))?)?;
    (authority.id == id).then_some(authority)
}

/// What the Secret of the runtimes holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSecret {
    /// The certificates that runtimes trust.
    pub bundle: String,
    /// What they present.
    pub leaf: Leaf,
    /// Whether the leaf has not been written yet.
    pub is_new: bool,
}

impl RuntimeSecret {
    /// What `secret` holds; `None` when its certificate is of no use with `material`.
    #[must_use]
    pub fn read(secret: &Secret, material: &Material) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let leaf = Leaf::read(Role::Runtime, text(data, "tls.crt")?, text(data, "tls.key")?)?;
        leaf.issuer(material)?;
        Some(Self { bundle: text(data, "ca.crt").unwrap_or_default().to_owned(), leaf, is_new: false })
    }

    /// The Secret to write.
    #[must_use]
    pub fn secret(&self) -> Secret {
        let data = [("ca.crt", &self.bundle), ("tls.crt", &self.leaf.certificate), ("tls.key", &self.leaf.key)];
        secret(data.into_iter().map(|(key, text)| (key.to_owned(), bytes(text))).collect(), "kubernetes.io/tls")
    }
}

fn text<'a>(data: &'a BTreeMap<String, ByteString>, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&data.get(key)?.0).ok()
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn secret(data: BTreeMap<String, ByteString>, kind: &str) -> Secret {
    let labels = [(names::MANAGED_BY_LABEL, names::MANAGED_BY)];
    Secret {
        metadata: ObjectMeta {
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some(kind.to_owned()),
        ..Secret::default()
    }
}

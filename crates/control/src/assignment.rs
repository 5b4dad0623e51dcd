//! [`Assignment`]: everything one runtime must know to run one app.

use std::{collections::BTreeMap, fmt};

use manifest::{Application, Digest};
use serde::{Deserialize, Serialize};

use crate::names::{AppKey, RevisionId, SecretString};

/// The whole truth about one app on one runtime.
///
/// The runtime prepares every revision in `revisions`, routes to `active` as soon as that one is
/// ready, and until then goes on serving what it serves. A revision that is not listed (any more) is
/// drained and forgotten once another serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Which app.
    pub app: AppKey,
    /// The `SpinApp` object's uid: an app deleted and made again is another app.
    pub uid: String,
    /// The TCP port to serve it at, the same on every runtime and for every revision.
    pub port: u16,
    /// What to have ready: usually one revision, two during a roll-out (the old one first).
    pub revisions: Vec<RevisionSpec>,
    /// Which of them takes requests.
    pub active: RevisionId,
}

/// One revision: what to run and with which configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSpec {
    /// Its name.
    pub id: RevisionId,
    /// What to run.
    pub application: Application,
    /// Where its content is.
    pub fetch: Fetch,
    /// The values of the application's variables; may be secret, so never logged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, SecretString>,
    /// What its guests may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Where a runtime gets the blobs of a revision from. Whatever the source says, bytes are used only
/// when their sha256 and size are those of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fetch {
    /// The parcels of an invoice: `GET {server}/_i/{id}@{sha256}`.
    Bindle {
        /// The server's base URL, which includes the path prefix (`/v1`).
        server: String,
        /// `name/version`, already validated.
        id: String,
        /// Who to ask as; anonymous without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credentials: Option<Credentials>,
    },
}

/// HTTP basic credentials of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

/// What one revision's guests may use. `None` means the runtime's own default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Wall-clock time of one request, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// The digest of an [`Assignment`]: equal exactly when the assignments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub Digest);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl Assignment {
    /// The fingerprint that both sides compare on connect.
    ///
    /// # Errors
    /// Never for assignments made by this crate's types; the signature is serde's.
    pub fn fingerprint(&self) -> Result<Fingerprint, serde_json::Error> {
        Ok(Fingerprint(Digest::of(&serde_json::to_vec(self)?)))
    }

    /// The revision that takes requests.
    #[must_use]
    pub fn active_revision(&self) -> Option<&RevisionSpec> {
        self.revision(&self.active)
    }

    /// The revision called `id`.
    #[must_use]
    pub fn revision(&self, id: &RevisionId) -> Option<&RevisionSpec> {
        self.revisions.iter().find(|revision| revision.id == *id)
    }
}

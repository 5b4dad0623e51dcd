//! [`Assignment`]: everything one runtime must know to run one app.

use std::{collections::BTreeMap, fmt};

use manifest::{Application, Digest, Secret as SecretString};
use serde::{Deserialize, Serialize};

use crate::names::{AppKey, RevisionId};

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
    /// The app's `runtime-config.toml`; it may hold passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_config: Option<SecretString>,
    /// The pool's, which the app's goes on top of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_config: Option<SecretString>,
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
///
/// Fields are only ever added, and not written while they are `None`, so that peers of different versions agree about
/// assignments that use none of the new ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Wall-clock time of one request, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// CPU time of one request, in milliseconds: time spent computing, not waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Requests of the app that run at a time on one runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Requests that may wait for one of those to end; 0 means that none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// The body of one request, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<u64>,
    /// What the app's guests print on one runtime, in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Outgoing connections of the app that are open at a time on one runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// What the app's stores may take on one runtime's disk, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_set_are_not_written_and_unknown_ones_are_skipped() {
        assert_eq!(serde_json::to_string(&Limits::default()).unwrap(), "{}");
        let newer = r#"{"memory":1,"cpuMs":2,"timeoutMs":3,"somethingNew":4}"#;
        let read: Limits = serde_json::from_str(newer).unwrap();
        assert_eq!(read, Limits { memory: Some(1), cpu_ms: Some(2), timeout_ms: Some(3), ..Limits::default() });
    }
}

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
    /// What is not to happen yet. Understood since [`crate::wire::CHECKS_VERSION`].
    #[serde(default, skip_serializing_if = "Hold::is_nothing")]
    pub hold: Hold,
}

/// What a runtime is not to do yet with an app that must not run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hold {
    /// Everything may happen.
    #[default]
    Nothing,
    /// Revisions that are not active are loaded, but nothing of them is called: not even their check.
    Checks,
    /// Nothing is served any more, and nothing is called: revisions are only loaded.
    Requests,
}

impl Hold {
    /// Whether everything may happen.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
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
    /// What it must pass on a runtime before it takes requests there. Understood since [`crate::wire::CHECKS_VERSION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Check>,
}

/// A request that a revision must answer well, made by the runtime itself and not over a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The path, and the query if there is one: begins with `/`.
    pub path: String,
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CheckHeader>,
    /// How long after the revision was loaded the first request is made, in milliseconds.
    pub initial_delay_ms: u64,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// The time from one request to the next, in milliseconds.
    pub period_ms: u64,
    /// How many good answers in a row it takes to pass.
    pub success_threshold: u32,
    /// How many bad ones in a row it takes to fail.
    pub failure_threshold: u32,
}

/// One header of a check's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
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
    fn what_is_not_asked_for_is_not_written_so_that_older_peers_have_the_same_fingerprint() {
        let older = serde_json::json!({
            "app": "shop/cart", "uid": "u", "port": 10_000, "active": "v1",
            "revisions": [{
                "id": "v1",
                "application": { "name": "app", "version": "1.0.0", "base": "/", "routes": [], "components": {} },
                "fetch": { "bindle": { "server": "http://bindle/v1", "id": "app/1.0.0" } },
                "limits": {},
            }],
        });
        let read: Assignment = serde_json::from_value(older.clone()).unwrap();
        assert_eq!((read.hold, &read.revisions[0].readiness), (Hold::Nothing, &None));
        assert_eq!(serde_json::to_value(&read).unwrap(), older);
    }

    #[test]
    fn limits_that_are_not_set_are_not_written_and_unknown_ones_are_skipped() {
        assert_eq!(serde_json::to_string(&Limits::default()).unwrap(), "{}");
        let newer = r#"{"memory":1,"cpuMs":2,"timeoutMs":3,"somethingNew":4}"#;
        let read: Limits = serde_json::from_str(newer).unwrap();
        assert_eq!(read, Limits { memory: Some(1), cpu_ms: Some(2), timeout_ms: Some(3), ..Limits::default() });
    }
}

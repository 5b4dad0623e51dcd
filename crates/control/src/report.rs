//! [`AppReport`]: what a runtime says is true of one app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    assignment::Fingerprint,
    names::{AppKey, RevisionId},
};

/// What is true of one app on one runtime, as of one assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppReport {
    /// Which app.
    pub app: AppKey,
    /// The uid of the `SpinApp` that it was assigned for.
    pub uid: String,
    /// The assignment that this report answers.
    pub fingerprint: Fingerprint,
    /// The number of the last word about the app that this report takes into account; `None` from a runtime that does not
    /// count. A runtime counts every [`crate::ToRuntime::Assign`] and [`crate::ToRuntime::Remove`] that it is sent, over
    /// all streams of its process: [`crate::wire::Inventory::words`] says how many there were before this stream's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<u64>,
    /// The port it is (or is to be) served at.
    pub port: u16,
    /// Each revision that the runtime knows of the app.
    pub revisions: BTreeMap<RevisionId, RevisionState>,
    /// The revision that new requests go to. `Some` means: the port is bound, the revision is loaded,
    /// and a request that arrives now is answered by it.
    pub serving: Option<RevisionId>,
    /// What keeps the app as a whole from being served, such as a port that cannot be bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// How far one revision is on one runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum RevisionState {
    /// Its blobs are being fetched.
    Fetching,
    /// It can take requests.
    Ready,
    /// It cannot; what ran before still runs.
    Failed(Problem),
    /// It takes no new requests and finishes old ones.
    Draining,
    /// It is being compiled and linked; or something that only a newer runtime has a word for, which is no state to take
    /// requests in either.
    #[serde(other)]
    Preparing,
}

impl RevisionState {
    /// Whether it can take requests.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// Why something is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// One CamelCase word: condition reason, event reason and metric label.
    pub reason: String,
    /// One sentence for people: what, where, what to do. Holds no secret.
    pub message: String,
    /// Whether the runtime goes on trying by itself.
    pub retrying: bool,
}

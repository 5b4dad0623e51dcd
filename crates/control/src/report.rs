//! [`AppReport`]: what a runtime says is true of one app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    assignment::Fingerprint,
    names::{AppKey, RevisionId},
    wire::CHECKS_VERSION,
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
    /// How long each step took of revisions that came that far, for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub times: BTreeMap<RevisionId, LoadTimes>,
}

/// How long the steps of loading one revision took, the last time each succeeded; `None` of one that did not (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadTimes {
    /// Fetching its blobs, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_ms: Option<u64>,
    /// Compiling and linking it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare_ms: Option<u64>,
    /// From the beginning of its check until that passed, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_ms: Option<u64>,
}

impl AppReport {
    /// The report in words that a peer of this protocol `version` knows.
    #[must_use]
    pub fn for_version(mut self, version: u32) -> Self {
        if version < CHECKS_VERSION {
            for state in self.revisions.values_mut() {
                if matches!(state, RevisionState::Loaded | RevisionState::Checking) {
                    *state = RevisionState::Preparing;
                }
            }
        }
        self
    }

    /// Whether the runtime has one revision of the app, which takes its requests: no update of it is going on there.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.serving.is_some() && self.revisions.len() == 1
    }
}

/// How far one revision is on one runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum RevisionState {
    /// Its blobs are being fetched.
    Fetching,
    /// It is compiled and linked, and waits to be checked. Since [`CHECKS_VERSION`].
    Loaded,
    /// It is being checked. Since [`CHECKS_VERSION`].
    Checking,
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

    /// Whether it is compiled and linked, checked or not.
    #[must_use]
    pub const fn is_loaded(&self) -> bool {
        matches!(self, Self::Loaded | Self::Checking | Self::Ready)
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

impl Problem {
    /// The longest message of a runtime's problem, in bytes: what a guest's name for something adds to it must not make a
    /// report longer than a frame.
    pub const MESSAGE: usize = 2048;
}

/// At most `most` bytes of a text for people, cut between characters, with a sign that it was cut.
#[must_use]
pub fn clip(text: &str, most: usize) -> String {
    const SIGN: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(SIGN.len()));
    format!("{}{SIGN}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(clip("short", 5), "short");
        assert_eq!(clip("shorter", 6), "sho…");
        let cut = clip(&"ü".repeat(2000), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with("ü…"), "{}", cut.len());
    }

    #[test]
    fn a_peer_that_knows_no_checks_is_told_that_the_revision_is_being_prepared() {
        let states = [RevisionState::Loaded, RevisionState::Checking, RevisionState::Ready];
        let name = |number: usize| RevisionId(format!("v{number}"));
        let report = AppReport {
            app: AppKey::new("shop", "cart").unwrap(),
            uid: "u".to_owned(),
            fingerprint: Fingerprint(manifest::Digest::of(b"")),
            word: None,
            port: 10_000,
            revisions: states.into_iter().enumerate().map(|(number, state)| (name(number), state)).collect(),
            serving: None,
            problem: None,
            times: BTreeMap::new(),
        };
        let told: Vec<_> = report.clone().for_version(CHECKS_VERSION - 1).revisions.into_values().collect();
        assert_eq!(told, [RevisionState::Preparing, RevisionState::Preparing, RevisionState::Ready]);
        assert_eq!(report.clone().for_version(CHECKS_VERSION), report);
    }
}

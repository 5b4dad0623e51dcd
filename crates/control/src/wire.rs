//! What goes over a control stream.

mod frame;
mod unreadable;

use std::collections::BTreeMap;

pub use frame::{frame, take_frame};
pub use unreadable::Unreadable;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    assignment::{Assignment, Fingerprint},
    names::{AppKey, RuntimeName},
    report::AppReport,
};

/// The highest protocol version that this build speaks.
///
/// | version | has |
/// |---|---|
/// | 1 | assignments and reports |
/// | 2 | checks, and holding back what must not run twice |
///
/// Within a version, fields and kinds of messages are only ever added: what a peer does not know it passes over
/// ([`hear`]). What may not be passed over is another version. Frames of the first release are in `tests/golden`, and
/// are read for as long as version 1 is; [`ToRuntime::Hello`] and [`FromRuntime::Refused`] are read in every
/// version, because in them peers find out that they have none in common.
pub const VERSION: u32 = 2;

/// The lowest: that of the release before. A peer that speaks none of these is told so and left alone.
pub const LOWEST_VERSION: u32 = 1;

/// The version from which on a runtime checks revisions ([`crate::RevisionSpec::readiness`]) and holds back
/// ([`crate::Assignment::hold`]).
pub const CHECKS_VERSION: u32 = 2;

/// The version that a stream has whose peer speaks `lowest` to `highest`; `None` when there is no common one.
#[must_use]
pub const fn agree(lowest: u32, highest: u32) -> Option<u32> {
    let agreed = if highest < VERSION { highest } else { VERSION };
    if agreed >= lowest && agreed >= LOWEST_VERSION { Some(agreed) } else { None }
}

/// The path of the one request that carries a stream.
pub const PATH: &str = "/v1/control";

/// The DNS name in every runtime's certificate; the operator asks for it whatever the address is.
pub const RUNTIME_DNS_NAME: &str = "runtime.spindle.internal";

/// The DNS name in the operator's certificate; a runtime takes assignments from nobody else.
pub const OPERATOR_DNS_NAME: &str = "operator.spindle.internal";

/// The longest frame, in bytes, that either side reads. An application of 10,000 files takes about 2 MiB.
pub const MAX_FRAME: usize = 32 * 1024 * 1024;

/// How many bytes [`Inventory::rollouts`] may have in its frame; a runtime leaves out those that do not fit.
pub const ROLLOUTS_BYTES: usize = MAX_FRAME / 2;

/// What the operator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", content = "value")]
pub enum ToRuntime {
    /// The first frame.
    Hello(Hello),
    /// This is now the whole truth about one app.
    Assign(Box<Assignment>),
    /// The app is no longer this runtime's: drain and forget it.
    Remove(AppKey),
    /// Everything that differed on connect has been sent.
    Synced,
    /// Are you there? Answered by [`FromRuntime::Pong`] at once.
    Ping(u64),
}

/// The operator's introduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The protocol versions it speaks, lowest and highest.
    pub versions: (u32, u32),
    /// Its pod, for logs.
    pub operator: String,
    /// The lease's count of transitions. A runtime that has met a higher one refuses a lower one, so a
    /// leader that has lost its lease cannot command it.
    pub term: u64,
}

/// What a runtime says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", content = "value")]
pub enum FromRuntime {
    /// The answer to [`ToRuntime::Hello`].
    Welcome(Box<Welcome>),
    /// The stream is refused, and why.
    Refused(String),
    /// What has changed since the last report, each app once.
    Report(Vec<AppReport>),
    /// The app is gone from this runtime.
    Removed(AppKey),
    /// The runtime is shutting down: it still serves, but wants no endpoint and nothing new.
    Draining,
    /// The answer to [`ToRuntime::Ping`].
    Pong(u64),
}

/// A runtime's introduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The protocol version chosen from the operator's range.
    pub version: u32,
    /// Its name, which must be that of the pod that was dialled.
    pub runtime: RuntimeName,
    /// Its build.
    pub build: String,
    /// How many apps it wants at most.
    pub capacity: u32,
    /// Whether it is shutting down.
    pub draining: bool,
    /// What it holds.
    pub inventory: Inventory,
}

/// What a runtime holds: by app, what it was last told and what is true.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The fingerprint of each app's assignment.
    pub assigned: BTreeMap<AppKey, Fingerprint>,
    /// The report of each app.
    pub reports: Vec<AppReport>,
    /// How many words about apps this process was sent on earlier streams: see [`AppReport::word`].
    #[serde(default)]
    pub words: u64,
    /// What the runtime keeps of each app whose update is not over: the assignment and, before its revisions, one that
    /// is served although it is listed no more. From this an operator that has just started knows the old revision.
    /// Some may be left out: see [`ROLLOUTS_BYTES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<Assignment>,
}

/// A side's messages.
pub trait Message: Serialize + DeserializeOwned {
    /// The `type` of each kind of message that this build knows.
    const KINDS: &'static [&'static str];
    /// Those of them that are about one app alone, so that one which cannot be read costs that app alone.
    const ABOUT_ONE_APP: &'static [&'static str];
}

impl Message for ToRuntime {
    const KINDS: &'static [&'static str] = &["hello", "assign", "remove", "synced", "ping"];
    const ABOUT_ONE_APP: &'static [&'static str] = &["assign"];
}

impl Message for FromRuntime {
    const KINDS: &'static [&'static str] = &["welcome", "refused", "report", "removed", "draining", "pong"];
    const ABOUT_ONE_APP: &'static [&'static str] = &[];
}

/// What a frame turns out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    /// A message.
    Message(T),
    /// Something that a newer peer says: to be passed over.
    Unknown {
        /// Its `type`.
        kind: String,
    },
    /// A message about one app that says what this build cannot honour: to be passed over, and answered as such.
    Unreadable(Box<Unreadable>),
}

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It is longer than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is longer than {MAX_FRAME}")]
    TooLong(usize),
    /// It is not a message of this protocol.
    #[error("a frame is not a message of this protocol")]
    Malformed(#[from] serde_json::Error),
}

/// The message in a frame's payload.
///
/// # Errors
/// When it is too long or no message of this protocol.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, WireError> {
    if payload.len() > MAX_FRAME {
        return Err(WireError::TooLong(payload.len()));
    }
    Ok(serde_json::from_slice(payload)?)
}

/// What is in a frame's payload, from a peer that may be newer.
///
/// # Errors
/// When it is too long or no message of this protocol, of whatever release.
pub fn hear<T: Message>(payload: &[u8]) -> Result<Heard<T>, WireError> {
    let why = match decode(payload) {
        Ok(message) => return Ok(Heard::Message(message)),
        Err(WireError::Malformed(why)) => why,
        Err(too_long) => return Err(too_long),
    };
    let Ok(Envelope { kind, value }) = serde_json::from_slice(payload) else { return Err(why.into()) };
    if T::ABOUT_ONE_APP.contains(&kind.as_str()) {
        Ok(Heard::Unreadable(Box::new(Unreadable::of(&value, &why))))
    } else if T::KINDS.contains(&kind.as_str()) {
        Err(why.into())
    } else {
        Ok(Heard::Unknown { kind })
    }
}

/// What every message looks like from outside.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    value: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_agreed_on() {
        assert_eq!(agree(1, 1), Some(1));
        assert_eq!(agree(1, VERSION), Some(VERSION));
        assert_eq!(agree(VERSION, VERSION + 7), Some(VERSION));
        assert_eq!(agree(VERSION + 1, VERSION + 7), None);
        assert_eq!(agree(0, 0), None);
    }
}

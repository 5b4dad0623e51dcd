//! What the operator and its runtimes say to each other.
//!
//! One stream per runtime: the operator dials the runtime's control port (mutual TLS, HTTP/2), sends
//! `POST /v1/control`, writes [`ToRuntime`] frames to the request's body and reads [`FromRuntime`]
//! frames from the response's. A [`wire::frame`] is JSON behind its length.
//!
//! ```text
//! operator -> Hello                 runtime -> Welcome { inventory }      both sides compare fingerprints
//! operator -> Assign/Remove ...     runtime -> Report ...                 what differs, then one message per change
//! operator -> Synced                                                      everything not assigned by now has been removed
//! ```
//!
//! Promise: an assignment is the whole truth about one app on one runtime, so applying it twice, or
//! only the last of several, gives the same result. A runtime keeps what it was last told, also when
//! the stream is gone.
//!
//! The version of a stream is the highest that both sides speak ([`wire::agree`]). A peer is told nothing that its version
//! has no word for: [`AppReport::for_version`], and apps that need more are not given to it.
//!
//! Absent on purpose: I/O, time, and any decision.

pub mod assignment;
pub mod names;
pub mod report;
pub mod wire;

pub use assignment::{Assignment, Check, CheckHeader, Credentials, Fetch, Fingerprint, Hold, Limits, RevisionSpec};
pub use manifest::Secret as SecretString;
pub use names::{AppKey, AppKeyError, RevisionId, RuntimeName};
pub use report::{AppReport, LoadTimes, Problem, RevisionState, clip};
pub use wire::{FromRuntime, Heard, Hello, Inventory, ToRuntime, Unreadable, Welcome, WireError};

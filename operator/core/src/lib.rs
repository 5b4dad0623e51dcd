//! What the operator decides, as pure functions.
//!
//! [`plan`] turns a [`View`] (all that a decision about one app may depend on) into a [`Plan`] (all that
//! is to be done about it). It is total, deterministic and a fixpoint: carrying a plan out and planning
//! again gives nothing to do. The shell gathers views and carries plans out; it decides nothing.
//!
//! ```text
//! resolve  what the current spec wants: a revision, or why there is none yet
//! place    which runtimes run the app
//! revise   which revisions they hold, and which of them takes requests
//! rollout  how far a change is, and since when
//! publish  Service and EndpointSlices: who is sent requests
//! status   conditions and events
//! history  which revisions one can go back to
//! ```
//!
//! Promise: **no endpoint without a ready report.** An address is published only while the runtime
//! behind it has reported that it serves this app, by uid, at this port; the one exception is an address
//! that an earlier operator published on such a report, of a runtime that has not been reached since.
//!
//! Beside it: [`mailbox`] (what one runtime is told next), [`ports`] (which port an app has), [`lease`] (which operator leads) and [`pki`] (which
//! certificates are made, and when).
//!
//! Absent on purpose: I/O, `async`, clocks, randomness and hash maps.

pub mod history;
pub mod lease;
pub mod mailbox;
pub mod objects;
pub mod pki;
pub mod place;
pub mod plan;
pub mod ports;
pub mod publish;
pub mod resolve;
pub mod revise;
pub mod rollout;
pub mod status;
mod storage;
pub mod view;

#[cfg(test)]
mod world;

pub use plan::{Desired, Event, EventKind, Memory, Plan, plan};
pub use view::{App, Bundle, ConfigText, Contact, Pod, RevisionKey, Runtime, RuntimeConfiguration, Variables, View};

//! What every long-running Spindle process needs: logs, owned tasks, shutdown, an admin server, gauges of its state.
//!
//! Promise: no task is lost. Each belongs to a [`Tasks`]; one that fails, or that ends before it was
//! told to, ends the process with its error ([`Tasks::failed`]); stopping is ordered (one group after
//! the other) and bounded ([`Tasks::stop`] names what did not stop in time and aborts it).
//!
//! Absent on purpose: configuration files, global registries, and anything about Spin.

pub mod admin;
pub mod certificates;
pub mod logs;
pub mod metrics;
pub mod serve;
pub mod signals;
pub mod tasks;

mod patience;

pub use admin::{Admin, AdminArgs};
pub use certificates::certificate_advice;
pub use logs::{LogArgs, chain};
pub use serve::{Accepted, HttpServer, HttpSettings, ServerTls, TlsError, TlsFiles, accept};
pub use signals::Signals;
pub use tasks::{StillRunning, TaskError, Tasks};

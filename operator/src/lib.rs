//! Makes SpinApps real: resolves, places, publishes.
//!
//! The thin shell around [`operator_core`]: it gathers what a decision may depend on and carries out what
//! was decided. `lease` says who may; `runtimes` and `apply` are the two ways out; `cache`, `references`,
//! `resolve` and `runtimes` are the ways in; `queue` and `controller` join them.
//!
//! Promise: every replica makes the certificates and reads along; only the leader talks to runtimes and
//! writes about apps. No network is waited for between a change and the message to a runtime that it causes.

pub mod api_server;
pub mod apply;
pub mod backoff;
pub mod cache;
pub mod clock;
pub mod config;
pub mod controller;
pub mod failure;
pub mod inputs;
pub mod kinds;
pub mod lease;
pub mod metrics;
pub mod operator;
pub mod pki;
pub mod queue;
pub mod references;
pub mod resolve;
pub mod runtimes;

//! The canonical Spin application, and the formats that become one.
//!
//! Promise: whatever a publisher wrote (`spin.toml` of version 1 or 2, a Bindle invoice with its
//! manifest parcel), the rest of Spindle sees one [`Application`], in which every piece of content
//! is named by its digest. It has one serialised form ([`Application::to_json`]), which the operator
//! sends and a runtime loads.
//!
//! Absent on purpose: reading files and talking to servers. This crate is pure; `sources` gathers
//! the bytes.

pub mod application;
pub mod bindle_layout;
pub mod digest;
mod fields;
pub mod hosts;
mod problem;
mod reader;
pub mod runtime_config;
mod secret;
pub mod spin_toml;
pub mod template;

pub use application::{
    Application, ApplicationError, Component, ComponentId, Content, Executor, File, Pattern, Route, Target,
    UnknownComponents, Variable, WagiExecutor,
};
pub use digest::{Digest, DigestError};
pub use problem::{ManifestError, Place, Problem};
pub use runtime_config::RuntimeConfig;
pub use secret::Secret;
pub use spin_toml::Manifest;

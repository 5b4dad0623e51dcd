//! Runs many Spin applications in one process.
//!
//! From an operator's word to a response:
//!
//! ```text
//! control -> apps -(core: converge)-> loader -> engine -> trigger's slot      off the serving path
//! caller -> trigger: port -> slot -> application: router -> executor -> guest
//! ```
//!
//! `spindle up` runs the same application, engine and trigger without control and apps.
//!
//! Absent on purpose: Kubernetes. A runtime knows no API server and holds no credentials of one.

pub mod application;
pub mod apps;
pub mod config;
pub mod control;
pub mod disk;
pub mod engine;
pub mod executor;
pub mod host;
pub mod loader;
pub mod machine;
pub mod metrics;
pub mod open_files;
pub mod runtime;
pub mod trigger;

//! The SpinApp API: types, validation rules, condition types and reasons, permissions.
//!
//! Promise: every name that a user, a chart or a monitoring rule can see is declared here once; `cargo
//! xtask gen` writes the CRD, the chart's roles and the reference pages from it.
//!
//! Absent on purpose: clients and decisions. This crate is pure.

pub mod checks;
pub mod conditions;
pub mod crd;
pub mod names;
pub mod rbac;
pub mod rollout;
pub mod runtime_config;
pub mod spinapp;
pub mod status;

pub use checks::{Checks, HealthProbe, HttpGet, HttpHeader};
pub use conditions::{ConditionType, REASONS_OF_RUNTIMES, REASONS_OF_SOURCES, Reason};
pub use crd::crd;
pub use rollout::{RollingUpdate, Rollout};
pub use runtime_config::{ConfigOption, KeyValueStoreConfig, LlmComputeConfig, RuntimeConfig, SqliteDatabaseConfig};
pub use spinapp::{
    BindleSource, InvocationLimits, KeySelector, Source, SpinApp, SpinAppSpec, SpinAppVariable, ValueSource,
};
pub use status::{Condition, RolloutStatus, RolloutTimings, SpinAppStatus};

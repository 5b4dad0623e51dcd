//! The formats that become an application, from the outside.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics is a test that fails"
)]

#[path = "formats/bundles.rs"]
mod bundles;
#[path = "formats/fuzz.rs"]
mod fuzz;
#[path = "formats/golden.rs"]
mod golden;
#[path = "formats/golden_files.rs"]
mod golden_files;
#[path = "formats/properties.rs"]
mod properties;
#[path = "formats/runtime_config.rs"]
mod runtime_config;

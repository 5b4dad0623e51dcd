//! The one place where bytes from disk become code of this process.
//!
//! Invariant: a path given to these functions names a file that [`super::cache::Cache`] wrote with what
//! `wasmtime::Engine::precompile_*` returned, in a directory that only this user can read or write, under a name that
//! includes the engine's compatibility hash. Files there are made by renaming finished ones and never
//! written again, so a file cannot change while it is mapped. Wasmtime checks the rest: format, version, settings, target.
#![expect(
    unsafe_code,
    reason = "wasmtime cannot prove that precompiled code is what it once wrote; the invariant above does"
)]

use std::path::Path;

use wasmtime::{Engine, Module, component::Component};

/// Maps a compiled core module.
pub(super) fn map_module(engine: &Engine, path: &Path) -> wasmtime::Result<Module> {
    // SAFETY: see the invariant of this file.
    unsafe { Module::deserialize_file(engine, path) }
}

/// Maps a compiled component.
pub(super) fn map_component(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: see the invariant of this file.
    unsafe { Component::deserialize_file(engine, path) }
}

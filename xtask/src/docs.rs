//! What the documentation says is tried: its examples are read by what reads them for users, its links lead somewhere, and the
//! names in it exist.
//!
//! Absent on purpose: CEL rules of the CRD. Only an API server can evaluate them.

mod examples;
mod names;
mod pages;
mod schema;

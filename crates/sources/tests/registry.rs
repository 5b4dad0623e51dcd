//! Packages from a real registry: go-containerregistry's, built from `tests/registry` and started on the loopback.

#[cfg(test)]
#[path = "registry/packages.rs"]
mod packages;

//! The built server, as its users run it.

#[cfg(test)]
#[path = "server/started.rs"]
mod started;

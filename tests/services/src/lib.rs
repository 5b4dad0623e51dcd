//! Real databases and brokers for tests: Redis, PostgreSQL, MariaDB and Mosquitto, from Debian's packages.
//!
//! Promise: each server is started when the first test of a process asks for it and shared by the others; it listens on
//! 127.0.0.1 at ports that were free, asks for [`USER`] and [`PASSWORD`], speaks TLS with a certificate of [`authority`], and
//! is gone with its data when the process has ended, however that ended. When a test fails, the last lines of each log are
//! shown with it.
//!
//! Tests keep out of each other's way by names: a database of their own, or a prefix of keys and topics.
//!
//! Absent on purpose: the system's service manager and its configuration; installing (`tests/cluster/install.sh services`).

mod authority;
mod keeper;
mod mariadb;
mod mosquitto;
mod ports;
mod postgres;
mod redis;

use std::sync::OnceLock;

use anyhow::{Result, anyhow};

pub use authority::{Authority, authority};
pub use mariadb::Mariadb;
pub use mosquitto::Mosquitto;
pub use ports::free_port;
pub use postgres::Postgres;
pub use redis::Redis;

/// Who may use the servers.
pub const USER: &str = "spindle";
/// Their password. Nothing else has this text in it, so that tests can look for it where it must not be.
pub const PASSWORD: &str = "open-sesame-5150";

/// The Redis server of this process.
///
/// # Errors
/// What keeps it from running: a package that is missing, or the server's log.
pub fn redis() -> Result<&'static Redis> {
    static SERVER: OnceLock<Result<Redis, String>> = OnceLock::new();
    shared(&SERVER, Redis::start)
}

/// The PostgreSQL server of this process.
///
/// # Errors
/// As [`redis`].
pub fn postgres() -> Result<&'static Postgres> {
    static SERVER: OnceLock<Result<Postgres, String>> = OnceLock::new();
    shared(&SERVER, Postgres::start)
}

/// The MariaDB server of this process.
///
/// # Errors
/// As [`redis`].
pub fn mariadb() -> Result<&'static Mariadb> {
    static SERVER: OnceLock<Result<Mariadb, String>> = OnceLock::new();
    shared(&SERVER, Mariadb::start)
}

/// The Mosquitto broker of this process.
///
/// # Errors
/// As [`redis`].
pub fn mosquitto() -> Result<&'static Mosquitto> {
    static SERVER: OnceLock<Result<Mosquitto, String>> = OnceLock::new();
    shared(&SERVER, Mosquitto::start)
}

/// Starts a server once. Its failure is that of everybody who asks.
fn shared<T>(server: &'static OnceLock<Result<T, String>>, start: fn() -> Result<T>) -> Result<&'static T> {
    let server = server.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    server.as_ref().map_err(|problem| anyhow!("{problem}"))
}

//! Guests of every kind, called through a real listener on 127.0.0.1: small ones written as text here, and those that
//! `tests/guests/build.sh` builds with the toolchains that users have.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, also in what tests share"
)]

#[path = "guests/support.rs"]
mod support;

#[path = "guests/bad_wasm.rs"]
mod bad_wasm;
#[path = "guests/broken_services.rs"]
mod broken_services;
#[path = "guests/build.rs"]
mod build;
#[path = "guests/calls.rs"]
mod calls;
#[path = "guests/chaining.rs"]
mod chaining;
#[path = "guests/databases.rs"]
mod databases;
#[path = "guests/drafts.rs"]
mod drafts;
#[path = "guests/floods.rs"]
mod floods;
#[path = "guests/hoarders.rs"]
mod hoarders;
#[path = "guests/http.rs"]
mod http;
#[path = "guests/language_models.rs"]
mod language_models;
#[path = "guests/languages.rs"]
mod languages;
#[path = "guests/legacy.rs"]
mod legacy;
#[path = "guests/limits.rs"]
mod limits;
#[path = "guests/mysql_8.rs"]
mod mysql_8;
#[path = "guests/odd_guests.rs"]
mod odd_guests;
#[path = "guests/outbound.rs"]
mod outbound;
#[path = "guests/p3.rs"]
mod p3;
#[path = "guests/server.rs"]
mod server;
#[path = "guests/servers.rs"]
mod servers;
#[path = "guests/sockets.rs"]
mod sockets;
#[path = "guests/spin_http.rs"]
mod spin_http;
#[path = "guests/stores.rs"]
mod stores;
#[path = "guests/streaming.rs"]
mod streaming;
#[path = "guests/trigger.rs"]
mod trigger;
#[path = "guests/variable_providers.rs"]
mod variable_providers;
#[path = "guests/variables.rs"]
mod variables;
#[path = "guests/vault.rs"]
mod vault;
#[path = "guests/wagi.rs"]
mod wagi;

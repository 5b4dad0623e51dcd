//! The Bindle client against the real server; and against one that tells lies, for what a real one never says.
//!
//! The server is `bindle-server` of this repository: `BINDLE_SERVER_BIN` says where it is built.

#[cfg(test)]
#[path = "bindle/liar.rs"]
mod liar;
#[cfg(test)]
#[path = "bindle/lies.rs"]
mod lies;
#[cfg(test)]
#[path = "bindle/real.rs"]
mod real;
#[cfg(test)]
#[path = "bindle/server.rs"]
mod server;
#[cfg(test)]
#[path = "bindle/shop.rs"]
mod shop;

//! The operator's shell against what it talks to: runtimes over real TLS and HTTP/2 on loopback, and an
//! API server that holds objects in memory.

mod api;
mod certificates;
mod leader;
mod peer;
mod streams;

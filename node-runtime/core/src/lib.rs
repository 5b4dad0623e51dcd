//! What a runtime decides, as pure functions.
//!
//! [`converge`] turns what a runtime was told into its next steps; [`router`] finds the route of a request, and
//! [`headers`], [`wagi`], [`forwarded`] and [`outbound`] say what a guest is told and may reach. Absent on purpose: I/O, clocks and
//! `async`; the `node-runtime` crate does what is decided here.

pub mod converge;
pub mod forwarded;
pub mod headers;
pub mod outbound;
pub mod router;
pub mod wagi;

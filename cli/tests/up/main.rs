//! `spindle up` as its user sees it: a real process and real guests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, also in what tests share"
)]

mod build;
mod composed;
mod files;
mod flags;
mod harness;
mod output;
mod serving;
mod state;
mod tls;
mod watch;

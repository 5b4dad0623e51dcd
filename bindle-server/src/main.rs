//! `bindle-server`: a Bindle registry for development, tests and small installations.
//!
//! The protocol, the storage layout and the signature rules are those of the `bindle` crate, whose server this is;
//! its project is archived and ships no binaries. What is added here: a stop on SIGTERM, trusted keys that are read
//! again when their file changes, repair of what a broken upload leaves behind, and checks of parcel ids before they
//! become paths.
//!
//! Absent on purpose: OpenID Connect, and a mode that accepts unsigned bindles (the crate has none: every
//! verification strategy demands a signature by a known key).

mod config;
mod keys;
mod serve;
mod store;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = config::Args::parse();
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(serve::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    tracing::error!(error = format!("{error:#}"), "cannot serve");
    ExitCode::FAILURE
}

//! The project's own commands: `cargo xtask gen` and `cargo xtask check`.
//!
//! Promise: what is generated depends on the Rust sources alone, so two people get the same bytes.

mod check;
mod closure;
mod crds;
#[cfg(test)]
mod docs;
mod outputs;
mod reference;
mod roles;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write what is generated from Rust: CRDs, the chart's roles, reference pages
    Gen {
        /// Write nothing; fail when a file is stale, naming it
        #[arg(long)]
        check: bool,
    },
    /// What every commit passes: format, lints, generated files, purity of the core crates, fast tests
    Check,
}

fn main() -> ExitCode {
    let result = match Flags::parse().command {
        Command::Gen { check: false } => outputs::write(),
        Command::Gen { check: true } => outputs::check(),
        Command::Check => check::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            outputs::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

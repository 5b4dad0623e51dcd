//! What every commit passes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{
    closure,
    outputs::{self, root},
};

/// The crates whose tests need no cluster, no guest and no network.
const FAST: [&str; 6] = ["control", "manifest", "node-runtime-core", "operator-api", "operator-core", "xtask"];

/// Everything, the quickest first.
pub(crate) fn run() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    outputs::check()?;
    closure::check()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    let packages = FAST.iter().flat_map(|krate| ["--package", krate]);
    cargo(&["test"].into_iter().chain(packages).collect::<Vec<_>>())
}

fn cargo(args: &[&str]) -> Result<()> {
    outputs::say(&format!("$ cargo {}", args.join(" ")));
    let status = Command::new(env!("CARGO")).args(args).current_dir(root()).status().context("cannot run cargo")?;
    ensure!(status.success(), "`cargo {}` failed", args.join(" "));
    Ok(())
}

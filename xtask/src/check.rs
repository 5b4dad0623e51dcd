//! What every commit passes.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{
    closure,
    outputs::{self, root},
};

/// Everything, the quickest first.
pub(crate) fn run() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    outputs::check()?;
    closure::check()?;
    // The end-to-end tests are no part of `--all-targets`, because `cargo test` is not to run them.
    cargo(&["clippy", "--workspace", "--all-targets", "--test", "e2e", "--", "--deny", "warnings"])?;
    // Those beside the code: they need no cluster and no guest. The whole workspace is selected, because cargo unifies
    // features over the selection and would compile the dependencies again for another one.
    cargo(&["test", "--workspace", "--lib", "--bins"])
}

fn cargo(args: &[&str]) -> Result<()> {
    outputs::say(&format!("$ cargo {}", args.join(" ")));
    let status = Command::new(env!("CARGO")).args(args).current_dir(root()).status().context("cannot run cargo")?;
    ensure!(status.success(), "`cargo {}` failed", args.join(" "));
    Ok(())
}

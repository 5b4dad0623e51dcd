//! `spindle bindle prepare`: a bundle as files, in Bindle's standalone layout.
//!
//! `<dir>/<sha256 of the id>/invoice.toml` and `<dir>/<sha256 of the id>/parcels/<sha256>.dat`: what `bindle push -p
//! <dir>` takes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::{
    SignArgs,
    publication::{Ready, WhatArgs},
    say,
};

/// The arguments of `bindle prepare`.
#[derive(Debug, Args)]
pub(super) struct PrepareArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// The directory to write to
    #[arg(short = 'd', long = "staging-dir", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    sign: SignArgs,
}

/// Does it.
pub(super) async fn run(args: PrepareArgs) -> anyhow::Result<()> {
    let mut ready = Ready::new(&args.what).await?;
    if !args.sign.unsigned {
        ready.sign(&args.sign)?;
    }
    let target = args.dir.join(ready.id.sha256());
    write(&ready, &target)?;
    say(&format!("id:      {}", ready.id))?;
    say(&format!("command: bindle push -p {} {}", args.dir.display(), ready.id))
}

/// The invoice comes last: where it is, everything else is.
fn write(ready: &Ready, target: &Path) -> anyhow::Result<()> {
    let invoice = target.join("invoice.toml");
    anyhow::ensure!(!invoice.exists(), "{} exists already: remove it, or choose another directory", target.display());
    let parcels = target.join("parcels");
    fs::create_dir_all(&parcels).with_context(|| format!("cannot make {}", parcels.display()))?;
    for content in ready.parcels().keys() {
        let path = parcels.join(format!("{}.dat", content.digest.hex()));
        let written = fs::read(ready.path(content)?).and_then(|bytes| fs::write(&path, bytes));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::write(&invoice, ready.invoice.to_toml()?).with_context(|| format!("cannot write {}", invoice.display()))
}

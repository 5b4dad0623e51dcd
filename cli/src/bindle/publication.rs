//! An application on its way to becoming a bundle: its invoice, and the content of its parcels in a store.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use manifest::{Content, bindle_layout};
use sources::{Store, bindle::BindleId, local::Options};
use tempfile::TempDir;

use super::SignArgs;
use crate::registry::RegistryArgs;

/// What to publish.
#[derive(Debug, Args)]
pub(super) struct WhatArgs {
    /// The application: a spin.toml, or the directory that it is in
    #[arg(short = 'f', long = "from", alias = "file", value_name = "FILE", default_value = "spin.toml")]
    from: PathBuf,
    /// The build profile of the components [default: none]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Build metadata to append to the version, as in 1.2.3+BUILDINFO
    #[arg(long, value_name = "BUILDINFO")]
    buildinfo: Option<String>,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// One bundle, ready to be written or pushed.
#[derive(Debug)]
pub(super) struct Ready {
    /// Its id.
    pub(super) id: BindleId,
    /// Its invoice, not signed yet.
    pub(super) invoice: bindle_layout::Invoice,
    /// The content of every parcel.
    pub(super) store: Store,
    /// Where the store is; removed in the end.
    _dir: TempDir,
}

impl Ready {
    /// Loads the application and lays it out.
    pub(super) async fn new(what: &WhatArgs) -> anyhow::Result<Self> {
        let (from, buildinfo) = (what.from.clone(), what.buildinfo.clone());
        let registry = what.registry.settings();
        let options = Options { profile: what.profile.clone(), registry, ..Options::default() };
        tokio::task::spawn_blocking(move || Self::load(&from, &options, buildinfo.as_deref())).await?
    }

    fn load(from: &Path, options: &Options, buildinfo: Option<&str>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let store = Store::open(dir.path())?;
        let loaded = sources::local::load_with(from, options, &store)?;
        let publication = bindle_layout::publish(&loaded.application, &loaded.wasm_names)?;
        let invoice = publication
            .invoice(&loaded.application, buildinfo)
            .with_context(|| format!("{} cannot be published", from.display()))?;
        let id = invoice.id().parse()?;
        store.insert_bytes(publication.manifest_toml.as_bytes())?;
        Ok(Self { id, invoice, store, _dir: dir })
    }

    /// Signs it as its creator.
    pub(super) fn sign(&mut self, args: &SignArgs) -> anyhow::Result<()> {
        let signed = args.secret_keys()?.sign(&mut self.invoice, args.label.as_deref());
        signed.with_context(|| format!("cannot sign with the keys in {}", args.keys.shown()))
    }

    /// The parcels, each once, with the name to show.
    pub(super) fn parcels(&self) -> BTreeMap<Content, &str> {
        let parcels = self.invoice.parcel.iter().map(|parcel| &parcel.label);
        parcels.map(|label| (Content { digest: label.sha256, size: label.size }, label.name.as_str())).collect()
    }

    /// Where the content of a parcel is.
    pub(super) fn path(&self, content: &Content) -> anyhow::Result<PathBuf> {
        self.store.get(content)?.with_context(|| format!("{} was lost while it was published", content.digest))
    }
}

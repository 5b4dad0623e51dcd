//! [`Project`]: an application's directory as its author sees it: what is built, what is mounted, what is watched.
//!
//! Absent on purpose: content, which is `sources::local`'s.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use manifest::{
    Manifest,
    spin_toml::{self, DependencyWasm, Location},
};

/// A manifest and where it is.
#[derive(Debug, Clone)]
pub(super) struct Project {
    /// The manifest's path as it was named: there may be symbolic links on the way.
    pub(super) named: PathBuf,
    /// Its directory, without symbolic links.
    pub(super) dir: PathBuf,
    /// What it says about what was chosen.
    pub(super) manifest: Manifest,
}

impl Project {
    /// Reads the manifest at `path`; only `components` and what they reach, unless that is empty.
    ///
    /// # Errors
    /// When there is none, or it is wrong; all its problems at once.
    pub(super) fn read(path: &Path, profile: Option<&str>, components: &[String]) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = sources::local::read_manifest(path)?;
        let mut manifest = spin_toml::parse(&text, &shown.to_string())?;
        if let Some(profile) = profile {
            manifest = manifest.with_profile(profile)?;
        }
        if !components.is_empty() {
            manifest = manifest.select(components)?;
        }
        let dir = sources::local::dir_of(path).with_context(|| format!("cannot read {shown}"))?;
        Ok(Self { named: path.to_path_buf(), dir, manifest })
    }

    /// The wasm files that its components name, as their own or as a dependency's.
    pub(super) fn wasm(&self) -> impl Iterator<Item = PathBuf> {
        let locations = self.manifest.components.values().flat_map(|component| {
            let dependencies = component.dependencies.iter().filter_map(|dependency| match &dependency.wasm {
                DependencyWasm::Own(location) => Some(location),
                DependencyWasm::Component(_) => None,
            });
            std::iter::once(&component.source.location).chain(dependencies)
        });
        locations.filter_map(|location| match location {
            Location::Path(path) => Some(self.dir.join(path)),
            Location::Url { .. } | Location::Bindle { .. } | Location::Registry { .. } => None,
        })
    }
}

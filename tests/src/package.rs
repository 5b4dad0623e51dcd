//! Spin applications made for a test: a directory with a `spin.toml` and a guest.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::cluster::setting;

/// A directory that holds a Spin application.
#[derive(Debug)]
pub struct Package {
    directory: TempDir,
    /// `name/version`, as it will be published.
    pub id: String,
}

/// A guest built from source by the project.
///
/// # Errors
/// When it has not been built, saying how.
pub fn guest(name: &str) -> Result<Vec<u8>> {
    let path = PathBuf::from(setting("SPINDLE_GUESTS")?).join(name);
    fs::read(&path).with_context(|| format!("no guest {}: run `make guests`", path.display()))
}

/// The same guest as other content: with a custom section at its end that nobody reads.
#[must_use]
pub fn stamped(wasm: &[u8], stamp: &str) -> Vec<u8> {
    let name = "stamp";
    // Lengths below 128 are one byte of LEB128; a stamp is a short word.
    let length = |text: &str| u8::try_from(text.len()).unwrap_or(0) & 0x7f;
    let mut stamped = wasm.to_vec();
    stamped.extend([0, 1 + length(name) + length(stamp), length(name)]);
    stamped.extend(name.bytes().chain(stamp.bytes()));
    stamped
}

impl Package {
    /// An application called `name` at `version` whose one component is `wasm`, with `VERSION` in its
    /// environment, at `/...`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn new(name: &str, version: &str, wasm: &[u8]) -> Result<Self> {
        Self::with_component(name, version, wasm, "")
    }

    /// The same, with more lines in the component's table.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn with_component(name: &str, version: &str, wasm: &[u8], lines: &str) -> Result<Self> {
        let manifest = format!(
            "spin_manifest_version = 2\n\n[application]\nname = \"{name}\"\nversion = \"{version}\"\n\n[[trigger.http]]\nroute = \
             \"/...\"\ncomponent = \"main\"\n\n[component.main]\nsource = \"main.wasm\"\n{lines}\n[component.main.environment]\nVERSION = \
             \"{version}\"\n"
        );
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("spin.toml"), manifest)?;
        fs::write(directory.path().join("main.wasm"), wasm)?;
        Ok(Self { directory, id: format!("{name}/{version}") })
    }

    /// The manifest's path.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.directory.path().join("spin.toml")
    }
}

//! Where `spindle up` gets its application from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use manifest::{Application, ComponentId};
use sources::{
    Store,
    bindle::{BindleClient, BindleId},
    http::{Timeouts, Trust},
    local,
};
use url::Url;

use super::console;
use crate::{access::AccessArgs, registry::RegistryArgs};

/// How many parcels are fetched at a time.
const FETCHES: usize = 4;
/// What a manifest is called.
const MANIFEST: &str = "spin.toml";

/// Which application.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The application: a spin.toml, the directory that it is in, a wasm file (.wasm or .wat) that answers every path, or the id
    /// of a bindle [default: spin.toml, here or above]
    #[arg(short = 'f', long, group = "application", value_name = "SOURCE")]
    from: Option<String>,
    /// The application: a spin.toml, the directory that it is in, or a wasm file
    #[arg(long, alias = "file", group = "application", value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// The application, as the id of a bindle: name/version
    #[arg(short = 'b', long, value_name = "ID", group = "application")]
    bindle: Option<BindleId>,
    /// The profile of the manifest's components to run
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Bindle server")]
struct ServerArgs {
    /// The server's URL, with its path prefix, such as http://127.0.0.1:8080/v1
    #[arg(long, alias = "server", env = "BINDLE_URL", value_name = "URL")]
    bindle_server: Option<Url>,

    #[command(flatten)]
    access: AccessArgs,
}

/// Where the application is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A manifest, or a wasm file that stands for one.
    Local(PathBuf),
    /// A bindle.
    Bindle(BindleId),
}

impl Source {
    /// The directory of its author's, where state may be kept; none for a wasm file alone, as in Spin.
    pub(super) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Local(manifest) if !local::is_wasm(manifest) => Some(manifest.parent().unwrap_or(Path::new(""))),
            Self::Local(_) | Self::Bindle(_) => None,
        }
    }
}

/// An application whose content is in the store.
pub(super) struct Loaded {
    pub(super) application: Application,
    /// The bindle that it came from.
    pub(super) bundle: Option<String>,
    /// The files of components' wasm, as the manifest names them.
    pub(super) wasm_names: BTreeMap<ComponentId, String>,
}

impl SourceArgs {
    /// Where the application is, as far as the flags and the file system tell.
    ///
    /// # Errors
    /// When they name none.
    pub(super) fn locate(&self) -> anyhow::Result<Source> {
        let source = match (&self.bindle, &self.from_file, &self.from) {
            (Some(id), _, _) => Source::Bindle(id.clone()),
            (None, Some(file), _) => Source::Local(manifest_at(file)),
            (None, None, Some(from)) => self.infer(from)?,
            (None, None, None) => {
                Source::Local(search(&std::env::current_dir().context("there is no current directory")?)?)
            }
        };
        if let (Source::Bindle(id), Some(profile)) = (&source, &self.profile) {
            anyhow::bail!("--profile {profile}: {id} was published in one profile: leave the flag out");
        }
        Ok(source)
    }

    /// What `--from` means: what exists is a path.
    fn infer(&self, from: &str) -> anyhow::Result<Source> {
        let path = Path::new(from);
        if path.exists() {
            return Ok(Source::Local(manifest_at(path)));
        }
        match from.parse::<BindleId>() {
            Ok(id) if self.server.bindle_server.is_some() => Ok(Source::Bindle(id)),
            Ok(_) => anyhow::bail!(
                "--from {from}: there is no such file or directory; if it is the id of a bindle, add --bindle-server URL"
            ),
            Err(_) => anyhow::bail!(
                "--from {from}: there is no such file or directory; name a spin.toml, the directory that it is in or a wasm file, or a bindle as NAME/VERSION \
                 (OCI registries are not supported yet)"
            ),
        }
    }

    /// Which servers to believe.
    ///
    /// # Errors
    /// When the authorities' file cannot be read.
    pub(super) fn trust(&self) -> anyhow::Result<Trust> {
        self.server.access.trust()
    }

    /// The profile that was chosen.
    pub(super) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Loads the application, all its content included: only `components` and what they reach, unless that is empty;
    /// without its components' files if `without_files`.
    ///
    /// # Errors
    /// When it cannot be loaded; the text says what to do.
    pub(super) async fn load(
        &self,
        source: &Source,
        components: &[String],
        without_files: bool,
        store: &Store,
    ) -> anyhow::Result<Loaded> {
        let path = match source {
            Source::Local(path) => path.clone(),
            Source::Bindle(id) => return self.server.load(id, components, store).await,
        };
        let options = local::Options {
            profile: self.profile.clone(),
            components: components.to_vec(),
            bindle: self.server.optional_client()?,
            registry: self.registry.settings(),
            trust: self.trust()?,
            without_files,
            ..local::Options::default()
        };
        let store = store.clone();
        let loaded = tokio::task::spawn_blocking(move || local::load_with(&path, &options, &store)).await??;
        Ok(Loaded { application: loaded.application, bundle: None, wasm_names: loaded.wasm_names })
    }
}

fn manifest_at(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(MANIFEST) } else { path.to_path_buf() }
}

/// The manifest in `dir`, or in the nearest directory above that has one.
fn search(dir: &Path) -> anyhow::Result<PathBuf> {
    let here = Path::new(MANIFEST);
    if dir.join(here).is_file() {
        return Ok(here.to_path_buf());
    }
    let found = dir.ancestors().skip(1).map(|dir| dir.join(MANIFEST)).find(|file| file.is_file());
    let found = found.with_context(|| {
        format!("there is no {MANIFEST} in {} or above it: name the application with --from", dir.display())
    })?;
    console::say(&format!("Using {}", found.display()));
    Ok(found)
}

impl ServerArgs {
    fn client(&self) -> anyhow::Result<BindleClient> {
        self.optional_client()?
            .context("a bindle needs a server to come from: add --bindle-server URL, or set $BINDLE_URL")
    }

    fn optional_client(&self) -> anyhow::Result<Option<BindleClient>> {
        self.bindle_server.as_ref().map(|server| self.access.client(server, Timeouts::default())).transpose()
    }

    async fn load(&self, id: &BindleId, components: &[String], store: &Store) -> anyhow::Result<Loaded> {
        let client = &self.client()?;
        let mut application = client.resolve(id).await?.application;
        if !components.is_empty() {
            application = application.select(components)?;
        }
        stream::iter(application.contents())
            .map(|content| async move { client.fetch(id, &content, store).await })
            .buffer_unordered(FETCHES)
            .try_for_each(|_path| std::future::ready(Ok(())))
            .await?;
        Ok(Loaded { application, bundle: Some(id.to_string()), wasm_names: BTreeMap::new() })
    }
}

//! Where `spindle up` gets its application from.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use manifest::Application;
use sources::{
    Store,
    bindle::{BindleClient, BindleId},
    http::Timeouts,
};
use url::Url;

use crate::access::AccessArgs;

/// How many parcels are fetched at a time.
const FETCHES: usize = 4;

/// Which application.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The application: a spin.toml, or the directory that it is in
    #[arg(
        short = 'f',
        long = "from",
        alias = "file",
        alias = "from-file",
        value_name = "FILE",
        default_value = "spin.toml"
    )]
    from: PathBuf,

    /// The application, as the id of a bindle: name/version
    #[arg(short = 'b', long, value_name = "ID", conflicts_with = "from", requires = "bindle_server")]
    bindle: Option<BindleId>,

    #[command(flatten)]
    server: ServerArgs,
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

/// An application whose content is in the store.
pub(super) struct Loaded {
    pub(super) application: Application,
    /// The bindle that it came from.
    pub(super) bundle: Option<String>,
}

impl SourceArgs {
    /// Loads the application, all its content included.
    pub(super) async fn load(&self, store: &Store) -> anyhow::Result<Loaded> {
        if let Some(id) = &self.bindle {
            return self.server.load(id, store).await;
        }
        let (from, store) = (self.from.clone(), store.clone());
        let loaded = tokio::task::spawn_blocking(move || sources::local::load(&from, &store)).await??;
        Ok(Loaded { application: loaded.application, bundle: None })
    }
}

impl ServerArgs {
    fn client(&self) -> anyhow::Result<BindleClient> {
        let server = self.bindle_server.as_ref().context("--bindle needs --bindle-server")?;
        self.access.client(server, Timeouts::default())
    }

    async fn load(&self, id: &BindleId, store: &Store) -> anyhow::Result<Loaded> {
        let client = &self.client()?;
        let application = client.resolve(id).await?.application;
        stream::iter(application.contents())
            .map(|content| async move { client.fetch(id, &content, store).await })
            .buffer_unordered(FETCHES)
            .try_for_each(|_path| std::future::ready(Ok(())))
            .await?;
        Ok(Loaded { application, bundle: Some(id.to_string()) })
    }
}

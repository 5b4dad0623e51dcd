//! Where `spindle up` gets its application from.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use control::{Credentials, SecretString};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use manifest::Application;
use sources::{
    Store,
    bindle::{BindleClient, BindleId, ClientOptions},
    http::Trust,
};
use url::Url;

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

    /// The user to be there
    #[arg(long, env = "BINDLE_USERNAME", value_name = "NAME", requires = "bindle_password")]
    bindle_username: Option<String>,

    /// That user's password
    #[arg(
        long,
        env = "BINDLE_PASSWORD",
        value_name = "PASSWORD",
        requires = "bindle_username",
        hide_env_values = true
    )]
    bindle_password: Option<String>,

    /// Believe any certificate: whoever is in between can read and change everything
    #[arg(short = 'k', long, conflicts_with = "ca_file")]
    insecure: bool,

    /// Believe only certificates of the authorities in this PEM file
    #[arg(long, env = "BINDLE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
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
        let server = self.bindle_server.clone().context("--bindle needs --bindle-server")?;
        let trust = match (&self.ca_file, self.insecure) {
            (_, true) => Trust::Anything,
            (Some(path), false) => {
                Trust::Only(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
            }
            (None, false) => Trust::System,
        };
        let credentials = self.bindle_username.clone().zip(self.bindle_password.clone());
        let credentials =
            credentials.map(|(username, password)| Credentials { username, password: SecretString::new(password) });
        Ok(BindleClient::new(server, ClientOptions { credentials, trust, ..ClientOptions::default() })?)
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

//! How to talk to a Bindle server: the flags that every command has that asks one.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use control::{Credentials, SecretString};
use sources::{
    bindle::{BindleClient, ClientOptions},
    http::{Timeouts, Trust},
};
use url::Url;

/// As whom, and whom to believe.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bindle server")]
pub(crate) struct AccessArgs {
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

impl AccessArgs {
    /// A client of `server`.
    ///
    /// # Errors
    /// When the authorities' file cannot be read, or the server's URL cannot be used.
    pub(crate) fn client(&self, server: &Url, timeouts: Timeouts) -> anyhow::Result<BindleClient> {
        let trust = self.trust()?;
        let credentials = self.bindle_username.clone().zip(self.bindle_password.clone());
        let credentials =
            credentials.map(|(username, password)| Credentials { username, password: SecretString::new(password) });
        let options = ClientOptions { credentials, trust, timeouts, ..ClientOptions::default() };
        Ok(BindleClient::new(server.clone(), options)?)
    }

    /// Which certificates to believe.
    ///
    /// # Errors
    /// When the authorities' file cannot be read.
    pub(crate) fn trust(&self) -> anyhow::Result<Trust> {
        Ok(match (&self.ca_file, self.insecure) {
            (_, true) => Trust::Anything,
            (Some(path), false) => {
                Trust::Only(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
            }
            (None, false) => Trust::System,
        })
    }
}

//! `spindle bindle`: publish applications to a Bindle server.
//!
//! What is published is laid out as Spin's own publishers did, so that whatever reads Spin's bundles reads these.
//! Unlike them, this signs: servers since 0.9 take nothing else.

mod keys;
mod prepare;
mod publication;
mod push;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sources::{
    bindle::{BindleClient, SecretKeys},
    http::Timeouts,
};
use url::Url;

use crate::access::AccessArgs;

/// The arguments of `spindle bindle`.
#[derive(Debug, Args)]
pub(crate) struct BindleArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish an application to a Bindle server
    Push(Box<push::PushArgs>),
    /// Write an application as a bindle into a directory, to be pushed later or from elsewhere
    Prepare(Box<prepare::PrepareArgs>),
    /// Make and show the keys that bindles are signed with
    #[command(subcommand)]
    Keys(Box<keys::KeysCommand>),
}

/// Runs `spindle bindle`.
///
/// # Errors
/// When it could not be done; the text says what to do about it.
pub(crate) async fn run(args: BindleArgs) -> anyhow::Result<()> {
    match args.command {
        Command::Push(args) => push::run(*args).await,
        Command::Prepare(args) => prepare::run(*args).await,
        Command::Keys(command) => keys::run(*command).await,
    }
}

/// Which server, and how to talk to it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bindle server")]
struct ServerArgs {
    /// The server's URL, with its path prefix
    #[arg(long, env = "BINDLE_URL", value_name = "URL", default_value = "http://127.0.0.1:8080/v1")]
    bindle_server: Url,
    #[command(flatten)]
    access: AccessArgs,
}

impl ServerArgs {
    /// The client for questions.
    fn client(&self) -> anyhow::Result<BindleClient> {
        self.access.client(&self.bindle_server, Timeouts::default())
    }

    /// The client for uploads: a server answers one only when it has all of it.
    fn uploader(&self) -> anyhow::Result<BindleClient> {
        let timeouts = Timeouts { read: Duration::from_secs(600), ..Timeouts::default() };
        self.access.client(&self.bindle_server, timeouts)
    }
}

/// Where the secret keys are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keys")]
struct KeyFileArgs {
    /// The file with the secret keys, in Bindle's format [default: spindle/secret_keys.toml in the user's
    /// configuration directory]
    #[arg(long, env = "SPINDLE_BINDLE_KEYS", value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    xdg_config_home: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<PathBuf>,
}

impl KeyFileArgs {
    /// The file, for messages.
    fn shown(&self) -> String {
        self.path().map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.key_file {
            return Ok(path.clone());
        }
        let absolute = self.xdg_config_home.clone().filter(|path| path.is_absolute());
        let config = absolute.or_else(|| self.home.as_ref().map(|home| home.join(".config")));
        Ok(config.context("there is no home directory: say where the keys are with --key-file")?.join(KEY_FILE))
    }
}

/// Below the user's configuration directory.
const KEY_FILE: &str = "spindle/secret_keys.toml";

/// Whether and with what to sign.
#[derive(Debug, Args)]
struct SignArgs {
    #[command(flatten)]
    keys: KeyFileArgs,
    /// Sign with the key that has this label [default: the first creator's key]
    #[arg(long, value_name = "LABEL", conflicts_with = "unsigned", help_heading = "Keys")]
    label: Option<String>,
    /// Do not sign: for servers before 0.9, which need no signatures
    #[arg(long, help_heading = "Keys")]
    unsigned: bool,
}

impl SignArgs {
    /// The keys to sign with.
    fn secret_keys(&self) -> anyhow::Result<SecretKeys> {
        let path = self.keys.path()?;
        anyhow::ensure!(
            path.exists(),
            "there are no keys to sign with at {}: make one with `spindle bindle keys create NAME` and give the server \
             what `spindle bindle keys export` prints, or use --unsigned for servers before 0.9",
            path.display()
        );
        read_keys(&path)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_keys(path: &Path) -> anyhow::Result<SecretKeys> {
    SecretKeys::from_toml(&read(path)?).with_context(|| format!("cannot use {}", path.display()))
}

/// The result, for people and scripts.
fn say(line: &str) -> anyhow::Result<()> {
    crate::output::print(&format!("{line}\n")).map(drop).context("cannot write to stdout")
}

/// How it goes, for people. That nobody reads it is no reason to stop.
fn note(line: &str) {
    let _unread = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests;

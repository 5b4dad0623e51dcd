//! `spindle bindle keys`: who signs.
//!
//! The files are in Bindle's formats, so that its own tools can use them. Secret keys never leave their file.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sources::bindle::SecretKeys;

use super::{KeyFileArgs, ServerArgs, read, read_keys, say};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key to sign with, and print its public half
    Create(CreateArgs),
    /// List the keys that there are to sign with
    List(KeyFileArgs),
    /// Print the public halves as a keyring: what a Bindle server and Spindle's operator are given
    Export(ExportArgs),
    /// Print the public keys of a server as a keyring
    Host(ServerArgs),
}

/// The arguments of `keys create`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Whose key it is, such as "Alice <alice@example.com>". It appears in every signature
    name: String,
    #[command(flatten)]
    keys: KeyFileArgs,
}

/// The arguments of `keys export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    keys: KeyFileArgs,
    /// Add to this keyring file instead of printing; made if it does not exist
    #[arg(long, value_name = "FILE")]
    add_to: Option<PathBuf>,
}

/// Does it.
pub(super) async fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create(args) => create(&args),
        KeysCommand::List(keys) => list(&keys.path()?),
        KeysCommand::Export(args) => export(&args),
        KeysCommand::Host(server) => host(&server).await,
    }
}

fn create(args: &CreateArgs) -> anyhow::Result<()> {
    let path = args.keys.path()?;
    let mut keys = if path.exists() { read_keys(&path)? } else { SecretKeys::default() };
    anyhow::ensure!(!args.name.trim().is_empty() && !args.name.contains('\n'), "a key needs a name, in one line");
    anyhow::ensure!(
        keys.entries().all(|(label, _)| label != args.name),
        "there is a key `{}` already in {}",
        args.name,
        path.display()
    );
    keys.create(&args.name);
    save(&path, &keys.to_toml()?)?;
    super::note(&format!("added to {}; its public half:", path.display()));
    let mut new = SecretKeys::default();
    new.take(&keys, &args.name);
    say(new.public()?.to_toml()?.trim_end())
}

/// Writes a file that only its owner can read, all of it or nothing.
fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let new = path.with_extension("toml.new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

fn list(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(path.exists(), "there are no keys at {}: see `spindle bindle keys create`", path.display());
    for (label, roles) in read_keys(path)?.entries() {
        say(&format!("{label}  ({})", roles.join(", ")))?;
    }
    Ok(())
}

fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let path = args.keys.path()?;
    anyhow::ensure!(path.exists(), "there are no keys at {}: see `spindle bindle keys create`", path.display());
    let public = read_keys(&path)?.public()?;
    let Some(target) = &args.add_to else { return say(public.to_toml()?.trim_end()) };
    let text = if target.exists() { read(target)? } else { String::new() };
    let mut ring =
        sources::bindle::Keyring::from_toml(&text).with_context(|| format!("{} is no keyring", target.display()))?;
    ring.extend(public);
    fs::write(target, ring.to_toml()?).with_context(|| format!("cannot write {}", target.display()))
}

async fn host(server: &ServerArgs) -> anyhow::Result<()> {
    let keys = server.client()?.host_keys().await?;
    let keys = keys.with_context(|| format!("{} has no keys: it is older than 0.9", server.bindle_server))?;
    say(keys.to_toml()?.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn files(dir: &Path) -> KeyFileArgs {
        KeyFileArgs { key_file: None, xdg_config_home: Some(dir.to_path_buf()), home: None }
    }

    #[test]
    fn keys_are_kept_where_only_their_owner_can_read_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["Alice", "Bob"] {
            create(&CreateArgs { name: name.to_owned(), keys: files(dir.path()) }).unwrap();
        }
        let path = dir.path().join("spindle/secret_keys.toml");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            read_keys(&path).unwrap().entries().map(|(label, _)| label.to_owned()).collect::<Vec<_>>(),
            ["Alice", "Bob"]
        );
        let error = create(&CreateArgs { name: "Bob".to_owned(), keys: files(dir.path()) }).unwrap_err();
        assert!(error.to_string().starts_with("there is a key `Bob` already"), "{error}");
    }

    #[test]
    fn exporting_twice_into_a_keyring_adds_each_key_once() {
        let dir = tempfile::tempdir().unwrap();
        create(&CreateArgs { name: "Alice".to_owned(), keys: files(dir.path()) }).unwrap();
        let target = dir.path().join("ring.toml");
        for _ in 0..2 {
            export(&ExportArgs { keys: files(dir.path()), add_to: Some(target.clone()) }).unwrap();
        }
        let ring = sources::bindle::Keyring::from_toml(&fs::read_to_string(&target).unwrap()).unwrap();
        assert_eq!(ring.entries().count(), 1);
    }
}

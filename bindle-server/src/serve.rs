//! Serving, until a signal.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use bindle::{
    authn::{always::AlwaysAuthenticate, http_basic::HttpBasic},
    authz::{always::AlwaysAuthorize, anonymous_get::AnonymousGet},
    search::StrictEngine,
    server::{TlsConfig, server},
    signature::{KeyRing, SecretKeyFile},
};
use nix::sys::signal::{Signal, raise};
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{config::Args, keys, store::Uploads};

/// How often the files that may change are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long requests may take to finish once a signal came.
const GRACE: Duration = Duration::from_secs(10);

/// What one run of the crate's server needs that does not change.
struct Fixed {
    args: Args,
    store: Uploads,
    index: StrictEngine,
    signing: SecretKeyFile,
}

/// The content of the files that may change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Files {
    keyring: String,
    htpasswd: String,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When a file cannot be used, or the address cannot be listened at.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    // Before anything else, so that a signal is never lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let made = tokio::fs::create_dir_all(&args.directory).await;
    made.with_context(|| format!("cannot make the directory {}", args.directory.display()))?;
    let index = StrictEngine::default();
    let store = Uploads::open(&args.directory, index.clone()).await;
    let signing = keys::signing_keys(&args.signing_keys_path()).await?;
    let fixed = Fixed { args, store, index, signing };

    let mut files = read_files(&fixed.args).await?;
    let mut ring = trusted(&fixed.args, &files.keyring)?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        let mut serving = JoinSet::new();
        start(&fixed, ring.clone(), &mut serving).await?;
        let changed = loop {
            tokio::select! {
                ended = serving.join_next() => return finished(ended),
                _ = terminate.recv() => {
                    // The crate's server stops gracefully on SIGINT, and has no other handle.
                    raise(Signal::SIGINT).context("cannot stop gracefully")?;
                    return drain(&mut serving).await;
                }
                _ = interrupt.recv() => return drain(&mut serving).await,
                _ = look.tick() => {
                    if let Some(changed) = changed_files(&fixed.args, &files).await {
                        match trusted(&fixed.args, &changed.keyring) {
                            Ok(new) => { ring = new; break changed; }
                            Err(error) => {
                                tracing::warn!(error = format!("{error:#}"), "kept the old keyring");
                                files = changed;
                            }
                        }
                    }
                }
            }
        };
        files = changed;
        // Connections that are open finish their requests; only the listener is replaced.
        serving.shutdown().await;
        tracing::info!("keys have changed");
    }
}

/// Starts the crate's server.
async fn start(fixed: &Fixed, ring: KeyRing, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let Fixed { args, store, index, signing } = fixed;
    let address = args.address;
    // The crate panics where TLS is on and the address is taken.
    drop(TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?);
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(tls(cert, key).await?),
        _ => None,
    };
    let (store, index, signing, strategy) = (store.clone(), index.clone(), signing.clone(), args.strategy.clone());
    let (secure, trusted) = (tls.is_some(), ring.key.len());
    if let Some(file) = &args.htpasswd_file {
        let users = HttpBasic::from_file(file).await;
        let users = users.with_context(|| format!("cannot read {}", file.display()))?;
        tasks.spawn(server(store, index, users, AnonymousGet, address, tls, signing, strategy, ring));
    } else {
        let (who, may) = (AlwaysAuthenticate, AlwaysAuthorize);
        tasks.spawn(server(store, index, who, may, address, tls, signing, strategy, ring));
    }
    listening(address, tasks).await?;
    tracing::info!(%address, tls = secure, directory = %args.directory.display(), trusted, "serving");
    Ok(())
}

/// Waits until the server takes connections, or has failed.
async fn listening(address: SocketAddr, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let connected = async {
        let mut wait = tokio::time::interval(Duration::from_millis(5));
        while TcpStream::connect(address).await.is_err() {
            wait.tick().await;
        }
    };
    tokio::select! {
        ended = tasks.join_next() => finished(ended),
        () = connected => Ok(()),
    }
}

/// Checks that the files can be read, because the crate panics where they cannot.
async fn tls(cert_path: &Path, key_path: &Path) -> anyhow::Result<TlsConfig> {
    for (path, mark) in [(cert_path, "BEGIN CERTIFICATE"), (key_path, "PRIVATE KEY")] {
        let text = tokio::fs::read_to_string(path).await;
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::ensure!(text.contains(mark), "{} has no PEM block `{mark}`", path.display());
    }
    Ok(TlsConfig { cert_path: cert_path.to_path_buf(), key_path: key_path.to_path_buf() })
}

/// The trusted keys; says so when there are none.
fn trusted(args: &Args, text: &str) -> anyhow::Result<KeyRing> {
    let path = args.keyring_path();
    let ring = keys::keyring(text, &args.strategy);
    let ring = ring.with_context(|| format!("{} is no keyring", path.display()))?;
    if ring.key.is_empty() {
        tracing::warn!(keyring = %path.display(), "no creator is trusted: bindles can be read, but not pushed");
    }
    Ok(ring)
}

/// What is in the files now; a file that is not there counts as empty.
async fn read_files(args: &Args) -> anyhow::Result<Files> {
    let read = async |path: &Path| match tokio::fs::read_to_string(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other.with_context(|| format!("cannot read {}", path.display())),
    };
    let keyring = read(&args.keyring_path()).await?;
    let htpasswd = match &args.htpasswd_file {
        Some(path) => read(path).await?,
        None => String::new(),
    };
    Ok(Files { keyring, htpasswd })
}

/// What is in the files, if it is not what was there before. A file that cannot be read now may be readable soon.
async fn changed_files(args: &Args, before: &Files) -> Option<Files> {
    match read_files(args).await {
        Ok(now) => (now != *before).then_some(now),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "kept the old keys");
            None
        }
    }
}

/// Waits for requests in flight, but not for ever.
async fn drain(serving: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    tracing::info!("stopping");
    match tokio::time::timeout(GRACE, serving.join_next()).await {
        Ok(ended) => finished(ended),
        Err(_elapsed) => Ok(()),
    }
}

/// What came of the crate's server.
fn finished(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Result<()> {
    ended.unwrap_or(Ok(Ok(()))).context("the server failed: is the certificate valid?")?
}

//! The flags. Each can be given by environment too.

use std::{net::SocketAddr, path::PathBuf};

use bindle::VerificationStrategy;

/// A Bindle registry for development, tests and small installations.
///
/// Bindles can be pushed when a creator has signed them whose public key is in the keyring: make a key with `spindle
/// bindle keys create`, and give the server what `spindle bindle keys export` prints.
#[derive(Debug, clap::Parser)]
#[command(version)]
#[command(group(clap::ArgGroup::new("auth").required(true)))]
pub(crate) struct Args {
    /// Where bindles are kept; made if it does not exist.
    #[arg(long, short, env = "BINDLE_SERVER_DIRECTORY", default_value = "./bindles")]
    pub(crate) directory: PathBuf,
    /// The address and port to listen at.
    #[arg(long, short, env = "BINDLE_SERVER_ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) address: SocketAddr,
    /// Let everybody read, push and yank. Pushing still needs a trusted creator's signature.
    #[arg(long, env = "BINDLE_SERVER_UNAUTHENTICATED", group = "auth")]
    pub(crate) unauthenticated: bool,
    /// Let everybody read, and those in this file push and yank: lines of `htpasswd -B` (bcrypt, `$2y$`).
    #[arg(long, env = "BINDLE_SERVER_HTPASSWD_FILE", group = "auth")]
    pub(crate) htpasswd_file: Option<PathBuf>,
    /// The public keys of trusted creators, in Bindle's keyring format. Read again when it changes; may come to exist
    /// later [default: keyring.toml in the directory].
    #[arg(long, env = "BINDLE_SERVER_KEYRING")]
    pub(crate) keyring: Option<PathBuf>,
    /// The server's own secret keys, made if there are none [default: signing-keys.toml in the directory].
    #[arg(long, env = "BINDLE_SERVER_SIGNING_KEYS")]
    pub(crate) signing_keys: Option<PathBuf>,
    /// Which signatures a pushed invoice must have: CreativeIntegrity (a known creator), AuthoritativeIntegrity,
    /// GreedyVerification, ExhaustiveVerification, MultipleAttestation[role,...] or
    /// MultipleAttestationGreedy[role,...].
    #[arg(long, env = "BINDLE_SERVER_STRATEGY", default_value = "CreativeIntegrity")]
    pub(crate) strategy: VerificationStrategy,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, env = "BINDLE_SERVER_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, env = "BINDLE_SERVER_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// What to log to stderr, as `RUST_LOG` has it.
    #[arg(long, env = "BINDLE_SERVER_LOG", default_value = "info,warp=error")]
    pub(crate) log: String,
}

impl Args {
    /// Where the trusted keys are.
    pub(crate) fn keyring_path(&self) -> PathBuf {
        self.keyring.clone().unwrap_or_else(|| self.directory.join("keyring.toml"))
    }

    /// Where the server's own keys are.
    pub(crate) fn signing_keys_path(&self) -> PathBuf {
        self.signing_keys.clone().unwrap_or_else(|| self.directory.join("signing-keys.toml"))
    }
}

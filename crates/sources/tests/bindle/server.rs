//! A running `bindle-server`.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use sources::bindle::{BindleClient, ClientOptions, SecretKeys};
use url::Url;

/// A server of its own for one test; stopped with it.
pub(crate) struct Server {
    child: Child,
    pub(crate) dir: tempfile::TempDir,
    port: u16,
    scheme: &'static str,
    /// The creator whom it trusts.
    pub(crate) keys: SecretKeys,
}

impl Server {
    /// One that lets everybody do everything.
    pub(crate) fn open() -> Self {
        Self::start("http", |_dir| vec!["--unauthenticated".to_owned()])
    }

    /// One with more arguments, which may need files in its directory.
    pub(crate) fn start(scheme: &'static str, prepare: impl FnOnce(&std::path::Path) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = SecretKeys::default();
        keys.create("Alice");
        std::fs::write(dir.path().join("keyring.toml"), keys.public().unwrap().to_toml().unwrap()).unwrap();
        let more = prepare(dir.path());
        let port = test_services::free_port();
        let binary = binary();
        let mut child = Command::new(&binary)
            .args(["--address", &format!("127.0.0.1:{port}"), "--directory"])
            .arg(dir.path())
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}: build it with `tests/build.sh binaries`", binary.display()));
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(log.any(|line| line.contains(" serving ")), "bindle-server ended");
        // It must be able to go on writing.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, dir, port, scheme, keys }
    }

    pub(crate) fn url(&self) -> Url {
        format!("{}://127.0.0.1:{}/v1", self.scheme, self.port).parse().unwrap()
    }

    pub(crate) fn client(&self, options: ClientOptions) -> BindleClient {
        BindleClient::new(self.url(), options).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

/// Where `tests/build.sh` puts it.
fn binary() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let default = || home().join(".cache/spindle/target-bindle-server/debug/bindle-server");
    std::env::var_os("BINDLE_SERVER_BIN").map_or_else(default, PathBuf::from)
}

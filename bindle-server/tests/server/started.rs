//! The built server, as its users run it.

use std::{
    io::{BufRead as _, BufReader, Lines},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use bindle::{
    BindleSpec, Invoice, Label, Parcel, SignatureRole,
    signature::{KeyEntry, KeyRing, SecretKeyEntry},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::StatusCode;
use sha2::Digest as _;

struct Server {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    url: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let port = free_port();
        let mut child = command()
            .args(["--unauthenticated", "--address", &format!("127.0.0.1:{port}"), "--directory"])
            .arg(dir)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut server = Self { child, log, url: format!("http://127.0.0.1:{port}") };
        server.wait_for(" serving ");
        server
    }

    /// Reads the log up to a line with this text.
    fn wait_for(&mut self, text: &str) {
        assert!(self.log.any(|line| line.unwrap().contains(text)), "the server ended without saying `{text}`");
    }

    fn stop(&mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        self.child.wait().unwrap()
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> StatusCode {
        let request = reqwest::Client::new().post(format!("{}/v1/{path}", self.url)).body(body);
        request.header("content-type", "application/toml").send().await.unwrap().status()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}

/// A port that nobody listens at, and that the system gives to nobody who asks for any.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bindle-server"))
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", sha2::Sha256::digest(bytes))
}

/// An invoice with one parcel, signed by `key`.
fn invoice(id: &str, parcel: &[u8], key: &SecretKeyEntry) -> String {
    let mut label = Label::new("a".to_owned(), sha256(parcel));
    label.size = parcel.len().try_into().unwrap();
    let mut invoice = Invoice::new(BindleSpec { id: id.parse().unwrap(), description: None, authors: None });
    invoice.parcel = Some(vec![Parcel { label, conditions: None }]);
    invoice.sign(SignatureRole::Creator, key).unwrap();
    toml::to_string(&invoice).unwrap()
}

fn creator() -> SecretKeyEntry {
    SecretKeyEntry::new("Alice", vec![SignatureRole::Creator])
}

fn trust(dir: &Path, key: &SecretKeyEntry) {
    let ring = KeyRing::new(vec![KeyEntry::try_from(key).unwrap()]);
    std::fs::write(dir.join("keyring.toml"), toml::to_string(&ring).unwrap()).unwrap();
}

#[tokio::test]
async fn it_is_healthy_until_a_signal_ends_it_with_success() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start(&dir.path().join("made/for/it"));
        let health = reqwest::get(format!("{}/healthz", server.url)).await.unwrap();
        assert_eq!(health.status(), StatusCode::OK);
        assert!(server.stop(signal).success(), "{signal}");
    }
}

#[test]
fn it_does_not_start_without_knowing_who_may_push() {
    let output = command().output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--unauthenticated"));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = command().args(["--unauthenticated", "--address", &address, "--directory"]).arg(dir.path()).output();
    let output = output.unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains(&format!("cannot listen at {address}")), "{log}");
}

#[test]
fn a_certificate_that_is_none_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    let port = free_port();
    let mut server = command();
    server.args(["--unauthenticated", "--address", &format!("127.0.0.1:{port}"), "--directory"]).arg(dir.path());
    let output = server.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key).output().unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("is the certificate valid?"), "{log}");
}

#[tokio::test]
async fn a_creator_is_trusted_as_soon_as_the_keyring_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let key = creator();
    let mut server = Server::start(dir.path());
    assert_eq!(server.post("_i", invoice("a/1.0.0", b"hello", &key)).await, StatusCode::BAD_REQUEST);
    trust(dir.path(), &key);
    server.wait_for(" serving ");
    assert_eq!(server.post("_i", invoice("a/1.0.0", b"hello", &key)).await, StatusCode::ACCEPTED);
    assert_eq!(server.post("_i", invoice("b/1.0.0", b"hello", &creator())).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_upload_that_failed_can_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = creator();
    trust(dir.path(), &key);
    let mut server = Server::start(dir.path());
    assert_eq!(server.post("_i", invoice("a/1.0.0", b"hello", &key)).await, StatusCode::ACCEPTED);
    let parcel = format!("_i/a/1.0.0@{}", sha256(b"hello"));
    for wrong in ["jello", "hell", "hello!"] {
        assert_eq!(server.post(&parcel, wrong).await, StatusCode::BAD_REQUEST, "{wrong}");
    }
    // What a server that was killed in the middle leaves.
    assert!(server.stop(Signal::SIGTERM).success());
    let remains = dir.path().join("parcels").join(sha256(b"hello"));
    std::fs::create_dir_all(&remains).unwrap();
    std::fs::write(remains.join("parcel.dat.part"), b"he").unwrap();
    let server = Server::start(dir.path());
    assert_eq!(server.post(&parcel, "hello").await, StatusCode::OK);
    assert_eq!(server.post(&parcel, "hello").await, StatusCode::CONFLICT);
    let fetched = reqwest::get(format!("{}/v1/{parcel}", server.url)).await.unwrap();
    assert_eq!(fetched.text().await.unwrap(), "hello");
}

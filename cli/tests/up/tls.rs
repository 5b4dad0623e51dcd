//! HTTPS.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::harness::{Up, application, in_time, run, spindle};

#[tokio::test]
async fn with_a_certificate_https_is_served() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (cache.path().join("cert.pem"), cache.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let flags = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let mut up = Up::start(app.path(), cache.path(), &flags).await;
    assert_eq!(up.line().await, "Available Routes:");
    assert_eq!(up.line().await, format!("  hello: https://{}/hello (wildcard)", up.address));

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let stream = TcpStream::connect(up.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = in_time("the handshake", connector.connect(name, stream)).await.unwrap();
    stream.write_all(b"GET /exact HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Whether the server says that it closes is of no interest.
    let _end = in_time("the answer", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("Hello from WAT\n"), "{answer}");
    up.stopped().await;

    let from = app.path().to_str().unwrap();
    let wrong = ["-f", from, "--tls-cert", cert.to_str().unwrap(), "--tls-key", cert.to_str().unwrap()];
    let (code, _, stderr) = run(spindle(cache.path()).args(wrong)).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--tls-key") && stderr.contains("there is no private key"), "{stderr}");
}

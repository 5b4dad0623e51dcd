//! HTTPS.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

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

#[tokio::test]
async fn a_bindle_server_that_shows_the_certificate_of_an_authority_is_explained() {
    let cache = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let file = cache.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![authority.der().clone()], key.into()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((client, _)) = listener.accept().await {
            let _refused = acceptor.accept(client).await;
        }
    });
    let flags = ["--bindle", "app/1.0.0", "--bindle-server", &url, "--ca-file", file.to_str().unwrap()];
    let (code, _, stderr) = run(spindle(cache.path()).args(flags)).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("certificate of an authority") && stderr.contains("CA:FALSE"), "{stderr}");
}

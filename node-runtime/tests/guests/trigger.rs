//! Connections: TLS, the PROXY protocol, what callers say of themselves, and callers that behave badly.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use control::RevisionId;
use daemon::{HttpSettings, ServerTls, Tasks, TlsFiles};
use node_runtime::{
    engine::Engine,
    metrics::Metrics,
    trigger::{Port, ProxyProtocol, Serving, Slot, Trigger, TriggerSettings},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{App, engine_with, guest};

/// An app at a port, as the runtime and `spindle up` have it.
pub(crate) struct Open {
    address: SocketAddr,
    slot: Arc<Slot>,
    port: Port,
    tasks: Tasks,
    engine: Engine,
    _app: App,
}

async fn open(app: App, settings: TriggerSettings) -> Open {
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let slot = Arc::new(Slot::new(metrics.of_app("tests/app")));
    slot.switch(serving(&app, "r1").await);
    let tasks = Tasks::new("test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = Trigger::new(&tasks, settings).serve(listener, Arc::clone(&slot)).unwrap();
    Open { address: port.address(), slot, port, tasks, engine: app.engine(), _app: app }
}

async fn serving(app: &App, revision: &str) -> Arc<Serving> {
    Arc::new(Serving::new(RevisionId(revision.to_owned()), app.build().await.unwrap()))
}

pub(crate) async fn usual(settings: TriggerSettings) -> Open {
    open(App::of(&guest("http-rust")), settings).await
}

impl Open {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes` on a connection of its own and reads until the server closes it.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut stream).await
    }
}

/// Everything that comes until the other end closes. A reset counts as the end.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut read).await {}
    String::from_utf8_lossy(&read).into_owned()
}

/// What comes until `end`.
async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

fn get(path: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n{headers}\r\n")
}

/// A certificate for `localhost` in `dir`, and a client that believes it alone.
fn certificate(dir: &Path, protocols: &[&[u8]]) -> (TlsFiles, TlsConnector) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let files = TlsFiles { certificate: dir.join("tls.crt"), key: dir.join("tls.key") };
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (files, TlsConnector::from(Arc::new(client)))
}

async fn shake(connector: &TlsConnector, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// One request over HTTP/2, and its response.
async fn ask_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
) -> http::Response<String> {
    use http_body_util::{BodyExt as _, Empty};
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let uri = format!("http://shop.example{path}");
    let request = http::Request::builder().method(method).uri(uri).body(Empty::<bytes::Bytes>::new()).unwrap();
    let ask = async {
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        http::Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::select! {
        answer = ask => answer,
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn tls_serves_both_protocols_and_guests_are_told_https() {
    let dir = tempfile::tempdir().unwrap();
    let (files, h1) = certificate(dir.path(), &[b"http/1.1"]);
    let tls = Arc::new(ServerTls::load(files).unwrap());
    let app = usual(TriggerSettings { tls: Some(tls), ..TriggerSettings::default() }).await;
    let mut stream = shake(&h1, app.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(get("/headers", &[]).as_bytes()).await.unwrap();
    let reply = rest(&mut stream).await;
    assert!(reply.contains("spin-full-url: https://shop.example/headers"), "{reply}");

    // Anything but TLS is closed without an answer in the clear.
    assert!(!app.say(get("/", &[])).await.contains("HTTP/1.1"));
}

#[tokio::test]
async fn http_2_is_chosen_by_alpn_and_without_tls_by_prior_knowledge() {
    let dir = tempfile::tempdir().unwrap();
    let (files, h2) = certificate(dir.path(), &[b"h2", b"http/1.1"]);
    let tls = Arc::new(ServerTls::load(files).unwrap());
    let secure = usual(TriggerSettings { tls: Some(tls), ..TriggerSettings::default() }).await;
    let stream = shake(&h2, secure.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let reply = ask_h2(stream, "GET", "/headers").await;
    assert!(reply.status() == 200 && reply.body().contains("spin-full-url: https://shop.example/headers"), "{reply:?}");

    let clear = usual(TriggerSettings::default()).await;
    let reply = ask_h2(clear.connect().await, "GET", "/headers").await;
    assert!(reply.status() == 200 && reply.body().contains("spin-full-url: http://shop.example/headers"), "{reply:?}");
}

#[tokio::test]
async fn an_empty_answer_has_length_zero_over_http_2_too_unless_its_method_or_status_says_that_it_is_empty() {
    let app = usual(TriggerSettings::default()).await;
    for (method, path, status, length) in [
        ("GET", "/status?code=404", 404, Some("0")),
        ("TRACE", "/", 405, Some("0")),
        ("GET", "/status?code=204", 204, None),
        ("HEAD", "/status?code=404", 404, None),
    ] {
        let reply = ask_h2(app.connect().await, method, path).await;
        let sent = reply.headers().get(http::header::CONTENT_LENGTH).map(|length| length.to_str().unwrap());
        assert_eq!((reply.status().as_u16(), reply.body().as_str(), sent), (status, "", length), "{method} {path}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_open_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (files, old) = certificate(dir.path(), &[b"http/1.1"]);
    let tls = Arc::new(ServerTls::load(files).unwrap());
    let app = usual(TriggerSettings { tls: Some(Arc::clone(&tls)), ..TriggerSettings::default() }).await;
    let mut open = shake(&old, app.connect().await).await.unwrap();
    let (_, new) = certificate(dir.path(), &[b"http/1.1"]);
    assert!(tls.refresh());
    shake(&new, app.connect().await).await.unwrap();
    shake(&old, app.connect().await).await.unwrap_err();
    open.write_all(get("/", &[]).as_bytes()).await.unwrap();
    assert!(rest(&mut open).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (files, _) = certificate(dir.path(), &[]);
    let tls = Arc::new(ServerTls::load(files).unwrap());
    let http = HttpSettings { handshake_timeout: Duration::from_millis(1), ..HttpSettings::default() };
    let app = usual(TriggerSettings { tls: Some(tls), http, ..TriggerSettings::default() }).await;
    assert_eq!(rest(&mut app.connect().await).await, "");
}

fn behind(proxy_protocol: ProxyProtocol) -> TriggerSettings {
    let trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    TriggerSettings { proxy_protocol, trusted_proxies, ..TriggerSettings::default() }
}

#[tokio::test]
async fn a_trusted_proxys_header_tells_the_client() {
    for mode in [ProxyProtocol::Optional, ProxyProtocol::Required] {
        let app = usual(behind(mode)).await;
        let reply = app.say(format!("PROXY TCP4 1.2.3.4 10.0.0.2 567 80\r\n{}", get("/headers", &[]))).await;
        assert!(reply.contains("spin-client-addr: 1.2.3.4:567"), "{reply}");
        // The client behind the balancer is no trusted proxy.
        let forged = get("/headers", &["x-forwarded-for: 6.6.6.6"]);
        let reply = app.say(format!("PROXY TCP4 1.2.3.4 10.0.0.2 567 80\r\n{forged}")).await;
        assert!(reply.contains("spin-client-addr: 1.2.3.4:567"), "{reply}");
    }
}

#[tokio::test]
async fn a_proxy_header_that_is_missing_malformed_or_not_expected_is_never_a_request() {
    let required = usual(behind(ProxyProtocol::Required)).await;
    assert_eq!(required.say(get("/", &[])).await, "");
    assert_eq!(required.say(format!("PROXY TCP4 nonsense\r\n{}", get("/", &[]))).await, "");
    let strangers = TriggerSettings {
        trusted_proxies: ["10.0.0.0/8".parse().unwrap()].into_iter().collect(),
        ..behind(ProxyProtocol::Required)
    };
    let strangers = usual(strangers).await;
    assert_eq!(strangers.say(format!("PROXY TCP4 1.2.3.4 10.0.0.2 567 80\r\n{}", get("/", &[]))).await, "");
    let optional = usual(behind(ProxyProtocol::Optional)).await;
    assert!(optional.say(get("/", &[])).await.starts_with("HTTP/1.1 200"));
    let off = usual(TriggerSettings::default()).await;
    assert!(
        off.say(format!("PROXY TCP4 1.2.3.4 10.0.0.2 567 80\r\n{}", get("/", &[]))).await.starts_with("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn a_proxy_header_that_does_not_come_ends_the_connection() {
    let http = HttpSettings { handshake_timeout: Duration::from_millis(1), ..HttpSettings::default() };
    let app = usual(TriggerSettings { http, ..behind(ProxyProtocol::Required) }).await;
    assert_eq!(app.say("PROXY TCP4 1.2.3.4").await, "");
}

#[tokio::test]
async fn forwarded_headers_reach_guests_and_count_only_from_trusted_proxies() {
    let forwarded = ["x-forwarded-for: 6.6.6.6, 1.2.3.4", "x-forwarded-proto: https", "forwarded: for=7.7.7.7"];
    let open = usual(TriggerSettings::default()).await;
    let reply = open.say(get("/headers", &forwarded)).await;
    assert!(reply.contains("spin-client-addr: 127.0.0.1:"), "{reply}");
    assert!(reply.contains("spin-full-url: http://shop.example/headers"), "{reply}");
    assert!(reply.contains("x-forwarded-for: 6.6.6.6, 1.2.3.4"), "{reply}");
    let behind = usual(behind(ProxyProtocol::Off)).await;
    let reply = behind.say(get("/headers", &forwarded)).await;
    assert!(reply.contains("spin-client-addr: 1.2.3.4:0"), "{reply}");
    assert!(reply.contains("spin-full-url: https://shop.example/headers"), "{reply}");
    assert!(reply.contains("forwarded: for=7.7.7.7"), "{reply}");
}

#[tokio::test]
async fn methods_that_no_guest_knows_are_405_with_those_that_are_allowed() {
    let app = usual(TriggerSettings::default()).await;
    for method in ["TRACE", "PROPFIND", "QUERY", "BREW"] {
        let reply = app.say(format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 405 "), "{method}: {reply}");
        assert!(reply.contains("allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n"), "{reply}");
    }
    assert!(
        app.say("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 405 ")
    );
    let all = app.say("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("allow: GET,"), "{all}");
    assert!(app.say("GET * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn what_is_too_long_is_refused_and_the_limits_hold_for_http_2_too() {
    let http = HttpSettings { max_headers: 20, ..HttpSettings::default() };
    let app = usual(TriggerSettings { http, ..TriggerSettings::default() }).await;
    let path = format!("/{}", "a".repeat(8192));
    assert!(app.say(get(&path, &[])).await.starts_with("HTTP/1.1 414 "));
    assert_eq!(ask_h2(app.connect().await, "GET", &path).await.status(), 414);
    let many = vec!["x: y"; 30];
    assert!(app.say(get("/", &many)).await.starts_with("HTTP/1.1 431 "));
    let large = format!("x: {}", "y".repeat(70_000));
    assert!(app.say(get("/", &[&large])).await.starts_with("HTTP/1.1 431 "));
    assert!(app.say(get("/", &[])).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_are_refused() {
    let app = usual(TriggerSettings::default()).await;
    for bad in [
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\rx: y\r\n\r\n",
    ] {
        let reply = app.say(format!("{bad}GET /smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{bad:?}: {reply}");
    }
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let app = usual(TriggerSettings::default()).await;
    let first = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none";
    let second = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
    let last = "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nthree";
    let replies = app.say([first, second, last].concat()).await;
    let at = |text: &str| replies.find(text).unwrap_or_else(|| panic!("{text} is not in {replies}"));
    assert!(at("one") < at("two") && at("two") < at("three"), "{replies}");
}

#[tokio::test]
async fn a_client_is_told_to_continue_only_when_the_guest_reads() {
    // Legacy guests get the whole body, so it is read before they answer.
    let reads = open(App::of(&guest("legacy-c")), TriggerSettings::default()).await;
    let expecting = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
    };
    let mut stream = reads.connect().await;
    stream.write_all(expecting("/echo").as_bytes()).await.unwrap();
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hi").await.unwrap();
    assert!(rest(&mut stream).await.ends_with("\r\n\r\nhi"));
    let reply = usual(TriggerSettings::default()).await.say(expecting("/")).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let settings = TriggerSettings { body_timeout: Duration::from_millis(1), ..TriggerSettings::default() };
    let legacy = open(App::of(&guest("legacy-rust")), settings.clone()).await;
    let half = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf";
    assert!(legacy.say(half).await.starts_with("HTTP/1.1 408 "));
    let streaming = usual(settings).await;
    let reply = streaming.say("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert!(!reply.ends_with("0\r\n\r\n"), "a body that is cut looks complete: {reply}");
}

#[tokio::test]
async fn headers_that_come_too_slowly_are_given_up() {
    let http = HttpSettings { header_timeout: Duration::from_millis(1), ..HttpSettings::default() };
    let app = usual(TriggerSettings { http, ..TriggerSettings::default() }).await;
    for start in ["", "GET", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.0\r\n"] {
        let reply = app.say(start).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 408"), "{start:?}: {reply}");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let http = HttpSettings { write_timeout: Duration::from_millis(1), ..HttpSettings::default() };
    let app = usual(TriggerSettings { http, ..TriggerSettings::default() }).await;
    let mut stream = app.connect().await;
    stream.write_all(get("/large?bytes=100000000", &[]).as_bytes()).await.unwrap();
    // Its connection is the only one: the port is drained only when it has been closed.
    app.port.close().await;
    app.port.drain(Duration::from_secs(60)).await.unwrap();
    assert!(rest(&mut stream).await.len() < 100_000_000);
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_taken_is_reset_and_its_guest_is_gone() {
    use http_body_util::{BodyExt as _, Empty};
    let http = HttpSettings { write_timeout: Duration::from_millis(100), ..HttpSettings::default() };
    let app = App::on(engine_with(|_| {}), &guest("http-rust")).timeout(Duration::from_secs(3600));
    let app = open(app, TriggerSettings { http, ..TriggerSettings::default() }).await;
    let mut client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    client.initial_stream_window_size(1024).initial_connection_window_size(1 << 20);
    let (mut sender, connection) = client.handshake(hyper_util::rt::TokioIo::new(app.connect().await)).await.unwrap();
    let ask = async {
        let request = http::Request::get("http://shop.example/large?bytes=10000000").body(Empty::<bytes::Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        while app.engine.live_instances() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(response.into_body().collect().await.is_err());
        // The connection itself is fine.
        let request = http::Request::get("http://shop.example/").body(Empty::<bytes::Bytes>::new());
        assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), 200);
    };
    tokio::select! {
        () = ask => {}
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_draining_port_closes_idle_connections_and_finishes_requests_over_both_protocols() {
    let app = usual(TriggerSettings::default()).await;
    let mut idle = app.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(&mut idle, "\r\n\r\n").await;
    let mut silent = app.connect().await;
    let mut busy = app.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nwa").await.unwrap();
    until(&mut busy, "wa").await;
    let io = hyper_util::rt::TokioIo::new(app.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let callers = async {
        let request = http::Request::get("http://shop.example/stream?chunks=2&ms=300");
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let second = sender.send_request(request).await.unwrap();
        let draining = app.tasks.stop(Duration::from_secs(60));
        let at_callers = async {
            rest(&mut idle).await;
            rest(&mut silent).await;
            busy.write_all(b"it").await.unwrap();
            let reply = rest(&mut busy).await;
            assert!(reply.contains("it"), "{reply}");
            let body = http_body_util::BodyExt::collect(second.into_body()).await.unwrap().to_bytes();
            assert_eq!(body, "chunk 0\nchunk 1\n");
        };
        let ((), drained) = tokio::join!(at_callers, draining);
        drained.unwrap();
    };
    // The server ends this connection too, when its request is done.
    let ((), ended) = tokio::join!(callers, connection);
    ended.unwrap();
    TcpStream::connect(app.address).await.unwrap_err();
}

#[tokio::test]
async fn a_switch_of_revision_leaves_requests_in_flight_where_they_are() {
    let app = open(App::of(&guest("http-rust")).env("VERSION", "1"), TriggerSettings::default()).await;
    let mut busy = app.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nwa").await.unwrap();
    until(&mut busy, "wa").await;
    let old = app.slot.serving().unwrap().drained();
    let next = App::of(&guest("http-rust")).env("VERSION", "2");
    app.slot.switch(serving(&next, "r2").await);
    assert!(app.say(get("/v", &[])).await.contains("2\n"));
    assert!(!old.is_cancelled(), "it is still needed");
    busy.write_all(b"it").await.unwrap();
    assert!(until(&mut busy, "0\r\n\r\n").await.contains("it"));
    old.cancelled().await;
    app.slot.clear();
    let gone = app.say(get("/", &[])).await;
    assert!(gone.starts_with("HTTP/1.1 503 ") && gone.contains("retry-after: 1"), "{gone}");
}

#[tokio::test]
async fn connections_beyond_the_last_place_wait_and_are_served_later() {
    let settings = TriggerSettings { connections: 1, ..TriggerSettings::default() };
    let app = usual(settings).await;
    let mut first = app.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(&mut first, "\r\n\r\n").await;
    let mut second = app.connect().await;
    second.write_all(get("/", &[]).as_bytes()).await.unwrap();
    drop(first);
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 200 "));
}

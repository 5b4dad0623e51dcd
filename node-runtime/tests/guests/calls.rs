//! Requests that components send: how they travel, what limits them, and what guests are told when they fail.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use manifest::runtime_config::{BlockedNetwork, ClientTls, Pem};

use crate::{
    servers::{Certificates, HttpServer, nobody, raw},
    support::{App, Reply, Served, collect, engine_with, guest},
};

/// A guest that sends requests on, to wherever it is asked.
fn caller() -> App {
    App::of(&guest("http-rust")).allow("*://*:*")
}

/// What the guest answers when asked to call `url`.
async fn call(served: &Served, url: &str) -> Reply {
    served.get(&call_path(url, "")).await
}

fn call_path(url: &str, more: &str) -> String {
    let url = url.replace('%', "%25").replace('&', "%26").replace('?', "%3F").replace('#', "%23");
    format!("/call?url={url}{more}")
}

/// Whether the client sees that the response is not whole: from its status, if nothing was sent yet, or by its end.
async fn is_broken(response: http::Response<hyper::body::Incoming>) -> bool {
    response.status() == 500 || collect(response).await.is_err()
}

/// What the guest is told about a call of `url`.
async fn refusal(served: &Served, url: &str) -> String {
    let reply = call(served, url).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    reply.text().trim_end().to_owned()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_and_its_response_comes_back() {
    let (server, served) = (HttpServer::start().await, caller().serve().await);
    let request = Request::put(call_path(&server.url("/headers?a=b"), ""))
        .header("x-mine", "one")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("expect", "100-continue");
    let reply = served.send_body(request, "body").await;
    assert_eq!((reply.status, reply.header("x-version")), (200, "HTTP/1.1"), "{}", reply.text());
    let host = format!("host: {}", server.address);
    for line in [
        "PUT /headers?a=b",
        "x-mine: one",
        &host,
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert!(reply.has_line(line), "{line} is not in {}", reply.text());
    }
    // Nobody else added anything.
    for absent in ["x-forwarded", "forwarded:", "via:", "user-agent:", "spin-"] {
        assert!(!reply.text().contains(absent), "{absent} is in {}", reply.text());
    }
    let brew = served.get(&call_path(&server.url("/headers"), "&method=BREW")).await;
    assert!(brew.has_line("BREW /headers"), "{}", brew.text());
}

#[tokio::test]
async fn connections_are_used_again_unless_the_runtime_configuration_says_otherwise() {
    let server = HttpServer::start().await;
    let connections = async |served: &Served| {
        let first = call(served, &server.url("/")).await;
        let second = call(served, &server.url("/")).await;
        (first.header("x-connection").to_owned(), second.header("x-connection").to_owned())
    };
    let (first, second) = connections(&caller().serve().await).await;
    assert_eq!(first, second);
    let apart = caller().runtime_config(|config| config.outbound_http.connection_pooling = false).serve().await;
    let (first, second) = connections(&apart).await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn what_is_no_request_to_an_allowed_server_is_refused_with_its_code() {
    let server = HttpServer::start().await;
    let port = server.address.port();
    let served = App::of(&guest("http-rust")).allow(&format!("http://127.0.0.1:{port}")).serve().await;
    assert_eq!(call(&served, &server.url("/")).await.status, 200);
    assert_eq!(call(&served, &format!("http://127.0.0.1:{port}?q")).await.status, 200);
    for denied in [
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        "http://127.0.0.1/".to_owned(),
        format!("http://[::1]:{port}/"),
        "/path".to_owned(),
        "http://other.spin.internal/".to_owned(),
    ] {
        assert_eq!(refusal(&served, &denied).await, "ErrorCode::HttpRequestDenied", "{denied}");
    }
    let user = refusal(&served, &format!("http://user:pass@127.0.0.1:{port}/")).await;
    assert_eq!(user, "ErrorCode::HttpRequestUriInvalid");
    let tunnel = served.get(&call_path(&server.url("/"), "&method=CONNECT")).await;
    assert_eq!(tunnel.text(), "ErrorCode::HttpRequestMethodInvalid\n");
}

#[tokio::test]
async fn a_guest_is_told_precisely_what_went_wrong() {
    let served = caller().serve().await;
    let (closed, _taken) = nobody();
    assert_eq!(refusal(&served, &format!("http://{closed}/")).await, "ErrorCode::ConnectionRefused");
    let unknown = refusal(&served, "http://name.invalid/").await;
    assert!(unknown.starts_with("ErrorCode::DnsError"), "{unknown}");
    let cases: [(&'static [u8], bool, &str); 6] = [
        (b"", true, "ErrorCode::ConnectionTerminated"),
        (b"\x00\x01garbage\r\n\r\n", true, "ErrorCode::HttpProtocolError"),
        (b"HTTP/1.1 200 OK\r\n", true, "ErrorCode::ConnectionTerminated"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: a\r\n\r\n", true, "ErrorCode::HttpProtocolError"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            false,
            "ErrorCode::HttpUpgradeFailed",
        ),
        (b"HTTP/1.1 9999 What\r\n\r\n", true, "ErrorCode::HttpProtocolError"),
    ];
    for (answer, close, expected) in cases {
        let (address, _tasks) = raw(answer, close).await;
        assert_eq!(refusal(&served, &format!("http://{address}/")).await, expected, "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_an_error_and_not_kept() {
    let served = caller().serve().await;
    let head: &'static [u8] =
        Box::leak([b"HTTP/1.1 200 OK\r\nx-a: ".as_slice(), &vec![b'a'; 1 << 20]].concat().into_boxed_slice());
    let (address, _tasks) = raw(head, false).await;
    let told = refusal(&served, &format!("http://{address}/")).await;
    assert!(told.starts_with("ErrorCode::HttpResponseHeaderSectionSize"), "{told}");
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_look_whole() {
    let served = caller().serve().await;
    for answer in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".as_slice(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let (address, _tasks) = raw(answer, true).await;
        let request = Request::get(call_path(&format!("http://{address}/"), "")).body(http_body_util::Empty::new());
        let (response, _connection) = served.begin(request.unwrap()).await;
        assert!(is_broken(response).await, "{}", answer.escape_ascii());
    }
    let told: Vec<String> = served.lines();
    assert!(told.iter().any(|line| line.contains("HttpResponseIncomplete")), "{told:?}");
}

#[tokio::test]
async fn the_guest_s_own_limits_of_time_hold() {
    let (server, served) = (HttpServer::start().await, caller().serve().await);
    let late = served.get(&call_path(&server.url("/never"), "&first=50")).await;
    assert_eq!(late.text(), "ErrorCode::ConnectionReadTimeout\n");
    let request = Request::get(call_path(&server.url("/hold"), "&between=50")).body(http_body_util::Empty::new());
    let (response, _connection) = served.begin(request.unwrap()).await;
    assert!(is_broken(response).await);
    assert!(served.lines().iter().any(|line| line.contains("ConnectionReadTimeout")), "{:?}", served.lines());
    // Takes connections, and never says a word of TLS.
    let (silent, _tasks) = raw(b"", false).await;
    let reply = served.get(&call_path(&format!("https://{silent}/"), "&connect=50")).await;
    assert_eq!(reply.text(), "ErrorCode::ConnectionTimeout\n");
}

#[tokio::test]
async fn bodies_pass_through_both_ways_without_being_held() {
    // A guest of 128 MiB and a host that held 100 MB would be seen here: the engine's limit is far below.
    let engine = engine_with(|config| config.default_memory = 16 << 20);
    let served = App::on(engine, &guest("http-rust")).allow("*://*:*").serve().await;
    let server = HttpServer::start().await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let frames = futures::stream::iter((0..100).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone()))));
    let request = Request::post(call_path(&server.url("/length"), "")).body(StreamBody::new(frames)).unwrap();
    let (response, _connection) = served.begin(request).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), (100 << 20).to_string());
    let request = Request::get(call_path(&server.url("/large?100"), "")).body(http_body_util::Empty::new()).unwrap();
    let (response, _connection) = served.begin(request).await;
    let (mut body, mut length) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(length, 100 << 20);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call() {
    let engine = engine_with(|_| {});
    let served = App::on(engine, &guest("http-rust")).allow("*://*:*").serve().await;
    let server = HttpServer::start().await;
    let request = Request::get(call_path(&server.url("/hold"), "")).body(http_body_util::Empty::new()).unwrap();
    let (mut response, connection) = served.begin(request).await;
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "begun\n");
    drop((response, connection));
    served.idle().await;
    while call(&served, &server.url("/")).await.header("x-connections") != "1" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn connections_are_limited_and_a_request_waits_for_one() {
    let server = HttpServer::start().await;
    let limited = caller().runtime_config(|config| config.outbound_http.max_connections = Some(1)).serve().await;
    let request = Request::get(call_path(&server.url("/hold"), "")).body(http_body_util::Empty::new()).unwrap();
    let (response, connection) = limited.begin(request).await;
    let waiting = async { call(&limited, &server.url("/")).await.status };
    let ending = async {
        tokio::task::yield_now().await;
        drop((response, connection));
    };
    assert_eq!(tokio::join!(waiting, ending).0, 200);
    // An idle connection to one server does not keep others from being called.
    let other = HttpServer::start().await;
    assert_eq!(call(&limited, &other.url("/")).await.status, 200);
    let none = caller().runtime_config(|config| config.outbound_http.max_connections = Some(0)).serve().await;
    assert_eq!(refusal(&none, &server.url("/")).await, "ErrorCode::ConnectionLimitReached");
}

#[tokio::test]
async fn blocked_networks_are_not_reached_by_any_name() {
    let server = HttpServer::start().await;
    let port = server.address.port();
    let app = caller().runtime_config(|config| config.outbound_networking.block_networks.push(BlockedNetwork::Private));
    let blocked = app.serve().await;
    let engine = engine_with(|config| config.blocked_networks = "127.0.0.0/8,::1".parse().unwrap());
    let by_runtime = App::on(engine, &guest("http-rust")).allow("*://*:*").serve().await;
    for served in [blocked, by_runtime] {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
            let told = refusal(&served, &format!("http://{host}:{port}/")).await;
            assert_eq!(told, "ErrorCode::DestinationIpProhibited", "{host}");
        }
    }
}

fn client_tls(certificates: &Certificates, with_certificate: bool) -> ClientTls {
    ClientTls {
        component_ids: vec!["main".to_owned()],
        hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        platform_roots: false,
        webpki_roots: false,
        ca_roots: Some(Pem::File(certificates.file("ca.pem"))),
        client_cert: with_certificate.then(|| Pem::File(certificates.file("client.pem"))),
        client_private_key: with_certificate.then(|| Pem::File(certificates.file("client-key.pem"))),
    }
}

#[tokio::test]
async fn tls_servers_are_verified_and_http_2_is_spoken_where_they_offer_it() {
    let certificates = Certificates::make();
    let trusting =
        caller().runtime_config(|config| config.client_tls.push(client_tls(&certificates, false))).serve().await;
    let wary = caller().serve().await;
    for (protocols, version) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
    {
        let server = HttpServer::start_tls(certificates.server(protocols, false)).await;
        let reply = call(&trusting, &server.secure("/headers")).await;
        assert_eq!((reply.status, reply.header("x-version")), (200, version), "{}", reply.text());
        assert_eq!(refusal(&wary, &server.secure("/")).await, "ErrorCode::TlsCertificateError");
        // The certificate is another name's.
        let told = refusal(&trusting, &format!("https://127.0.0.1:{}/", server.address.port())).await;
        assert_eq!(told, "ErrorCode::TlsCertificateError");
    }
    let plain = HttpServer::start().await;
    assert_eq!(refusal(&trusting, &plain.secure("/")).await, "ErrorCode::TlsProtocolError");
    let trailers = HttpServer::start_tls(certificates.server(&["h2"], false)).await;
    // HTTP/1.1 would carry only trailers that the head announces.
    let reply = trusting.get_h2(&call_path(&trailers.secure("/trailers"), "")).await;
    assert_eq!((reply.text(), reply.trailer("x-end")), ("body\n", "all"));
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_not_believed() {
    let certificates = Certificates::expired();
    let trusting = caller().runtime_config(|config| config.client_tls.push(client_tls(&certificates, false)));
    let server = HttpServer::start_tls(certificates.server(&["http/1.1"], false)).await;
    assert_eq!(refusal(&trusting.serve().await, &server.secure("/")).await, "ErrorCode::TlsCertificateError");
}

#[tokio::test]
async fn a_component_proves_itself_where_the_runtime_configuration_gives_it_a_certificate() {
    let certificates = Certificates::make();
    let server = HttpServer::start_tls(certificates.server(&["http/1.1"], true)).await;
    let known = caller().runtime_config(|config| config.client_tls.push(client_tls(&certificates, true))).serve().await;
    assert_eq!(call(&known, &server.secure("/")).await.status, 200);
    let anonymous = caller().runtime_config(|config| config.client_tls.push(client_tls(&certificates, false)));
    let told = refusal(&anonymous.serve().await, &server.secure("/")).await;
    // The alert, unless the closed connection is seen first.
    assert!(told.starts_with("ErrorCode::TlsAlertReceived") || told.contains("ConnectionTerminated"), "{told}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_an_error_of_the_revision() {
    let certificates = Certificates::make();
    let wrong =
        ClientTls { ca_roots: Some(Pem::File(certificates.file("none.pem"))), ..client_tls(&certificates, false) };
    let error = caller().runtime_config(|config| config.client_tls.push(wrong)).refused().await;
    assert_eq!(error.reason(), "InvalidRuntimeConfig");
    let text = error.to_string();
    assert!(text.contains("`main`") && text.contains("none.pem"), "{text}");
}

#[tokio::test]
async fn components_of_wasi_0_3_call_by_the_same_way() {
    let server = HttpServer::start().await;
    let fetch = |url: &str| format!("/fetch?url={url}");
    let served = App::of(&guest("http-p3")).allow(&format!("http://{}", server.address)).serve().await;
    assert_eq!(served.get(&fetch(&server.url("/"))).await.text(), "hello\n");
    let denied = served.get(&fetch("http://127.0.0.1:1/")).await;
    assert!(denied.status == 502 && denied.text().contains("HttpRequestDenied"), "{}", denied.text());
}

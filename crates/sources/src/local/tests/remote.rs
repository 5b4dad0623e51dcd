//! Sources that are elsewhere: servers on the loopback that say one thing each.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
};

use super::*;
use crate::bindle::ClientOptions;

/// Answers every request on the loopback with the body for its path, over TLS if there is a certificate. A body
/// `-> URL` redirects there; below `/anonymous/` nobody may say who they are.
fn serve(answers: Vec<(String, Vec<u8>)>, tls: Option<Arc<rustls::ServerConfig>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            match &tls {
                None => answer(stream, &answers),
                Some(config) => {
                    let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                    answer(rustls::StreamOwned::new(connection, stream), &answers);
                }
            }
        }
    });
    port
}

fn answer(mut stream: impl Read + Write, answers: &[(String, Vec<u8>)]) {
    let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => request.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split([' ', '?']).nth(1).unwrap_or_default();
    let found = answers.iter().find(|(known, _)| known == path);
    let (status, body) = found.map_or(("404 Not Found", &b""[..]), |(_, body)| ("200 OK", body));
    let target = body.strip_prefix(b"-> ").map(|target| String::from_utf8_lossy(target));
    let status = target.map_or(status.to_owned(), |target| format!("302 Found\r\nlocation: {target}"));
    let named = text.to_lowercase().contains("\r\nauthorization:");
    let status = if named && path.starts_with("/anonymous/") { "400 Bad Request".to_owned() } else { status };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/toml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A client that gave up is a client's right.
    let _outcome =
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
}

/// A server with a certificate for 127.0.0.1, and the trust in exactly that.
fn serve_tls(body: &[u8]) -> (u16, Trust) {
    serve_tls_all(vec![("/hello.wasm".to_owned(), body.to_vec())])
}

fn serve_tls_all(answers: Vec<(String, Vec<u8>)>) -> (u16, Trust) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let port = serve(answers, Some(Arc::new(config)));
    (port, Trust::Only(made.cert.pem()))
}

fn url_source(port: u16, path: &str, bytes: &[u8]) -> String {
    format!("source = {{ url = \"https://127.0.0.1:{port}{path}\", digest = \"{}\" }}\n", Digest::of(bytes))
}

#[test]
fn wasm_behind_a_url_is_verified_before_it_is_used() {
    let (port, trust) = serve_tls(WASM);
    let dir = Dir::new("");
    let options = Options { trust, ..Options::default() };
    dir.manifest(&url_source(port, "/hello.wasm", WASM));
    let loaded = dir.load_with(&options).unwrap();
    assert!(loaded.application.contents().all(|content| dir.store().verify(&content).unwrap()));
    assert!(dir.problem().contains("cannot get https://127.0.0.1"), "an unknown authority: {}", dir.problem());
    let small = Options { largest_download: 4, ..options.clone() };
    assert!(dir.problem_with(&small).contains("more than 4 bytes"), "{}", dir.problem_with(&small));
    dir.manifest(&url_source(port, "/hello.wasm", b"other"));
    assert!(dir.problem_with(&options).contains("not the expected sha256:"), "{}", dir.problem_with(&options));
    dir.manifest(&url_source(port, "/gone.wasm", WASM));
    assert!(dir.problem_with(&options).contains("404"), "{}", dir.problem_with(&options));
}

#[tokio::test]
async fn a_redirect_to_another_server_is_followed_by_https_and_without_credentials() {
    let (port, trust) = serve_tls_all(vec![("/anonymous/hello.wasm".to_owned(), WASM.to_vec())]);
    let plain = serve(vec![("/hello.wasm".to_owned(), WASM.to_vec())], None);
    let other = |to: String| {
        let (port, other) = serve_tls_all(vec![("/moved.wasm".to_owned(), format!("-> {to}").into_bytes())]);
        let both = [&trust, &other].map(|trust| match trust {
            Trust::Only(pem) => pem.clone(),
            Trust::System | Trust::Anything => String::new(),
        });
        (port, Trust::Only(both.concat()))
    };
    let (moved, trust_both) = other(format!("https://127.0.0.1:{port}/anonymous/hello.wasm"));
    let credentials =
        control::Credentials { username: "ada".to_owned(), password: control::SecretString::new("secret") };
    let options = crate::http::HttpOptions {
        trust: trust_both.clone(),
        credentials: Some(credentials),
        redirects: crate::http::Redirects::Https,
        ..Default::default()
    };
    let client = crate::http::HttpClient::new(&options).unwrap();
    let answer = client.get(format!("https://127.0.0.1:{moved}/moved.wasm").parse().unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "credentials stayed behind");
    let dir = Dir::new("");
    dir.manifest(&url_source(moved, "/moved.wasm", WASM));
    assert!(dir.load_with(&Options { trust: trust_both, ..Options::default() }).is_ok());
    let (downgraded, trust_down) = other(format!("http://127.0.0.1:{plain}/hello.wasm"));
    dir.manifest(&url_source(downgraded, "/moved.wasm", WASM));
    let problem = dir.problem_with(&Options { trust: trust_down, ..Options::default() });
    assert!(problem.contains("redirects elsewhere or too often"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wasm_in_another_bundle_is_fetched_by_its_digest() {
    let invoice = format!(
        "bindleVersion = \"1.0.0\"\n[bindle]\nname = \"files\"\nversion = \"1.0.0\"\n[[parcel]]\n[parcel.label]\nsha256 = \"{}\"\nmediaType = \"application/wasm\"\nname = \"x.wasm\"\nsize = {}\n",
        Digest::of(WASM).hex(),
        WASM.len()
    );
    let parcel = format!("/v1/_i/files/1.0.0@{}", Digest::of(WASM).hex());
    let port = serve(vec![("/v1/_i/files/1.0.0".to_owned(), invoice.into_bytes()), (parcel, WASM.to_vec())], None);
    let url = format!("http://127.0.0.1:{port}/v1").parse().unwrap();
    let client = BindleClient::new(url, ClientOptions::default()).unwrap();
    let options = Options { bindle: Some(client), ..Options::default() };
    let load = move |digest: Digest, options: &Options| {
        let dir = Dir::new("");
        let text = format!(
            "spin_version = \"1\"\nname = \"a\"\nversion = \"1.0.0\"\ntrigger = {{ type = \"http\" }}\n[[component]]\nid = \"a\"\nsource = {{ reference = \"files/1.0.0\", parcel = \"{}\" }}\n[component.trigger]\nroute = \"/\"\n",
            digest.hex()
        );
        fs::write(dir.path("spin.toml"), text).unwrap();
        let loaded = dir.load_with(options);
        loaded.map_err(|error| format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default()))
    };
    let loaded = load(Digest::of(WASM), &options).unwrap();
    assert_eq!(loaded.application.contents().map(|content| content.digest).collect::<Vec<_>>(), [Digest::of(WASM)]);
    assert!(load(Digest::of(b"x"), &options).unwrap_err().contains("the bundle has no such parcel"));
    assert!(load(Digest::of(WASM), &Options::default()).unwrap_err().contains("needs a Bindle server"));
}

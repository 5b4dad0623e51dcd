//! Serving, and the end of it.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Up, application, body, change_manifest, get, guest_file, in_time, until};

#[tokio::test]
async fn up_tells_where_its_routes_are_and_answers_there() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    change_manifest(app.path(), "source = \"hello.wasm\"", "source = \"hello.wasm\"\ndescription = \"Says hello\"");
    let mut up = Up::start(&app.path().join("spin.toml"), cache.path(), &[]).await;
    let address = up.address;
    assert_ne!(address.port(), 0);
    assert_eq!(up.line().await, "Available Routes:");
    assert_eq!(up.line().await, format!("  hello: http://{address}/hello (wildcard)"));
    assert_eq!(up.line().await, "    Says hello");
    assert_eq!(up.line().await, format!("  hello: http://{address}/exact"));
    let answer = get(address, "/hello/there").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nHello from WAT\n"), "{answer}");
    assert!(get(address, "/elsewhere").await.starts_with("HTTP/1.1 404"));
    assert!(get(address, "/.well-known/spin/info").await.contains("\"greeter\""));
    let stderr = up.stopped().await;
    assert!(stderr.contains("[hello] said\n"), "what the guest prints is shown: {stderr}");
}

#[tokio::test]
async fn a_wildcard_at_the_root_is_told_without_a_slash() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    change_manifest(app.path(), "/hello/...", "/...");
    let mut up = Up::start(app.path(), cache.path(), &[]).await;
    assert_eq!(up.line().await, "Available Routes:");
    assert_eq!(up.line().await, format!("  hello: http://{} (wildcard)", up.address));
}

#[tokio::test]
async fn up_finishes_the_request_in_flight_before_it_ends() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["--quiet"]).await;
    let mut slow = in_flight(&up).await;
    up.stop();
    until("the port to be closed", async || TcpStream::connect(up.address).await.is_err()).await;
    slow.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    in_time("the answer", slow.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
    let (code, stderr) = up.ended().await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("said"), "--quiet shows nothing of the guest: {stderr}");
}

#[tokio::test]
async fn a_second_signal_ends_requests_and_says_so() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let mut up = Up::start(app.path(), cache.path(), &[]).await;
    let _slow = in_flight(&up).await;
    up.signal("-INT");
    up.told("A second Ctrl-C ends them").await;
    up.signal("-INT");
    let (code, stderr) = up.ended().await;
    assert_eq!((code, stderr.as_str()), (Some(1), "error: stopped by a second signal: requests in flight were cut\n"));
}

#[tokio::test]
async fn a_guest_that_goes_on_after_its_response_is_waited_for() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let wasm = guest_file("http-p3.wasm").display().to_string();
    let stores = format!("source = {wasm:?}\nkey_value_stores = [\"default\"]");
    change_manifest(app.path(), "source = \"hello.wasm\"", &stores);
    change_manifest(app.path(), "/hello/...", "/...");
    let up = Up::start(app.path(), cache.path(), &[]).await;
    assert_eq!(body(up.address, "/after?ms=500").await, "done\n");
    let stderr = up.stopped().await;
    assert!(stderr.contains("[hello] after the response\n"), "{stderr}");
}

/// A request whose body is still to come.
async fn in_flight(up: &Up) -> TcpStream {
    let mut slow = TcpStream::connect(up.address).await.unwrap();
    slow.write_all(b"POST /exact HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    let mut go_on = [0; 25];
    in_time("100 Continue", slow.read_exact(&mut go_on)).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    slow
}

#[tokio::test]
async fn a_route_that_never_answers_is_told() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    change_manifest(app.path(), "\"/exact\"", "\"/hello/...\"");
    let up = Up::start(app.path(), cache.path(), &[]).await;
    let stderr = up.stopped().await;
    assert!(stderr.contains("routes 0, `/hello/...`, and 1, `/hello/...`, match the same paths"), "{stderr}");
}

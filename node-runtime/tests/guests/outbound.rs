//! Requests that core modules send: the import `wasi-outbound-http`.

use http::Request;

use crate::{
    servers::nobody,
    support::{App, SHORT, Served, engine_with, guest, legacy_with},
};

const IMPORT: &str = r#"(import "wasi-outbound-http" "request"
    (func $request (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (data (i32.const 3000) "\00\0c\00\00\06\00\00\00\06\0c\00\00\03\00\00\00")
    (data (i32.const 3072) "x-miney%e")"#;

/// Answers with what came back: status, headers and body are those of the response; a failure is 400 and its number.
const PASS_ON: &str = r"
    (if (i32.load8_u (i32.const 2000))
        (then (i32.store16 (i32.const 1000) (i32.add (i32.const 400) (i32.load8_u (i32.const 2004)))))
        (else
            (i32.store16 (i32.const 1000) (i32.load (i32.const 2004)))
            (i32.store (i32.const 1004) (i32.load (i32.const 2008)))
            (i32.store (i32.const 1008) (i32.load (i32.const 2012)))
            (i32.store (i32.const 1012) (i32.load (i32.const 2016)))
            (i32.store (i32.const 1016) (i32.load (i32.const 2020)))
            (i32.store (i32.const 1020) (i32.load (i32.const 2024)))
            (i32.store (i32.const 1024) (i32.load (i32.const 2028)))))
    (i32.const 1000)";

/// A guest that sends its own request on, with its own method and body and one header, to the URL after `/`.
fn forwarder() -> Vec<u8> {
    let call = r"(call $request (local.get $method)
        (i32.add (local.get $uri) (i32.const 1)) (i32.sub (local.get $uri_len) (i32.const 1))
        (i32.const 3000) (i32.const 1) (i32.const 0) (i32.const 0)
        (local.get $body_tag) (local.get $body) (local.get $body_len) (i32.const 2000))";
    legacy_with(IMPORT, &format!("{call} {PASS_ON}"))
}

/// A guest that is asked over the network.
async fn other() -> Served {
    App::of(&guest("http-rust")).env("VERSION", "9").serve().await
}

/// The forwarder, which may ask `other`.
async fn allowed(other: &Served) -> Served {
    App::of(&forwarder()).allow(&format!("http://{}", other.address)).serve().await
}

#[tokio::test]
async fn a_host_that_is_allowed_is_asked_and_its_whole_response_comes_back() {
    let other = other().await;
    let served = allowed(&other).await;
    let reply = served.get(&format!("/http://{}/v", other.address)).await;
    assert_eq!((reply.status, reply.text(), reply.header("content-type")), (200, "9\n", "text/plain"));
    let missing = served.get(&format!("/http://{}/status?code=404", other.address)).await;
    assert_eq!((missing.status, missing.text()), (404, ""));
}

#[tokio::test]
async fn method_headers_and_body_are_the_guest_s_and_the_host_is_the_url_s() {
    let other = other().await;
    let served = allowed(&other).await;
    let echo = format!("/http://{}/echo", other.address);
    assert_eq!(served.send_body(Request::post(&echo), "ping").await.text(), "ping");
    let reply = served.send_body(Request::put(format!("/http://{}/headers?q", other.address)), "ping").await;
    for line in ["PUT /headers?q", &format!("host: {}", other.address), "x-mine: y%e", "content-length: 4"] {
        assert!(reply.has_line(line), "{line} is not in {}", reply.text());
    }
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_not_asked() {
    let other = other().await;
    let url = format!("/http://{}/v", other.address);
    // 401: destination not allowed.
    assert_eq!(App::of(&forwarder()).serve().await.get(&url).await.status, 401);
    let beside = App::of(&forwarder()).allow("http://127.0.0.1:1").serve().await;
    assert_eq!(beside.get(&url).await.status, 401);
    let secure = App::of(&forwarder()).allow(&format!("https://{}", other.address)).serve().await;
    assert_eq!(secure.get(&url).await.status, 401);
}

#[tokio::test]
async fn what_is_no_url_and_who_does_not_answer_are_told_apart() {
    let served = App::of(&forwarder()).allow("*://*:*").serve().await;
    for url in ["/", "/path", "/ftp://127.0.0.1/", "/http://user@127.0.0.1/"] {
        assert_eq!(served.get(url).await.status, 402, "{url}");
    }
    let (address, _taken) = nobody();
    assert_eq!(served.get(&format!("/http://{address}/")).await.status, 403);
}

#[tokio::test]
async fn a_response_larger_than_the_buffer_is_an_error_for_the_guest() {
    let other = other().await;
    let engine = engine_with(|config| config.buffered_body = 1000);
    let served = App::on(engine, &forwarder()).allow(&format!("http://{}", other.address)).serve().await;
    assert_eq!(served.get(&format!("/http://{}/large?bytes=1000", other.address)).await.body.len(), 1000);
    assert_eq!(served.get(&format!("/http://{}/large?bytes=1001", other.address)).await.status, 404);
}

#[tokio::test]
async fn a_host_that_does_not_answer_in_time_is_a_504() {
    let other = other().await;
    let served = App::of(&forwarder()).allow(&format!("http://{}", other.address)).timeout(SHORT).serve().await;
    assert_eq!(served.get(&format!("/http://{}/sleep?ms=3600000", other.address)).await.status, 504);
}

#[tokio::test]
async fn arguments_that_are_not_the_abi_s_are_a_500() {
    // Method; URI; headers; parameters; body's tag, pointer and length; result. The URI is `hello`.
    let fine = [0, 512, 5, 3000, 1, 0, 0, 0, 0, 0, 2000];
    let status = async |arguments: [i64; 11]| {
        let arguments: String = arguments.iter().map(|value| format!("(i32.const {value})")).collect();
        let wasm = legacy_with(IMPORT, &format!("(call $request {arguments}) {PASS_ON}"));
        App::of(&wasm).serve().await.get("/").await.status
    };
    assert_eq!(status(fine).await, 402);
    for (index, value) in
        [(0, 7), (0, -1), (1, -8), (2, -1), (3, -8), (4, 0x1fff_ffff), (7, 2), (10, -8), (10, 262_144 - 31)]
    {
        let mut wrong = fine;
        wrong[index] = value;
        assert_eq!(status(wrong).await, 500, "{wrong:?}");
    }
    let outside = [0, 512, 5, 3000, 1, 0, 0, 1, -8, 100, 2000];
    assert_eq!(status(outside).await, 500);
}

/// As [`PASS_ON`] for a result in slots of 8 bytes.
const PASS_ON_SLOTS: &str = r"
    (if (i32.load8_u (i32.const 2000))
        (then (i32.store16 (i32.const 1000) (i32.add (i32.const 400) (i32.load8_u (i32.const 2008)))))
        (else
            (i32.store16 (i32.const 1000) (i32.load (i32.const 2008)))
            (i32.store (i32.const 1004) (i32.load (i32.const 2016)))
            (i32.store (i32.const 1008) (i32.load (i32.const 2024)))
            (i32.store (i32.const 1012) (i32.load (i32.const 2032)))
            (i32.store (i32.const 1016) (i32.load (i32.const 2040)))
            (i32.store (i32.const 1020) (i32.load (i32.const 2048)))
            (i32.store (i32.const 1024) (i32.load (i32.const 2056)))))
    (i32.const 1000)";

#[tokio::test]
async fn a_module_of_before_spin_0_4_reads_what_it_imports_in_slots() {
    let other = other().await;
    let call = r"(call $request (local.get $method)
        (i32.add (local.get $uri) (i32.const 1)) (i32.sub (local.get $uri_len) (i32.const 1))
        (i32.const 3000) (i32.const 1) (i32.const 0) (i32.const 0)
        (local.get $body_tag) (local.get $body) (local.get $body_len) (i32.const 2000))";
    // `processed-by`: `rustc` of April 2022.
    let producers = r#"(@custom "producers" "\01\0cprocessed-by\01\05rustc\061.60.0")"#;
    let wasm = legacy_with(&format!("{IMPORT} {producers}"), &format!("{call} {PASS_ON_SLOTS}"));
    for engine in [engine_with(|_| {}), engine_with(|_| {})] {
        let served = App::on(engine, &wasm).allow(&format!("http://{}", other.address)).serve().await;
        let reply = served.get(&format!("/http://{}/v", other.address)).await;
        assert_eq!((reply.status, reply.text(), reply.header("content-type")), (200, "9\n", "text/plain"));
        assert_eq!(served.get("/http://127.0.0.1:1/").await.status, 401);
    }
}

/// A program that asks for `url` by `wasi_experimental_http`, and prints the body; or the number of the error as `status: 4NN`.
fn experimental(url: &str) -> Vec<u8> {
    let size = url.len();
    crate::support::text(&format!(
        r#"(module
            (import "wasi_experimental_http" "req"
                (func $req (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_experimental_http" "close" (func $close (param i32) (result i32)))
            (import "wasi_experimental_http" "header_get"
                (func $header (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_experimental_http" "headers_get_all" (func $headers (param i32 i32 i32 i32) (result i32)))
            (import "wasi_experimental_http" "body_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "status: 400\n\n")
            (data (i32.const 32) "content-type: text/plain\n\n")
            (data (i32.const 64) "GET")
            (data (i32.const 72) "x-a:1\nx-b: 2\n")
            (data (i32.const 96) "content-type")
            (data (i32.const 128) "{url}")
            (func $fail (param $error i32)
                (i32.store8 (i32.const 25) (i32.add (i32.const 48) (i32.div_u (local.get $error) (i32.const 10))))
                (i32.store8 (i32.const 26) (i32.add (i32.const 48) (i32.rem_u (local.get $error) (i32.const 10))))
                (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 13)))
            (func $try (result i32) (local $error i32) (local $handle i32)
                (local.set $error (call $req (i32.const 128) (i32.const {size}) (i32.const 64) (i32.const 3)
                    (i32.const 72) (i32.const 13) (i32.const 0) (i32.const 0) (i32.const 2000) (i32.const 2004)))
                (if (local.get $error) (then (return (local.get $error))))
                (local.set $handle (i32.load (i32.const 2004)))
                (if (i32.ne (i32.load16_u (i32.const 2000)) (i32.const 200)) (then (return (i32.const 98))))
                (local.set $error (call $header (local.get $handle) (i32.const 96) (i32.const 12)
                    (i32.const 3000) (i32.const 100) (i32.const 2012)))
                (if (local.get $error) (then (return (local.get $error))))
                ;; The buffer is too small.
                (if (i32.ne (call $headers (local.get $handle) (i32.const 3000) (i32.const 1) (i32.const 2012)) (i32.const 4))
                    (then (return (i32.const 97))))
                ;; In two parts, of which the first has one byte.
                (local.set $error (call $read (local.get $handle) (i32.const 4000) (i32.const 1) (i32.const 2008)))
                (if (local.get $error) (then (return (local.get $error))))
                (local.set $error (call $read (local.get $handle) (i32.const 4001) (i32.const 999) (i32.const 2012)))
                (if (local.get $error) (then (return (local.get $error))))
                (i32.store (i32.const 12) (i32.add (i32.load (i32.const 2008)) (i32.load (i32.const 2012))))
                (local.set $error (call $close (local.get $handle)))
                (if (local.get $error) (then (return (local.get $error))))
                ;; It is closed.
                (i32.ne (call $close (local.get $handle)) (i32.const 1)))
            (func (export "_start") (local $error i32)
                (i32.store (i32.const 0) (i32.const 32)) (i32.store (i32.const 4) (i32.const 26))
                (i32.store (i32.const 8) (i32.const 4000))
                (local.set $error (call $try))
                (if (local.get $error) (then (call $fail (local.get $error)) (i32.store (i32.const 12) (i32.const 0))))
                ;; One by one: a host may write no more than the first.
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 2016)))
                (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 2016)))))"#
    ))
}

#[tokio::test]
async fn programs_of_the_first_releases_send_requests_too() {
    let other = other().await;
    let ask = async |url: String, allowed: &str| {
        let reply = App::of(&experimental(&url)).wagi().allow(allowed).serve().await.get("/").await;
        (reply.status, reply.text().to_owned())
    };
    let url = format!("http://{}/v", other.address);
    let allowed = format!("http://{}", other.address);
    assert_eq!(ask(url.clone(), &allowed).await, (200, "9\n".to_owned()));
    assert_eq!(
        ask(url.replace("/v", "/headers"), &allowed).await.1.lines().filter(|line| line.starts_with("x-")).count(),
        2
    );
    // Not allowed; no URL; nobody there.
    assert_eq!(ask(url, "http://127.0.0.1:1").await.0, 407);
    assert_eq!(ask("ftp://h/".to_owned(), &allowed).await.0, 410);
    assert_eq!(ask("http://127.0.0.1:1/".to_owned(), "http://127.0.0.1:1").await.0, 411);
}

//! Core modules with the Spin HTTP ABI of 2022 and 2023.

use http::{Method, Request};

use crate::support::{AMPLE, App, Served, guest, legacy_with, text};

/// A guest whose handler has this body.
fn legacy(handler: &str) -> Vec<u8> {
    legacy_with("", handler)
}

/// A handler that answers with what is at `pointer`.
fn answer_with(pointer: &str, length: &str) -> Vec<u8> {
    legacy(&format!("(i32.store (i32.const 1020) {pointer}) (i32.store (i32.const 1024) {length}) (i32.const 1000)"))
}

async fn canonical() -> Served {
    App::of(&guest("legacy-c")).serve().await
}

#[tokio::test]
async fn a_guest_answers_with_its_status_headers_and_body_and_nothing_else() {
    let reply = App::of(&legacy("(i32.const 1000)")).serve().await.get("/").await;
    assert_eq!((reply.status, reply.text()), (200, "hello"));
    let names: Vec<&str> = reply.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["content-length", "date"]);
}

#[tokio::test]
async fn a_guest_sees_path_query_and_body() {
    let served = App::of(&answer_with("(local.get $uri)", "(local.get $uri_len)")).serve().await;
    assert_eq!(served.get("/a/b?c=d&e").await.text(), "/a/b?c=d&e");
    let served = App::of(&answer_with("(local.get $body)", "(local.get $body_len)")).serve().await;
    assert_eq!(served.send_body(Request::post("/"), "ping").await.text(), "ping");
    assert_eq!(served.send_body(Request::post("/"), "").await.text(), "");
}

#[tokio::test]
async fn every_request_gets_a_fresh_instance() {
    let count = r"(i32.store8 (i32.const 512) (i32.add (i32.load8_u (i32.const 512)) (i32.const 1))) (i32.const 1000)";
    let served = App::of(&legacy(count)).serve().await;
    for _ in 0..3 {
        assert_eq!(served.get("/").await.text(), "iello");
    }
}

#[tokio::test]
async fn a_trap_is_an_empty_500() {
    let reply = App::of(&legacy("unreachable")).serve().await.get("/").await;
    assert_eq!((reply.status, reply.text(), reply.header("content-length")), (500, "", "0"));
}

#[tokio::test]
async fn a_guest_that_loops_costs_its_own_request_only() {
    // It loops unless it is asked for `/x`, whose second byte is 120.
    let handler = r"(loop $again
        (br_if $again (i32.ne (i32.load8_u offset=1 (local.get $uri)) (i32.const 120)))) (i32.const 1000)";
    let served = App::of(&legacy(handler)).timeout(AMPLE).serve().await;
    let (looping, fine) = tokio::join!(served.get("/loop"), served.get("/x"));
    assert_eq!((looping.status, looping.text()), (504, ""));
    assert_eq!((fine.status, fine.text()), (200, "hello"));
}

#[tokio::test]
async fn a_guest_gets_no_more_memory_than_its_limit() {
    // 4 pages are there. It answers only if 12 more are granted and 1 beyond is not.
    let handler = r"(if (i32.eq (memory.grow (i32.const 12)) (i32.const -1)) (then unreachable))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (i32.const 1000)";
    let served = App::of(&legacy(handler)).memory(16 * 65_536).serve().await;
    assert_eq!(served.get("/").await.status, 200);
    let served = App::of(&legacy(handler)).memory(15 * 65_536).serve().await;
    assert_eq!(served.get("/").await.status, 500);
}

#[tokio::test]
async fn a_guest_that_recurses_for_ever_is_a_500() {
    assert_eq!(canonical().await.get("/recurse").await.status, 500);
}

#[tokio::test]
async fn pointers_out_of_memory_are_a_500() {
    let served = App::of(&legacy("(i32.const -8)")).serve().await;
    assert_eq!(served.get("/").await.status, 500);
    let served = App::of(&answer_with("(i32.const 0x7fffffff)", "(i32.const 100)")).serve().await;
    assert_eq!(served.get("/").await.status, 500);
    let served = canonical().await;
    for path in ["/bad/ptr", "/bad/len", "/bad/body", "/bad/ret"] {
        assert_eq!(served.get(path).await.status, 500, "{path}");
    }
}

#[tokio::test]
async fn an_allocator_that_lies_is_a_500() {
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const -1))
        (func (export "handle-http-request") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 0)))"#;
    assert_eq!(App::of(&text(wat)).serve().await.get("/").await.status, 500);
}

#[tokio::test]
async fn header_values_are_bytes_and_what_http_forbids_is_a_500() {
    let served = canonical().await;
    let reply = served.get("/bad/utf8").await;
    assert_eq!(reply.status, 200);
    assert_eq!(served.get("/bad/name").await.status, 500);
    assert_eq!(served.get("/bad/value").await.status, 500);
}

#[tokio::test]
async fn only_a_status_of_a_final_response_is_accepted() {
    let served = canonical().await;
    for status in [200, 204, 304, 404, 418, 599] {
        let reply = served.get(&format!("/status/{status}")).await;
        assert_eq!((reply.status, reply.text()), (status, ""));
    }
    for status in [0, 99, 100, 101, 600, 999] {
        assert_eq!(served.get(&format!("/status/{status}")).await.status, 500, "{status}");
    }
}

#[tokio::test]
async fn a_method_that_the_abi_cannot_say_is_a_405() {
    let served = canonical().await;
    for method in ["TRACE", "BREW", "PROPFIND"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let reply = served.send(Request::builder().method(&method).uri("/")).await;
        assert_eq!(reply.status, 405, "{method}");
        assert!(reply.header("allow").starts_with("GET, "), "{method}");
    }
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply = served.send(Request::builder().method(method).uri("/headers?q")).await;
        assert!(reply.has_line(&format!("{method} /headers?q")), "{}", reply.text());
    }
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let reply = canonical().await.send(Request::head("/")).await;
    assert_eq!((reply.status, reply.text(), reply.header("content-type")), (200, "", "text/plain"));
}

#[tokio::test]
async fn repeated_response_headers_are_kept() {
    for guest_name in ["legacy-c", "legacy-slots"] {
        let reply = App::of(&guest(guest_name)).serve().await.get("/cookies").await;
        assert_eq!(reply.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"], "{guest_name}");
    }
}

#[tokio::test]
async fn both_layouts_of_the_abi_are_understood() {
    for (guest_name, greeting) in [("legacy-c", "Hello from legacy C"), ("legacy-slots", "Hello from legacy C")] {
        let served = App::of(&guest(guest_name)).serve().await;
        let reply = served.get("/").await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain"), "{guest_name}");
        assert_eq!(reply.text().trim_end(), greeting, "{guest_name}");
        assert_eq!(served.send_body(Request::post("/echo"), "ping").await.text(), "ping", "{guest_name}");
        assert_eq!(served.get("/status/404").await.status, 404, "{guest_name}");
        assert_eq!(served.get("/big/100000").await.body.len(), 100_000, "{guest_name}");
    }
}

#[tokio::test]
async fn a_guest_is_told_its_route_and_a_caller_cannot_forge_it() {
    let served = App::of(&guest("legacy-c")).without_routes().route("/foo/...").serve().await;
    let request = Request::get("/foo/headers?x").header("spin-full-url", "http://evil/").header("x-mine", "1");
    let reply = served.send(request).await;
    for line in [
        format!("spin-full-url: http://{}/foo/headers?x", served.address),
        "spin-path-info: /headers".to_owned(),
        "spin-matched-route: /foo/...".to_owned(),
        "spin-base-path: /".to_owned(),
        "spin-raw-component-route: /foo/...".to_owned(),
        "spin-component-route: /foo".to_owned(),
        "x-mine: 1".to_owned(),
    ] {
        assert!(reply.has_line(&line), "{line} is not in {}", reply.text());
    }
    assert!(!reply.text().contains("evil"));
    assert!(reply.text().contains("spin-client-addr: 127.0.0.1:"));
}

#[tokio::test]
async fn a_request_larger_than_the_buffer_is_a_413() {
    let served = canonical().await;
    let large = vec![b'x'; (1 << 20) + 1];
    assert_eq!(served.send_body(Request::post("/echo"), large.clone()).await.status, 413);
    // Without a length in its head.
    let chunks = http_body_util::StreamBody::new(futures::stream::iter(
        large
            .chunks(65_536)
            .map(|chunk| Ok::<_, std::io::Error>(hyper::body::Frame::data(bytes::Bytes::copy_from_slice(chunk))))
            .collect::<Vec<_>>(),
    ));
    let (response, _connection) = served.begin(Request::post("/echo").body(chunks).unwrap()).await;
    assert_eq!(response.status(), 413);
    assert_eq!(served.send_body(Request::post("/echo"), vec![b'x'; 1 << 20]).await.body.len(), 1 << 20);
}

#[tokio::test]
async fn a_response_larger_than_the_buffer_is_a_500() {
    let served = canonical().await;
    assert_eq!(served.get("/big/1048576").await.body.len(), 1 << 20);
    assert_eq!(served.get("/big/1048577").await.status, 500);
}

#[tokio::test]
async fn a_guest_that_takes_all_memory_is_a_500() {
    assert_eq!(App::of(&guest("legacy-c")).memory(8 << 20).serve().await.get("/oom").await.status, 500);
}

#[tokio::test]
async fn imports_that_the_host_does_not_have_matter_only_when_called() {
    let guest = |call: &str| {
        text(&format!(
            r#"(module
                (import "spin-object-store" "publish" (func $publish (param i32 i32 i32 i32 i32 i32 i32)))
                (memory (export "memory") 1)
                (data (i32.const 16) "\cc\00")
                (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                (func (export "handle-http-request") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                    {call} (i32.const 16)))"#
        ))
    };
    assert_eq!(App::of(&guest("")).serve().await.get("/").await.status, 204);
    let zeros = "(i32.const 0)".repeat(7);
    assert_eq!(App::of(&guest(&format!("(call $publish {zeros})"))).serve().await.get("/").await.status, 500);
}

#[tokio::test]
async fn a_module_that_must_be_initialised_is_before_anything_else() {
    let initialize = |body: &str| format!(r#"(func (export "_initialize") {body})"#);
    let only_after = "(if (i32.eqz (i32.load8_u (i32.const 999))) (then unreachable)) (i32.const 1000)";
    let sets = initialize("(i32.store8 (i32.const 999) (i32.const 1))");
    assert_eq!(App::of(&legacy_with(&sets, only_after)).serve().await.get("/").await.text(), "hello");
    let traps = legacy_with(&initialize("unreachable"), "(i32.const 1000)");
    assert_eq!(App::of(&traps).serve().await.get("/").await.status, 500);
}

#[tokio::test]
async fn files_are_at_the_root_and_cannot_be_written() {
    let served = App::of(&guest("legacy-rust")).file("a.txt", "alpha").file("dir/b.txt", "beta").serve().await;
    assert_eq!(served.get("/files/a.txt").await.text(), "alpha");
    assert_eq!(served.get("/files/dir/b.txt").await.text(), "beta");
    assert_eq!(served.get("/files/none").await.status, 404);
    assert_ne!(served.get("/files/../../../etc/hostname").await.status, 200);
    assert_eq!(served.get("/write").await.status, 403);
    assert_eq!(served.get("/files/written.txt").await.status, 404);
}

#[tokio::test]
async fn a_component_without_files_has_no_mount() {
    let reply = App::of(&guest("legacy-rust")).serve().await.get("/files/etc/hostname").await;
    assert_ne!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn the_environment_is_the_component_s_own_and_nothing_else() {
    let served = App::of(&guest("legacy-rust")).env("GREETING", "Ahoy").env("B", "2").serve().await;
    assert_eq!(served.get("/env").await.text(), "B=2\nGREETING=Ahoy\n");
    assert_eq!(served.get("/").await.text(), "Ahoy from legacy Rust\n");
}

#[tokio::test]
async fn what_a_guest_prints_is_logged_line_by_line() {
    let served = App::of(&guest("legacy-rust")).serve().await;
    served.get("/stdout?one").await;
    assert_eq!(served.lines(), ["stdout: a line on stdout: one", "stderr: a line on stderr: one"]);
    assert_eq!(served.get("/panic").await.status, 500);
    assert!(served.lines().iter().any(|line| line.contains("asked to panic")), "{:?}", served.lines());
}

//! `fermyon:spin/http`: how components of Spin's first versions call out, with requests and responses in one piece.

use http::Request;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::support::{App, Reply, Served, guest, text};

const WIT: &str = r"
    package fermyon:spin;
    interface http-types {
        type headers = list<tuple<string, string>>;
        enum http-error {
            success, destination-not-allowed, invalid-url, request-error, runtime-error, too-many-requests
        }
        enum method { get, post, put, delete, patch, head, options }
        record request { method: method, uri: string, headers: headers, params: headers, body: option<list<u8>> }
        record response { status: u16, headers: option<headers>, body: option<list<u8>> }
    }
    interface http {
        use http-types.{request, response, http-error};
        send-request: func(req: request) -> result<response, http-error>;
    }
    interface inbound-http {
        use http-types.{request, response};
        handle-request: func(req: request) -> response;
    }
    world forwarder { import http; export inbound-http; }
";

/// Sends each request on, method, headers and all, to the URL that is its body. The response is the one that comes back, or has
/// the status 500 plus the number of the error. `options` sends a body too, which is the URL once more.
const FORWARDER: &str = r#"(module
    (import "fermyon:spin/http" "send-request"
        (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 4096))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (global.get $next))
        (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
        (local.get $at))
    (func (export "fermyon:spin/inbound-http#handle-request")
        (param $method i32) (param $uri i32) (param $uri_len i32) (param $headers i32) (param $header_count i32)
        (param $params i32) (param $param_count i32) (param $some i32) (param $body i32) (param $body_len i32) (result i32)
        (call $send
            (local.get $method) (local.get $body) (local.get $body_len) (local.get $headers) (local.get $header_count)
            (i32.const 0) (i32.const 0)
            (i32.eq (local.get $method) (i32.const 6)) (local.get $body) (local.get $body_len) (i32.const 1024))
        ;; A response begins 4 bytes after the tag, and looks like the one that is to be returned.
        (if (i32.load8_u (i32.const 1024))
            (then
                (i32.store16 (i32.const 2048) (i32.add (i32.const 500) (i32.load8_u (i32.const 1028))))
                (return (i32.const 2048))))
        (i32.const 1028)))"#;

fn forwarder() -> App {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("spin.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], Some("forwarder")).unwrap();
    let mut wasm = text(FORWARDER);
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
    App::of(&ComponentEncoder::default().module(&wasm).unwrap().encode().unwrap())
}

async fn forward(served: &Served, method: &str, url: &str) -> Reply {
    served.send_body(Request::builder().method(method).uri("/").header("x-mine", "one"), url.to_owned()).await
}

#[tokio::test]
async fn requests_and_responses_pass_whole() {
    let server = App::of(&guest("legacy-c")).serve().await;
    let served = forwarder().allow("http://127.0.0.1:*").serve().await;
    let url = |path: &str| format!("http://{}{path}", server.address);
    let seen = forward(&served, "PUT", &url("/headers?a=b")).await;
    assert_eq!((seen.status, seen.header("content-type")), (200, "text/plain"));
    assert!(seen.has_line("PUT /headers?a=b") && seen.has_line("x-mine: one"), "{}", seen.text());
    assert_eq!(forward(&served, "OPTIONS", &url("/echo")).await.text(), url("/echo"));
    let cookies = forward(&served, "GET", &url("/cookies")).await;
    assert_eq!(cookies.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(forward(&served, "GET", &url("/status/404")).await.status, 404);
}

#[tokio::test]
async fn each_failure_has_its_error() {
    let server = App::of(&guest("legacy-c")).serve().await;
    let url = format!("http://{}/", server.address);
    let denied = forwarder().serve().await;
    assert_eq!(forward(&denied, "GET", &url).await.status, 501, "destination-not-allowed");
    let served = forwarder().allow("http://127.0.0.1:*").serve().await;
    assert_eq!(forward(&served, "GET", "no url at all").await.status, 502, "invalid-url");
    assert_eq!(forward(&served, "GET", "http://127.0.0.1:1/").await.status, 503, "request-error");
}

//! Guests that have little memory themselves and make the host hold much for them.

use manifest::{Secret, runtime_config::KeyValueStore};
use test_services::{mariadb, postgres, redis};
use tokio::net::TcpListener;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::{
    databases::everywhere,
    support::{AMPLE, App, engine_with, guest, text},
};

const SPIN: &str = r"
    package fermyon:spin;
    interface http-types {
        type headers = list<tuple<string, string>>;
        enum method { get, post, put, delete, patch, head, options }
        record request { method: method, uri: string, headers: headers, params: headers, body: option<list<u8>> }
        record response { status: u16, headers: option<headers>, body: option<list<u8>> }
    }
    interface inbound-http {
        use http-types.{request, response};
        handle-request: func(req: request) -> response;
    }
    interface redis-types { enum error { success, error } }
    interface redis {
        use redis-types.{error};
        sadd: func(address: string, key: string, values: list<string>) -> result<s64, error>;
    }
    interface rdbms-types {
        enum db-data-type {
            boolean, int8, int16, int32, int64, uint8, uint16, uint32, uint64, floating32, floating64, str, binary, other
        }
        variant db-value {
            boolean(bool), int8(s8), int16(s16), int32(s32), int64(s64), uint8(u8), uint16(u16), uint32(u32), uint64(u64),
            floating32(f32), floating64(f64), str(string), binary(list<u8>), db-null, unsupported
        }
        variant parameter-value {
            boolean(bool), int8(s8), int16(s16), int32(s32), int64(s64), uint8(u8), uint16(u16), uint32(u32), uint64(u64),
            floating32(f32), floating64(f64), str(string), binary(list<u8>), db-null
        }
        record column { name: string, data-type: db-data-type }
        type row = list<db-value>;
        record row-set { columns: list<column>, rows: list<row> }
    }
    interface mysql {
        use rdbms-types.{parameter-value};
        variant mysql-error {
            success, connection-failed(string), bad-parameter(string), query-failed(string), value-conversion-failed(string),
            other-error(string)
        }
        execute: func(address: string, statement: string, params: list<parameter-value>) -> result<_, mysql-error>;
    }
    interface postgres {
        use rdbms-types.{parameter-value};
        variant pg-error {
            success, connection-failed(string), bad-parameter(string), query-failed(string), value-conversion-failed(string),
            other-error(string)
        }
        execute: func(address: string, statement: string, params: list<parameter-value>) -> result<u64, pg-error>;
    }
    world asks { import redis; import mysql; import postgres; export inbound-http; }
";

/// What every guest here has: 64 KiB of `A` and more, and an answer without a body.
const COMMON: &str = r#"
    (memory (export "memory") 40)
    (global $next (mut i32) (i32.const 2359296))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (global.get $next))
        (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
        (local.get $at))
    (data (i32.const 1024) "\c8\00")
    (func $fill (memory.fill (i32.const 65536) (i32.const 65) (i32.const 2097152)))
"#;

/// Gives a server the same 64 KiB 256 times, as if they were 16 MiB: Redis, MySQL or PostgreSQL, as the request's method is
/// `GET`, `POST` or `PUT`, at the address in its body.
const ASKS: &str = r#"
    (import "fermyon:spin/redis" "sadd" (func $sadd (param i32 i32 i32 i32 i32 i32 i32)))
    (import "fermyon:spin/mysql" "execute" (func $mysql (param i32 i32 i32 i32 i32 i32 i32)))
    (import "fermyon:spin/postgres" "execute" (func $postgres (param i32 i32 i32 i32 i32 i32 i32)))
    (data (i32.const 2048) "select 1")
    (func $list (param $at i32) (param $size i32)
        (local $index i32)
        (loop $more
            ;; A parameter begins with what it is: 11 is a text. A text begins with its place.
            (i32.store8 (local.get $at) (i32.const 11))
            (i32.store (i32.sub (i32.add (local.get $at) (local.get $size)) (i32.const 8)) (i32.const 65536))
            (i32.store (i32.sub (i32.add (local.get $at) (local.get $size)) (i32.const 4)) (i32.const 65536))
            (local.set $at (i32.add (local.get $at) (local.get $size)))
            (local.set $index (i32.add (local.get $index) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $index) (i32.const 256)))))
    (func (export "fermyon:spin/inbound-http#handle-request")
        (param $method i32) (param i32 i32 i32 i32 i32 i32 i32) (param $body i32) (param $body_len i32) (result i32)
        (call $fill)
        (if (i32.eqz (local.get $method))
            (then
                (call $list (i32.const 8192) (i32.const 8))
                (call $sadd (local.get $body) (local.get $body_len) (i32.const 2048) (i32.const 3)
                    (i32.const 8192) (i32.const 256) (i32.const 4096))
                (return (i32.const 1024))))
        (call $list (i32.const 8192) (i32.const 16))
        (if (i32.eq (local.get $method) (i32.const 1))
            (then
                (call $mysql (local.get $body) (local.get $body_len) (i32.const 2048) (i32.const 8)
                    (i32.const 8192) (i32.const 256) (i32.const 4096)))
            (else
                (call $postgres (local.get $body) (local.get $body_len) (i32.const 2048) (i32.const 8)
                    (i32.const 8192) (i32.const 256) (i32.const 4096))))
        (i32.const 1024))
"#;

const WASI: &str = r"
    package wasi:http@0.2.0;
    interface types {
        variant method { get, head, post, put, delete, connect, options, trace, patch, other(string) }
        resource fields {
            constructor();
            append: func(name: string, value: list<u8>) -> result<_, header-error>;
        }
        variant header-error { invalid-syntax, forbidden, immutable }
        resource outgoing-request {
            constructor(headers: fields);
            set-method: func(method: method) -> result;
            set-authority: func(authority: option<string>) -> result;
        }
    }
";

/// Makes 512 requests whose method (`GET`) or authority (`POST`) has 64 KiB, or as many headers of that size (`PUT`), and then
/// goes on for as long as it may. Has nothing to do otherwise.
const HOARDS: &str = r#"
    (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.0" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-method"
        (func $method (param i32 i32 i32 i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority"
        (func $authority (param i32 i32 i32 i32) (result i32)))
    (data (i32.const 2048) "x")
    (func (export "fermyon:spin/inbound-http#handle-request")
        (param $way i32) (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
        (local $count i32)
        (if (i32.gt_u (local.get $way) (i32.const 2)) (then (return (i32.const 1024))))
        (call $fill)
        (loop $more
            (if (i32.eqz (local.get $way))
                (then (drop (call $method (call $request (call $fields)) (i32.const 9) (i32.const 65536) (i32.const 65536)))))
            (if (i32.eq (local.get $way) (i32.const 1))
                (then
                    (drop (call $authority (call $request (call $fields)) (i32.const 1) (i32.const 65536) (i32.const 65536)))))
            (if (i32.eq (local.get $way) (i32.const 2))
                (then
                    (call $append (call $fields) (i32.const 2048) (i32.const 1) (i32.const 65536) (i32.const 65536)
                        (i32.const 4096))))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $more (i32.lt_u (local.get $count) (i32.const 512))))
        (loop $on (br $on))
        (i32.const 1024))
"#;

/// A component of Spin's first interface, whose core module is `module` beside [`COMMON`]; it has the world `world` of `wit`.
fn component(wit: &[&str], world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let packages: Vec<_> = wit.iter().map(|text| resolve.push_str("host.wit", text).unwrap()).collect();
    let last = packages.last().unwrap();
    let world = resolve.select_world(std::slice::from_ref(last), Some(world)).unwrap();
    let (imports, rest) = module.split_once("    (data").unwrap();
    let mut wasm = text(&format!("(module {imports} {COMMON} (data {rest})"));
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&wasm).unwrap().encode().unwrap()
}

#[tokio::test]
async fn what_components_give_to_databases_comes_out_of_the_memory_of_their_app() {
    // Half of it is for one app.
    let engine = engine_with(|config| config.guests_memory = Some(32 << 20));
    let wasm = component(&[SPIN], "asks", ASKS);
    let little = everywhere(App::on(engine, &wasm)).serve().await;
    let ample = everywhere(App::of(&wasm)).serve().await;
    postgres().unwrap().create("hoarders").unwrap();
    mariadb().unwrap().create("hoarders").unwrap();
    for (method, address) in [
        ("GET", redis().unwrap().url()),
        ("POST", mariadb().unwrap().url("hoarders")),
        ("PUT", postgres().unwrap().url("hoarders")),
    ] {
        let request = || http::Request::builder().method(method).uri("/");
        let reply = little.send_body(request(), address.clone()).await;
        assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{method}: {}", reply.text());
        // Where there is memory for it, the server is asked, whatever it says.
        assert_eq!(ample.send_body(request(), address).await.status, 200, "{method}");
    }
    little.idle().await;
}

#[tokio::test]
async fn values_that_a_component_gives_to_a_store_at_once_all_count() {
    // A store that takes its time.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(format!("redis://{}", silent.local_addr().unwrap()));
    // Half of it is for one app. The guest gives up its own copy when it has given one to the host.
    let engine = engine_with(|config| config.guests_memory = Some(64 << 20));
    let mut app = App::on(engine, &guest("http-p3")).runtime_config(|config| {
        config.key_value_stores.insert("default".to_owned(), KeyValueStore::Redis { url, prefix: None });
    });
    app.main().key_value_stores.push("default".to_owned());
    let served = app.serve().await;
    let many = served.send_body(http::Request::put("/kv/a?times=40"), vec![b'v'; 1 << 20]).await;
    assert_eq!(many.status, 503, "{}", many.text());
    served.idle().await;
}

#[tokio::test]
async fn a_guest_that_hoards_headers_or_requests_is_stopped_before_its_time_is_over() {
    let world = "world hoards { import wasi:http/types@0.2.0; export inbound-http; }";
    let wasm = component(&[WASI, &format!("{SPIN}{world}")], "hoards", HOARDS);
    let served = App::on(engine_with(|_| {}), &wasm).timeout(AMPLE).serve().await;
    for method in ["GET", "POST", "PUT"] {
        let reply = served.send(http::Request::builder().method(method).uri("/")).await;
        assert_eq!(reply.status, 500, "{method}: without an end, its time would be over, which is 504");
    }
    assert_eq!(served.send(http::Request::delete("/")).await.status, 200);
    served.idle().await;
}

//! Components that are composed when they are loaded, and then run: middleware in front of a guest that knows nothing of it.

use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, embed_component_metadata};

use crate::harness::{Up, body, change_manifest, get, guest_file, run, spindle};

/// A component that handles requests with `module`, and may pass them on.
fn middleware(module: &str) -> Vec<u8> {
    // The types of HTTP, as a guest has them that was built from source.
    let guest = std::fs::read(guest_file("http-rust.wasm")).unwrap();
    let DecodedWasm::Component(mut resolve, _) = wit_component::decode(&guest).unwrap() else { panic!("no component") };
    let handler = "wasi:http/incoming-handler@0.2.0";
    let text = format!("package tests:middleware; world wrapper {{ import {handler}; export {handler}; }}");
    let package = resolve.push_str("middleware.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("wrapper")).unwrap();
    let mut wasm = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&wasm).unwrap().validate(true).encode().unwrap()
}

/// Passes every request on.
const PASS: &str = r#"(module
    (import "wasi:http/incoming-handler@0.2.0" "handle" (func $next (param i32 i32)))
    (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32)
        (call $next (local.get 0) (local.get 1)))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#;

/// Answers 418 and passes nothing on, though it could.
const TEAPOT: &str = r#"(module
    (import "wasi:http/incoming-handler@0.2.0" "handle" (func (param i32 i32)))
    (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
    (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[method]outgoing-response.set-status-code" (func $status (param i32 i32) (result i32)))
    (import "wasi:http/types@0.2.0" "[static]response-outparam.set"
        (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32) (local $response i32)
        (local.set $response (call $response (call $fields)))
        (drop (call $status (local.get $response) (i32.const 418)))
        (call $set (local.get 1) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#;

#[tokio::test]
async fn middleware_wraps_its_trigger_and_no_other() {
    let (app, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::copy(guest_file("http-rust.wasm"), app.path().join("guest.wasm")).unwrap();
    std::fs::write(app.path().join("pass.wasm"), middleware(PASS)).unwrap();
    std::fs::write(app.path().join("teapot.wasm"), middleware(TEAPOT)).unwrap();
    let manifest = r#"
        spin_manifest_version = 2
        application = { name = "wrapped" }
        [[trigger.http]]
        route = "/"
        component = "guest"
        [[trigger.http]]
        route = "/headers"
        component = "guest"
        dependencies = { middleware = [{ path = "pass.wasm" }, { path = "pass.wasm" }] }
        [[trigger.http]]
        id = "tea"
        route = "/v"
        component = "guest"
        dependencies = { middleware = [{ path = "pass.wasm" }, { component = "teapot" }] }
        [component.guest]
        source = "guest.wasm"
        [component.teapot]
        source = "teapot.wasm"
    "#;
    std::fs::write(app.path().join("spin.toml"), manifest).unwrap();
    let up = Up::start(app.path(), cache.path(), &[]).await;
    assert_eq!(body(up.address, "/").await, "Hello from Rust\n");
    let passed = body(up.address, "/headers").await;
    assert!(passed.starts_with("GET /headers\n") && passed.contains("spin-matched-route: /headers"), "{passed}");
    let tea = get(up.address, "/v").await;
    assert!(tea.starts_with("HTTP/1.1 418 "), "{tea}");
    up.stopped().await;

    change_manifest(app.path(), "{ component = \"teapot\" }", "{ path = \"guest.wasm\" }");
    let (code, _, problem) = run(spindle(cache.path()).arg("-f").arg(app.path())).await;
    assert_ne!(code, Some(0));
    let expected = "component `tea-component`: middleware `middleware 2` cannot wrap the component";
    assert!(problem.contains(expected), "{problem}");
}

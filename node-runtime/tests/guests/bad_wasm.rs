//! Wasm that is not what it should be: refused when it is loaded, or stopped when it is called, and nothing else notices.

use crate::support::{App, SHORT, engine, engine_with, guest, legacy_with, text};

/// Why `wasm` is refused. Afterwards another application is served by the same engine.
async fn refusal(wasm: &[u8]) -> (&'static str, String) {
    let error = App::on(engine(), wasm).refused().await;
    assert_eq!(App::on(engine(), &legacy_with("", "(i32.const 1000)")).serve().await.get("/").await.text(), "hello");
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn what_is_not_valid_is_refused_with_the_component_the_wasm_and_what_the_validator_says() {
    let whole = guest("http-rust");
    let damaged: Vec<u8> =
        whole.iter().enumerate().map(|(at, byte)| if at % 1000 == 999 { !byte } else { *byte }).collect();
    let cases: [(&str, Vec<u8>); 8] = [
        ("", Vec::new()),
        ("magic", b"MZ not wasm at all".to_vec()),
        ("", b"\0asm".to_vec()),
        ("version", b"\0asm\x07\0\0\0".to_vec()),
        ("", whole[..whole.len() / 2].to_vec()),
        ("", damaged),
        ("custom page sizes", text("(module (memory 1 (pagesize 1)))")),
        ("type mismatch", text("(module (func (result i32) i64.const 0))")),
    ];
    for (said, wasm) in cases {
        let (reason, message) = refusal(&wasm).await;
        assert_eq!(reason, "InvalidWasm", "{message}");
        assert!(message.starts_with("component `main`: its wasm is not valid: "), "{message}");
        assert!(message.ends_with(&format!("(wasm {})", manifest::Digest::of(&wasm))), "{message}");
        assert!(message.contains(said), "`{said}` is not in {message}");
    }
}

#[tokio::test]
async fn what_no_instance_has_room_for_is_refused_and_not_called_invalid() {
    for (said, wasm) in [
        ("exceeds the limit", legacy_with("(table 100000000 funcref)", "(i32.const 1000)")),
        ("defined memories count of 2", legacy_with("(memory 1)", "(i32.const 1000)")),
        (
            "memory is shared",
            text(
                r#"(component (core module (memory 1 1 shared)) (instance $i)
                    (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#,
            ),
        ),
    ] {
        let (reason, message) = refusal(&wasm).await;
        assert_eq!(reason, "InvalidWasm", "{message}");
        assert!(message.starts_with("component `main`: its wasm needs more than an instance may have: "), "{message}");
        assert!(message.contains(said), "`{said}` is not in {message}");
    }
    let error = App::of(&legacy_with("", "(i32.const 1000)")).memory(1 << 17).refused().await;
    assert_eq!(error.reason(), "MemoryLimit");
    let message =
        "component `main`: its memory begins with 262144 bytes, but an instance may have 131072: allow it more";
    assert!(error.to_string().starts_with(message), "{error}");
}

#[tokio::test]
async fn what_is_no_guest_is_refused_with_what_is_expected() {
    let handler = r#"(func (export "handle-http-request")
        (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)"#;
    let realloc = r#"(func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;
    for (said, wat) in [
        (
            "it exports no `memory` of 32 bits",
            format!(r#"(module {handler} {realloc} (memory (export "memory") i64 1))"#),
        ),
        (
            "it exports no `memory` of 32 bits",
            format!(r#"(module {handler} {realloc} (global (export "memory") i32 (i32.const 0)))"#),
        ),
        (
            "which is no function",
            format!(r#"(module (import "a" "b" (global i32)) {handler} {realloc} (memory (export "memory") 1))"#),
        ),
        (
            "which is no function",
            format!(r#"(module (import "a" "b" (table 1 funcref)) {handler} {realloc} (memory (export "memory") 1))"#),
        ),
        (
            "Redis trigger",
            r#"(module (func (export "handle-redis-message") (param i32 i32) (result i32) unreachable))"#.to_owned(),
        ),
        ("executor `{ type = \"wagi\" }`", r#"(module (func (export "_start")))"#.to_owned()),
    ] {
        let (reason, message) = refusal(&text(&wat)).await;
        assert_eq!(reason, "UnsupportedGuest", "{message}");
        assert!(message.contains(said), "`{said}` is not in {message}");
    }
}

/// A component whose handler of `wasi:http` has this type and is lifted in this way.
fn handler(version: &str, ty: &str, lifted: &str, core: &str) -> Vec<u8> {
    text(&format!(
        r#"(component
            (import "wasi:http/types@{version}" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $answer))
            (core module $module
                (memory (export "memory") 1)
                (func (export "callback") (param i32 i32 i32) (result i32) (i32.const 0))
                {core})
            (core instance $guest (instantiate $module))
            (func $handle {ty} (canon lift (core func $guest "handle") {lifted}))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@{version}" (instance $handler)))"#
    ))
}

#[tokio::test]
async fn a_handler_that_is_async_where_it_must_not_be_is_refused() {
    let core = |result: &str| format!(r#"(func (export "handle") (param i32 i32) {result})"#);
    let parameters = r#"(param "request" (own $request)) (param "response-out" (own $answer))"#;
    let fine = handler("0.2.0", parameters, "", &core(""));
    assert_eq!(App::of(&fine).serve().await.get("/").await.status, 500, "it answers nothing");
    let callback = r#"async (callback (core func $guest "callback"))"#;
    let odd = handler("0.2.0", &format!("async {parameters}"), callback, &core("(result i32) (i32.const 0)"));
    let (reason, message) = refusal(&odd).await;
    assert_eq!(reason, "UnsupportedGuest", "{message}");
    let said =
        "its `wasi:http/incoming-handler` has a `handle` that is an `async func`, and in this interface it is none";
    assert!(message.contains(said), "{message}");
}

#[tokio::test]
async fn what_has_nothing_to_call_is_refused_before_it_is_compiled() {
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("compiled");
    let engine = engine_with(|config| config.cache_dir = Some(dir.clone()));
    let compiled = || std::fs::read_dir(&dir).unwrap().count();
    let before = compiled();
    for (said, wat) in [
        ("it handles no HTTP", r#"(component (instance $i) (export "a:b/c" (instance $i)))"#),
        (
            "more than one handler",
            r#"(component (instance $i)
            (export "wasi:http/handler@0.3.0" (instance $i)) (export "fermyon:spin/inbound-http" (instance $i)))"#,
        ),
        (
            "which this runtime does not call",
            r#"(component (instance $i) (export "wasi:http/handler@0.4.0" (instance $i)))"#,
        ),
        ("without a function `handle-http-request`", r#"(module (func (export "main")))"#),
    ] {
        let error = App::on(engine.clone(), &text(wat)).refused().await;
        assert_eq!(error.reason(), "UnsupportedGuest", "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    for (said, wat) in [
        ("its `wasi:cli/run` is missing", r#"(component (instance $i) (export "a:b/c" (instance $i)))"#),
        ("no such function '_start'", r#"(module (func (export "main")))"#),
    ] {
        let error = App::on(engine.clone(), &text(wat)).wagi().refused().await;
        assert_eq!(error.reason(), "UnsupportedGuest", "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(compiled(), before);
}

#[tokio::test]
async fn a_module_with_both_a_handler_and_a_main_function_is_called_by_its_handler() {
    let both = legacy_with(r#"(func (export "_start") unreachable)"#, "(i32.const 1000)");
    // A definition may not stand before an import, and there is none.
    assert_eq!(App::of(&both).serve().await.get("/").await.text(), "hello");
}

#[tokio::test]
async fn the_handler_of_the_first_months_is_called_too() {
    assert_eq!(App::of(&text(include_str!("first.wat"))).serve().await.get("/").await.text(), "hello");
}

#[tokio::test]
async fn what_goes_wrong_before_the_handler_is_a_500_and_what_never_ends_a_504() {
    let app = |extra: &str| App::of(&legacy_with(extra, "(i32.const 1000)"));
    let status = async |app: App| app.serve().await.get("/").await.status;
    assert_eq!(status(app("(func $start unreachable) (start $start)")).await, 500);
    assert_eq!(status(app("(func $start (loop (br 0))) (start $start)").timeout(SHORT)).await, 504);
    assert_eq!(status(app("(data (i32.const 262143) \"ab\")")).await, 500);
}

#[tokio::test]
async fn an_allocator_that_returns_garbage_costs_its_own_request_only() {
    let with_realloc = |body: &str| {
        let wat = format!(
            r#"(module (memory (export "memory") 1)
                (data (i32.const 1000) "\cc\00")
                (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) {body})
                (func (export "handle-http-request")
                    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 1000)))"#
        );
        text(&wat)
    };
    for (body, status) in [
        ("(i32.const -1)", 500),
        ("(i32.const 65535)", 500),
        ("unreachable", 500),
        ("(loop (br 0)) unreachable", 504),
        // Always the same place, over what is there already: the guest's own loss.
        ("(i32.const 2001)", 204),
        // It takes the result's place: the status is whatever was written there.
        ("(i32.const 1000)", 500),
    ] {
        let app = App::of(&with_realloc(body));
        let served = if status == 504 { app.timeout(SHORT) } else { app }.serve().await;
        assert_eq!(served.get("/a").await.status, status, "{body}");
    }
}

#[tokio::test]
async fn a_result_at_the_very_end_of_memory_is_read_and_beyond_it_is_a_500() {
    // The memory has 262,144 bytes and a result 28.
    for (at, status) in [(262_116, 201), (262_117, 500), (262_143, 500), (-1, 500)] {
        let handler = format!("(i32.store16 (i32.const 262116) (i32.const 201)) (i32.const {at})");
        let wasm = legacy_with(r#"(func (export "spin-sdk-version-0-10"))"#, &handler);
        assert_eq!(App::of(&wasm).serve().await.get("/").await.status, status, "{at}");
    }
}

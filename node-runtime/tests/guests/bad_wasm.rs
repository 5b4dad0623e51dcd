//! Wasm that is not what it should be: refused when it is loaded, or stopped when it is called, and nothing else notices.

use crate::support::{App, SHORT, engine, guest, legacy_with, text};

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
        ("exceeds the limit", text("(module (table 100000000 funcref))")),
        ("defined memories count of 2", text("(module (memory 1) (memory 1))")),
        ("memory is shared", text("(component (core module (memory 1 1 shared)))")),
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

//! Loading applications: what is refused and how, and the cache of compiled code.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{App, engine_with, guest, legacy_with, text};

/// The reason and the message of the refusal.
async fn refusal(wasm: &[u8]) -> (&'static str, String) {
    let error = App::of(wasm).refused().await;
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn wasm_without_a_handler_is_refused_with_what_it_exports_and_what_is_expected() {
    let (reason, message) = refusal(&guest("noexport")).await;
    assert_eq!(reason, "UnsupportedGuest");
    for part in ["component `main`", "answer", "wasi:http/incoming-handler@0.2", "handle-http-request"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let (_, message) = refusal(&text("(module)")).await;
    assert!(message.ends_with("It exports: nothing"), "{message}");
    let (_, message) = refusal(&guest("cli-hello")).await;
    assert!(message.contains("wasi:cli/run@0.2") && message.contains("handles no HTTP"), "{message}");
}

#[tokio::test]
async fn a_program_under_the_wrong_executor_is_refused_with_advice() {
    let (_, message) = refusal(&text(r#"(module (func (export "_start")))"#)).await;
    assert!(message.contains("executor `{ type = \"wagi\" }`"), "{message}");
}

#[tokio::test]
async fn a_handler_with_another_signature_is_refused_with_both() {
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "handle-http-request") (param i64) (result i32) unreachable))"#;
    let (_, message) = refusal(&text(wat)).await;
    assert!(message.contains("(i64) -> (i32) instead of (i32, i32, "), "{message}");
}

#[tokio::test]
async fn a_legacy_guest_without_memory_or_allocator_is_refused() {
    let handler = r#"(func (export "handle-http-request") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)"#;
    let (_, message) = refusal(&text(&format!("(module {handler})"))).await;
    assert!(message.contains("`canonical_abi_realloc`"), "{message}");
    let allocator = r#"(func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;
    let (_, message) = refusal(&text(&format!("(module {handler} {allocator})"))).await;
    assert!(message.contains("it exports no `memory`"), "{message}");
}

#[tokio::test]
async fn a_guest_that_imports_memory_is_refused() {
    let wat = r#"(module (import "env" "memory" (memory 1)) (export "memory" (memory 0))
        (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "handle-http-request") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable))"#;
    let (_, message) = refusal(&text(wat)).await;
    assert!(message.contains("it imports `env` `memory`, which is no function"), "{message}");
}

#[tokio::test]
async fn a_component_with_two_handlers_or_one_of_another_version_is_refused() {
    let component = |exports: &[&str]| {
        let exports: String = exports.iter().map(|name| format!(r#"(export "{name}" (instance $i))"#)).collect();
        text(&format!("(component (instance $i) {exports})"))
    };
    let (_, message) = refusal(&component(&["wasi:http/incoming-handler@0.2.0", "wasi:http/handler@0.3.0"])).await;
    assert!(message.contains("more than one handler"), "{message}");
    for other in ["wasi:http/handler@0.4.0", "wasi:http/incoming-handler@0.2.0-rc-2023-12-05"] {
        let (_, message) = refusal(&component(&[other])).await;
        assert!(message.contains(&format!("exports `{other}`, which this runtime does not call")), "{message}");
    }
    let (_, message) = refusal(&component(&["fermyon:spin/inbound-http"])).await;
    assert!(message.contains("has no function `handle-request`"), "{message}");
    let both = ["wasi:http/incoming-handler@0.2.0-rc-2023-10-18", "wasi:http/incoming-handler@0.2.0"];
    let (_, message) = refusal(&component(&both)).await;
    assert!(message.contains("more than one handler") && message.contains(both[0]), "{message}");
}

#[tokio::test]
async fn a_component_whose_handler_has_another_signature_is_refused_before_the_first_request() {
    let component = |interface: &str, function: &str, results: &str| {
        let result = if results.is_empty() { "" } else { "(result i32) (i32.const 0)" };
        text(&format!(
            r#"(component
                (core module $m (func (export "f") {result}))
                (core instance $i (instantiate $m))
                (func $f {results} (canon lift (core func $i "f")))
                (instance $e (export "{function}" (func $f)))
                (export "{interface}" (instance $e)))"#
        ))
    };
    for (interface, function, said) in [
        ("wasi:http/incoming-handler@0.2.3", "handle", "expected 2-tuple, found 0-tuple"),
        ("wasi:http/incoming-handler@0.2.0-rc-2023-11-10", "handle", "expected 2-tuple, found 0-tuple"),
        ("wasi:http/incoming-handler@0.2.3", "handel", "has no function `handle`"),
        ("wasi:http/handler@0.3.0", "handle", "expected 1-tuple, found 0-tuple"),
        ("fermyon:spin/inbound-http", "handle-request", "expected 1-tuple, found 0-tuple"),
    ] {
        let (reason, message) = refusal(&component(interface, function, "")).await;
        assert_eq!(reason, "UnsupportedGuest");
        assert!(message.starts_with("component `main`: its `") && message.contains(said), "{message}");
    }
    let program = App::of(&component("wasi:cli/run@0.2.0", "run", "(result u32)")).wagi().refused().await.to_string();
    assert!(program.contains("it is no program") && program.contains("expected `result` found `u32`"), "{program}");
}

#[tokio::test]
async fn bytes_that_are_no_wasm_are_refused() {
    let (reason, message) = refusal(b"not wasm at all").await;
    assert_eq!(reason, "InvalidWasm");
    assert!(message.contains("component `main`"), "{message}");
}

#[tokio::test]
async fn missing_content_variables_and_wrong_hosts_are_refused_by_name() {
    let mut app = App::of(&guest("http-rust"));
    app.main().source.digest = manifest::Digest::of(b"other");
    assert_eq!(app.refused().await.reason(), "Missing");

    let mut app = App::of(&guest("http-rust"));
    let variable = manifest::Variable { default: None, description: None, secret: true };
    app.application.variables.insert("token".to_owned(), variable);
    assert!(app.refused().await.to_string().contains("variable `token` is required"));

    let error = App::of(&guest("http-rust")).allow("example.com").refused().await;
    assert!(error.to_string().contains("`example.com` in allowed_outbound_hosts"), "{error}");

    let error = App::of(&guest("http-rust")).allow("http://{{ nobody }}").refused().await;
    assert!(error.to_string().contains("`nobody`"), "{error}");

    let mut app = App::of(&guest("http-rust"));
    app.application.components.clear();
    assert_eq!(app.refused().await.reason(), "Invalid");
}

#[tokio::test]
async fn compiled_code_that_cannot_be_used_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine_with(|config| config.cache_dir = Some(dir.path().join("code")));
    let wasm = legacy_with("(memory 1)", "(i32.const 1000)");
    assert_eq!(App::on(engine, &wasm).refused().await.reason(), "InvalidWasm");
    assert_eq!(std::fs::read_dir(dir.path().join("code")).unwrap().count(), 0);
}

#[tokio::test]
async fn compiled_code_is_kept_private_and_a_damaged_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("code");
    let engine = || engine_with(|config| config.cache_dir = Some(cache.clone()));
    let wasm = guest("http-rust");
    assert_eq!(App::on(engine(), &wasm).serve().await.get("/").await.status, 200);
    assert_eq!(std::fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let compiled = std::fs::read(&files[0]).unwrap();
    for damaged in [&b""[..], b"no code", &compiled[..100]] {
        std::fs::remove_file(&files[0]).unwrap();
        std::fs::write(&files[0], damaged).unwrap();
        assert_eq!(App::on(engine(), &wasm).serve().await.get("/").await.status, 200);
        assert_eq!(std::fs::metadata(&files[0]).unwrap().len(), compiled.len() as u64);
    }
}

//! Variables, read by guests of every kind.

use control::SecretString;
use manifest::Variable;

use crate::support::{App, guest, legacy_with, text};

/// Answers `GET /key` with the value; 400 and the error's kind, and its message, where there is none.
pub(crate) const READ_KEY: &str = r"
    (call $get_config (i32.add (local.get $uri) (i32.const 1)) (i32.sub (local.get $uri_len) (i32.const 1)) (i32.const 2000))
    (if (i32.load8_u (i32.const 2000))
        (then
            (i32.store16 (i32.const 1000) (i32.add (i32.const 400) (i32.load8_u (i32.const 2004))))
            (i32.store (i32.const 1020) (i32.load (i32.const 2008)))
            (i32.store (i32.const 1024) (i32.load (i32.const 2012))))
        (else
            (i32.store (i32.const 1020) (i32.load (i32.const 2004)))
            (i32.store (i32.const 1024) (i32.load (i32.const 2008)))))
    (i32.const 1000)";

pub(crate) fn legacy(handler: &str) -> Vec<u8> {
    legacy_with(r#"(import "spin-config" "get-config" (func $get_config (param i32 i32 i32)))"#, handler)
}

/// An application with two variables, and a component that has both in a template.
pub(crate) fn app(wasm: &[u8]) -> App {
    let mut app = App::of(wasm);
    let variable =
        |default: Option<&str>| Variable { default: default.map(str::to_owned), description: None, secret: true };
    app.application.variables = [("who", variable(None)), ("word", variable(Some("Hello")))]
        .map(|(name, variable)| (name.to_owned(), variable))
        .into();
    app.settings.variables.insert("who".to_owned(), SecretString::new("Wasm"));
    app.main().variables.insert("greeting".to_owned(), "{{ word }}, {{who}}!".to_owned());
    app.main().variables.insert("plain".to_owned(), String::new());
    app
}

#[tokio::test]
async fn a_guest_of_spin_s_sdk_reads_its_templates_filled_in() {
    for name in ["http-spin-sdk", "http-spin-sdk.core"] {
        let served = app(&guest(name)).serve().await;
        assert_eq!(served.get("/var/greeting").await.text(), "Hello, Wasm!\n", "{name}");
        assert_eq!(served.get("/var/plain").await.text(), "\n", "{name}");
    }
}

#[tokio::test]
async fn a_value_that_is_set_beats_the_default() {
    let mut app = app(&guest("http-spin-sdk"));
    app.settings.variables.insert("word".to_owned(), SecretString::new("Ahoy"));
    assert_eq!(app.serve().await.get("/var/greeting").await.text(), "Ahoy, Wasm!\n");
}

#[tokio::test]
async fn the_application_s_own_variables_are_not_a_component_s() {
    let served = app(&guest("http-spin-sdk")).serve().await;
    for (path, part) in [("/var/who", "`who`"), ("/var/Not-A-Name", "`Not-A-Name`")] {
        let reply = served.get(path).await;
        assert_eq!(reply.status, 404);
        assert!(reply.text().contains(part), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_module_of_2022_reads_them_too() {
    let served = app(&legacy(READ_KEY)).serve().await;
    let reply = served.get("/greeting").await;
    assert_eq!((reply.status, reply.text()), (200, "Hello, Wasm!"));
    assert_eq!(served.get("/plain").await.text(), "");
    let undefined = served.get("/nobody").await;
    assert_eq!(undefined.status, 403);
    assert!(undefined.text().contains("`nobody`"), "{}", undefined.text());
    assert_eq!(served.get("/No-Name").await.status, 401);
}

#[tokio::test]
async fn pointers_out_of_memory_are_a_500() {
    for (key, size, result) in [(-8, 9, 2000), (0, -1, 2000), (512, 5, -8), (512, 5, 262_140)] {
        let call =
            format!("(call $get_config (i32.const {key}) (i32.const {size}) (i32.const {result})) (i32.const 1000)");
        assert_eq!(app(&legacy(&call)).serve().await.get("/").await.status, 500, "{call}");
    }
    let fine = "(call $get_config (i32.const 512) (i32.const 5) (i32.const 262128)) (i32.const 1000)";
    assert_eq!(app(&legacy(fine)).serve().await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_module_without_an_allocator_fails_only_when_it_asks() {
    let program = |call: &str| {
        text(&format!(
            r#"(module
                (import "spin-config" "get-config" (func $get_config (param i32 i32 i32)))
                (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
                (memory (export "memory") 1)
                (data (i32.const 8) "content-type: text/plain\n\n")
                (func (export "_start")
                    {call}
                    (i32.store (i32.const 0) (i32.const 8))
                    (i32.store (i32.const 4) (i32.const 26))
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"#
        ))
    };
    assert_eq!(app(&program("")).wagi().serve().await.get("/").await.status, 200);
    let asks = "(call $get_config (i32.const 8) (i32.const 1) (i32.const 200))";
    assert_eq!(app(&program(asks)).wagi().serve().await.get("/").await.status, 500);
}

#[tokio::test]
async fn an_import_with_another_signature_is_refused() {
    let wasm = legacy_with(r#"(import "spin-config" "get-config" (func (param i32)))"#, "(i32.const 1000)");
    let error = App::of(&wasm).refused().await;
    assert_eq!(error.reason(), "UnsupportedGuest");
    assert!(error.to_string().contains("get-config"), "{error}");
}

#[tokio::test]
async fn a_template_that_names_no_variable_is_refused() {
    let mut app = app(&guest("http-spin-sdk"));
    app.main().variables.insert("wrong".to_owned(), "{{ nobody }}".to_owned());
    let error = app.refused().await;
    assert_eq!(error.reason(), "InvalidTemplate");
    assert!(error.to_string().contains("`nobody`") && !error.to_string().contains("Wasm"), "{error}");
}

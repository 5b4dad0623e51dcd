//! Programs.

use http::Request;
use manifest::WagiExecutor;

use crate::support::{App, SHORT, Served, guest, text};

async fn c() -> Served {
    App::of(&guest("wagi-c")).wagi().serve().await
}

/// A program that prints `output`, then does `end`.
fn program(entrypoint: &str, output: &str, end: &str) -> Vec<u8> {
    text(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00{length}\00\00\00")
            (data (i32.const 16) "{output}")
            (func (export "{entrypoint}")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                {end}))"#,
        length = format_args!("\\{:02x}", output.replace("\\n", "n").len()),
    ))
}

#[tokio::test]
async fn what_a_program_prints_is_the_response() {
    let reply = App::of(&program("_start", "content-type: a/b\\n\\nhi", "")).wagi().serve().await.get("/").await;
    assert_eq!((reply.status, reply.header("content-type"), reply.text()), (200, "a/b", "hi"));
}

#[tokio::test]
async fn another_export_can_be_the_entrypoint() {
    let wagi = |entrypoint: &str| WagiExecutor { entrypoint: entrypoint.to_owned(), ..WagiExecutor::default() };
    let wasm = program("serve", "status: 204\\n\\n", "");
    assert_eq!(App::of(&wasm).wagi_with(&wagi("serve")).serve().await.get("/").await.status, 204);
    let error = App::of(&wasm).wagi_with(&wagi("missing")).refused().await;
    assert_eq!(error.reason(), "UnsupportedGuest");
    assert!(error.to_string().contains("no such function 'missing'"), "{error}");
    assert!(error.to_string().contains("serve"), "{error}");
}

#[tokio::test]
async fn a_module_that_is_no_program_is_initialised_before_its_entrypoint_runs() {
    let only_after = "(if (i32.eqz (i32.load8_u (i32.const 999))) (then unreachable)))
        (func (export \"_initialize\") (i32.store8 (i32.const 999) (i32.const 1))";
    for (entrypoint, status) in [("serve", 204), ("_start", 500)] {
        let wagi = WagiExecutor { entrypoint: entrypoint.to_owned(), ..WagiExecutor::default() };
        let wasm = program(entrypoint, "status: 204\\n\\n", only_after);
        let reply = App::of(&wasm).wagi_with(&wagi).serve().await.get("/").await;
        assert_eq!(reply.status, status, "{entrypoint} initialises what it needs itself");
    }
}

#[tokio::test]
async fn an_entrypoint_with_parameters_is_refused() {
    let wasm = text(r#"(module (func (export "_start") (param i32)))"#);
    let error = App::of(&wasm).wagi().refused().await;
    assert!(error.to_string().contains("expected a function without parameters"), "{error}");
}

#[tokio::test]
async fn exit_with_zero_is_fine_and_anything_else_is_a_500() {
    let output = "status: 201\\n\\n";
    let exits = |code: u8| program("_start", output, &format!("(call $exit (i32.const {code}))"));
    assert_eq!(App::of(&exits(0)).wagi().serve().await.get("/").await.status, 201);
    let reply = App::of(&exits(1)).wagi().serve().await.get("/").await;
    assert_eq!((reply.status, reply.text()), (500, ""));
    assert_eq!(c().await.get("/exit").await.status, 500);
}

#[tokio::test]
async fn every_form_of_a_response_is_understood() {
    let served = c().await;
    assert_eq!(served.get("/status").await.status, 418);
    let redirect = served.get("/location").await;
    assert_eq!((redirect.status, redirect.header("location")), (302, "/elsewhere"));
    let cookies = served.get("/dup").await;
    assert_eq!(cookies.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(served.get("/crlf").await.status, 200);
    assert_eq!(served.send_body(Request::post("/echo"), "ping").await.text().trim_end(), "ping");
}

#[tokio::test]
async fn output_that_is_no_response_is_a_500_and_a_status_that_is_none_a_502() {
    let served = c().await;
    assert_eq!(served.get("/empty").await.status, 500);
    let reply = served.get("/nohdr").await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.text(), "Exactly one of 'location' or 'content-type' must be specified");
    assert_eq!(served.get("/badstatus").await.status, 502);
}

#[tokio::test]
async fn a_program_that_traps_is_a_500_and_one_that_loops_a_504() {
    assert_eq!(c().await.get("/trap").await.status, 500);
    let hasty = App::of(&guest("wagi-c")).wagi().timeout(SHORT).serve().await;
    assert_eq!(hasty.get("/loop").await.status, 504);
}

#[tokio::test]
async fn standard_error_is_logged_and_standard_output_is_not() {
    let served = c().await;
    served.get("/stderr").await;
    assert_eq!(served.lines(), ["stderr: a line on stderr"]);
}

#[tokio::test]
async fn a_program_gets_arguments_environment_and_body() {
    for name in ["wagi-rust", "wagi-c", "wagi-go"] {
        let served = App::of(&guest(name)).wagi().env("MINE", "yes").serve().await;
        let request = Request::post("/test/it?abc=def&g=h")
            .header("x-thing", "1")
            .header("authorization", "Basic secret")
            .header("proxy", "http://evil/");
        let reply = served.send_body(request, "ping").await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        for line in [
            "arg[0]=/test/it",
            "arg[1]=abc=def",
            "arg[2]=g=h",
            "MINE=yes",
            "REQUEST_METHOD=POST",
            "QUERY_STRING=abc=def&g=h",
            "PATH_INFO=/test/it",
            "SCRIPT_NAME=",
            "CONTENT_LENGTH=4",
            "HTTP_X_THING=1",
            "X_MATCHED_ROUTE=/...",
            "SERVER_NAME=127.0.0.1",
            "body=ping",
        ] {
            assert!(reply.has_line(line), "{name}: {line} is not in {}", reply.text());
        }
        assert!(!reply.text().contains("secret") && !reply.text().contains("evil"), "{name}");
    }
}

#[tokio::test]
async fn a_component_with_wasi_cli_run_is_a_program_too() {
    let served = App::of(&guest("cli-hello")).wagi().serve().await;
    // It prints a greeting and no header, so that it is called shows in what Wagi says about that.
    let reply = served.get("/").await;
    assert_eq!((reply.status, reply.text().starts_with("Exactly one of")), (500, true));
}

#[tokio::test]
async fn a_program_that_prints_more_than_the_buffer_is_a_500() {
    let forever =
        "(loop $again (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $again))";
    let served = App::of(&program("_start", "content-type: a/b\\n\\nhi", forever)).wagi().serve().await;
    assert_eq!(served.get("/").await.status, 500);
}

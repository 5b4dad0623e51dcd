//! Guests that take more than they may: each costs its own request, and another app answers meanwhile.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use control::Limits;
use futures::{StreamExt as _, future::join_all};
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use node_runtime::engine::Engine;

use crate::support::{AMPLE, App, Reply, SHORT, Served, engine, engine_with, guest, legacy_with, text};

/// Longer than any of these tests: what ends before was not ended by its deadline.
const LONG: Duration = Duration::from_secs(3600);

fn app() -> App {
    App::of(&guest("http-rust")).timeout(LONG)
}

fn limited(app: App, limits: Limits) -> App {
    let mut app = app;
    app.settings.limits = limits;
    app
}

/// An app beside the hostile one, on the same engine.
async fn neighbour(engine: &Engine) -> Served {
    App::on(engine.clone(), &guest("http-rust")).serve().await
}

/// What `path` of a hostile app answers, while its neighbour answers everything.
async fn hostile(app: App, path: &str) -> Reply {
    let served = app.serve().await;
    let neighbour = neighbour(&served.engine).await;
    let ours = async {
        for _ in 0..5 {
            assert_eq!(neighbour.get("/").await.status, 200);
        }
    };
    let (reply, ()) = tokio::join!(served.get(path), ours);
    assert_eq!(neighbour.get("/").await.status, 200, "afterwards too");
    reply
}

/// A request that goes on until what this returns is dropped.
async fn held(served: &Served) -> impl Sized {
    let (response, connection) =
        served.begin(Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap()).await;
    assert_eq!(response.status(), 200);
    (response, connection)
}

#[tokio::test]
async fn a_guest_that_loops_is_stopped_when_its_processor_time_is_over() {
    let limits = Limits { cpu_ms: Some(30), timeout_ms: Some(3_600_000), ..Limits::default() };
    let reply = hostile(limited(app(), limits), "/spin").await;
    assert_eq!((reply.status, reply.text()), (504, ""));
}

#[tokio::test]
async fn waiting_is_not_computing() {
    // Half of the time that it takes; answering takes milliseconds of it.
    let limits = Limits { cpu_ms: Some(1500), ..Limits::default() };
    let reply = hostile(limited(app(), limits), "/sleep?ms=3000").await;
    assert_eq!((reply.status, reply.text()), (200, "slept\n"));
}

#[tokio::test]
async fn programs_and_legacy_guests_have_their_processor_time_too() {
    let limits = || Limits { cpu_ms: Some(30), timeout_ms: Some(3_600_000), ..Limits::default() };
    let program = text(r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#);
    assert_eq!(hostile(limited(App::of(&program).wagi(), limits()), "/").await.status, 504);
    let legacy = legacy_with("", "(loop (br 0)) unreachable");
    assert_eq!(hostile(limited(App::of(&legacy), limits()), "/").await.status, 504);
}

#[tokio::test]
async fn a_guest_that_sleeps_past_its_deadline_is_a_504() {
    assert_eq!(hostile(app().timeout(SHORT), "/sleep?ms=3600000").await.status, 504);
}

#[tokio::test]
async fn a_guest_that_allocates_without_end_is_a_500() {
    assert_eq!(hostile(app().memory(16 << 20), "/oom").await.status, 500);
}

#[tokio::test]
async fn a_guest_that_recurses_without_end_is_a_500() {
    assert_eq!(hostile(App::of(&guest("legacy-c")), "/recurse").await.status, 500);
}

#[tokio::test]
async fn a_guest_that_traps_or_never_answers_is_a_500() {
    assert_eq!(hostile(app(), "/panic").await.status, 500);
    assert_eq!(hostile(app(), "/silent").await.status, 500);
}

/// A program component that does `act` for ever; `imports` makes the core function `$act` from one number to another.
fn endlessly(imports: &str, parameter: &str) -> Vec<u8> {
    text(&format!(
        r#"(component
            {imports}
            (core module $module
                (import "host" "act" (func $act (param {parameter}) (result i32)))
                (func (export "run") (result i32)
                    (loop (drop (call $act ({parameter}.const 1000000000))) (br 0))
                    unreachable))
            (core instance $guest (instantiate $module (with "host" (instance (export "act" (func $act))))))
            (func $run (result (result)) (canon lift (core func $guest "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exported)))"#
    ))
}

#[tokio::test]
async fn a_guest_that_opens_pollables_without_end_is_a_500() {
    let imports = r#"
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $of-poll))
            (export "pollable" (type $own (eq $of-poll)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
        (core func $act (canon lower (func $clock "subscribe-duration")))"#;
    assert_eq!(hostile(App::of(&endlessly(imports, "i64")).timeout(LONG).wagi(), "/").await.status, 500);
}

#[tokio::test]
async fn a_guest_that_fills_its_own_tables_of_resources_is_a_500() {
    let imports = r#"(type $mine (resource (rep i32))) (core func $act (canon resource.new $mine))"#;
    assert_eq!(hostile(App::of(&endlessly(imports, "i32")).timeout(LONG).wagi(), "/").await.status, 500);
}

/// A program that prints `count` lines of 100 bytes to standard error, and then a response.
fn chatty(count: u32) -> Vec<u8> {
    let line = "x".repeat(99);
    text(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 1000) "{line}\n")
            (data (i32.const 2000) "content-type: text/plain\n\ndone")
            (func $print (param $fd i32) (param $at i32) (param $size i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $size))
                (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") (local $left i32)
                (local.set $left (i32.const {count}))
                (loop $again
                    (call $print (i32.const 2) (i32.const 1000) (i32.const 100))
                    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                    (br_if $again (local.get $left)))
                (call $print (i32.const 1) (i32.const 2000) (i32.const 30))))"#
    ))
}

#[tokio::test]
async fn a_guest_that_opens_files_without_end_is_a_500() {
    let wasm = text(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "a.txt")
            (func (export "_start")
                (loop $again
                    (br_if $again (i32.eqz (call $open
                        (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0)
                        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0)))))
                unreachable))"#,
    );
    let app = App::on(engine_with(|_| {}), &wasm);
    let served = app.wagi().file("a.txt", "alpha").timeout(LONG).serve().await;
    let neighbour = neighbour(&served.engine).await;
    let (reply, beside) = tokio::join!(served.get("/"), neighbour.get("/"));
    assert_eq!((reply.status, beside.status), (500, 200));
    served.idle().await;
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 5000, "{open} files are still open");
}

#[tokio::test]
async fn an_app_that_floods_the_log_loses_lines_and_answers_all_the_same() {
    let limits = Limits { output: Some(10_000), ..Limits::default() };
    let served = limited(App::of(&chatty(20_000)).wagi(), limits).serve().await;
    let neighbour = neighbour(&served.engine).await;
    let reply = served.get("/").await;
    assert_eq!((reply.status, reply.text()), (200, "done"));
    let kept = served.lines().len();
    assert!((1..20_000).contains(&kept), "{kept} lines were kept");
    neighbour.get("/log?line=mine").await;
    assert_eq!(neighbour.lines(), ["stdout: stdout: mine", "stderr: stderr: mine"]);
}

#[tokio::test]
async fn a_huge_block_of_headers_is_a_500() {
    // Standard output: one header of a mebibyte less a bit, which a buffer of a mebibyte holds.
    let wasm = text(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 20)
            (data (i32.const 100) "content-type: text/plain\nx-huge: ")
            (data (i32.const 800000) "\n\ndone")
            (func (export "_start")
                (memory.fill (i32.const 133) (i32.const 120) (i32.const 799867))
                (i32.store (i32.const 0) (i32.const 100))
                (i32.store (i32.const 4) (i32.const 799906))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    );
    assert_eq!(hostile(App::of(&wasm).wagi(), "/").await.status, 500);
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_no_bodys_trouble() {
    let served = app().serve().await;
    // What follows the head may be lost with the connection, which ends in the middle of the body.
    let request = Request::post("/").body(http_body_util::Full::new(Bytes::from(vec![b'x'; 8 << 20]))).unwrap();
    assert_eq!(served.begin(request).await.0.status(), 200);
    assert_eq!(neighbour(&served.engine).await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_response_that_never_ends_is_cut_at_its_deadline() {
    let served = app().timeout(AMPLE).serve().await;
    let neighbour = neighbour(&served.engine).await;
    let request = Request::get("/stream?chunks=2&ms=3600000").body(String::new()).unwrap();
    let (response, _connection) = served.begin(request).await;
    assert_eq!((response.status(), neighbour.get("/").await.status), (http::StatusCode::OK, 200));
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn requests_beyond_those_that_may_run_and_wait_are_503_and_other_apps_have_their_own() {
    let limits = Limits { concurrency: Some(1), queue: Some(0), ..Limits::default() };
    let served = limited(app(), limits).serve().await;
    let neighbour = neighbour(&served.engine).await;
    let first = held(&served).await;
    let refused = served.get("/").await;
    assert_eq!((refused.status, refused.header("retry-after"), refused.text()), (503, "1", ""));
    assert_eq!(neighbour.get("/").await.status, 200);
    assert_eq!(served.get("/.well-known/spin/health").await.status, 200, "what needs no guest is not counted");
    drop(first);
    until_free(&served).await;
}

/// Waits until requests are answered again: a guest is gone a little after its caller.
async fn until_free(served: &Served) {
    let status = loop {
        match served.get("/").await.status {
            503 => tokio::task::yield_now().await,
            status => break status,
        }
    };
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_request_that_waits_runs_when_another_has_ended() {
    let limits = Limits { concurrency: Some(1), queue: Some(20), ..Limits::default() };
    let served = limited(app(), limits).serve().await;
    let replies = join_all((0..20).map(|_| served.get("/sleep?ms=5"))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
}

#[tokio::test]
async fn a_request_that_waits_for_too_long_is_a_503() {
    let engine = engine_with(|config| config.queue_timeout = Duration::from_millis(1));
    let limits = Limits { concurrency: Some(1), ..Limits::default() };
    let served = limited(App::on(engine, &guest("http-rust")), limits).serve().await;
    let first = held(&served).await;
    let refused = served.get("/").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    drop(first);
}

#[tokio::test]
async fn revisions_of_one_app_share_its_limit() {
    let limits = || Limits { concurrency: Some(1), queue: Some(0), ..Limits::default() };
    let old = limited(app(), limits());
    let mut new = limited(app(), limits());
    new.settings.usage = std::sync::Arc::clone(&old.settings.usage);
    let (old, new) = (old.serve().await, new.serve().await);
    let first = held(&old).await;
    assert_eq!(new.get("/").await.status, 503);
    drop(first);
    until_free(&new).await;
}

#[tokio::test]
async fn an_app_cannot_have_all_instances_but_where_it_has_the_engine_is_full_for_all() {
    let engine = engine_with(|config| {
        config.max_instances = 4;
        config.default_concurrency = Some(2);
        config.default_queue = 0;
    });
    let greedy = App::on(engine.clone(), &guest("http-rust")).serve().await;
    let neighbour = neighbour(&engine).await;
    let mine = (held(&greedy).await, held(&greedy).await);
    assert_eq!(greedy.get("/").await.status, 503);
    assert_eq!(neighbour.get("/").await.status, 200);
    let everything = Limits { concurrency: Some(1000), ..Limits::default() };
    let allowed = limited(App::on(engine, &guest("http-rust")), everything).serve().await;
    let rest = (held(&allowed).await, held(&allowed).await);
    let full = neighbour.get("/").await;
    assert_eq!((full.status, full.header("retry-after")), (503, "1"));
    drop((mine, rest));
    until_free(&neighbour).await;
}

#[tokio::test]
async fn an_app_cannot_have_all_memory_of_guests() {
    let engine = engine_with(|config| config.guests_memory = Some(64 << 20));
    // Twenty mebibytes, and a day's sleep.
    let wide = text(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 320)
            (data (i32.const 16) "\01\00\00\00\00\00\00\00\00\00\00\00\00\50\00\00")
            (func (export "_start") (drop (call $poll (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2048)))))"#,
    );
    let greedy = std::sync::Arc::new(App::on(engine.clone(), &wide).timeout(LONG).wagi().serve().await);
    let neighbour = neighbour(&engine).await;
    let mut first = tokio::task::JoinSet::new();
    let caller = std::sync::Arc::clone(&greedy);
    first.spawn(async move { caller.get("/").await });
    while engine.guests_memory() < 20 << 20 {
        tokio::task::yield_now().await;
    }
    // A second one exceeds the half that one app may have.
    let refused = greedy.get("/").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(neighbour.get("/").await.status, 200);
    drop(first);
    while engine.guests_memory() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_that_is_announced_as_too_long_is_refused_before_the_guest_runs() {
    let limits = || Limits { body: Some(1000), ..Limits::default() };
    for (app, path) in
        [(app(), "/echo"), (App::of(&guest("legacy-c")), "/echo"), (App::of(&guest("wagi-rust")).wagi(), "/")]
    {
        let served = limited(app, limits()).serve().await;
        assert_eq!(served.send_body(Request::post(path), vec![b'x'; 1001]).await.status, 413);
        assert_eq!(served.send_body(Request::post(path), vec![b'x'; 1000]).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_is_a_413_unless_the_guest_has_answered() {
    let served = limited(app(), Limits { body: Some(1000), ..Limits::default() }).serve().await;
    let chunks = |count: usize| {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; 100])));
        StreamBody::new(futures::stream::iter((0..count).map(move |_| chunk())).boxed())
    };
    // Legacy guests get everything at once, so nothing has been answered when too much has come.
    let whole = limited(App::of(&guest("legacy-c")), Limits { body: Some(1000), ..Limits::default() }).serve().await;
    let (response, _connection) = whole.begin(Request::post("/echo").body(chunks(11)).unwrap()).await;
    assert_eq!(response.status(), 413);
    // An echo may have answered by then: its body is cut.
    let (response, _connection) = served.begin(Request::post("/echo").body(chunks(11)).unwrap()).await;
    let cut = response.status() == 413 || response.into_body().collect().await.is_err();
    assert!(cut, "a body that was cut looks complete");
    let (response, _connection) = served.begin(Request::post("/echo").body(chunks(10)).unwrap()).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 1000);
}

#[tokio::test]
async fn without_a_limit_bodies_are_as_long_as_they_are() {
    let served = App::on(engine(), &guest("http-rust")).serve().await;
    let large = vec![b'x'; 20 << 20];
    assert_eq!(served.send_body(Request::post("/echo"), large).await.body.len(), 20 << 20);
}

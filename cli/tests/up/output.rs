//! What components print, and how the application is told.

use crate::harness::{Up, application, change_manifest, get, notes, run, spindle};

#[tokio::test]
async fn what_components_print_is_appended_to_files_in_the_state_directory() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let log = app.path().join(".spin/logs/hello_stderr.txt");
    for _ in 0..2 {
        let mut up = Up::start(app.path(), cache.path(), &[]).await;
        let told = up.told("Logging component stdio to").await;
        assert!(told.ends_with(".spin/logs/\""), "{told}");
        get(up.address, "/exact").await;
        up.stopped().await;
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "said\nsaid\n");
    let up = Up::start(app.path(), cache.path(), &["-q", "--truncate-logs"]).await;
    get(up.address, "/exact").await;
    assert_eq!(up.stopped().await, "");
    assert_eq!(std::fs::read_to_string(log).unwrap(), "said\n");
}

#[tokio::test]
async fn logs_go_where_the_flag_says_or_nowhere() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let logs = cache.path().join("logs");
    let up = Up::start(app.path(), cache.path(), &["-q", "-L", logs.to_str().unwrap()]).await;
    get(up.address, "/exact").await;
    up.stopped().await;
    assert_eq!(std::fs::read_to_string(logs.join("hello_stderr.txt")).unwrap(), "said\n");
    let up = Up::start(app.path(), cache.path(), &["--log-dir", ""]).await;
    let stderr = up.stopped().await;
    assert!(!stderr.contains("Logging"), "{stderr}");
    let up = Up::start(app.path(), cache.path(), &["--state-dir", ""]).await;
    up.stopped().await;
    assert!(!app.path().join(".spin").exists(), "without a state directory there are no logs");
}

#[tokio::test]
async fn only_components_that_are_followed_are_shown() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let other = "component = \"other\"\n[component.other]\nsource = \"hello.wasm\"\n[component.hello]";
    change_manifest(app.path(), "component = \"hello\"\n        [component.hello]", other);
    let up = Up::start(app.path(), cache.path(), &["--follow", "other"]).await;
    get(up.address, "/hello").await;
    get(up.address, "/exact").await;
    let stderr = up.stopped().await;
    assert!(stderr.contains("[other] said\n") && !stderr.contains("[hello]"), "{stderr}");
    let up = Up::start(app.path(), cache.path(), &["--follow-all"]).await;
    get(up.address, "/hello").await;
    assert!(up.stopped().await.contains("[hello] said\n"));
    let unknown = run(spindle(cache.path()).args(["-f", app.path().to_str().unwrap(), "--follow", "nobody"])).await;
    assert!(unknown.2.contains("--follow nobody") && unknown.2.contains("hello, other"), "{}", unknown.2);
}

#[tokio::test]
async fn long_lines_and_many_of_them_are_shown_and_kept_whole() {
    let (app, cache) = (notes(), tempfile::tempdir().unwrap());
    let shouter = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 4)
        (data (i32.const 0) "\10\00\00\00\0d\00\00\00\00\10\00\00\a1\86\01\00")
        (data (i32.const 16) "status: 200\0a\0a")
        (func (export "_start") (local $left i32)
            (memory.fill (i32.const 4096) (i32.const 120) (i32.const 100000))
            (i32.store8 (i32.const 104096) (i32.const 10))
            (local.set $left (i32.const 40))
            (loop $more
                (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 32)))
                (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;
    std::fs::write(app.path().join("noter.wasm"), wat::parse_str(shouter).unwrap()).unwrap();
    let mut up = Up::start(app.path(), cache.path(), &["--log-dir", cache.path().to_str().unwrap()]).await;
    let asking = up.address;
    let mut request = tokio::task::JoinSet::new();
    request.spawn(async move { get(asking, "/").await });
    let line = "x".repeat(100_000);
    for _ in 0..40 {
        assert!(up.told("[noter]").await == format!("[noter] {line}"), "a line is not whole");
    }
    assert!(request.join_next().await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
    up.stopped().await;
    let kept = std::fs::read_to_string(cache.path().join("noter_stderr.txt")).unwrap();
    assert!(kept == format!("{line}\n").repeat(40), "{} bytes are kept", kept.len());
}

#[tokio::test]
async fn json_is_one_object_on_standard_output() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let mut child = spindle(cache.path())
        .args(["-f", app.path().to_str().unwrap(), "--listen", "127.0.0.1:0", "--format", "json", "-q"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while serde_json::from_str::<serde_json::Value>(&text).is_err() {
        let read = crate::harness::in_time("a line", tokio::io::AsyncBufReadExt::read_line(&mut out, &mut text)).await;
        assert_ne!(read.unwrap(), 0, "{text}");
    }
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let routes = serde_json::json!([
        { "id": "hello", "route": "/hello/...", "wildcard": true },
        { "id": "hello", "route": "/exact", "wildcard": false },
    ]);
    assert_eq!(told["routes"], routes);
    assert!(told["base_url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{told}");
}

//! Flags: what they do, and that none is ignored.

use std::net::TcpListener;

use crate::harness::{Up, application, body, change_manifest, get, greeter, run, spindle, until};

#[tokio::test]
async fn what_cannot_be_run_is_one_error_and_exit_code_1() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("spin.toml"), "spin_manifest_version = 7\n").unwrap();
    let demanding = application();
    change_manifest(demanding.path(), "default = \"you\"", "required = true");
    let wasm = app.path().join("hello.wasm").display().to_string();
    let app = app.path().to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["-f", "/nowhere"], "/nowhere"),
        (&["-f", "ghcr.io/someone/app:v1"], "OCI registries are not supported yet"),
        (&["-f", "someone/1.0.0"], "add --bindle-server"),
        (&["-b", "someone/1.0.0"], "add --bindle-server"),
        (&["-f", broken.path().to_str().unwrap()], "spin_manifest_version"),
        (&["-f", app, "--listen", &taken], "add --find-free-port"),
        (&["-f", app, "--listen", "nonsense"], "(--listen)"),
        (&["-f", demanding.path().to_str().unwrap()], "variable `name` is required"),
        (&["-f", app, "--variable", "nobody=x"], "--variable nobody"),
        (&["-f", app, "--component-id", "nobody"], "nobody"),
        (&["-f", app, "--profile", "nobody"], "nobody"),
        (&["-f", app, "--log-dir", &wasm], "(--log-dir)"),
        (&["-f", app, "--from-registry", "ghcr.io/a/b:1"], "--from-registry: "),
        (&[app], "write --from "),
        (&["-f", app, "--max-instance-reuse-count", "128"], "--max-instance-reuse-count: "),
        (&["-f", app, "--idle-instance-timeout", "1s"], "--idle-instance-timeout"),
        (&["--bindle", "a/1.0.0", "--bindle-server", "http://127.0.0.1:1/v1"], "127.0.0.1:1"),
        (&["--bindle", "a/1.0.0", "--bindle-server", "http://127.0.0.1:1/v1", "--watch"], "--watch needs"),
        (&["--bindle", "a/1.0.0", "--bindle-server", "http://127.0.0.1:1/v1", "--build"], "--build needs"),
        (
            &["--bindle", "a/1.0.0", "--bindle-server", "http://127.0.0.1:1/v1", "--direct-mounts"],
            "--direct-mounts needs",
        ),
        (&["--bindle", "a/1.0.0", "--bindle-server", "http://127.0.0.1:1/v1", "--profile", "p"], "--profile p"),
    ];
    for (flags, part) in cases {
        let (code, stdout, stderr) = run(spindle(cache.path()).args(*flags)).await;
        assert_eq!(code, Some(1), "{flags:?}: {stderr}");
        assert!(stderr.contains("error: ") && stderr.contains(part), "{flags:?}: {stderr}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "{flags:?}: {stderr}");
        assert!(stdout.is_empty(), "{flags:?}");
    }
}

#[tokio::test]
async fn wrong_usage_is_exit_code_2() {
    let cache = tempfile::tempdir().unwrap();
    for (flags, part) in [
        (&["-e", "novalue"][..], "expected KEY=VALUE"),
        (&["--variable", "novalue"], "expected NAME=VALUE"),
        (&["--http1-max-buf-size", "8191"], "8192"),
        (&["--request-timeout", "1..8s"], "a range is not supported"),
        (&["--max-instance-memory", "0"], "--max-instance-memory"),
        (&["--max-instance-count", "0"], "--max-instance-count"),
        (&["--guests-memory", "0"], "--guests-memory"),
        (&["--app-open-files", "0"], "--app-open-files"),
        (&["--quiet", "--follow", "a"], "--follow"),
        (&["--disable-cache", "--cache", "x"], "--cache"),
        (&["--tls-cert", "x"], "--tls-key"),
        (&["--nonsense"], "--nonsense"),
        (&["-f", "a", "-b", "a/1.0.0"], "cannot be used with"),
    ] {
        let (code, _, stderr) = run(spindle(cache.path()).args(flags)).await;
        assert_eq!(code, Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(part), "{flags:?}: {stderr}");
    }
}

#[tokio::test]
async fn the_environment_and_the_cache_are_what_the_flags_say() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["-e", "A=b=c", "--variable", "name=me"]).await;
    assert!(get(up.address, "/exact").await.starts_with("HTTP/1.1 200"));
    assert!(cache.path().join("content").is_dir());
    assert_ne!(std::fs::read_dir(cache.path().join("compiled")).unwrap().count(), 0);
    up.stopped().await;
    let other = tempfile::tempdir().unwrap();
    let up = Up::start(app.path(), other.path(), &["--disable-cache", "--disable-pooling", "--debug-info"]).await;
    assert!(get(up.address, "/exact").await.starts_with("HTTP/1.1 200"));
    assert!(!other.path().join("compiled").exists());
    up.stopped().await;
    let mut command = spindle(other.path());
    command.args(["-f", app.path().to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    let up = Up::spawn(command.env("SPIN_WASMTIME_POOLING", "0").env("SPIN_MAX_INSTANCE_COUNT", "1")).await;
    assert!(get(up.address, "/exact").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_taken_port_makes_place_for_the_next_free_one() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let app = app.path().to_str().unwrap();
    let address = format!("localhost:{}", taken.port());
    let up = Up::spawn(spindle(cache.path()).env("SPIN_HTTP_LISTEN_ADDR", address).args([
        "--find-free-port",
        "--from-file",
        app,
    ]))
    .await;
    assert_ne!(up.address, taken);
    assert_eq!(body(up.address, "/exact").await, "Hello from WAT\n");
}

#[tokio::test]
async fn the_manifest_is_looked_for_above() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let below = app.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    let up = Up::spawn(spindle(cache.path()).args(["--listen", "127.0.0.1:0"]).current_dir(below)).await;
    let stderr = up.stopped().await;
    assert!(stderr.contains("Using ") && stderr.contains("spin.toml"), "{stderr}");
    let (code, _, stderr) = run(spindle(cache.path()).current_dir(cache.path())).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no spin.toml") && stderr.contains("--from"), "{stderr}");
}

#[tokio::test]
async fn only_the_components_that_are_named_run() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let other = "component = \"other\"\n[component.other]\nsource = \"hello.wasm\"\n\
                 allowed_outbound_hosts = [\"http://hello.spin.internal\"]\n[component.hello]";
    change_manifest(app.path(), "component = \"hello\"\n        [component.hello]", other);
    let mut up = Up::start(app.path(), cache.path(), &["-c", "hello"]).await;
    assert_eq!(up.line().await, "Available Routes:");
    assert_eq!(up.line().await, format!("  hello: http://{}/hello (wildcard)", up.address));
    assert!(get(up.address, "/exact").await.starts_with("HTTP/1.1 404"));
    up.stopped().await;
    let up = Up::start(app.path(), cache.path(), &["-c", "other"]).await;
    assert!(get(up.address, "/hello").await.starts_with("HTTP/1.1 200"), "`other` calls it");
}

#[tokio::test]
async fn a_wasm_file_alone_answers_every_path_and_leaves_nothing_beside_it() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let wasm = app.path().join("hello.wasm");
    let mut up = Up::start(&wasm, cache.path(), &["--watch", "--key-value", "a=b"]).await;
    assert_eq!(up.line().await, "Available Routes:");
    assert_eq!(up.line().await, format!("  http-trigger1-component: http://{} (wildcard)", up.address));
    assert_eq!(body(up.address, "/any/where").await, "Hello from WAT\n");
    std::fs::write(&wasm, greeter("Howdy")).unwrap();
    until("the new version", async || body(up.address, "/").await == "Howdy from WAT\n").await;
    up.stopped().await;
    assert!(!app.path().join(".spin").exists());
}

#[tokio::test]
async fn headers_are_limited_by_the_flag() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["--http1-max-buf-size", "8192"]).await;
    let long = format!("/exact?{}", "x".repeat(9000));
    let answer = get(up.address, &long).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"), "{answer}");
    assert!(get(up.address, "/exact").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_guest_for_which_no_memory_is_left_costs_its_own_request() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let text = include_str!("../../../tests/guests/c/legacy.wat").replace("\"memory\") 1)", "\"memory\") 32)");
    std::fs::write(app.path().join("hello.wat"), text).unwrap();
    change_manifest(app.path(), "hello.wasm", "hello.wat");
    for (mebibytes, status) in [("1", "503"), ("2", "200")] {
        let up = Up::start(app.path(), cache.path(), &["--guests-memory", mebibytes, "--app-open-files", "600"]).await;
        let answer = get(up.address, "/exact").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.contains("retry-after: 1"), status == "503", "{answer}");
        up.stopped().await;
    }
}

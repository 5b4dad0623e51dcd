//! `spindle up` as its user sees it: a real process and real guests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails, also in what tests share"
)]

use std::{
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
};

/// How long anything may take that does not fail.
const DEADLINE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {DEADLINE:?}"),
    }
}

/// Answers every request with `Hello from WAT`, after printing a line to both outputs.
fn guest() -> Vec<u8> {
    let wat = include_str!("../../tests/guests/c/legacy.wat");
    let printing = wat
        .replacen(
            "(module",
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
               (data (i32.const 256) "\08\01\00\00\05\00\00\00")
               (data (i32.const 264) "said\0a")"#,
            1,
        )
        .replace(
            "(i32.const 0)))",
            "(drop (call $write (i32.const 2) (i32.const 256) (i32.const 1) (i32.const 300))) (i32.const 0)))",
        );
    wat::parse_str(printing).unwrap()
}

/// A directory with an application of two routes.
fn application() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hello.wasm"), guest()).unwrap();
    let manifest = r#"
        spin_manifest_version = 2
        [application]
        name = "greeter"
        [variables.name]
        default = "you"
        [[trigger.http]]
        route = "/hello/..."
        component = "hello"
        [[trigger.http]]
        route = "/exact"
        component = "hello"
        [component.hello]
        source = "hello.wasm"
    "#;
    std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
    dir
}

fn change_manifest(app: &Path, from: &str, to: &str) {
    let (path, text) = (app.join("spin.toml"), std::fs::read_to_string(app.join("spin.toml")).unwrap());
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

fn spindle(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spindle"));
    let unset = ["BINDLE_URL", "BINDLE_USERNAME", "BINDLE_PASSWORD", "SPINDLE_LISTEN", "SPINDLE_LOG_DIR"];
    for name in unset {
        command.env_remove(name);
    }
    command.arg("up").args([Path::new("--cache-dir"), cache]).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A running `spindle up` at a free port.
struct Up {
    child: Child,
    address: SocketAddr,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Up {
    async fn start(from: &Path, cache: &Path, flags: &[&str]) -> Self {
        let mut child = spindle(cache)
            .args([Path::new("-f"), from, Path::new("--listen"), Path::new("127.0.0.1:0")])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(first) = in_time("the first line", lines.next_line()).await.unwrap() else {
            panic!("it ended: {:?}", child.wait_with_output().await.unwrap());
        };
        let address = first.strip_prefix("Serving http://").expect(&first).parse().unwrap();
        Self { child, address, lines }
    }

    async fn line(&mut self) -> String {
        in_time("a line", self.lines.next_line()).await.unwrap().expect("a line")
    }

    async fn stop(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    }

    /// Waits for the end: exit code and standard error.
    async fn ended(self) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = in_time("the end", self.child.wait_with_output()).await.unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    in_time("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn up_tells_where_its_routes_are_and_answers_there() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let mut up = Up::start(&app.path().join("spin.toml"), cache.path(), &[]).await;
    let address = up.address;
    assert_ne!(address.port(), 0);
    assert_eq!(up.line().await, "Available Routes:");
    assert_eq!(up.line().await, format!("  hello: http://{address}/hello (wildcard)"));
    assert_eq!(up.line().await, format!("  hello: http://{address}/exact"));
    let answer = get(address, "/hello/there").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nHello from WAT\n"), "{answer}");
    assert!(get(address, "/elsewhere").await.starts_with("HTTP/1.1 404"));
    assert!(get(address, "/.well-known/spin/info").await.contains("\"greeter\""));
    up.stop().await;
    let (code, stderr) = up.ended().await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("[hello] said\n"), "what the guest prints is shown: {stderr}");
}

#[tokio::test]
async fn up_finishes_the_request_in_flight_before_it_ends() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["--quiet"]).await;
    let mut slow = TcpStream::connect(up.address).await.unwrap();
    slow.write_all(b"POST /exact HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    let mut go_on = [0; 25];
    in_time("100 Continue", slow.read_exact(&mut go_on)).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    up.stop().await;
    in_time("the port to be closed", async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while TcpStream::connect(up.address).await.is_ok() {
            pace.tick().await;
        }
    })
    .await;
    slow.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    in_time("the answer", slow.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
    let (code, stderr) = up.ended().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "--quiet shows nothing of the guest");
}

#[tokio::test]
async fn what_components_print_is_appended_to_files() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let logs = cache.path().join("logs");
    for _ in 0..2 {
        let up = Up::start(app.path(), cache.path(), &["-q", "--log-dir", logs.to_str().unwrap()]).await;
        get(up.address, "/exact").await;
        up.stop().await;
        assert_eq!(up.ended().await.0, Some(0));
    }
    assert_eq!(std::fs::read_to_string(logs.join("hello_stderr.txt")).unwrap(), "said\nsaid\n");
}

#[tokio::test]
async fn what_cannot_be_run_is_one_error_and_exit_code_1() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let broken = tempfile::tempdir().unwrap();
    std::fs::write(broken.path().join("spin.toml"), "spin_manifest_version = 7\n").unwrap();
    let demanding = application();
    change_manifest(demanding.path(), "default = \"you\"", "required = true");
    let app = app.path().to_str().unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["-f", "/nowhere"], "/nowhere"),
        (&["-f", broken.path().to_str().unwrap()], "spin_manifest_version"),
        (&["-f", app, "--listen", &taken], "(--listen)"),
        (&["-f", demanding.path().to_str().unwrap()], "add --variable name=VALUE"),
        (&["-f", app, "--listen", "127.0.0.1:0", "--variable", "nobody=x"], "--variable nobody"),
        (&["--bindle", "a/1.0.0", "--bindle-server", "http://127.0.0.1:1/v1"], "127.0.0.1:1"),
    ];
    for (flags, part) in cases {
        let output = in_time(part, spindle(cache.path()).args(flags).output()).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(part), "{flags:?}: {stderr}");
        assert_eq!(stderr.lines().filter(|line| line.starts_with("error")).count(), 1, "{flags:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{flags:?}");
    }
}

#[tokio::test]
async fn a_route_that_never_answers_is_told() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    change_manifest(app.path(), "\"/exact\"", "\"/hello/...\"");
    let up = Up::start(app.path(), cache.path(), &[]).await;
    up.stop().await;
    let (code, stderr) = up.ended().await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("routes 0 and 1 match the same paths"), "{stderr}");
}

#[tokio::test]
async fn the_environment_and_the_cache_are_what_the_flags_say() {
    let (app, cache) = (application(), tempfile::tempdir().unwrap());
    let up = Up::start(app.path(), cache.path(), &["-e", "A=b=c", "--variable", "name=me"]).await;
    assert!(get(up.address, "/exact").await.starts_with("HTTP/1.1 200"));
    assert!(cache.path().join("content").is_dir() && cache.path().join("compiled").is_dir());
    up.stop().await;
    assert_eq!(up.ended().await.0, Some(0));
    let output = spindle(cache.path()).args(["-e", "novalue"]).output().await.unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("expected KEY=VALUE"));
}

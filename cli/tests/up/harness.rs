//! What the tests share: guests of a few lines, applications in directories of their own, and the running command.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
};

/// How long anything may take that does not fail.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {DEADLINE:?}"),
    }
}

/// Asks again and again until `done`.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while !done().await {
            pace.tick().await;
        }
    })
    .await;
}

/// Answers every request with `greeting from WAT`, after printing a line to standard error.
pub(crate) fn greeter(greeting: &str) -> Vec<u8> {
    assert_eq!(greeting.len(), "Hello".len(), "the text has a fixed place");
    let wat = include_str!("../../../tests/guests/c/legacy.wat");
    let printing = wat
        .replace("Hello from WAT", &format!("{greeting} from WAT"))
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

/// A Wagi guest: appends `+` to `note.txt` if it may, and answers with `y` or `n` (whether it could) and what is in the file.
pub(crate) fn noter() -> Vec<u8> {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "note.txt")
        (data (i32.const 64) "content-type: text/plain\n\n?")
        (data (i32.const 128) "+")
        ;; What to write and where to read, as pairs of address and length.
        (data (i32.const 256) "\80\00\00\00\01\00\00\00")
        (data (i32.const 264) "\40\00\00\00\1b\00\00\00")
        (data (i32.const 272) "\00\04\00\00\00\10\00\00")
        (func (export "_start")
            (i32.store8 (i32.const 90) (i32.const 110))
            (if (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 1) (i32.const 512)))
                (then
                    (drop (call $write (i32.load (i32.const 512)) (i32.const 256) (i32.const 1) (i32.const 516)))
                    (i32.store8 (i32.const 90) (i32.const 121))))
            (drop (call $write (i32.const 1) (i32.const 264) (i32.const 1) (i32.const 516)))
            (if (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 512)))
                (then
                    (drop (call $read (i32.load (i32.const 512)) (i32.const 272) (i32.const 1) (i32.const 276)))
                    (drop (call $write (i32.const 1) (i32.const 272) (i32.const 1) (i32.const 516)))))))"#;
    wat::parse_str(wat).unwrap()
}

/// An application of two routes.
pub(crate) fn application() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hello.wasm"), greeter("Hello")).unwrap();
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

/// An application whose component notes, with the file `assets/note.txt` that says `note`.
pub(crate) fn notes() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("assets")).unwrap();
    std::fs::write(dir.path().join("assets/note.txt"), "note").unwrap();
    std::fs::write(dir.path().join("noter.wasm"), noter()).unwrap();
    let manifest = r#"
        spin_manifest_version = 2
        application = { name = "notes" }
        trigger = { http = [{ route = "/...", component = "noter", executor = { type = "wagi" } }] }
        [component.noter]
        source = "noter.wasm"
        files = [{ source = "assets", destination = "/" }]
    "#;
    std::fs::write(dir.path().join("spin.toml"), manifest).unwrap();
    dir
}

pub(crate) fn change_manifest(app: &Path, from: &str, to: &str) {
    let (path, text) = (app.join("spin.toml"), std::fs::read_to_string(app.join("spin.toml")).unwrap());
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// The command, in an environment without any of its settings.
pub(crate) fn spindle(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spindle"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let is_ours = ["BINDLE_", "SPIN_", "SPINDLE_", "RUNTIME_CONFIG_", "WASMTIME_", "DISABLE_WASMTIME_"];
        if is_ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.arg("up").args([Path::new("--cache-dir"), cache]).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A running `spindle up` at a free port.
pub(crate) struct Up {
    child: Child,
    pub(crate) address: SocketAddr,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Up {
    pub(crate) async fn start(from: &Path, cache: &Path, flags: &[&str]) -> Self {
        let from = from.to_str().unwrap();
        Self::spawn(spindle(cache).args(["-f", from, "--listen", "127.0.0.1:0"]).args(flags)).await
    }

    /// Starts `command` and waits until it serves.
    pub(crate) async fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(first) = in_time("the first line", out.next_line()).await.unwrap() else {
            panic!("it ended: {:?}", child.wait_with_output().await.unwrap());
        };
        let url = first.strip_prefix("Serving ").expect(&first);
        let address = url.trim_start_matches("https://").trim_start_matches("http://").parse().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, address, out, err }
    }

    /// The next line of standard output.
    pub(crate) async fn line(&mut self) -> String {
        in_time("a line", self.out.next_line()).await.unwrap().expect("a line")
    }

    /// Reads standard error up to a line with `part` in it.
    pub(crate) async fn told(&mut self, part: &str) -> String {
        in_time(part, async {
            loop {
                let line = self.err.next_line().await.unwrap().unwrap_or_else(|| panic!("ended without {part}"));
                if line.contains(part) {
                    return line;
                }
            }
        })
        .await
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn stop(&self) {
        self.signal("-TERM");
    }

    /// Waits for the end: exit code and the rest of standard error.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        while let Some(line) = in_time("the end", self.err.next_line()).await.unwrap() {
            stderr.push_str(&line);
            stderr.push('\n');
        }
        (in_time("the end", self.child.wait()).await.unwrap().code(), stderr)
    }

    /// Stops it, and expects it to end well.
    pub(crate) async fn stopped(self) -> String {
        self.stop();
        let (code, stderr) = self.ended().await;
        assert_eq!(code, Some(0), "{stderr}");
        stderr
    }
}

/// Runs the command to its end: exit code, standard output and standard error.
pub(crate) async fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = in_time("the end", command.output()).await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The whole answer to a request on a connection of its own; empty if the connection broke.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    in_time("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// The body of an answer that must be a 200.
pub(crate) async fn body(address: SocketAddr, path: &str) -> String {
    let answer = get(address, path).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Where a guest that was built from source is.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration that could hold where the guests are")]
pub(crate) fn guest_file(name: &str) -> PathBuf {
    let variable = |name: &str| std::env::var(name).ok().map(PathBuf::from);
    let cache =
        || variable("XDG_CACHE_HOME").unwrap_or_else(|| variable("HOME").unwrap().join(".cache")).join("spindle");
    let dir = variable("SPINDLE_GUESTS")
        .unwrap_or_else(|| variable("SPINDLE_CACHE").unwrap_or_else(cache).join("guests/out"));
    let path = dir.join(name);
    assert!(path.exists(), "the guest {} is missing: `make guests` builds it", path.display());
    path
}

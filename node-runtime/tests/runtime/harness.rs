//! A real node-runtime process, and the operator, the content server and the callers around it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use control::{
    AppKey, AppReport, Assignment, Check, Fetch, FromRuntime, Hello, Hold, Limits, RevisionId, RevisionSpec,
    SecretString, ToRuntime, Welcome,
    wire::{OPERATOR_DNS_NAME, PATH, RUNTIME_DNS_NAME, VERSION, decode, frame, take_frame},
};
use daemon::{HttpSettings, Tasks, serve::serve_http};
use http_body_util::{
    BodyExt as _, Full,
    channel::{Channel, Sender},
};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use manifest::{Application, Component, Content, Digest, Executor, Pattern, Route, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde::Serialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

/// How long anything may take that does not fail.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Fails the test when `future` takes too long.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {DEADLINE:?}"),
    }
}

/// A certificate authority, and what it signs.
pub(crate) struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn leaf(&self, dns_name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![dns_name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }

    /// Writes the files that a runtime reads.
    pub(crate) fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        let (certificate, key) = self.leaf(RUNTIME_DNS_NAME);
        std::fs::write(dir.join("ca.crt"), self.ca.pem()).unwrap();
        std::fs::write(dir.join("tls.crt"), certificate).unwrap();
        std::fs::write(dir.join("tls.key"), key).unwrap();
    }

    /// What a client of this name has; one without a certificate, without a name.
    fn client(&self, dns_name: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match dns_name {
            None => builder.with_no_client_auth(),
            Some(dns_name) => {
                let (certificate, key) = self.leaf(dns_name);
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// A runtime process, and where everything of it is.
pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) pki: Pki,
    child: Child,
    control: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Its log, line by line.
    log: Arc<Mutex<Vec<String>>>,
    /// What guests print, line by line.
    printed: Arc<Mutex<Vec<String>>>,
    tasks: JoinSet<()>,
}

impl Node {
    /// A process with certificates in place, ready.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new();
        pki.write(&dir.path().join("tls"));
        Self::start_in(dir, pki).await
    }

    pub(crate) async fn start_in(dir: TempDir, pki: Pki) -> Self {
        let mut node = Self::launch(dir, pki, &[]).await;
        node.control = node.logged_address("control server listens").await;
        node
    }

    /// A process, as soon as it has an admin server.
    pub(crate) async fn launch(dir: TempDir, pki: Pki, flags: &[&str]) -> Self {
        let at = |name: &str| dir.path().join(name);
        // With few open files allowed, of which it makes more by itself.
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -Sn 256 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_node-runtime")])
            .args(["--control-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0"])
            .args(["--listen-address", "127.0.0.1", "--drain-delay", "0", "--drain-wait", "0", "--runtime-name", "r1"])
            .args(["--max-instances", "50", "--warm-slots", "10", "--sweep-delay", "0"])
            .args([Path::new("--data-dir"), &at("data"), Path::new("--secrets-dir"), &at("secrets")])
            .args([Path::new("--tls-dir"), &at("tls")])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut tasks, sink) = (JoinSet::new(), Arc::clone(&log));
        tasks.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sink.lock().unwrap().push(line);
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&printed);
        tasks.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sink.lock().unwrap().push(line);
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut node = Self { dir, pki, child, control: nowhere, admin: nowhere, log, printed, tasks };
        node.admin = node.logged_address("admin server listens").await;
        node
    }

    /// Waits for a line that a guest prints.
    pub(crate) async fn printed(&self, part: &str) -> serde_json::Value {
        let found =
            eventually(part, async || self.printed.lock().unwrap().iter().find(|line| line.contains(part)).cloned());
        serde_json::from_str(&in_time(part, found).await).unwrap()
    }

    async fn logged_address(&self, message: &str) -> SocketAddr {
        let line = self.logged(message).await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// Waits for a line of the log.
    pub(crate) async fn logged(&self, part: &str) -> String {
        let found =
            eventually(part, async || self.log.lock().unwrap().iter().find(|line| line.contains(part)).cloned());
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(line) => line,
            Err(_) => panic!("the log has no `{part}`: {:#?}", self.log.lock().unwrap()),
        }
    }

    /// Whether its log has a line with the one before a line with the other.
    pub(crate) fn has_logged_in_order(&self, first: &str, second: &str) -> bool {
        let log = self.log.lock().unwrap();
        let at = |part: &str| log.iter().position(|line| line.contains(part));
        at(first).is_some() && at(first) < at(second)
    }

    pub(crate) async fn wait_for_control(&mut self) {
        self.control = self.logged_address("control server listens").await;
    }

    /// An operator's stream, greeted.
    pub(crate) async fn operator(&self, term: u64) -> (Operator, Welcome) {
        let mut operator = Operator::connect(self.control, &self.pki, Some(OPERATOR_DNS_NAME)).await.unwrap();
        operator.hello(term).await;
        match operator.hear().await.unwrap() {
            FromRuntime::Welcome(welcome) => (operator, *welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(crate) async fn connect_as(&self, pki: &Pki, dns_name: &str) -> Outcome<Operator> {
        Operator::connect(self.control, pki, Some(dns_name)).await
    }

    pub(crate) async fn connect_as_nobody(&self) -> Outcome<Operator> {
        Operator::connect(self.control, &self.pki, None).await
    }

    /// A connection without TLS, which says something and waits for the end.
    pub(crate) async fn hangs_up_on(&self, said: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.control).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _reset = in_time("the end of the connection", stream.read_to_end(&mut answer)).await;
        answer
    }

    /// How many files it may have open, and how many it could allow itself.
    pub(crate) fn open_files(&self) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id().unwrap())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    pub(crate) async fn terminate(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    }

    /// Waits for the end; returns the exit code and the directory.
    pub(crate) async fn ended(mut self) -> (Option<i32>, TempDir, Pki) {
        let status = in_time("the process's end", self.child.wait()).await.unwrap();
        self.tasks.abort_all();
        (status.code(), self.dir, self.pki)
    }

    /// Kills it, as a crash would.
    pub(crate) async fn crash(mut self) -> (TempDir, Pki) {
        self.child.kill().await.unwrap();
        (self.dir, self.pki)
    }

    /// Whether there is content, and code compiled from it, on disk.
    pub(crate) fn has(&self, content: &Content) -> (bool, bool) {
        let (data, hex) = (self.dir.path().join("data"), content.digest.hex());
        let compiled = std::fs::read_dir(data.join("compiled")).unwrap();
        let is_of = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(&hex);
        let has_code = compiled.flatten().any(|entry| is_of(&entry.file_name()));
        (data.join("content/blobs/sha256").join(&hex).exists(), has_code)
    }

    pub(crate) fn assignment_file(&self, app: &AppKey) -> PathBuf {
        let below = format!("data/assignments/{}/{}.json", app.namespace(), app.name());
        self.dir.path().join(below)
    }
}

/// Asks again and again, each time something else had its turn, until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    in_time(what, async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        loop {
            pace.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    })
    .await
}

/// The operator's end of a control stream.
pub(crate) struct Operator {
    out: Sender<Bytes>,
    body: Incoming,
    buffer: BytesMut,
    /// The latest heard of each app: its report, or that it was removed.
    latest: BTreeMap<AppKey, Option<AppReport>>,
    _connection: JoinSet<()>,
}

impl Operator {
    async fn connect(address: SocketAddr, pki: &Pki, dns_name: Option<&str>) -> Outcome<Self> {
        let tls = TlsConnector::from(Arc::new(pki.client(dns_name)));
        let stream = TcpStream::connect(address).await?;
        let stream = tls.connect(ServerName::try_from(RUNTIME_DNS_NAME)?, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        let (out, body) = Channel::<Bytes>::new(16);
        let request = Request::post(format!("https://{RUNTIME_DNS_NAME}{PATH}")).body(body)?;
        let response = in_time("the control stream's head", sender.send_request(request)).await?;
        if !response.status().is_success() {
            return Err(response.status().to_string().into());
        }
        let (buffer, latest) = (BytesMut::new(), BTreeMap::new());
        Ok(Self { out, body: response.into_body(), buffer, latest, _connection: tasks })
    }

    pub(crate) async fn hello(&mut self, term: u64) {
        self.say(ToRuntime::Hello(Hello { versions: (VERSION, VERSION), operator: "test".to_owned(), term })).await;
    }

    pub(crate) async fn say(&mut self, message: ToRuntime) {
        self.say_as(&message).await;
    }

    async fn say_as(&mut self, message: &impl Serialize) {
        self.out.send_data(frame(message).unwrap()).await.unwrap();
    }

    /// Assigns as an operator of a later release would, whose newest application says what this one cannot know.
    pub(crate) async fn assign_in_newer_words(&mut self, assignment: &Assignment) {
        let mut message = serde_json::to_value(ToRuntime::Assign(Box::new(assignment.clone()))).unwrap();
        let newest = message["value"]["revisions"].as_array_mut().unwrap().last_mut().unwrap();
        newest["application"]["somethingNew"] = "hunter2".into();
        self.say_as(&message).await;
    }

    pub(crate) async fn assign(&mut self, assignment: &Assignment) {
        self.say(ToRuntime::Assign(Box::new(assignment.clone()))).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn hear(&mut self) -> Option<FromRuntime> {
        let message = in_time("a frame", self.frame()).await?;
        match &message {
            FromRuntime::Report(reports) => {
                self.latest.extend(reports.iter().map(|report| (report.app.clone(), Some(report.clone()))));
            }
            FromRuntime::Removed(app) => drop(self.latest.insert(app.clone(), None)),
            _ => {}
        }
        Some(message)
    }

    async fn frame(&mut self) -> Option<FromRuntime> {
        loop {
            if let Some(payload) = take_frame(&mut self.buffer).unwrap() {
                return Some(decode(&payload).unwrap());
            }
            let frame = self.body.frame().await?.ok()?;
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Listens until `message` is heard.
    pub(crate) async fn until(&mut self, message: &FromRuntime) {
        while self.hear().await.expect("the stream is open") != *message {}
    }

    /// Listens until the stream is refused; why.
    pub(crate) async fn refused(&mut self) -> String {
        loop {
            if let FromRuntime::Refused(why) = self.hear().await.expect("the stream is open") {
                return why;
            }
        }
    }

    /// Waits until the latest heard of `app` is a report that `wanted` wants.
    pub(crate) async fn report(&mut self, app: &AppKey, wanted: impl Fn(&AppReport) -> bool) -> AppReport {
        loop {
            if let Some(Some(report)) = self.latest.get(app)
                && wanted(report)
            {
                return report.clone();
            }
            self.hear().await.expect("the stream is open");
        }
    }

    /// Waits until the latest heard of `app` is that it is gone.
    pub(crate) async fn gone(&mut self, app: &AppKey) {
        while self.latest.get(app) != Some(&None) {
            self.hear().await.expect("the stream is open");
        }
    }

    /// Waits until `app` serves `revision`.
    pub(crate) async fn serving(&mut self, app: &AppKey, revision: &str) -> AppReport {
        let revision = RevisionId(revision.to_owned());
        self.report(app, |report| report.serving.as_ref() == Some(&revision)).await
    }
}

/// A server of parcels, as a Bindle server's `GET /_i/<id>@<sha256>`.
pub(crate) struct Parcels {
    pub(crate) url: String,
    parcels: Arc<Mutex<BTreeMap<String, Bytes>>>,
    tasks: Tasks,
}

impl Parcels {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let parcels = Arc::new(Mutex::new(BTreeMap::<String, Bytes>::new()));
        let (tasks, shelf) = (Tasks::new("parcels"), Arc::clone(&parcels));
        let connections = Arc::new(Semaphore::new(64));
        serve_http(&tasks, "parcels", listener, connections, &HttpSettings::default(), move |_| {
            let shelf = Arc::clone(&shelf);
            service_fn(move |request: Request<Incoming>| {
                let sha = request.uri().path().rsplit('@').next().unwrap_or_default().to_owned();
                let found = shelf.lock().unwrap().get(&sha).cloned();
                let mut response = Response::new(Full::new(found.clone().unwrap_or_default()));
                if found.is_none() {
                    *response.status_mut() = hyper::StatusCode::NOT_FOUND;
                }
                std::future::ready(Ok::<_, Infallible>(response))
            })
        });
        Self { url, parcels, tasks }
    }

    /// Has some content to give.
    pub(crate) fn add(&self, bytes: impl Into<Bytes>) -> Content {
        let bytes = bytes.into();
        let content = content(&bytes);
        self.parcels.lock().unwrap().insert(content.digest.hex(), bytes);
        content
    }

    pub(crate) async fn stop(self) {
        self.tasks.stop(DEADLINE).await.unwrap();
    }
}

pub(crate) fn content(bytes: &[u8]) -> Content {
    Content { digest: Digest::of(bytes), size: bytes.len() as u64 }
}

/// The guest that answers everything with `text` (15 bytes at most, padded).
pub(crate) fn guest(text: &str) -> Vec<u8> {
    let wat = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/guests/c/legacy.wat")).unwrap();
    let text = format!("{text:<14}\\n");
    wat::parse_str(wat.replace("Hello from WAT\\n", &text)).unwrap()
}

/// A program that prints a line to standard error, and then traps.
pub(crate) fn failing_guest(line: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\10\00\00\00{size}")
          (data (i32.const 16) "{line}\n")
          (func $give_up unreachable)
          (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
          (func (export "handle-http-request")
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $give_up)
            (i32.const 0)))"#,
        size = format_args!("\\{:02x}\\00\\00\\00", line.len() + 1),
    ))
    .unwrap()
}

/// A guest that answers `first` when it is asked for the first time, and 200 when its store says that it was.
pub(crate) fn remembering_guest(first: u16) -> Vec<u8> {
    let wat = r#"(module
        (import "key-value" "open" (func $open (param i32 i32 i32)))
        (import "key-value" "exists" (func $exists (param i32 i32 i32 i32)))
        (import "key-value" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "default")
        (data (i32.const 32) "asked")
        (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
        (func (export "canonical_abi_free") (param i32 i32 i32))
        (func (export "handle-http-request") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (local $store i32)
            (call $open (i32.const 16) (i32.const 7) (i32.const 128))
            (if (i32.load8_u (i32.const 128)) (then unreachable))
            (local.set $store (i32.load (i32.const 132)))
            (call $exists (local.get $store) (i32.const 32) (i32.const 5) (i32.const 128))
            (if (i32.load8_u (i32.const 128)) (then unreachable))
            (i32.store16 (i32.const 64)
                (i32.sub (i32.const FIRST) (i32.mul (i32.load8_u (i32.const 132)) (i32.sub (i32.const FIRST) (i32.const 200)))))
            (call $set (local.get $store) (i32.const 32) (i32.const 5) (i32.const 32) (i32.const 5) (i32.const 128))
            (if (i32.load8_u (i32.const 128)) (then unreachable))
            (i32.const 64)))"#;
    wat::parse_str(wat.replace("FIRST", &first.to_string())).unwrap()
}

/// A guest that never answers.
pub(crate) fn looping_guest() -> Vec<u8> {
    let wat = r#"(module
        (memory (export "memory") 1)
        (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
        (func (export "handle-http-request") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (loop $again (br $again)) (i32.const 0)))"#;
    wat::parse_str(wat).unwrap()
}

/// A guest whose answer is `megabytes` of `x`: more than sockets hold.
pub(crate) fn large_guest(megabytes: u32) -> Vec<u8> {
    let bytes = megabytes << 20;
    let pages = (bytes >> 16) + 2;
    wat::parse_str(format!(
        r#"(module
          (memory (export "memory") {pages})
          (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
          (func (export "canonical_abi_free") (param i32 i32 i32))
          (func (export "handle-http-request")
            (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (memory.fill (i32.const 65536) (i32.const 120) (i32.const {bytes}))
            (i32.store16 (i32.const 0) (i32.const 200))
            (i32.store8 (i32.const 16) (i32.const 1))
            (i32.store (i32.const 20) (i32.const 65536))
            (i32.store (i32.const 24) (i32.const {bytes}))
            (i32.const 0)))"#
    ))
    .unwrap()
}

pub(crate) fn key(name: &str) -> AppKey {
    AppKey::new("shop", name).unwrap()
}

/// A revision whose one component is `wasm`.
pub(crate) fn revision(id: &str, wasm: Content, server: &str) -> RevisionSpec {
    let component = Component {
        description: None,
        source: wasm,
        files: Vec::new(),
        environment: BTreeMap::new(),
        variables: BTreeMap::new(),
        allowed_outbound_hosts: Vec::new(),
        key_value_stores: Vec::new(),
        sqlite_databases: Vec::new(),
        ai_models: Vec::new(),
    };
    let name: manifest::ComponentId = "hello".parse().unwrap();
    let application = Application {
        name: "app".to_owned(),
        version: "1.0.0".to_owned(),
        description: None,
        authors: Vec::new(),
        base: "/".to_owned(),
        variables: BTreeMap::new(),
        routes: vec![Route {
            pattern: Pattern::Path("/...".to_owned()),
            target: Target::Component { id: name.clone(), executor: Executor::Spin },
        }],
        components: [(name, component)].into(),
    };
    RevisionSpec {
        id: RevisionId(id.to_owned()),
        application,
        fetch: Fetch::Bindle { server: server.to_owned(), id: "app/1.0.0".to_owned(), credentials: None },
        variables: [("key".to_owned(), SecretString::new("hunter2"))].into(),
        limits: Limits::default(),
        runtime_config: None,
        pool_config: None,
        readiness: None,
    }
}

/// As `revision`, with a check that one bad answer fails.
pub(crate) fn checked(revision: RevisionSpec) -> RevisionSpec {
    let check = Check {
        path: "/healthz".to_owned(),
        headers: Vec::new(),
        initial_delay_ms: 0,
        timeout_ms: 2_000,
        period_ms: 50,
        success_threshold: 1,
        failure_threshold: 1,
    };
    RevisionSpec { readiness: Some(check), ..revision }
}

pub(crate) fn assignment(app: &AppKey, port: u16, revisions: Vec<RevisionSpec>, active: &str) -> Assignment {
    let active = RevisionId(active.to_owned());
    Assignment { app: app.clone(), uid: "uid".to_owned(), port, revisions, active, hold: Hold::Nothing }
}

/// One request on a connection of its own: status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Outcome<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).ok_or("no status")?.parse()?;
    let body = answer.split_once("\r\n\r\n").ok_or("no body")?.1.to_owned();
    Ok((status, body))
}

/// One request to an app's port: status and trimmed body.
pub(crate) async fn ask(port: u16) -> Outcome<(u16, String)> {
    let (status, body) = get(([127, 0, 0, 1], port).into(), "/").await?;
    Ok((status, body.trim().to_owned()))
}

/// A request whose body is not complete yet, so that it is in flight for as long as one likes.
pub(crate) struct Unfinished(TcpStream);

impl Unfinished {
    pub(crate) async fn begin(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
            .await
            .unwrap();
        // The server says so when somebody reads the body: the request has begun.
        let mut answer = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
        in_time("100 Continue", stream.read_exact(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 100 "), "{:?}", String::from_utf8_lossy(&answer));
        Self(stream)
    }

    /// Sends the rest of the body; returns the whole response.
    pub(crate) async fn finish(mut self) -> String {
        self.0.write_all(b"body").await.unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 1024];
        in_time("the response", async {
            while !String::from_utf8_lossy(&answer).contains("\r\n\r\n") || !answer.ends_with(b"\n") {
                match self.0.read(&mut chunk).await.unwrap() {
                    0 => break,
                    n => answer.extend_from_slice(&chunk[..n]),
                }
            }
        })
        .await;
        String::from_utf8(answer).unwrap()
    }
}

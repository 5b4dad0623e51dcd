//! An application made of wasm in memory, served at a port of its own, and a client that shows everything that came back.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use control::Limits;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use manifest::{Application, Component, Executor, File, Pattern, Route, RuntimeConfig, Target, WagiExecutor};
use node_runtime::{
    application::{Connection, HttpApplication},
    engine::{BuildError, Builder, Engine, EngineConfig, RevisionSettings},
    host::GuestLine,
};
use sources::Store;
use tokio::{net::TcpListener, task::JoinSet};

/// How long a guest of these tests may take that is stopped for it. Nothing that should succeed has this deadline.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

/// How long it may take where it is stopped in the middle of what it does, or others with the same deadline are not:
/// enough for what takes milliseconds, also on a machine that does much else.
pub(crate) const AMPLE: Duration = Duration::from_secs(3);

/// One application in the making. Its first component is called `main` and answers every path.
pub(crate) struct App {
    pub(crate) application: Application,
    pub(crate) settings: RevisionSettings,
    store: Store,
    engine: Engine,
    lines: Arc<Mutex<Vec<GuestLine>>>,
    _dir: tempfile::TempDir,
}

/// An application that is served until this is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    lines: Arc<Mutex<Vec<GuestLine>>>,
    _tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// An engine for all tests that need no settings of their own. It keeps compiled code between runs.
pub(crate) fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| engine_with(|_| {})).clone()
}

/// An engine with other settings than the default ones.
pub(crate) fn engine_with(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compiled-guests");
    let mut config = EngineConfig { cache_dir: Some(cache), buffered_body: 1 << 20, ..EngineConfig::default() };
    change(&mut config);
    Engine::new(config).unwrap()
}

/// The wasm of a guest that is built from source.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration that could hold where the guests are")]
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let variable = |name: &str| std::env::var(name).ok().map(PathBuf::from);
    let dir = variable("SPINDLE_GUESTS").unwrap_or_else(|| {
        let cache = variable("SPINDLE_CACHE").unwrap_or_else(|| {
            let caches = variable("XDG_CACHE_HOME").unwrap_or_else(|| variable("HOME").unwrap().join(".cache"));
            caches.join("spindle")
        });
        cache.join("guests/out")
    });
    let path = dir.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        let build = "build it with `tests/guests/build.sh rust c go js py`";
        panic!("the guest {} is missing ({error}): {build}, or say in SPINDLE_GUESTS where it is", path.display())
    })
}

/// The wasm of a guest written as text.
pub(crate) fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

/// A guest of the legacy ABI whose handler has this body, with parameters `$method` to `$body_len`. Its allocator starts at 4096.
pub(crate) fn legacy_with(imports: &str, handler: &str) -> Vec<u8> {
    text(&format!(
        r#"(module
            {imports}
            (memory (export "memory") 4)
            (global $next (mut i32) (i32.const 4096))
            (data (i32.const 1000) "\c8\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\02\00\00\05\00\00\00")
            (data (i32.const 512) "hello")
            (func (export "canonical_abi_free") (param i32 i32 i32))
            (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (global.get $next))
                (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
                (local.get $at))
            (func (export "handle-http-request")
                (param $method i32) (param $uri i32) (param $uri_len i32) (param $headers i32) (param $header_count i32)
                (param $params i32) (param $param_count i32) (param $body_tag i32) (param $body i32) (param $body_len i32)
                (result i32)
                {handler}))"#
    ))
}

impl App {
    /// An application with this component.
    pub(crate) fn of(wasm: &[u8]) -> Self {
        Self::on(engine(), wasm)
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// The same on another engine.
    pub(crate) fn on(engine: Engine, wasm: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let component = component(&store, wasm);
        let id: manifest::ComponentId = "main".parse().unwrap();
        let target = Target::Component { id: id.clone(), executor: Executor::Spin };
        let application = Application {
            name: "test-app".to_owned(),
            version: "1.2.3".to_owned(),
            description: None,
            authors: Vec::new(),
            base: "/".to_owned(),
            variables: BTreeMap::new(),
            routes: vec![Route { pattern: Pattern::Path("/...".to_owned()), target }],
            components: BTreeMap::from([(id, component)]),
        };
        let lines: Arc<Mutex<Vec<GuestLine>>> = Arc::default();
        let seen = Arc::clone(&lines);
        let settings = RevisionSettings {
            app: "tests/app".to_owned(),
            revision: "r1".to_owned(),
            log: Some(Arc::new(move |line: GuestLine| seen.lock().unwrap().push(line))),
            ..RevisionSettings::default()
        };
        Self { application, settings, store, engine, lines, _dir: dir }
    }

    /// Routes to nothing yet.
    pub(crate) fn without_routes(mut self) -> Self {
        self.application.routes.clear();
        self
    }

    /// Adds a route to the component.
    pub(crate) fn route(mut self, path: &str) -> Self {
        let target = Target::Component { id: "main".parse().unwrap(), executor: Executor::Spin };
        self.application.routes.push(Route { pattern: Pattern::Path(path.to_owned()), target });
        self
    }

    /// Adds a component that no route from outside leads to.
    pub(crate) fn private(mut self, id: &str, wasm: &[u8], executor: Executor) -> Self {
        let id: manifest::ComponentId = id.parse().unwrap();
        self.application.components.insert(id.clone(), component(&self.store, wasm));
        let target = Target::Component { id, executor };
        self.application.routes.push(Route { pattern: Pattern::Private, target });
        self
    }

    /// Runs it with a runtime configuration.
    pub(crate) fn runtime_config(mut self, change: impl FnOnce(&mut RuntimeConfig)) -> Self {
        change(Arc::make_mut(&mut self.settings.runtime_config));
        self
    }

    /// Runs the component as a program.
    pub(crate) fn wagi(self) -> Self {
        self.wagi_with(&WagiExecutor::default())
    }

    pub(crate) fn wagi_with(mut self, settings: &WagiExecutor) -> Self {
        for route in &mut self.application.routes {
            if let Target::Component { executor, .. } = &mut route.target {
                *executor = Executor::Wagi(settings.clone());
            }
        }
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.limits.timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap());
        self
    }

    pub(crate) fn memory(mut self, bytes: u64) -> Self {
        self.settings.limits = Limits { memory: Some(bytes), ..self.settings.limits };
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.main().environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn allow(mut self, host: &str) -> Self {
        self.main().allowed_outbound_hosts.push(host.to_owned());
        self
    }

    pub(crate) fn file(mut self, path: &str, content: &str) -> Self {
        let content = self.store.insert_bytes(content.as_bytes()).unwrap();
        self.main().files.push(File { path: path.to_owned(), content });
        self
    }

    pub(crate) fn main(&mut self) -> &mut Component {
        self.application.components.get_mut(&"main".parse::<manifest::ComponentId>().unwrap()).unwrap()
    }

    /// The error that building it gives.
    pub(crate) async fn refused(self) -> BuildError {
        self.build().await.map(|_| ()).expect_err("the application was built")
    }

    pub(crate) async fn build(&self) -> Result<Arc<HttpApplication>, BuildError> {
        let application = Arc::new(self.application.clone());
        let builder = Builder::new(&self.engine, application, &self.store, self.settings.clone());
        builder.build().await.map(HttpApplication::new)
    }

    /// Builds it and serves it.
    pub(crate) async fn serve(self) -> Served {
        let application = self.build().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, application));
        Served { address, engine: self.engine, lines: self.lines, _tasks: tasks, _dir: self._dir }
    }
}

fn component(store: &Store, wasm: &[u8]) -> Component {
    Component {
        description: None,
        source: store.insert_bytes(wasm).unwrap(),
        files: Vec::new(),
        environment: BTreeMap::new(),
        variables: BTreeMap::new(),
        allowed_outbound_hosts: Vec::new(),
        key_value_stores: Vec::new(),
        sqlite_databases: Vec::new(),
        ai_models: Vec::new(),
    }
}

async fn accept(listener: TcpListener, application: Arc<HttpApplication>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, client) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connection = Connection::new(client, http::uri::Scheme::HTTP);
        let application = Arc::clone(&application);
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (application, connection) = (Arc::clone(&application), connection.clone());
                async move { Ok::<_, std::convert::Infallible>(application.handle(request, &connection).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that went away, or a body that was cut off on purpose.
            let _closed = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Served {
    /// Sends `GET path`.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path)).await
    }

    /// Sends a request without a body.
    pub(crate) async fn send(&self, request: http::request::Builder) -> Reply {
        self.send_body(request, "").await
    }

    pub(crate) async fn send_body(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
        collect(self.begin(request.body(Full::new(body.into())).unwrap()).await.0).await.unwrap()
    }

    /// Sends a request; the body of the response is still to be read. The connection lives as long as the set.
    pub(crate) async fn begin<B>(&self, mut request: Request<B>) -> (Response<Incoming>, JoinSet<()>)
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let host = self.address.to_string().parse().unwrap();
        request.headers_mut().entry(http::header::HOST).or_insert(host);
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _closed = connection.await;
        });
        (sender.send_request(request).await.unwrap(), tasks)
    }

    /// Sends `GET path` over HTTP/2, where trailers need no announcement.
    pub(crate) async fn get_h2(&self, path: &str) -> Reply {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _closed = connection.await;
        });
        let request = Request::get(format!("http://{}{path}", self.address)).body(Full::new(Bytes::new())).unwrap();
        collect(sender.send_request(request).await.unwrap()).await.unwrap()
    }

    /// What guests have printed, as `stream: text`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| format!("{}: {}", line.stream.name(), line.text)).collect()
    }

    /// Waits until no instance of the engine is left: it should be this application's own, others of which may always run.
    pub(crate) async fn idle(&self) {
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        while self.engine.live_instances() > 0 {
            pace.tick().await;
        }
    }
}

/// Reads the rest of a response.
pub(crate) async fn collect(response: Response<Incoming>) -> Result<Reply, hyper::Error> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes(), trailers })
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The header's value; empty without one.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The trailer's value; empty without one.
    pub(crate) fn trailer(&self, name: &str) -> &str {
        let value = self.trailers.as_ref().and_then(|trailers| trailers.get(name));
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Whether a line of the body is this.
    pub(crate) fn has_line(&self, line: &str) -> bool {
        self.text().lines().any(|other| other == line)
    }
}

//! An API server in memory: get, list in pages, watch with bookmarks, create, replace, server-side apply with the status
//! apart, delete; with resource versions, and with everything that a real one does not do on demand, such as losing
//! races, failing, stalling and forgetting history.

mod store;

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, channel::Channel, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::Instant};

use self::store::{Answer, Store, Target};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The server.
pub(crate) struct Api {
    state: Arc<State>,
    address: std::net::SocketAddr,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct State {
    store: Mutex<Store>,
    /// The version of the latest change.
    changed: watch::Sender<u64>,
    failing: AtomicBool,
    script: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) accept: String,
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    /// Whether it is about the lease, or asks how the server is.
    pub(crate) fn is_apart(&self) -> bool {
        self.path.contains("/leases") || self.path == "/version"
    }

    /// Whether it changes something that the operator writes about apps.
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET && !self.is_apart()
    }
}

/// What happens to a request instead of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with a message and perhaps `Retry-After`.
    Status(u16, &'static str, Option<u64>),
    /// The connection breaks.
    Reset,
    /// There is no answer, ever.
    Hang,
    /// The answer comes when this is true.
    Until(watch::Receiver<bool>),
    /// The answer comes late.
    Slow(Duration),
    /// The answer begins, and nothing more comes.
    Mute,
    /// The answer begins and ends.
    End,
}

struct Rule {
    applies: Box<dyn Fn(&Seen) -> bool + Send>,
    fault: Fault,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&state)));
        Self { state, address, _server: server }
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(format!("http://{}", self.address).parse().unwrap())
    }

    pub(crate) fn client(&self) -> Client {
        Client::try_from(self.config()).unwrap()
    }

    /// Answers everything with 500 from now on, or no more.
    pub(crate) fn fail(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::SeqCst);
    }

    /// From now on, requests to which `applies` meet `fault`; of several faults, the first that applies.
    pub(crate) fn script(&self, applies: impl Fn(&Seen) -> bool + Send + 'static, fault: Fault) {
        self.state.script().push(Rule { applies: Box::new(applies), fault });
    }

    /// Everything is well again; what stalls goes on stalling.
    pub(crate) fn mend(&self) {
        self.state.script().clear();
    }

    /// The requests since the last time that this was called.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.seen())
    }

    /// How many requests of the log are like this.
    pub(crate) fn count(&self, like: impl Fn(&Seen) -> bool) -> usize {
        self.state.seen().iter().filter(|seen| like(seen)).count()
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.store().get(path)
    }

    /// Every object of a collection, whatever its namespace.
    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        self.state.store().all(resource)
    }

    /// The objects of a collection whose name begins with `name`.
    pub(crate) fn all_about(&self, resource: &str, name: &str) -> Vec<Value> {
        self.state.store().all_about(resource, name)
    }

    /// Every state that an object has been in since the server last forgot.
    pub(crate) fn states(&self, path: &str) -> Vec<Value> {
        self.state.store().states(path)
    }

    /// Makes or replaces an object as a user would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state.store().put(path, object);
        self.state.announce();
    }

    pub(crate) fn delete(&self, path: &str) {
        self.state.store().delete(path);
        self.state.announce();
    }

    /// Changes an object as somebody else would.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        edit(&mut object);
        self.put(path, object);
    }

    /// From now on drops a field of every status that is written, as a CRD does that does not have it.
    pub(crate) fn prune_status(&self, field: &'static str) {
        self.state.store().unknown = Some(field);
    }

    /// Forgets how everything came to be as it is: who watches from an older version is told 410.
    pub(crate) fn compact(&self) {
        self.state.store().compact();
        self.state.announce();
    }
}

impl State {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches.
    fn announce(&self) {
        let version = self.store().version();
        self.changed.send_replace(version);
    }

    /// Remembers a request; the fault that it meets.
    fn meet(&self, seen: Seen) -> Option<Fault> {
        let fault = self.script().iter().find(|rule| (rule.applies)(&seen)).map(|rule| rule.fault.clone());
        self.seen().push(seen);
        fault
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| respond(Arc::clone(&state), request));
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let seen = Seen {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().replace("%2F", "/").replace("%3D", "=").replace("%2C", ","),
        accept: accept.to_owned(),
        at: Instant::now(),
    };
    match state.meet(seen.clone()) {
        None => {}
        Some(Fault::Status(code, message, retry_after)) => return Ok(refusal(code, message, retry_after)),
        // The connection is closed without an answer.
        Some(Fault::Reset) => return Err(io::Error::other("a connection that breaks")),
        Some(Fault::Hang) => std::future::pending().await,
        // An error means that the test is over.
        Some(Fault::Until(mut told)) => drop(told.wait_for(|told| *told).await),
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Mute) => {
            let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
            sender.send_data(Bytes::from_static(b" ")).await.unwrap();
            // Whoever waits for more waits for as long as it likes.
            std::mem::forget(sender);
            return Ok(Response::new(body.boxed_unsync()));
        }
        Some(Fault::End) => return Ok(Response::new(full(Bytes::new()))),
    }
    if state.failing.load(Ordering::SeqCst) {
        return Ok(refusal(500, "InternalServerError", None));
    }
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let Some(target) = Target::parse(&seen) else { return Ok(version()) };
    if seen.is_watch() {
        return Ok(Response::new(watching(state, target)));
    }
    let answer = state.store().answer(&seen.method, &target, &body);
    state.announce();
    match answer {
        Answer::Object(status, object) => Ok(json_response(status, &object)),
        Answer::Refused(code, message) => Ok(refusal(code, &message, None)),
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn json_response(status: StatusCode, object: &Value) -> Response<Body> {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    response.body(full(object.to_string().into())).unwrap()
}

fn version() -> Response<Body> {
    json_response(StatusCode::OK, &json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.4" }))
}

fn refusal(code: u16, message: &str, retry_after: Option<u64>) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap();
    // Kubernetes's word: `NotFound`.
    let reason = status.canonical_reason().unwrap_or_default().replace(' ', "");
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    let mut response = json_response(status, &body);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The events after the version that was asked for, until the watch's time is over.
fn watching(state: Arc<State>, target: Target) -> Body {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(64);
    let until = Instant::now() + Duration::from_secs(target.number("timeoutSeconds").unwrap_or(300));
    let mut since = target.number("resourceVersion").unwrap_or_default();
    let mut changed = state.changed.subscribe();
    let send = async move {
        loop {
            changed.mark_unchanged();
            let (lines, now, gone) = state.store().events(&target, since);
            for line in lines {
                if sender.send_data(line.into()).await.is_err() {
                    return;
                }
            }
            since = now;
            let over = async { tokio::time::sleep_until(until).await };
            tokio::select! {
                _ = changed.changed(), if !gone => {}
                () = over, if !gone => {
                    // What has come meanwhile goes before the bookmark: whoever begins again there never hears of it.
                    let last = {
                        let store = state.store();
                        let (lines, _, gone) = store.events(&target, since);
                        let bookmark = if gone { None } else { Some(store.bookmark(&target)) };
                        lines.into_iter().chain(bookmark).collect::<String>()
                    };
                    let _gone = sender.send_data(last.into()).await;
                    return;
                }
                else => return,
            }
        }
    };
    store::watch_task(send);
    body.boxed_unsync()
}

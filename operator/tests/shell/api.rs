//! An API server for a few kinds of objects, in memory: get, list, create and replace with resource
//! versions. For what a real one does not do on demand, such as losing races and failing.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

/// The server.
pub(crate) struct Api {
    state: Arc<State>,
    address: std::net::SocketAddr,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct State {
    /// By path.
    objects: Mutex<BTreeMap<String, Value>>,
    version: Mutex<u64>,
    failing: AtomicBool,
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

    pub(crate) fn client(&self) -> Client {
        Client::try_from(Config::new(format!("http://{}", self.address).parse().unwrap())).unwrap()
    }

    /// Answers everything with 500 from now on, or no more.
    pub(crate) fn fail(&self, failing: bool) {
        self.state.failing.store(failing, Ordering::SeqCst);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.objects().get(path).cloned()
    }

    pub(crate) fn delete(&self, path: &str) {
        self.state.objects().remove(path);
    }

    /// Changes an object as somebody else would.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let version = self.state.next_version();
        let mut objects = self.state.objects();
        let object = objects.get_mut(path).unwrap();
        edit(object);
        object["metadata"]["resourceVersion"] = json!(version);
    }
}

impl State {
    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_version(&self) -> String {
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        *version += 1;
        version.to_string()
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        if self.failing.load(Ordering::SeqCst) {
            return failure(StatusCode::INTERNAL_SERVER_ERROR);
        }
        match *method {
            Method::GET => self
                .objects()
                .get(path)
                .cloned()
                .map_or_else(|| failure(StatusCode::NOT_FOUND), |object| (StatusCode::OK, object)),
            Method::POST => self.write(path, body, true),
            Method::PUT => self.write(path, body, false),
            _ => failure(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    fn write(&self, path: &str, body: &[u8], create: bool) -> (StatusCode, Value) {
        let mut object: Value = serde_json::from_slice(body).unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let path = if create { format!("{path}/{name}") } else { path.to_owned() };
        let version = self.next_version();
        let mut objects = self.objects();
        match objects.get(&path) {
            Some(_) if create => return failure(StatusCode::CONFLICT),
            None if !create => return failure(StatusCode::NOT_FOUND),
            Some(known) if known["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
                return failure(StatusCode::CONFLICT);
            }
            Some(_) | None => {}
        }
        object["metadata"]["resourceVersion"] = json!(version);
        objects.insert(path, object.clone());
        (if create { StatusCode::CREATED } else { StatusCode::OK }, object)
    }
}

fn failure(status: StatusCode) -> (StatusCode, Value) {
    // Kubernetes's word: `NotFound`.
    let reason = status.canonical_reason().unwrap_or_default().replace(' ', "");
    let code = status.as_u16();
    (
        status,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code }),
    )
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| respond(Arc::clone(&state), request));
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (status, answer) = state.answer(&parts.method, parts.uri.path(), &body);
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(answer.to_string().into())).unwrap())
}

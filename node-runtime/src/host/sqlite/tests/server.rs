//! [`Server`]: speaks Hrana over HTTP as its specification has it, with SQLite behind it.
//!
//! No server of libSQL can be had where these tests run. This one is written from the specification, apart from the client,
//! and shares nothing with it: requests are read as JSON, not with the client's types.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rusqlite::{Connection, types::Value};
use serde_json::{Value as Json, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// What a client must bring.
pub(super) const TOKEN: &str = "right-token";

/// A server with one database.
pub(super) struct Server {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    version: &'static str,
    dir: tempfile::TempDir,
    streams: Mutex<BTreeMap<String, Connection>>,
    batons: AtomicU64,
    held: watch::Sender<bool>,
    open: watch::Sender<usize>,
}

impl Server {
    /// Starts one that knows `version` of the protocol only.
    pub(super) async fn start(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            version,
            dir: tempfile::tempdir().unwrap(),
            streams: Mutex::default(),
            batons: AtomicU64::new(0),
            held: watch::Sender::new(false),
            open: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/base/", self.address)
    }

    /// Forgets all streams, as a server does that they were not used with for long.
    pub(super) fn forget_streams(&self) {
        self.state.streams.lock().unwrap().clear();
    }

    /// Answers nothing until [`Self::go_on`].
    pub(super) fn hold(&self) {
        self.state.held.send_replace(true);
    }

    pub(super) fn go_on(&self) {
        self.state.held.send_replace(false);
    }

    /// Waits until clients have closed all streams.
    pub(super) async fn all_streams_closed(&self) {
        self.state.open.subscribe().wait_for(|open| *open == 0).await.unwrap();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            let _closed =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn reply(status: StatusCode, body: &Json) -> Response<Full<bytes::Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = status;
    response
}

impl State {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<bytes::Bytes>> {
        if request.uri().path() != format!("/base/{}/pipeline", self.version) {
            return reply(StatusCode::NOT_FOUND, &json!({}));
        }
        if request.headers().get("authorization").is_none_or(|sent| sent != format!("Bearer {TOKEN}").as_str()) {
            return reply(StatusCode::UNAUTHORIZED, &json!({ "error": "Unauthorized" }));
        }
        assert_eq!(request.headers()["content-type"], "application/json");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Json = serde_json::from_slice(&body).unwrap();
        self.held.subscribe().wait_for(|held| !held).await.unwrap();
        let mut stream = match body["baton"].as_str() {
            None => Some(self.connect()),
            Some(baton) => match self.streams.lock().unwrap().remove(baton) {
                Some(stream) => Some(stream),
                None => return reply(StatusCode::BAD_REQUEST, &json!({ "message": "The stream has expired" })),
            },
        };
        let work = move || {
            let results: Vec<Json> =
                body["requests"].as_array().unwrap().iter().map(|request| handle(&mut stream, request)).collect();
            (stream, results)
        };
        // A statement may wait for another stream's transaction.
        let (stream, results) = tokio::task::spawn_blocking(work).await.unwrap();
        let baton = stream.map(|stream| {
            let baton = format!("baton-{}", self.batons.fetch_add(1, Ordering::Relaxed));
            self.streams.lock().unwrap().insert(baton.clone(), stream);
            baton
        });
        self.open.send_replace(self.streams.lock().unwrap().len());
        reply(StatusCode::OK, &json!({ "baton": baton, "base_url": null, "results": results }))
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.dir.path().join("db")).unwrap();
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        connection
    }
}

fn handle(stream: &mut Option<Connection>, request: &Json) -> Json {
    let done = match request["type"].as_str().unwrap() {
        "close" => {
            *stream = None;
            Ok(json!({ "type": "close" }))
        }
        "execute" => execute(stream.as_ref().unwrap(), &request["stmt"])
            .map(|result| json!({ "type": "execute", "result": result })),
        "sequence" => stream
            .as_ref()
            .unwrap()
            .execute_batch(request["sql"].as_str().unwrap())
            .map(|()| json!({ "type": "sequence" })),
        other => panic!("unknown request {other}"),
    };
    match done {
        Ok(response) => json!({ "type": "ok", "response": response }),
        Err(error) => json!({ "type": "error", "error": { "message": error.to_string(), "code": "SQLITE_ERROR" } }),
    }
}

fn execute(connection: &Connection, statement: &Json) -> rusqlite::Result<Json> {
    let mut prepared = connection.prepare(statement["sql"].as_str().unwrap())?;
    let columns: Vec<Json> =
        prepared.column_names().iter().map(|name| json!({ "name": name, "decltype": null })).collect();
    let args: Vec<Value> = statement["args"].as_array().unwrap().iter().map(argument).collect();
    let is_select = prepared.readonly();
    let mut found = prepared.query(rusqlite::params_from_iter(args))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push((0..columns.len()).map(|index| Ok(cell(row.get(index)?))).collect::<rusqlite::Result<Vec<Json>>>()?);
    }
    let affected = if is_select { 0 } else { connection.changes() };
    let rowid = connection.last_insert_rowid().to_string();
    Ok(json!({ "cols": columns, "rows": rows, "affected_row_count": affected, "last_insert_rowid": rowid }))
}

fn argument(value: &Json) -> Value {
    match value["type"].as_str().unwrap() {
        "null" => Value::Null,
        "integer" => Value::Integer(value["value"].as_str().unwrap().parse().unwrap()),
        "float" => Value::Real(value["value"].as_f64().unwrap()),
        "text" => Value::Text(value["value"].as_str().unwrap().to_owned()),
        "blob" => Value::Blob(STANDARD_NO_PAD.decode(value["base64"].as_str().unwrap()).unwrap()),
        other => panic!("unknown value {other}"),
    }
}

fn cell(value: Value) -> Json {
    match value {
        Value::Null => json!({ "type": "null" }),
        Value::Integer(number) => json!({ "type": "integer", "value": number.to_string() }),
        Value::Real(number) => json!({ "type": "float", "value": number }),
        Value::Text(text) => json!({ "type": "text", "value": text }),
        Value::Blob(blob) => json!({ "type": "blob", "base64": STANDARD_NO_PAD.encode(blob) }),
    }
}

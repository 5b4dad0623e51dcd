//! Databases on a libSQL server (`type = "libsql"`), by Hrana over HTTP.
//!
//! A connection is one stream of the server: what one answer calls its baton, the next request brings along, so that a
//! transaction spans several requests. The server is told when a connection is closed, and forgets it by itself if that
//! does not reach it.
//!
//! Promise: every wait ends (also with the guest's request), no answer is larger than the limit allows, and the token goes to
//! the server that was configured, or where it says that the stream goes on, but never without TLS if it had TLS.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use async_trait::async_trait;
use manifest::runtime_config::Secret;
use reqwest::{Method, Response, StatusCode, Url, header};
use sources::http::{HttpError, HttpOptions};
use tokio::sync::Mutex;

use super::{
    Connection, Database, Failure, QueryResult, TABLE, Value,
    hrana::{Answer, Cell, Pipeline, Request, ServerError, Statement},
};
use crate::host::{Network, limits::Held, network::ServerClient, stores::StoreConfigError};

/// How much a byte of an answer takes with what is made of it: the shortest values become many times as large.
const PARSED: usize = 4;
/// How much of a server's message a guest is told, in characters.
const MESSAGE: usize = 500;

/// A database of a server.
#[derive(Debug)]
pub(super) struct LibsqlDatabase {
    server: Arc<Server>,
}

#[derive(Debug)]
struct Server {
    url: Url,
    token: Secret,
    /// Where it may be.
    network: Network,
    /// How large a result may be, in bytes.
    result: usize,
    /// Made for the first request: it reads the system's certificates.
    client: OnceLock<ServerClient>,
    /// Whether it only knows version 2 of the protocol.
    is_old: AtomicBool,
}

/// A stream of a server.
struct Stream {
    server: Arc<Server>,
    state: Arc<Mutex<State>>,
    last_insert_rowid: AtomicI64,
    changes: AtomicU64,
}

/// Where a stream is.
#[derive(Debug, Default)]
struct State {
    baton: Option<String>,
    /// Where it goes on, if the server said.
    url: Option<Url>,
    /// Whether a request was given up, so that nobody knows what became of it.
    given_up: bool,
}

impl LibsqlDatabase {
    /// The database at `url`.
    pub(super) fn new(
        label: &str,
        url: &str,
        token: Secret,
        network: Network,
        result: usize,
    ) -> Result<Self, StoreConfigError> {
        let wrong = |problem: &str| StoreConfigError::Url {
            table: TABLE,
            label: label.to_owned(),
            problem: problem.to_owned(),
        };
        let url =
            http_url(url).ok_or_else(|| wrong("`url` is no URL that begins with https://, http:// or libsql://"))?;
        if header::HeaderValue::from_str(&format!("Bearer {}", token.expose())).is_err() {
            return Err(wrong("`token` cannot be sent: it has characters that no header can have"));
        }
        let server = Server { url, token, network, result, client: OnceLock::new(), is_old: AtomicBool::new(false) };
        Ok(Self { server: Arc::new(server) })
    }
}

/// The URL over which HTTP is spoken for a database URL.
fn http_url(text: &str) -> Option<Url> {
    let text = text.trim_end_matches('/');
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        "http" | "ws" => "http",
        "https" | "wss" | "libsql" => "https",
        _ => return None,
    };
    Url::parse(&format!("{scheme}://{rest}")).ok().filter(Url::has_host)
}

impl Database for LibsqlDatabase {
    fn connect(&self) -> Box<dyn Connection> {
        Box::new(Stream {
            server: Arc::clone(&self.server),
            state: Arc::default(),
            last_insert_rowid: AtomicI64::new(0),
            changes: AtomicU64::new(0),
        })
    }
}

#[async_trait]
impl Connection for Stream {
    async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<QueryResult, Failure> {
        let args = parameters.into_iter().map(Cell::of).collect::<Result<_, _>>()?;
        let request = Request::Execute { stmt: Statement { sql: &statement, args, want_rows: true } };
        let result = self.ask(request).await?.outcome()?;
        let result = result.ok_or_else(|| Failure::of_database("the libSQL server answered something else"))?;
        if let Some(row) = result.last_insert_rowid() {
            self.last_insert_rowid.store(row, Ordering::Relaxed);
        }
        if result.may_have_changed() {
            self.changes.store(result.affected_row_count, Ordering::Relaxed);
        }
        result.rows(self.server.result)
    }

    async fn execute_batch(&self, statements: String) -> Result<(), Failure> {
        self.ask(Request::Sequence { sql: &statements }).await?.outcome()?;
        Ok(())
    }

    async fn last_insert_rowid(&self) -> Result<i64, Failure> {
        Ok(self.last_insert_rowid.load(Ordering::Relaxed))
    }

    async fn changes(&self) -> Result<u64, Failure> {
        Ok(self.changes.load(Ordering::Relaxed))
    }
}

impl Stream {
    /// Asks in this stream, one thing at a time.
    async fn ask(&self, request: Request<'_>) -> Result<Answer, Failure> {
        let mut state = self.state.lock().await;
        if std::mem::take(&mut state.given_up) {
            let lost = "the connection was lost in the middle of a statement: what its transaction did is undone";
            return Err(Failure::of_database(lost));
        }
        // If this future is dropped, the stream cannot go on.
        state.given_up = true;
        let (baton, url) = (state.baton.take(), state.url.take());
        let pipeline = Pipeline { baton: baton.as_deref(), requests: [request] };
        let answer = self.server.post(url.as_ref(), &pipeline).await;
        state.given_up = false;
        let answer = answer?;
        state.baton = answer.baton.clone();
        state.url = match &answer.base_url {
            Some(url) => Some(self.server.next_url(url)?),
            None => url,
        };
        Ok(answer)
    }
}

impl Drop for Stream {
    /// Tells the server that the stream has ended, without waiting for it.
    fn drop(&mut self) {
        let (Ok(mut state), Ok(runtime)) = (self.state.try_lock(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let Some(baton) = state.baton.take() else { return };
        let (server, url) = (Arc::clone(&self.server), state.url.take());
        runtime.spawn(async move {
            let close = Pipeline { baton: Some(&baton), requests: [Request::Close] };
            if let Err(failure) = server.post(url.as_ref(), &close).await {
                tracing::debug!(error = %failure.error, "stream of a libSQL server not closed");
            }
        });
    }
}

impl Server {
    /// Where a stream goes on, if that may be.
    fn next_url(&self, url: &str) -> Result<Url, Failure> {
        let url = http_url(url).filter(|url| url.scheme() == self.url.scheme() || url.scheme() == "https");
        url.ok_or_else(|| Failure::of_database("the libSQL server sends us to a URL that is not followed"))
    }

    async fn post(&self, url: Option<&Url>, pipeline: &Pipeline<'_>) -> Result<Answer, Failure> {
        let base = url.unwrap_or(&self.url);
        let body = serde_json::to_vec(pipeline).map_err(|error| Failure::of_statement(error.to_string()))?;
        if !self.is_old.load(Ordering::Relaxed) {
            match self.post_to(base, "v3", body.clone()).await? {
                Some(answer) => return Ok(answer),
                None => self.is_old.store(true, Ordering::Relaxed),
            }
        }
        let answer = self.post_to(base, "v2", body).await?;
        answer.ok_or_else(|| Failure::of_database("there is no libSQL server at the URL (404 Not Found)"))
    }

    /// The answer to `body`; `None` where the server does not know this version.
    async fn post_to(&self, base: &Url, version: &str, body: Vec<u8>) -> Result<Option<Answer>, Failure> {
        let mut url = base.clone();
        url.set_path(&format!("{}/{version}/pipeline", base.path().trim_end_matches('/')));
        let client = self.client()?;
        let _turn = client.turn().await;
        let request = client.request(Method::POST, url).await;
        let request =
            request.map_err(|error| Failure::of_database(format!("the libSQL server cannot be asked: {error}")));
        let mut request = request?.header(header::CONTENT_TYPE, "application/json");
        if !self.token.expose().is_empty() {
            request = request.bearer_auth(self.token.expose());
        }
        let response = request.body(body).send().await.map_err(|error| unreachable(&error.into()))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        // A value is at most twice as long in JSON, apart from its type.
        let limit = u64::try_from(self.result).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(1 << 20);
        let mut held = self.network.memory().hold();
        let body = read_body(response, limit, &mut held).await?;
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        let answer = serde_json::from_slice(&body);
        let wrong = |error| Failure::of_database(format!("the libSQL server's answer is not understood: {error}"));
        answer.map(Some).map_err(wrong)
    }

    fn client(&self) -> Result<&ServerClient, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = ServerClient::new(&self.network, &self.url, HttpOptions::default());
        let client = client.map_err(|error| unreachable(&error))?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// Reads an answer of at most `limit` bytes, and holds what it takes when it is parsed.
async fn read_body(mut response: Response, limit: u64, held: &mut Held) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error.into()))? {
        body.extend_from_slice(&chunk);
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > limit {
            return Err(Failure::of_statement(format!("the result has more than {limit} bytes")));
        }
        let room = held.add(chunk.len().saturating_mul(PARSED));
        room.map_err(|error| Failure::of_statement(error.to_string()))?;
    }
    Ok(body)
}

fn unreachable(error: &HttpError) -> Failure {
    Failure::of_database(format!("the libSQL server cannot be asked: {}", daemon::chain(error)))
}

/// A request as a whole was refused.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let message = match serde_json::from_slice::<ServerError>(body) {
        Ok(error) => error.message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    let message: String = message.chars().take(MESSAGE).collect();
    Failure::of_database(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!("the libSQL server refuses the token ({status})"),
        _ => format!("the libSQL server refuses the request ({status}): {message}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_urls_become_http_urls() {
        let http = |url| http_url(url).map(String::from);
        assert_eq!(http("libsql://db.example.com").as_deref(), Some("https://db.example.com/"));
        assert_eq!(http("http://127.0.0.1:8080/").as_deref(), Some("http://127.0.0.1:8080/"));
        assert_eq!(http("wss://h/base/").as_deref(), Some("https://h/base"));
        for wrong in ["", "db.example.com", "ftp://h", "http://", "file:///x"] {
            assert_eq!(http(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_stream_never_goes_on_without_tls() {
        let database =
            LibsqlDatabase::new("x", "libsql://db.example.com", Secret::new("t"), Network::allowing(&[]), 1).unwrap();
        assert!(database.server.next_url("http://db.example.com").is_err());
        assert_eq!(database.server.next_url("https://eu.example.com").unwrap().as_str(), "https://eu.example.com/");
    }
}

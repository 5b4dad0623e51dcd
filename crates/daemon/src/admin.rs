//! [`Admin`]: the server for kubelet, Prometheus and people, on a port of its own.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 as long as the process can answer |
//! | `/readyz` | 200, or 503 and what is missing |
//! | `/metrics` | Prometheus' text format |
//! | `/debug/state` | the process's state as JSON, without secrets |

use std::{convert::Infallible, fmt, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    serve::{HttpSettings, serve_http},
    tasks::Tasks,
};

/// How many connections the admin server takes at a time.
const CONNECTIONS: usize = 64;

/// Where the admin server is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Admin server")]
pub struct AdminArgs {
    /// The address of /healthz, /readyz, /metrics and /debug/state
    #[arg(long, env = "SPINDLE_ADMIN_ADDRESS", default_value = "0.0.0.0:9090", value_name = "ADDRESS:PORT")]
    pub admin_address: SocketAddr,
}

type Ready = dyn Fn() -> Result<(), String> + Send + Sync;
type State = dyn Fn() -> Value + Send + Sync;

/// What the admin server tells.
#[derive(Clone)]
pub struct Admin {
    registry: Registry,
    ready: Arc<Ready>,
    state: Arc<State>,
}

impl Admin {
    /// Serves the metrics of `registry`; ready at once, with no state to show.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry, ready: Arc::new(|| Ok(())), state: Arc::new(|| Value::Null) }
    }

    /// Asks `ready` for `/readyz`; an `Err` says what is missing.
    #[must_use]
    pub fn ready_when(self, ready: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { ready: Arc::new(ready), ..self }
    }

    /// Asks `state` for `/debug/state`.
    #[must_use]
    pub fn with_state(self, state: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self { state: Arc::new(state), ..self }
    }

    /// Binds the address and serves as a task of `tasks`; returns the address that was bound.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn serve(self, args: &AdminArgs, tasks: &Tasks) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(args.admin_address).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        serve_http(tasks, "admin server", listener, connections, &HttpSettings::default(), move |_peer| {
            let admin = self.clone();
            service_fn(move |request| std::future::ready(Ok::<_, Infallible>(admin.answer(&request))))
        });
        Ok(address)
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match (self.ready)() {
                Ok(()) => text(StatusCode::OK, "ok\n"),
                Err(missing) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
            },
            "/metrics" => self.metrics(),
            "/debug/state" => content(StatusCode::OK, "application/json", format!("{:#}\n", (self.state)())),
            _ => text(StatusCode::NOT_FOUND, "here are /healthz, /readyz, /metrics and /debug/state\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut body) {
            Ok(()) => content(StatusCode::OK, prometheus::TEXT_FORMAT, body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    content(status, "text/plain; charset=utf-8", body)
}

fn content(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;

    async fn get(admin: &Admin, path: &str) -> (u16, String) {
        let response = admin.answer(&Request::get(path).body(()).unwrap());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing() {
        let admin = Admin::new(Registry::new());
        assert_eq!(get(&admin, "/readyz").await, (200, "ok\n".to_owned()));
        let admin = admin.ready_when(|| Err("no certificate yet".to_owned()));
        assert_eq!(get(&admin, "/readyz").await, (503, "no certificate yet\n".to_owned()));
        assert_eq!(get(&admin, "/healthz").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_and_state_are_those_passed_in() {
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("tries_total", "Tries").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc_by(3);
        let admin = Admin::new(registry).with_state(|| json!({"apps": 2}));
        assert!(get(&admin, "/metrics").await.1.contains("tries_total 3"));
        assert_eq!(get(&admin, "/debug/state").await, (200, "{\n  \"apps\": 2\n}\n".to_owned()));
        assert_eq!(get(&admin, "/").await.0, 404);
    }

    #[tokio::test]
    async fn admin_server_answers_over_tcp_and_stops_with_its_tasks() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let tasks = Tasks::new("test");
        let args = AdminArgs { admin_address: ([127, 0, 0, 1], 0).into() };
        let address = Admin::new(Registry::new()).serve(&args, &tasks).await.unwrap();
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 15];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200 OK");
        tasks.stop(std::time::Duration::from_secs(10)).await.unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}

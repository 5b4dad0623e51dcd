//! [`HttpPool`]: the HTTP client of guests, with the connections that they may use again.
//!
//! Promise: connections are shared by the components of one revision that prove themselves to servers in the same way, and by
//! nobody else. HTTP/2 where a server offers it over TLS, else HTTP/1.1. What a server sends is held in memory up to 1 MiB
//! for a connection, whoever is slow.
//!
//! Absent on purpose: redirects, cookies, proxies, compression: a guest sees what the server says.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::watch;
use wasmtime_wasi_http::{Error, RequestOptions};

use super::{
    body::{RequestBody, ResponseStream},
    connector::{Connector, PATIENCE, Patience},
    failure,
};
use crate::host::Network;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How large the head of a response may be, and the part of its body that waits to be read, in bytes.
const BUFFER: usize = 256 << 10;
/// How many headers a response may have.
const HEADERS: usize = 256;
/// The limits of time of a request that sets none, as Spin's. The guest's deadline is mostly earlier.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

type HttpClient = Client<Connector, RequestBody>;

/// A client with its connections.
pub(crate) struct HttpPool {
    client: ArcSwap<HttpClient>,
    connector: Connector,
    reuse: bool,
}

impl HttpPool {
    /// A client that connects by way of `network`, and uses connections again or not.
    pub(crate) fn new(network: &Network, reuse: bool) -> Arc<Self> {
        let connector = Connector::new(network.clone());
        let client = ArcSwap::from_pointee(client(&connector, reuse));
        let pool = Arc::new(Self { client, connector, reuse });
        let weak: Weak<Self> = Arc::downgrade(&pool);
        network.connections().on_shortage(move || {
            if let Some(pool) = weak.upgrade() {
                pool.close_idle();
            }
        });
        pool
    }

    /// Closes connections that nobody uses. A client has no other way to do so than to go; requests in flight end in peace.
    fn close_idle(&self) {
        self.client.store(Arc::new(client(&self.connector, self.reuse)));
    }

    /// Sends `request` and waits for the head of its response, until then at most.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        options: RequestOptions,
        until: Instant,
    ) -> Result<Response<ResponseStream<Incoming>>, Error> {
        let connected = Arc::new(watch::Sender::new(Some(Instant::now())));
        let connect = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let patience = Patience { connect, until, connected: Arc::clone(&connected) };
        let client = HttpClient::clone(&self.client.load());
        let answer = PATIENCE.scope(patience, client.request(request));
        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
        tokio::select! {
            biased;
            answer = answer => {
                let answer = answer.map_err(|error| failure::of_client(&error))?;
                Ok(answer.map(|body| ResponseStream::new(body, between_bytes, |error| failure::of_body(&error))))
            }
            () = passed(first_byte, connected.subscribe()) => Err(Error::ConnectionReadTimeout),
        }
    }
}

/// Resolves when `limit` has passed since the last connection was opened.
async fn passed(limit: Duration, mut connected: watch::Receiver<Option<Instant>>) {
    loop {
        let since = *connected.borrow_and_update();
        let Some(since) = since else {
            if connected.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep_until((since + limit).into()) => return,
            changed = connected.changed() => {
                if changed.is_err() {
                    tokio::time::sleep_until((since + limit).into()).await;
                    return;
                }
            }
        }
    }
}

fn client(connector: &Connector, reuse: bool) -> HttpClient {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .http1_max_buf_size(BUFFER)
        .http1_max_headers(HEADERS)
        .http2_max_header_list_size(u32::try_from(BUFFER).unwrap_or(u32::MAX))
        .http2_initial_stream_window_size(u32::try_from(BUFFER).unwrap_or(u32::MAX))
        .http2_initial_connection_window_size(u32::try_from(4 * BUFFER).unwrap_or(u32::MAX))
        .http2_max_send_buf_size(BUFFER);
    if !reuse {
        builder.pool_max_idle_per_host(0);
    }
    builder.build(connector.clone())
}

impl fmt::Debug for HttpPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPool").field("reuse", &self.reuse).finish_non_exhaustive()
    }
}

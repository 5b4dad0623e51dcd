//! Accepting connections and speaking HTTP on them: shared by the admin server, the control server and
//! every app's port.

mod framing;
mod stalled;
mod tls;

use std::{error::Error, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

pub(crate) use framing::Framing;
pub use stalled::note_frame;
pub use tls::{ServerTls, TlsError, TlsFiles};

use stalled::Streams;

use crate::{patience::Patience, tasks::Tasks};

/// The first and the longest pause after `accept` failed.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A connection just accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its bytes, without Nagle's delay.
    pub stream: TcpStream,
    /// Who connected; an IPv4 client of an IPv6 socket by its IPv4 address.
    pub peer: SocketAddr,
    /// Its place among the connections allowed at a time: hold it until the connection is closed.
    pub place: Place,
}

/// How many connections there may be at a time.
#[derive(Debug, Clone)]
pub struct Places {
    own: Arc<Semaphore>,
    shared: Option<Arc<Semaphore>>,
}

/// A place for one connection.
#[derive(Debug)]
pub struct Place {
    _own: OwnedSemaphorePermit,
    _shared: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// So many.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self::from(Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))))
    }

    /// So many, but no more than those of all listeners with the same `shared` places.
    #[must_use]
    pub fn within(self, shared: Arc<Semaphore>) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// A place among the listener's own.
    async fn own(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.own).acquire_owned().await.ok()
    }

    /// And one among those shared, for a connection that is there already: taken before, one would be lost to every
    /// listener to which nobody connects.
    async fn with(&self, own: OwnedSemaphorePermit) -> Option<Place> {
        let shared = match &self.shared {
            Some(shared) => Some(Arc::clone(shared).acquire_owned().await.ok()?),
            None => None,
        };
        Some(Place { _own: own, _shared: shared })
    }
}

impl From<Arc<Semaphore>> for Places {
    fn from(own: Arc<Semaphore>) -> Self {
        Self { own, shared: None }
    }
}

/// Accepts connections until `stop`; when there are as many as `places` allows, the next ones wait
/// in the kernel's queue. Running out of file descriptors makes it pause, not end.
pub async fn accept<F>(listener: TcpListener, places: impl Into<Places>, stop: CancellationToken, mut on_connection: F)
where
    F: FnMut(Accepted),
{
    let places = places.into();
    loop {
        let next = next_connection(&listener, &places);
        match stop.run_until_cancelled(next).await {
            Some(accepted) => on_connection(accepted),
            None => return,
        }
    }
}

/// The place first: a connection that may not be served yet is not taken out of the queue.
async fn next_connection(listener: &TcpListener, places: &Places) -> Accepted {
    let Some(own) = places.own().await else {
        // Closed: nothing may connect any more.
        return std::future::pending().await;
    };
    let (stream, peer) = next_stream(listener).await;
    match places.with(own).await {
        Some(place) => Accepted { stream, peer, place },
        None => std::future::pending().await,
    }
}

async fn next_stream(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = BACK_OFF.0;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Fails only for a connection that is gone already.
                if stream.set_nodelay(true).is_ok() {
                    return (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port()));
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections for now");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Whether an `accept` error is about the connection that would have been accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// What HTTP clients may do.
///
/// What HTTP/2 lets a client do without end is limited here too: streams it opens and resets, headers in any number of
/// frames, what waits to be sent to it. PING and SETTINGS need no number: one answer at a time is owed, and nothing is read
/// before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// How long a client may take to send a request's headers, and how long a connection may be idle.
    /// Longer than the idle time of usual ingress controllers (60 s), so that they close first.
    pub header_timeout: Duration,
    /// How long a client may take no byte of what is sent to it before its connection, or its HTTP/2 stream, is closed.
    pub write_timeout: Duration,
    /// How long a client may take to shake hands (TLS), or to send what precedes HTTP.
    pub handshake_timeout: Duration,
    /// The most bytes of a request's headers, over HTTP/1.1 with the request line; more is answered with 431. At least
    /// 8192.
    pub max_header_bytes: usize,
    /// The most headers of a request; more is answered with 431.
    pub max_headers: usize,
    /// The most requests at a time on one HTTP/2 connection.
    pub max_streams: u32,
    /// How many streams an HTTP/2 client may have reset that nobody has looked at yet, and how many of its streams may have
    /// been ended because of its errors; then its connection is closed (rapid reset, CVE-2023-44487).
    pub max_resets: (usize, usize),
    /// How many bytes may wait to be sent on one HTTP/2 stream.
    pub send_buffer: usize,
    /// How many bytes an HTTP/2 client may send on one stream, and on all together, before they are read.
    pub windows: (u32, u32),
    /// How often an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
    pub ping: (Duration, Duration),
}

/// The fewest bytes of headers that can be allowed.
const MIN_HEADER_BYTES: usize = 8192;
/// What hyper allows where nothing is said, without allocating for each request.
const USUAL_HEADERS: usize = 100;

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            max_header_bytes: 64 * 1024,
            max_headers: USUAL_HEADERS,
            max_streams: 256,
            max_resets: (20, 1024),
            send_buffer: 256 * 1024,
            windows: (256 * 1024, 1024 * 1024),
            ping: (Duration::from_secs(20), Duration::from_secs(10)),
        }
    }
}

/// Speaks HTTP/1.1 and HTTP/2 (prior knowledge, or chosen by ALPN) on connections.
#[derive(Clone, Debug)]
pub struct HttpServer {
    protocols: auto::Builder<Streams>,
    /// For the first bytes, and for bytes to be taken.
    patience: (Duration, Duration),
}

impl HttpServer {
    /// A server whose requests run as tasks of `tasks`.
    #[must_use]
    pub fn new(settings: &HttpSettings, tasks: Tasks) -> Self {
        let header_bytes = settings.max_header_bytes.max(MIN_HEADER_BYTES);
        let mut protocols = auto::Builder::new(Streams { tasks, patience: settings.write_timeout });
        protocols
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(header_bytes);
        if settings.max_headers != USUAL_HEADERS {
            protocols.http1().max_headers(settings.max_headers);
        }
        protocols
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(settings.max_resets.0)
            .max_local_error_reset_streams(settings.max_resets.1)
            .max_send_buf_size(settings.send_buffer)
            .initial_stream_window_size(settings.windows.0)
            .initial_connection_window_size(settings.windows.1)
            .keep_alive_interval(settings.ping.0)
            .keep_alive_timeout(settings.ping.1);
        Self { protocols, patience: (settings.header_timeout, settings.write_timeout) }
    }

    /// Speaks HTTP/2 only.
    #[must_use]
    pub fn http2_only(self) -> Self {
        Self { protocols: self.protocols.http2_only(), ..self }
    }

    /// Serves one connection until it ends; from `stop` on it takes no new request, finishes those that
    /// it has, and closes.
    ///
    /// # Errors
    /// When the connection broke. Of interest to nobody but who debugs a client.
    pub async fn serve<I, S, B>(
        &self,
        io: I,
        service: S,
        stop: &CancellationToken,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Send,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let io = TokioIo::new(Patience::new(io, self.patience.0, self.patience.1));
        let mut connection = pin!(self.protocols.serve_connection(io, service));
        tokio::select! {
            biased;
            // First, so that whatever is answered from now on says that the connection closes.
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            ended = connection.as_mut() => return ended,
        }
        connection.await
    }
}

/// Accepts connections on `listener` and answers their requests with what `service` makes, as tasks of
/// `tasks`, until they are told to stop.
pub fn serve_http<M, S, B>(
    tasks: &Tasks,
    name: &'static str,
    listener: TcpListener,
    places: impl Into<Places>,
    settings: &HttpSettings,
    service: M,
) where
    M: Fn(SocketAddr) -> S + Send + Sync + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let server = HttpServer::new(settings, tasks.clone());
    let (spawner, stop, places) = (tasks.clone(), tasks.stop_token(), places.into());
    tasks.spawn(name, async move {
        accept(listener, places, stop.clone(), |accepted| {
            let service = service(accepted.peer);
            spawner.spawn_brief("connection", connection(server.clone(), accepted, service, stop.clone()));
        })
        .await;
        Ok::<(), std::convert::Infallible>(())
    });
}

/// Serves one accepted connection.
async fn connection<S, B>(server: HttpServer, accepted: Accepted, service: S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Accepted { stream, peer, place } = accepted;
    if let Err(error) = server.serve(stream, service, &stop).await {
        tracing::debug!(%peer, %error, "connection broke");
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_answered_after_the_stop_says_that_the_connection_closes() {
        let (mut client, io) = tokio::io::duplex(4096);
        let (tasks, stop) = (Tasks::new("test"), CancellationToken::new());
        let server = HttpServer::new(&HttpSettings::default(), tasks.clone());
        let stopped = stop.clone();
        tasks.spawn("connection", async move {
            let service = service_fn(async |request: Request<Incoming>| {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::new(body)))
            });
            server.serve(io, service, &stopped).await.unwrap();
            Ok::<_, Infallible>(())
        });
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
            .await
            .unwrap();
        let mut go_on = [0; 25];
        client.read_exact(&mut go_on).await.unwrap();
        // The connection hears of both at the same time.
        stop.cancel();
        client.write_all(b"body").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("body"), "{answer}");
    }
}

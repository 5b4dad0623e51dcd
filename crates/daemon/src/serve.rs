//! Accepting connections and speaking HTTP on them: shared by the admin server, the control server and
//! every app's port.

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
    pub permit: OwnedSemaphorePermit,
}

/// Accepts connections until `stop`; when there are as many as `connections` allows, the next ones wait
/// in the kernel's queue. Running out of file descriptors makes it pause, not end.
pub async fn accept<F>(
    listener: TcpListener,
    connections: Arc<Semaphore>,
    stop: CancellationToken,
    mut on_connection: F,
) where
    F: FnMut(Accepted),
{
    loop {
        let next = next_connection(&listener, &connections);
        match stop.run_until_cancelled(next).await {
            Some(accepted) => on_connection(accepted),
            None => return,
        }
    }
}

/// The permit first: a connection that may not be served yet is not taken out of the queue.
async fn next_connection(listener: &TcpListener, connections: &Arc<Semaphore>) -> Accepted {
    let Ok(permit) = Arc::clone(connections).acquire_owned().await else {
        // Closed: nothing may connect any more.
        return std::future::pending().await;
    };
    let mut pause = BACK_OFF.0;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Fails only for a connection that is gone already.
                if stream.set_nodelay(true).is_ok() {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return Accepted { stream, peer, permit };
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
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How long a client may take to send a request's headers, and how long a connection may be idle.
    /// Longer than the idle time of usual ingress controllers (60 s), so that they close first.
    pub header_timeout: Duration,
    /// The most bytes of a request's headers; more is answered with 431.
    pub max_header_bytes: usize,
    /// The most requests at a time on one HTTP/2 connection.
    pub max_streams: u32,
    /// How often an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
    pub ping: (Duration, Duration),
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(75),
            max_header_bytes: 64 * 1024,
            max_streams: 256,
            ping: (Duration::from_secs(20), Duration::from_secs(10)),
        }
    }
}

/// Speaks HTTP/1.1 and HTTP/2 (prior knowledge, or chosen by ALPN) on connections.
#[derive(Clone, Debug)]
pub struct HttpServer {
    protocols: auto::Builder<Tasks>,
    patience: Duration,
}

impl HttpServer {
    /// A server whose requests run as tasks of `tasks`.
    #[must_use]
    pub fn new(settings: &HttpSettings, tasks: Tasks) -> Self {
        let mut protocols = auto::Builder::new(tasks);
        protocols
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(settings.max_header_bytes.max(8192));
        protocols
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(settings.ping.0)
            .keep_alive_timeout(settings.ping.1);
        Self { protocols, patience: settings.header_timeout }
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
        let io = TokioIo::new(Patience::new(io, self.patience));
        let mut connection = pin!(self.protocols.serve_connection(io, service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
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
    connections: Arc<Semaphore>,
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
    let (spawner, stop) = (tasks.clone(), tasks.stop_token());
    tasks.spawn(name, async move {
        accept(listener, connections, stop.clone(), |accepted| {
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
    let Accepted { stream, peer, permit } = accepted;
    if let Err(error) = server.serve(stream, service, &stop).await {
        tracing::debug!(%peer, %error, "connection broke");
    }
    drop(permit);
}

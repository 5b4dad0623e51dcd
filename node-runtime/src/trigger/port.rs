//! [`Port`]: one app's TCP port.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use daemon::{Accepted, HttpServer, HttpSettings, ServerTls, StillRunning, Tasks, accept, serve::Places};
use http::{HeaderValue, Method, Request, Response, Version, header::CONTENT_LENGTH, uri::Scheme};
use hyper::{
    body::{Body, Incoming},
    service::service_fn,
};
use node_runtime_core::forwarded::TrustedProxies;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{
    Farewell, ProxyProtocol, RequestBody, Slot, SlotBody,
    proxy::{self, Begun, Passed},
};
use crate::{
    application::{Connection, RequestError},
    executor::has_no_body,
};

/// How ports are served.
#[derive(Debug, Clone)]
pub struct TriggerSettings {
    /// The address to listen at; both families if `None`.
    pub address: Option<IpAddr>,
    /// How many connections one port takes at a time. Default 4096.
    pub connections: usize,
    /// How many connections all ports together take at a time: each is an open file, and guests need some too. Default: as
    /// many as there can be.
    pub all_connections: usize,
    /// What clients may do.
    pub http: HttpSettings,
    /// The longest path and query of a request, in bytes; a longer one is answered with 414. Default 8192.
    pub max_uri_bytes: usize,
    /// How long a client may send nothing of a body that a guest waits for. Default 60 s.
    pub body_timeout: Duration,
    /// Speaks TLS on every port; plain HTTP without.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Whose PROXY headers, `X-Forwarded-For` and `X-Forwarded-Proto` count. Default: nobody's.
    pub trusted_proxies: TrustedProxies,
}

impl Default for TriggerSettings {
    fn default() -> Self {
        Self {
            address: None,
            connections: 4096,
            all_connections: Semaphore::MAX_PERMITS,
            http: HttpSettings::default(),
            max_uri_bytes: 8192,
            body_timeout: Duration::from_secs(60),
            tls: None,
            proxy_protocol: ProxyProtocol::default(),
            trusted_proxies: TrustedProxies::default(),
        }
    }
}

/// Serves apps at ports.
#[derive(Debug, Clone)]
pub struct Trigger {
    tasks: Tasks,
    settings: Arc<TriggerSettings>,
    /// The places of all ports.
    places: Arc<Semaphore>,
    farewell: Arc<Farewell>,
}

/// A port that is served. Dropping it changes nothing; [`Port::close`] ends it.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    tasks: Tasks,
    closed: CancellationToken,
}

impl Trigger {
    /// Ports are served by tasks below `tasks`.
    #[must_use]
    pub fn new(tasks: &Tasks, settings: TriggerSettings) -> Self {
        let places = Arc::new(Semaphore::new(settings.all_connections.min(Semaphore::MAX_PERMITS)));
        Self { tasks: tasks.clone(), settings: Arc::new(settings), places, farewell: Arc::default() }
    }

    /// How callers of every port are got to go.
    #[must_use]
    pub const fn farewell(&self) -> &Arc<Farewell> {
        &self.farewell
    }

    /// Binds `port` and answers what comes there with what is in `slot`.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn open(&self, port: u16, slot: Arc<Slot>) -> io::Result<Port> {
        let listener = match self.settings.address {
            Some(address) => TcpListener::bind((address, port)).await?,
            None => bind_both_families(port).await?,
        };
        self.serve(listener, slot)
    }

    /// Answers what comes at `listener` with what is in `slot`.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn serve(&self, listener: TcpListener, slot: Arc<Slot>) -> io::Result<Port> {
        let address = listener.local_addr()?;
        let tasks = self.tasks.group("port");
        let closed = CancellationToken::new();
        let server = HttpServer::new(&self.settings.http, tasks.clone());
        let places = Places::new(self.settings.connections).within(Arc::clone(&self.places));
        let door = Arc::new(Door {
            server,
            settings: Arc::clone(&self.settings),
            slot,
            stop: tasks.stop_token(),
            farewell: Arc::clone(&self.farewell),
        });
        let (spawner, guard) = (tasks.clone(), closed.clone().drop_guard());
        tasks.spawn("port", async move {
            let stop = door.stop.clone();
            accept(listener, places, stop, |accepted| {
                spawner.spawn_brief("connection", Arc::clone(&door).serve(accepted));
            })
            .await;
            drop(guard);
            Ok::<(), Infallible>(())
        });
        Ok(Port { address, tasks, closed })
    }
}

/// IPv6 with IPv4 mapped into it; IPv4 alone where there is no IPv6.
async fn bind_both_families(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if is_without_ipv6(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        other => other,
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Gives an empty answer its length. Over HTTP/1 it has one because it could not end otherwise, and an answer is the same
/// over both; those that never have a body say nothing (RFC 9110, 8.6).
fn say_that_it_is_empty<B: Body>(response: &mut Response<B>) {
    if response.body().is_end_stream() && !has_no_body(response.status()) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
}

/// What all connections of one port share.
#[derive(Debug)]
struct Door {
    server: HttpServer,
    settings: Arc<TriggerSettings>,
    slot: Arc<Slot>,
    stop: CancellationToken,
    farewell: Arc<Farewell>,
}

impl Door {
    /// Serves one connection.
    async fn serve(self: Arc<Self>, accepted: Accepted) {
        let Accepted { stream, peer, place } = accepted;
        self.farewell.came();
        let open = self.slot.connected();
        if let Err(error) = self.greet(stream, peer).await {
            tracing::debug!(%peer, %error, "connection broke");
        }
        drop((open, place));
    }

    /// What precedes HTTP, and then HTTP.
    async fn greet<I>(
        self: Arc<Self>,
        stream: I,
        peer: SocketAddr,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let within = self.settings.http.handshake_timeout;
        let stop = self.stop.clone();
        // A connection that has not begun to ask is not waited for.
        let begun = async {
            let (passed, stream) = self.passed(stream, peer).await?;
            let client = passed.and_then(|passed| passed.client).unwrap_or(peer);
            let secure = passed.is_some_and(|passed| passed.secure);
            Ok::<_, io::Error>(match &self.settings.tls {
                None => (client, if secure { Scheme::HTTPS } else { Scheme::HTTP }, Err(stream)),
                Some(tls) => (client, Scheme::HTTPS, Ok(Box::pin(tls.accept(stream)).await?)),
            })
        };
        let begun = tokio::time::timeout(within, begun);
        let Some(begun) = stop.run_until_cancelled(begun).await else { return Ok(()) };
        let (client, scheme, stream) = begun.map_err(|_| "nothing came in time")??;
        match stream {
            Ok(stream) => Box::pin(self.speak(stream, client, scheme)).await,
            Err(stream) => self.speak(stream, client, scheme).await,
        }
    }

    /// Reads the PROXY header of a connection, as far as one is expected.
    async fn passed<I: AsyncRead + Unpin>(
        &self,
        stream: I,
        peer: SocketAddr,
    ) -> io::Result<(Option<Passed>, Begun<I>)> {
        let refused = |problem| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        let trusted = self.settings.trusted_proxies.trust(peer.ip());
        match (self.settings.proxy_protocol, trusted) {
            (ProxyProtocol::Off, _) | (ProxyProtocol::Optional, false) => Ok((None, Begun::new(stream))),
            (ProxyProtocol::Required, false) => refused("not from a trusted proxy"),
            (ProxyProtocol::Optional, true) => proxy::read_header(stream).await,
            (ProxyProtocol::Required, true) => match proxy::read_header(stream).await? {
                (None, _) => refused("there is no PROXY header"),
                read => Ok(read),
            },
        }
    }

    async fn speak<I>(
        self: Arc<Self>,
        stream: I,
        client: SocketAddr,
        scheme: Scheme,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (server, stop) = (self.server.clone(), self.stop.clone());
        let connection = Arc::new(Connection::new(client, scheme));
        let service = service_fn(move |request| {
            let (door, connection) = (Arc::clone(&self), Arc::clone(&connection));
            async move {
                let (version, head) = (request.version(), *request.method() == Method::HEAD);
                let mut response = door.answer(request, &connection).await;
                door.farewell.ask(version, &mut response);
                if version == Version::HTTP_2 && !head {
                    say_that_it_is_empty(&mut response);
                }
                Ok::<_, Infallible>(response)
            }
        });
        server.serve(stream, service, &stop).await
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>, connection: &Connection) -> Response<SlotBody> {
        if let Err(error) = self.check(&request) {
            return self.slot.refuse(&error);
        }
        let secure = *connection.scheme() == Scheme::HTTPS;
        let caller = self.settings.trusted_proxies.caller(connection.client(), secure, request.headers());
        let request = request.map(|body| RequestBody::new(body, self.settings.body_timeout));
        match caller {
            None => self.slot.answer(request, connection).await,
            Some((client, secure)) => {
                let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
                self.slot.answer(request, &Connection::new(client, scheme)).await
            }
        }
    }

    /// Refuses what is too long. Headers of HTTP/1.1 were counted when they were read.
    fn check(&self, request: &Request<Incoming>) -> Result<(), RequestError> {
        if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > self.settings.max_uri_bytes) {
            return Err(RequestError::UriTooLong);
        }
        if request.headers().len() > self.settings.http.max_headers {
            return Err(RequestError::TooManyHeaders);
        }
        Ok(())
    }
}

impl Port {
    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Frees the port: when this returns, others can bind it. Connections finish what they have begun.
    pub async fn close(&self) {
        self.tasks.stop_token().cancel();
        self.closed.cancelled().await;
    }

    /// Waits until the connections of a closed port have ended, at most `within`.
    ///
    /// # Errors
    /// When some had to be aborted.
    pub async fn drain(&self, within: Duration) -> Result<(), StillRunning> {
        self.tasks.stop(within).await
    }
}

//! [`Port`]: one app's TCP port.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use daemon::{Accepted, HttpServer, HttpSettings, StillRunning, Tasks, accept};
use http::uri::Scheme;
use hyper::service::service_fn;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::Slot;
use crate::application::Connection;

/// How ports are served.
#[derive(Debug, Clone)]
pub struct TriggerSettings {
    /// The address to listen at; both families if `None`.
    pub address: Option<IpAddr>,
    /// How many connections one port takes at a time.
    pub connections: usize,
    /// What clients may do.
    pub http: HttpSettings,
}

impl Default for TriggerSettings {
    fn default() -> Self {
        Self { address: None, connections: 4096, http: HttpSettings::default() }
    }
}

/// Serves apps at ports.
#[derive(Debug, Clone)]
pub struct Trigger {
    tasks: Tasks,
    settings: Arc<TriggerSettings>,
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
        Self { tasks: tasks.clone(), settings: Arc::new(settings) }
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
        let connections = Arc::new(Semaphore::new(self.settings.connections));
        let (spawner, stop, guard) = (tasks.clone(), tasks.stop_token(), closed.clone().drop_guard());
        tasks.spawn("port", async move {
            accept(listener, connections, stop.clone(), |accepted| {
                let connection = serve_connection(server.clone(), accepted, Arc::clone(&slot), stop.clone());
                spawner.spawn_brief("connection", connection);
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

/// Serves one connection of an app.
async fn serve_connection(server: HttpServer, accepted: Accepted, slot: Arc<Slot>, stop: CancellationToken) {
    let Accepted { stream, peer, permit } = accepted;
    let connection = Arc::new(Connection::new(peer, Scheme::HTTP));
    let service = service_fn(move |request| {
        let (slot, connection) = (Arc::clone(&slot), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(slot.answer(request, &connection).await) }
    });
    if let Err(error) = server.serve(stream, service, &stop).await {
        tracing::debug!(%peer, %error, "connection broke");
    }
    drop(permit);
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

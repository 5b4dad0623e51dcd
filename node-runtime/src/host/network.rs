//! [`Network`]: the one way out for the guests of a component, whatever protocol they speak.
//!
//! Promise: what a component's manifest does not allow is not resolved, what is blocked is not connected to, and no
//! application has more connections than it may. Checks are made on the address that is then connected to, so a name that
//! resolves to something else the second time gains nothing.
//!
//! Absent on purpose: protocols.

mod blocked;
mod connect;
mod connections;
mod server_client;
pub(super) mod wire;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Instant,
};

use manifest::RuntimeConfig;
use node_runtime_core::outbound::AllowedHosts;
use tokio::{net::TcpStream, sync::Semaphore};

pub use blocked::{BlockedNetworkError, BlockedNetworks};
pub(crate) use connections::{ConnectionKind, ConnectionPermit, Connections, Waiting};
pub(crate) use server_client::ServerClient;

use super::{
    limits::HostMemory,
    tls::{Roots, TlsError, TlsIdentities, TlsIdentity},
};

/// Where one component may connect to, and with what.
#[derive(Clone)]
pub(crate) struct Network {
    allowed: AllowedHosts,
    identity: Arc<TlsIdentity>,
    shared: Arc<SharedNetwork>,
}

/// What the components of one revision share of the network.
#[derive(Debug)]
pub(crate) struct SharedNetwork {
    blocked: BlockedNetworks,
    connections: Arc<Connections>,
    identities: TlsIdentities,
    lookups: Arc<Semaphore>,
    memory: HostMemory,
}

/// How many names an application looks up at a time. Each takes a thread that others need too, and whoever answers may be
/// slow on purpose.
const LOOKUPS: usize = 16;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// The name has no address, or nobody who knows it answered.
    #[error("`{host}` cannot be resolved: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// There are addresses, and all are blocked.
    #[error("`{host}` is in a network that this runtime does not let guests reach")]
    Blocked {
        /// The name or address.
        host: String,
    },
    /// No address took a connection.
    #[error("no connection to `{host}`: {source}")]
    Connect {
        /// The name or address.
        host: String,
        /// What the last one said.
        source: io::Error,
    },
    /// It took too long.
    #[error("no connection to `{host}` in time")]
    Timeout {
        /// The name or address.
        host: String,
    },
    /// There are too many connections already.
    #[error("no {kind} connection became free in time: at most {most} may be open", kind = .kind.name())]
    Limit {
        /// Of what kind.
        kind: ConnectionKind,
        /// How many there may be.
        most: usize,
    },
}

impl SharedNetwork {
    /// The network of a revision with `config`: `blocked` and what it blocks itself, `connections` at most unless it says
    /// otherwise. What servers answer is held in `memory`. Reads the files of `[[client_tls]]`, so this blocks.
    ///
    /// # Errors
    /// When a file is not usable.
    pub(crate) fn new(
        config: &RuntimeConfig,
        blocked: &BlockedNetworks,
        connections: usize,
        memory: HostMemory,
        roots: &Arc<Roots>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            blocked: BlockedNetworks::new(&config.outbound_networking.block_networks).and(blocked),
            connections: Arc::new(Connections::new(config, connections)),
            identities: TlsIdentities::load(&config.client_tls, roots)?,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            memory,
        })
    }

    /// The part of the application itself: whoever runs it has named the servers.
    pub(crate) fn of_application(self: &Arc<Self>) -> Network {
        let identity = self.identities.of_application();
        Network { allowed: AllowedHosts::default(), identity, shared: Arc::clone(self) }
    }

    /// The part of the component `id`, which may connect to `allowed`.
    pub(crate) fn of_component(self: &Arc<Self>, id: &str, allowed: AllowedHosts) -> Network {
        Network { allowed, identity: self.identities.of_component(id), shared: Arc::clone(self) }
    }
}

impl SharedNetwork {
    /// The addresses of `name`. A lookup counts until it has ended, also when nobody waits for it any more.
    async fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        let name = name.to_owned();
        let look_up = move || {
            let found = (name.as_str(), port).to_socket_addrs();
            drop(turn);
            found.map(Iterator::collect)
        };
        tokio::task::spawn_blocking(look_up).await.map_err(io::Error::other)?
    }
}

impl Network {
    /// Whether the manifest allows a connection. `host` may be a bracketed IPv6 address; without a `port` the scheme's own
    /// counts.
    pub(crate) fn permits(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.allowed.permits(scheme, host, port)
    }

    /// Whether the component may call its own application.
    pub(crate) fn permits_own(&self, scheme: &str) -> bool {
        self.allowed.permits_own(scheme)
    }

    /// Whether the component may have sockets at all.
    pub(crate) fn permits_sockets(&self) -> bool {
        self.allowed.permits_sockets()
    }

    /// Whether nobody may connect there.
    pub(crate) fn is_blocked(&self, address: SocketAddr) -> bool {
        self.shared.blocked.contains(address)
    }

    /// The addresses of `host` (a name, or an address with or without brackets) that may be connected to, at least one.
    /// Whoever asks must have been permitted, and bounds the time.
    ///
    /// # Errors
    /// When there is none, or all are blocked.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NetworkError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let mut addresses: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
            Ok(address) => vec![(address, port).into()],
            Err(_) => {
                let found = self.shared.look_up(bare, port).await;
                found.map_err(|source| NetworkError::Resolve { host: host.to_owned(), source })?
            }
        };
        if addresses.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            return Err(NetworkError::Resolve { host: host.to_owned(), source });
        }
        addresses.retain(|address| !self.is_blocked(*address));
        if addresses.is_empty() {
            return Err(NetworkError::Blocked { host: host.to_owned() });
        }
        Ok(addresses)
    }

    /// The addresses of `name`, blocked ones too, when it is this lookup's turn among those of the application.
    ///
    /// # Errors
    /// When there is none, or nobody who knows it answered.
    pub(crate) async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.shared.look_up(name, 0).await?;
        Ok(found.into_iter().map(|address| address.ip().to_canonical()).collect())
    }

    /// A TCP connection to the first of the [addresses](Self::addresses) of `host` that takes one.
    ///
    /// # Errors
    /// When there is none until then.
    pub(crate) async fn connect(&self, host: &str, port: u16, until: Instant) -> Result<TcpStream, NetworkError> {
        let connect = async {
            let addresses = self.addresses(host, port).await?;
            let stream = connect::first_of(addresses).await;
            stream.map_err(|source| NetworkError::Connect { host: host.to_owned(), source })
        };
        let timeout = |_| NetworkError::Timeout { host: host.to_owned() };
        tokio::time::timeout_at(until.into(), connect).await.map_err(timeout)?
    }

    /// The right to open one connection, waited for until then: until the request's deadline, or the connection's own
    /// timeout. Keep it as long as the connection.
    ///
    /// # Errors
    /// [`NetworkError::Limit`] when none became free.
    pub(crate) async fn permit(&self, kind: ConnectionKind, until: Instant) -> Result<ConnectionPermit, NetworkError> {
        self.shared.connections.permit(kind, until).await
    }

    /// The application's connections.
    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.shared.connections
    }

    /// Where answers of servers are held, and everything else that is held for the application's guests.
    pub(crate) fn memory(&self) -> &HostMemory {
        &self.shared.memory
    }

    /// How the component proves itself to servers, and whom it trusts.
    pub(crate) fn identity(&self) -> &Arc<TlsIdentity> {
        &self.identity
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Network {
    /// One that may connect to `allowed`, with no runtime configuration, for tests.
    pub(crate) fn allowing(allowed: &[&str]) -> Self {
        let roots = Arc::new(Roots::default());
        let (config, blocked) = (RuntimeConfig::default(), BlockedNetworks::default());
        let shared = SharedNetwork::new(&config, &blocked, 256, HostMemory::default(), &roots).unwrap();
        Arc::new(shared).of_component("main", AllowedHosts::parse(allowed).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn blocking(networks: &[&str]) -> Network {
        let mut config = RuntimeConfig::default();
        config.outbound_networking.block_networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let always = "127.0.0.2".parse().unwrap();
        let shared =
            SharedNetwork::new(&config, &always, 1, HostMemory::default(), &Arc::new(Roots::default())).unwrap();
        Arc::new(shared).of_component("main", AllowedHosts::default())
    }

    #[tokio::test]
    async fn blocked_addresses_are_left_out_and_none_left_is_an_error() {
        let open = blocking(&[]);
        assert_eq!(open.addresses("127.0.0.1", 80).await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(open.addresses("[::1]", 80).await.unwrap(), ["[::1]:80".parse().unwrap()]);
        for host in ["127.0.0.2", "[::ffff:127.0.0.2]"] {
            assert!(matches!(open.addresses(host, 80).await, Err(NetworkError::Blocked { .. })), "{host}");
        }
        let closed = blocking(&["private"]);
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(matches!(closed.addresses(host, 80).await, Err(NetworkError::Blocked { .. })), "{host}");
        }
        assert!(matches!(open.addresses("no such name", 80).await, Err(NetworkError::Resolve { .. })));
    }

    #[tokio::test]
    async fn no_more_names_are_looked_up_at_a_time_than_may_be() {
        let network = blocking(&[]);
        let turns: Vec<_> =
            (0..LOOKUPS).map(|_| Arc::clone(&network.shared.lookups).try_acquire_owned().unwrap()).collect();
        let mut look_up = std::pin::pin!(network.look_up("localhost"));
        assert!(futures::poll!(look_up.as_mut()).is_pending());
        assert_eq!(network.shared.lookups.available_permits(), 0);
        drop(turns);
        assert!(look_up.await.unwrap().iter().all(IpAddr::is_loopback));
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_says_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let until = Instant::now() + Duration::from_secs(60);
        let network = blocking(&[]);
        network.connect("localhost", port, until).await.unwrap();
        // Taken, so that no other test listens there, and nobody listens.
        let taken = tokio::net::TcpSocket::new_v4().unwrap();
        taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let refused = network.connect("127.0.0.1", taken.local_addr().unwrap().port(), until).await;
        assert!(
            matches!(refused, Err(NetworkError::Connect { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused)
        );
    }
}

//! [`RedisLink`]: a connection to a Redis server by way of a [`Network`], for guests that call one and for key-value stores
//! that are on one.
//!
//! Promise: what is blocked is not connected to, TLS is spoken with the identity that the network has, and an answer takes no
//! more memory here than it may.

use std::time::{Duration, Instant};

use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError,
    aio::MultiplexedConnection,
};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::network::{
    Network,
    wire::{Budget, Wire, WireError},
};

/// What one value of an answer takes in memory beside its bytes, rounded up. Each has a line of its own.
const VALUE: u64 = 64;

/// Where a server is, and what to say to it first.
#[derive(Debug, Clone)]
pub(super) struct RedisServer {
    info: ConnectionInfo,
    pub(super) host: String,
    pub(super) port: u16,
    tls: bool,
}

/// An open connection. Clones of `connection` share it.
pub(super) struct RedisLink {
    pub(super) connection: MultiplexedConnection,
    pub(super) budget: Budget,
    driver: AbortOnDropJoinHandle<()>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedisLinkError {
    /// There is no way to the server.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server does not let us in.
    #[error(transparent)]
    Server(#[from] RedisError),
    /// The server took the connection, and then too long.
    #[error("`{0}` does not answer in time")]
    Timeout(String),
}

impl RedisServer {
    /// Reads `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS; `None` if it is none.
    pub(super) fn parse(address: &str) -> Option<Self> {
        let info = address.into_connection_info().ok()?;
        let (host, port, tls) = match info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
            ConnectionAddr::TcpTls { host, port, insecure: false, .. } => (host.clone(), *port, true),
            // A certificate that nobody looks at, a file, or what a later version of the library knows.
            _ => return None,
        };
        Some(Self { info, host, port, tls })
    }

    /// The scheme of its address.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }

    /// Connects, says who we are, and which database is meant. An answer may take `most` bytes, and may be waited for as long
    /// as `patience` says.
    ///
    /// # Errors
    /// When there is no connection until then.
    pub(super) async fn connect(
        &self,
        network: &Network,
        most: usize,
        patience: Option<Duration>,
        until: Instant,
    ) -> Result<RedisLink, RedisLinkError> {
        let budget = Budget::new(most, network.memory()).with_lines(VALUE);
        let settings = self.info.redis_settings().clone().set_skip_set_lib_name();
        let connect = async {
            let wire = Wire::connect(network, &self.host, self.port, self.tls, budget.clone(), until).await?;
            let config = AsyncConnectionConfig::new().set_response_timeout(patience).set_connection_timeout(None);
            let (connection, driver) = MultiplexedConnection::new_with_config(&settings, wire, config).await?;
            Ok(RedisLink { connection, budget: budget.clone(), driver: spawn(driver) })
        };
        let connected = tokio::time::timeout_at(until.into(), connect).await;
        connected.unwrap_or_else(|_| Err(RedisLinkError::Timeout(self.host.clone())))
    }
}

impl RedisLink {
    /// Whether the server may still be there.
    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }
}

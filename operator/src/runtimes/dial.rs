//! Connects to a runtime's control port: TCP, TLS 1.3 with both certificates, HTTP/2.
//!
//! Promise: the peer holds a certificate of our CA for [`RUNTIME_DNS_NAME`], whatever its address; a dead
//! peer is noticed within [`Timings::keep_alive`] + [`Timings::keep_alive_timeout`]; connecting takes no
//! longer than [`Timings::connect`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use control::wire::{PATH, RUNTIME_DNS_NAME};
use http::{Method, Request, Uri, uri::Scheme};
use http_body_util::channel::{Channel, Sender};
use hyper::client::conn::http2::{self, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// For TCP and TLS together.
    pub connect: Duration,
    /// For the runtime's answer to our introduction.
    pub hello: Duration,
    /// Between two HTTP/2 pings, which find a dead peer.
    pub keep_alive: Duration,
    /// For the answer to an HTTP/2 ping.
    pub keep_alive_timeout: Duration,
    /// Between two pings of our own, which find a peer whose program hangs.
    pub ping: Duration,
    /// Without any frame from the runtime before it is given up.
    pub silence: Duration,
    /// The first delay before dialling again.
    pub redial_first: Duration,
    /// The longest.
    pub redial_limit: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            hello: Duration::from_secs(10),
            keep_alive: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(3),
            ping: Duration::from_secs(5),
            silence: Duration::from_secs(16),
            redial_first: Duration::from_millis(50),
            redial_limit: Duration::from_secs(3),
        }
    }
}

/// Why a runtime could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing answered in time.
    #[error("no connection to {address} within {waited:?}")]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// How long.
        waited: Duration,
    },
    /// The address refused or is unreachable.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One side does not accept the other's certificate, or the peer speaks no TLS.
    #[error("no mutual trust with {address}")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The peer speaks no HTTP/2.
    #[error("{address} speaks no HTTP/2")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: hyper::Error,
    },
}

impl DialError {
    /// The error in one word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "Timeout",
            Self::Connect { .. } => "Unreachable",
            Self::Handshake { .. } => "Untrusted",
            Self::Http { .. } => "NotARuntime",
        }
    }
}

/// What is written to a runtime.
pub type Outgoing = Sender<Bytes>;

/// A connection that has no request on it yet.
#[derive(Debug)]
pub struct Dialled {
    /// Sends the one request.
    pub requests: SendRequest<Channel<Bytes>>,
    /// The connection's own work, to be polled for as long as it is wanted.
    pub connection: Connection<TokioIo<TlsStream<TcpStream>>, Channel<Bytes>, TokioExecutor>,
}

/// Connects to the runtime at `address`.
///
/// # Errors
/// When it can't be reached in time, or there is no mutual trust.
pub async fn dial(address: SocketAddr, tls: Arc<ClientConfig>, timings: &Timings) -> Result<Dialled, DialError> {
    let waited = timings.connect;
    let stream = tokio::time::timeout(waited, connect(address, tls))
        .await
        .map_err(|_elapsed| DialError::Timeout { address, waited })??;
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(timings.keep_alive)
        .keep_alive_timeout(timings.keep_alive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| DialError::Http { address, source })?;
    Ok(Dialled { requests, connection })
}

async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let connect = |source| DialError::Connect { address, source };
    let handshake = |source| DialError::Handshake { address, source };
    let stream = TcpStream::connect(address).await.map_err(connect)?;
    stream.set_nodelay(true).map_err(connect)?;
    let name = ServerName::try_from(RUNTIME_DNS_NAME).map_err(|error| handshake(std::io::Error::other(error)))?;
    TlsConnector::from(tls).connect(name, stream).await.map_err(handshake)
}

/// The one request of a connection, and what to write its body with.
///
/// # Errors
/// Never: the parts are constants; the signature is that of [`http`].
pub fn request() -> Result<(Outgoing, Request<Channel<Bytes>>), http::Error> {
    let (outgoing, body) = Channel::new(1);
    let uri = Uri::builder().scheme(Scheme::HTTPS).authority(RUNTIME_DNS_NAME).path_and_query(PATH).build()?;
    Ok((outgoing, Request::builder().method(Method::POST).uri(uri).body(body)?))
}

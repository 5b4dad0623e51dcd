//! [`Connector`]: opens the connections of outgoing HTTP, by way of [`Network`].

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection as Described},
    rt::TokioIo,
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_rustls::TlsConnector;

use crate::host::{ConnectionKind, ConnectionPermit, Network, NetworkError, TlsError};

tokio::task_local! {
    /// How the request that is being sent in this task wants to be connected: the client has no other way to say it.
    pub(super) static PATIENCE: Patience;
}

/// How long a request waits for a connection.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// For the connection itself, including TLS.
    pub(super) connect: Duration,
    /// For everything: the deadline of the guest.
    pub(super) until: Instant,
    /// Since when there is a connection; `None` while one is being opened.
    pub(super) connected: Arc<watch::Sender<Option<Instant>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The URI has no host.
    #[error("the URI has no host")]
    Host,
    /// There is no TCP connection.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It took too long.
    #[error("no connection in time")]
    Timeout,
    /// TLS is not set up.
    #[error(transparent)]
    Config(#[from] TlsError),
    /// The other side's TLS is not acceptable, or ours to it.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
}

/// Connects for the guests of components with the same identity.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    network: Network,
}

/// An open connection, which counts as one of its application's until it is closed.
pub(super) struct Connection {
    io: TokioIo<Box<dyn Stream>>,
    http2: bool,
    _permit: ConnectionPermit,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    pub(super) const fn new(network: Network) -> Self {
        Self { network }
    }

    async fn connect(self, uri: Uri, patience: Patience) -> Result<Connection, ConnectError> {
        let _connected = Connecting::begin(&patience.connected);
        let permit = self.network.permit(ConnectionKind::Http, patience.until).await?;
        let until = patience.until.min(Instant::now() + patience.connect);
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().ok_or(ConnectError::Host)?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let tcp = self.network.connect(host, port, until).await?;
        if !tls {
            return Ok(Connection { io: TokioIo::new(Box::new(tcp)), http2: false, _permit: permit });
        }
        let mut config = self.network.identity().config(host).await?.as_ref().clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let bare = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(bare).map_err(|_| ConnectError::Host)?;
        let shake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let shaken = tokio::time::timeout_at(until.into(), shake).await.map_err(|_| ConnectError::Timeout)?;
        let stream = shaken.map_err(ConnectError::Tls)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connection { io: TokioIo::new(Box::new(stream)), http2, _permit: permit })
    }
}

/// Says that a connection is being opened, and when that has ended, whichever way.
struct Connecting<'a>(&'a watch::Sender<Option<Instant>>);

impl<'a> Connecting<'a> {
    fn begin(connected: &'a watch::Sender<Option<Instant>>) -> Self {
        connected.send_replace(None);
        Self(connected)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Some(Instant::now()));
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Connection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        match PATIENCE.try_with(Clone::clone) {
            Ok(patience) => Box::pin(connector.connect(uri, patience)),
            // The client only connects for a request.
            Err(_) => Box::pin(std::future::ready(Err(ConnectError::Timeout))),
        }
    }
}

impl Described for Connection {
    fn connected(&self) -> Connected {
        if self.http2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }
}

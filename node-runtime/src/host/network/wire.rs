//! [`Wire`]: a connection to a server, in the clear or over TLS, on which an answer has a most size.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::host::{
    limits::{Held, HostMemory, NoRoom},
    network::{Network, NetworkError},
    tls::TlsError,
};

/// How much may still be read. Servers' own messages around an answer are counted too.
#[derive(Debug, Clone)]
pub(in crate::host) struct Budget {
    left: Arc<AtomicU64>,
    lines: Option<Lines>,
    most: u64,
    answer: Arc<Answer>,
}

/// What is held of an answer.
#[derive(Debug)]
struct Answer {
    held: Mutex<Held>,
    /// There was no memory for it.
    no_room: AtomicBool,
}

impl Answer {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where short lines become large values, they count as what they take here.
#[derive(Debug, Clone)]
struct Lines {
    left: Arc<AtomicU64>,
    size: u64,
}

impl Budget {
    /// Room for answers of `most` bytes, which are held in `memory` until the next one begins.
    pub(in crate::host) fn new(most: usize, memory: &HostMemory) -> Self {
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        let answer = Answer { held: Mutex::new(memory.hold()), no_room: AtomicBool::new(false) };
        Self { left: Arc::new(AtomicU64::new(most)), lines: None, most, answer: Arc::new(answer) }
    }

    /// The same, where each line takes `size` bytes at least.
    pub(in crate::host) fn with_lines(self, size: u64) -> Self {
        let left = Arc::new(AtomicU64::new(self.most));
        Self { lines: Some(Lines { left, size }), ..self }
    }

    /// A new answer begins.
    pub(in crate::host) fn renew(&self) {
        self.renew_for(1);
    }

    /// The last answer is not held any more.
    pub(in crate::host) fn release(&self) {
        self.answer.held().release();
        self.answer.no_room.store(false, Ordering::Relaxed);
    }

    /// A new answer begins, while others are on their way: so many together.
    pub(in crate::host) fn renew_for(&self, answers: u64) {
        self.release();
        for left in [Some(&self.left), self.lines.as_ref().map(|lines| &lines.left)].into_iter().flatten() {
            left.store(self.most.saturating_mul(answers), Ordering::Relaxed);
        }
    }

    /// What to say when an answer was too large; none when it was not.
    pub(in crate::host) fn excess(&self) -> Option<String> {
        if self.answer.no_room.load(Ordering::Relaxed) {
            return Some(NoRoom.to_string());
        }
        let most = self.most;
        let lines = self.lines.as_ref().map(|lines| &lines.left);
        let spent = [Some(&self.left), lines].into_iter().flatten().any(|left| left.load(Ordering::Relaxed) == 0);
        spent.then(|| {
            format!(
                "the answer has more than the {most} bytes that this runtime holds for a guest: ask for less at a time"
            )
        })
    }

    fn spend(&self, bytes: &[u8]) -> io::Result<()> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut fits = take(&self.left, count(bytes.len()));
        let mut held = bytes.len();
        if let Some(Lines { left, size }) = &self.lines {
            let ends = count(bytes.iter().filter(|byte| **byte == b'\r').count()).saturating_mul(*size);
            fits &= take(left, ends);
            held = held.saturating_add(usize::try_from(ends).unwrap_or(usize::MAX));
        }
        if self.answer.held().add(held).is_err() {
            self.answer.no_room.store(true, Ordering::Relaxed);
            fits = false;
        }
        if fits { Ok(()) } else { Err(io::Error::other("the answer is too large")) }
    }
}

/// Whether something is left. Only whoever reads spends, and renewing meanwhile is no harm.
fn take(left: &AtomicU64, bytes: u64) -> bool {
    let rest = left.load(Ordering::Relaxed).saturating_sub(bytes);
    left.store(rest, Ordering::Relaxed);
    rest > 0
}

/// Bytes to and from a server.
#[derive(Debug)]
pub(in crate::host) struct Wire {
    stream: Stream,
    budget: Budget,
}

#[derive(Debug)]
enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no wire.
#[derive(Debug, thiserror::Error)]
pub(in crate::host) enum WireError {
    /// There is no connection.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There is nothing to speak TLS with.
    #[error(transparent)]
    Identity(#[from] TlsError),
    /// The server's certificate is not trusted, or it speaks no TLS.
    #[error("no TLS with `{host}`: {}", explained(.source))]
    Tls {
        /// Who.
        host: String,
        /// What rustls says.
        source: io::Error,
    },
}

/// What rustls says, and what to do about it if that does not say.
fn explained(error: &io::Error) -> String {
    let advice = daemon::certificate_advice(error).map(|advice| format!(": {advice}")).unwrap_or_default();
    format!("{error}{advice}")
}

impl Wire {
    /// Connects to a server that was permitted.
    pub(in crate::host) async fn connect(
        network: &Network,
        host: &str,
        port: u16,
        tls: bool,
        budget: Budget,
        until: Instant,
    ) -> Result<Self, WireError> {
        let stream = network.connect(host, port, until).await?;
        let wire = Self { stream: Stream::Clear(stream), budget };
        if tls { wire.secure(host, network.identity().config(host).await?).await } else { Ok(wire) }
    }

    /// Speaks TLS from here on.
    pub(in crate::host) async fn secure(self, host: &str, config: Arc<ClientConfig>) -> Result<Self, WireError> {
        let Self { stream: Stream::Clear(stream), budget } = self else { return Ok(self) };
        let failure = |source| WireError::Tls { host: host.to_owned(), source };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| failure(io::Error::other(error)))?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(failure)?;
        Ok(Self { stream: Stream::Tls(Box::new(stream)), budget })
    }
}

impl Wire {
    /// Where the server is.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub(in crate::host) fn server(&self) -> io::Result<SocketAddr> {
        match &self.stream {
            Stream::Clear(stream) => stream.peer_addr(),
            Stream::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(self.budget.spend(buffer.filled().get(before..).unwrap_or_default())),
            other => other,
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

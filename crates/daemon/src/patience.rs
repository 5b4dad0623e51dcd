//! [`Patience`]: a connection that must show within a time which protocol it speaks, and take what is sent to it.
//!
//! hyper's header timeout starts once the protocol is known. Until then a client could hold a
//! connection for ever by sending nothing, or by sending the start of the HTTP/2 preface; and hyper lets a client
//! that reads nothing wait for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::serve::Framing;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose reads fail once the time is over, until its first bytes have told the protocol, and whose writes fail
/// when the other end takes no byte for a time. Requests that can be read in two ways are spoiled on their way ([`Framing`]).
pub(crate) struct Patience<I> {
    io: I,
    waiting: Option<Waiting>,
    framing: Framing,
    write_timeout: Duration,
    /// While nothing can be written.
    stuck: Option<Pin<Box<Sleep>>>,
}

struct Waiting {
    over: Pin<Box<Sleep>>,
    /// How many bytes of the preface have come.
    matched: usize,
}

impl<I> Patience<I> {
    pub(crate) fn new(io: I, patience: Duration, write_timeout: Duration) -> Self {
        let waiting = Some(Waiting { over: Box::pin(sleep(patience)), matched: 0 });
        Self { io, waiting, framing: Framing::default(), write_timeout, stuck: None }
    }

    /// What a write came to, unless it has been waiting for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stuck = None;
            return write;
        }
        let over = self.stuck.get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        match over.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was taken in time"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Waiting {
    /// Whether these bytes end the doubt.
    fn is_told_by(&mut self, bytes: &[u8]) -> bool {
        let expected = PREFACE.get(self.matched..).unwrap_or_default();
        let same = bytes.iter().zip(expected).take_while(|(got, want)| got == want).count();
        self.matched += same;
        self.matched == PREFACE.len() || same < bytes.len()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patience<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        this.framing.follow(buf.filled_mut().get_mut(before..).unwrap_or_default());
        let Some(waiting) = &mut this.waiting else { return read };
        if read.is_pending() {
            if waiting.over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came in time")));
            }
        } else if waiting.is_told_by(buf.filled().get(before..).unwrap_or_default()) {
            this.waiting = None;
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patience<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.in_time(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.in_time(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.in_time(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up_and_one_that_takes_a_little_at_a_time_is_not() {
        let (mut client, server) = duplex(4);
        let mut server = Patience::new(server, LONG, LONG);
        let mut read = [0; 14];
        let (written, taken) = tokio::join!(server.write_all(b"more than fits"), client.read_exact(&mut read));
        written.unwrap();
        taken.unwrap();
        assert!(server.stuck.is_none());
        server.write_timeout = Duration::ZERO;
        let error = server.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn silence_and_half_a_preface_end_when_patience_does() {
        for sent in ["", "P", "PRI * HTTP/2.0\r\n"] {
            let (mut client, server) = duplex(64);
            client.write_all(sent.as_bytes()).await.unwrap();
            let error = Patience::new(server, Duration::ZERO, LONG).read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_has_told_its_protocol_is_read_without_a_limit() {
        for sent in ["POST /", "GET /", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let (mut client, server) = duplex(64);
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut server = Patience::new(server, LONG, LONG);
            server.read_exact(&mut vec![0; sent.len()]).await.unwrap();
            assert!(server.waiting.is_none(), "{sent:?}");
        }
    }
}

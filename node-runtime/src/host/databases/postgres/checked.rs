//! [`Checked`]: a connection to a PostgreSQL server that says how long its messages are before they come.
//!
//! The client library makes room for a message as soon as the server has said how long it is, which may be 2 GiB. What is
//! announced as longer than an answer may be ends the connection here, before the library hears it.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// A message begins with its type, and four bytes of its length, which counts those four and what follows.
const HEADER: usize = 5;
/// What a message has beside an answer's bytes, rounded up: names, lengths, texts of errors.
const ROOM: usize = 1 << 20;

/// Bytes to and from a server, whose messages have a most length.
pub(super) struct Checked<S> {
    stream: S,
    lengths: Lengths,
}

/// Where the stream is in its messages.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    most: usize,
    header: [u8; HEADER],
    /// How much of the header was read.
    read: usize,
    /// How much of a message is still to come, or of what goes before the first.
    left: usize,
}

impl Lengths {
    /// After `before` bytes that are no message.
    fn new(answer: usize, before: usize) -> Self {
        Self { most: answer.saturating_add(ROOM), header: [0; HEADER], read: 0, left: before }
    }

    /// The server says `bytes`.
    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            if let Some(place) = self.header.get_mut(self.read) {
                *place = *first;
            }
            (self.read, bytes) = (self.read + 1, rest);
            if self.read == HEADER {
                self.read = 0;
                let [_type, length @ ..] = self.header;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                if length > self.most {
                    return Err(io::Error::other(format!("the server announces a message of {length} bytes")));
                }
                self.left = length.saturating_sub(HEADER - 1);
            }
        }
        Ok(())
    }
}

impl<S> Checked<S> {
    /// Messages are as long as an answer at most, after `before` bytes that are none.
    pub(super) fn new(stream: S, answer: usize, before: usize) -> Self {
        Self { stream, lengths: Lengths::new(answer, before) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Checked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(self.lengths.follow(buffer.filled().get(before..).unwrap_or_default()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Checked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Checked<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// Speaks TLS below the messages.
pub(super) struct CheckedTls<T> {
    pub(super) tls: T,
    /// How large an answer may be.
    pub(super) answer: usize,
}

impl<S, T> TlsConnect<Checked<S>> for CheckedTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = Checked<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: Checked<S>) -> Self::Future {
        let (connect, answer) = (self.tls.connect(stream.stream), self.answer);
        Box::pin(async move { Ok(Checked::new(connect.await?, answer, 0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, payload].concat()
    }

    #[test]
    fn messages_pass_until_one_is_announced_that_is_too_long() {
        let fine = [b"N".as_slice(), &message(b'R', &[0; 8]), &message(b'Z', b"I"), &message(b'1', b"")].concat();
        for length in [u32::MAX, 1 << 31, 2 << 20] {
            let long = [b"D".as_slice(), &length.to_be_bytes()].concat();
            let (mut at_once, mut in_bytes) = (Lengths::new(1 << 19, 1), Lengths::new(1 << 19, 1));
            assert!(at_once.follow(&fine).is_ok());
            assert!(at_once.follow(&long).unwrap_err().to_string().contains(&length.to_string()));
            assert!(fine.iter().all(|byte| in_bytes.follow(&[*byte]).is_ok()));
            assert!(!long.iter().all(|byte| in_bytes.follow(&[*byte]).is_ok()));
        }
        let mut lengths = Lengths::new(1 << 20, 0);
        assert!(lengths.follow(&message(b'D', &vec![0; 1 << 20])).is_ok());
        assert!(lengths.follow(&message(b'D', &[])).is_ok());
    }
}

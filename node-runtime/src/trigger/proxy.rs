//! The PROXY protocol, versions 1 and 2: a load balancer says before everything else whose connection it passes on.
//!
//! Promise: only trusted proxies are listened to; what is malformed, too long or too slow ends the connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// The longest header of version 1, its line end included.
const LONGEST_V1: usize = 107;
/// The longest header of version 2 that is taken: addresses, and what balancers say about TLS and themselves.
const LONGEST_V2: usize = 4096;
const START_V1: &[u8] = b"PROXY ";
const START_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The kind of the field that tells about TLS, and the bit of its first byte that says it was used.
const TLS_FIELD: u8 = 0x20;
const TLS_USED: u8 = 1;

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProxyProtocol {
    /// They do not: such a header is a malformed request.
    #[default]
    Off,
    /// Those of trusted proxies may. All others speak HTTP or TLS at once.
    Optional,
    /// All do: those that do not, and those of others than trusted proxies, are closed.
    Required,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    /// Whose connection it is; `None` if it is the proxy's own, such as a health check.
    pub(super) client: Option<SocketAddr>,
    /// Whether the client used TLS.
    pub(super) secure: bool,
}

/// A stream, and what was already read of it.
#[derive(Debug)]
pub(super) struct Begun<I> {
    first: Bytes,
    io: I,
}

impl<I> Begun<I> {
    /// Nothing was read yet.
    pub(super) const fn new(io: I) -> Self {
        Self { first: Bytes::new(), io }
    }
}

/// Reads the header that `io` begins with; `None` if it begins with something else.
///
/// # Errors
/// When it is malformed or too long, or the connection ends within it.
pub(super) async fn read_header<I: AsyncRead + Unpin>(mut io: I) -> io::Result<(Option<Passed>, Begun<I>)> {
    let mut read = BytesMut::with_capacity(256);
    loop {
        if !may_begin(&read, START_V1) && !may_begin(&read, START_V2) {
            return Ok((None, Begun { first: read.freeze(), io }));
        }
        let missing = match extent(&read)? {
            Extent::Whole(length) => {
                let header = read.split_to(length);
                return Ok((Some(parse(&header)?), Begun { first: read.freeze(), io }));
            }
            Extent::Missing(most) => most,
        };
        if (&mut io).take(missing as u64).read_buf(&mut read).await? == 0 {
            return if read.is_empty() { Ok((None, Begun::new(io))) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// How far a header goes.
enum Extent {
    /// So many bytes.
    Whole(usize),
    /// It is not all there; at most so many bytes are missing.
    Missing(usize),
}

/// How far the header goes that `read` begins with.
fn extent(read: &[u8]) -> io::Result<Extent> {
    let (length, longest) = if read.first() == START_V2.first() {
        // The length of what comes after it is the last thing in the fixed part.
        let length = read.get(14..16).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
        (length.map(|length| 16 + usize::from(length)), LONGEST_V2)
    } else {
        (read.iter().position(|byte| *byte == b'\n').map(|end| end + 1), LONGEST_V1)
    };
    match length {
        Some(length) if length > longest => Err(malformed()),
        Some(length) if length <= read.len() => Ok(Extent::Whole(length)),
        Some(length) => Ok(Extent::Missing(length - read.len())),
        None if read.len() >= longest => Err(malformed()),
        None => Ok(Extent::Missing(longest - read.len())),
    }
}

fn parse(header: &[u8]) -> io::Result<Passed> {
    if header.starts_with(START_V2) {
        v2::Header::try_from(header).map(|header| of_v2(&header)).map_err(|_| malformed())
    } else {
        v1::Header::try_from(header).map(|header| of_v1(&header)).map_err(|_| malformed())
    }
}

/// Whether `read` could become something that begins with `start`.
fn may_begin(read: &[u8], start: &[u8]) -> bool {
    let length = read.len().min(start.len());
    read.get(..length) == start.get(..length)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the PROXY header is malformed")
}

fn of_v1(header: &v1::Header<'_>) -> Passed {
    let client = match header.addresses {
        v1::Addresses::Tcp4(of) => Some((IpAddr::V4(of.source_address), of.source_port)),
        v1::Addresses::Tcp6(of) => Some((IpAddr::V6(of.source_address), of.source_port)),
        v1::Addresses::Unknown => None,
    };
    Passed { client: client.map(canonical), secure: false }
}

fn of_v2(header: &v2::Header<'_>) -> Passed {
    let client = match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(of)) => Some((IpAddr::V4(of.source_address), of.source_port)),
        (v2::Command::Proxy, v2::Addresses::IPv6(of)) => Some((IpAddr::V6(of.source_address), of.source_port)),
        _ => None,
    };
    let is_tls = |field: Result<v2::TypeLengthValue<'_>, _>| {
        field.is_ok_and(|field| field.kind == TLS_FIELD && field.value.first().is_some_and(|bits| bits & TLS_USED != 0))
    };
    Passed { client: client.map(canonical), secure: client.is_some() && header.tlvs().any(is_tls) }
}

fn canonical((ip, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

impl<I: AsyncRead + Unpin> AsyncRead for Begun<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let size = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first.split_to(size));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// What is read of a connection on which these pieces come, and what is left for HTTP.
    async fn read(pieces: &[&[u8]]) -> io::Result<(Option<Passed>, Vec<u8>)> {
        let (mut client, server) = duplex(1);
        let send = async {
            for piece in pieces {
                if client.write_all(piece).await.is_err() {
                    break;
                }
            }
            drop(client);
        };
        let receive = async {
            let (passed, mut rest) = read_header(server).await?;
            let mut left = Vec::new();
            rest.read_to_end(&mut left).await?;
            Ok((passed, left))
        };
        tokio::join!(send, receive).1
    }

    fn version_2(command: v2::Command, addresses: impl Into<v2::Addresses>, fields: &[(u8, &[u8])]) -> Vec<u8> {
        let protocol = v2::Version::Two | command;
        let mut builder = v2::Builder::with_addresses(protocol, v2::Protocol::Stream, addresses);
        for (kind, value) in fields {
            builder = builder.write_tlv(*kind, value).unwrap();
        }
        builder.build().unwrap()
    }

    fn addresses(client: &str) -> (SocketAddr, SocketAddr) {
        let client: SocketAddr = client.parse().unwrap();
        let server = if client.is_ipv4() { "10.0.0.2:80" } else { "[fd00::2]:80" };
        (client, server.parse().unwrap())
    }

    #[tokio::test]
    async fn both_versions_tell_the_client_and_leave_the_rest_alone() {
        let v1: &[u8] = b"PROXY TCP4 1.2.3.4 10.0.0.2 567 80\r\n";
        let (passed, left) = read(&[v1, b"GET / HTTP/1.1\r\n"]).await.unwrap();
        assert_eq!(passed.unwrap().client, Some("1.2.3.4:567".parse().unwrap()));
        assert_eq!(left, b"GET / HTTP/1.1\r\n");
        let (passed, _) = read(&[b"PROXY TCP6 2001:db8::1 fd00::2 567 80\r\n"]).await.unwrap();
        assert_eq!(passed.unwrap().client, Some("[2001:db8::1]:567".parse().unwrap()));
        for client in ["1.2.3.4:567", "[2001:db8::1]:567"] {
            let v2 = version_2(v2::Command::Proxy, addresses(client), &[(TLS_FIELD, &[TLS_USED, 0, 0, 0, 0])]);
            let (passed, left) = read(&[&v2, b"PRI * HTTP/2.0"]).await.unwrap();
            assert_eq!(passed, Some(Passed { client: Some(client.parse().unwrap()), secure: true }));
            assert_eq!(left, b"PRI * HTTP/2.0");
        }
    }

    #[tokio::test]
    async fn a_proxys_own_connection_is_its_own() {
        let own = Some(Passed { client: None, secure: false });
        assert_eq!(read(&[b"PROXY UNKNOWN\r\n"]).await.unwrap().0, own);
        let local = version_2(v2::Command::Local, addresses("1.2.3.4:567"), &[]);
        assert_eq!(read(&[&local]).await.unwrap().0, own);
    }

    #[tokio::test]
    async fn what_is_no_header_is_left_as_it_is() {
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROPFIND / HTTP/1.1\r\n", b"\x16\x03\x01", b"\r\n\r\nGET", b""]
        {
            let (passed, left) = read(&[other]).await.unwrap();
            assert!(passed.is_none() && left == other, "{other:?}");
        }
    }

    #[tokio::test]
    async fn what_is_malformed_too_long_or_cut_is_an_error() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 4096]].concat();
        let mut huge = version_2(v2::Command::Proxy, addresses("1.2.3.4:5"), &[]);
        huge[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        huge.extend([0; 65536]);
        let mut other_version = version_2(v2::Command::Proxy, addresses("1.2.3.4:5"), &[]);
        other_version[12] = 0x31;
        for bad in [
            &b"PROXY TCP4 1.2.3.4 nonsense 567 80\r\n"[..],
            b"PROXY TCP4 1.2.3.4 10.0.0.2 567\r\n",
            b"PROXY TCP5 1.2.3.4 10.0.0.2 567 80\r\n",
            b"PROXY ",
            b"\r\n\r\n\0\r\nQUIT\n",
            &endless,
            &huge,
            &other_version,
        ] {
            assert!(read(&[bad]).await.is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}

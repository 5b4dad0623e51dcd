//! Opens TCP connections: one address after the other, without waiting long for one that does not answer.

use std::{io, net::SocketAddr, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::net::TcpStream;

/// How long one address is waited for before the next is tried beside it (RFC 8305, 5).
const NEXT_ATTEMPT: Duration = Duration::from_millis(250);
/// How many addresses of one name are tried at most.
const MOST_ADDRESSES: usize = 16;

/// A connection to the first of `addresses` that takes one. IPv6 and IPv4 take turns.
pub(super) async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = in_turns(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    attempts.extend(waiting.next().map(TcpStream::connect));
    loop {
        tokio::select! {
            biased;
            ended = attempts.next() => match ended {
                Some(Ok(stream)) => {
                    // Small messages must not wait for acknowledgements; failing to say so costs time only.
                    let _slow = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(error)) => {
                    failure = error;
                    attempts.extend(waiting.next().map(TcpStream::connect));
                }
                None => return Err(failure),
            },
            () = tokio::time::sleep(NEXT_ATTEMPT), if waiting.len() > 0 => {
                attempts.extend(waiting.next().map(TcpStream::connect));
            }
        }
    }
}

/// The addresses, those of the first one's family and the others alternating (RFC 8305, 4).
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [first.next(), other.next()];
        if pair.iter().all(Option::is_none) || turns.len() >= MOST_ADDRESSES {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next() {
        // Taken, and nobody listens.
        let taken = TcpSocket::new_v4().unwrap();
        taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let closed = taken.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let stream = first_of(vec![closed, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert_eq!(first_of(vec![closed]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first_of(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn families_take_turns_and_their_number_is_bounded() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let turns = in_turns(vec![parse("[::1]:1"), parse("[::2]:1"), parse("1.1.1.1:1"), parse("1.1.1.2:1")]);
        assert_eq!(turns, [parse("[::1]:1"), parse("1.1.1.1:1"), parse("[::2]:1"), parse("1.1.1.2:1")]);
        assert_eq!(in_turns(vec![parse("1.1.1.1:1"); 1000]).len(), MOST_ADDRESSES);
    }
}

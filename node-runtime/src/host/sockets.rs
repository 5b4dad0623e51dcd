//! `wasi:sockets`: connections of components that speak a protocol of their own.
//!
//! As with Spin, `tcp://` and `udp://` entries of `allowed_outbound_hosts` allow them, and those of every scheme (`*://`). What
//! is checked is the address that is connected to, so an entry names an address, a network or every host: a name that is
//! allowed for other protocols allows no socket.
//!
//! Promise: no guest listens, or takes a port of its own choice. A connection counts as one of its application's until the
//! request ends; a guest that would have too many is told that it may not.

mod lookup;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use wasmtime_wasi::{WasiCtxBuilder, sockets::SocketAddrUse};

use super::{ConnectionKind, ConnectionPermit, Grants};

pub(super) use lookup::{begin as begin_lookup, link as link_components};

/// Sets up what the guest of one request may do.
pub(crate) fn configure(wasi: &mut WasiCtxBuilder, grants: &Arc<Grants>) {
    let some = grants.network.permits_sockets();
    wasi.allow_tcp(some).allow_udp(some).allow_ip_name_lookup(some);
    if some {
        let sockets = Arc::new(Sockets { grants: Arc::clone(grants), open: Mutex::default() });
        wasi.socket_addr_check(move |address, wanted| Box::pin(std::future::ready(sockets.permits(address, wanted))));
    }
}

struct Sockets {
    grants: Arc<Grants>,
    open: Mutex<Vec<ConnectionPermit>>,
}

impl Sockets {
    fn permits(&self, address: SocketAddr, wanted: SocketAddrUse) -> bool {
        match wanted {
            // The system chooses address and port for a socket that connects; that alone harms nobody.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => address.ip().is_unspecified() && address.port() == 0,
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
            SocketAddrUse::TcpConnect => self.reaches("tcp", address) && self.counts(),
            SocketAddrUse::UdpSend => self.reaches("udp", address),
            SocketAddrUse::UdpReceive => self.allows("udp", address),
        }
    }

    fn allows(&self, scheme: &str, address: SocketAddr) -> bool {
        let (host, port) = (address.ip().to_string(), address.port());
        let network = &self.grants.network;
        network.permits(scheme, &host, Some(port)) && !network.is_blocked(address)
    }

    /// As [`Self::allows`], and says so where it does not.
    fn reaches(&self, scheme: &str, address: SocketAddr) -> bool {
        let allows = self.allows(scheme, address);
        if !allows {
            self.grants.denied(scheme, &address.ip().to_string(), Some(address.port()));
        }
        allows
    }

    /// Whether there may be one more.
    fn counts(&self) -> bool {
        match self.grants.network.connections().try_permit(ConnectionKind::Socket) {
            Ok(permit) => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "socket of a guest refused");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Network;

    fn sockets(allowed: &[&str]) -> Sockets {
        let grants = Grants { network: Network::allowing(allowed), ..Grants::none() };
        Sockets { grants: Arc::new(grants), open: Mutex::default() }
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_socket_reaches_what_an_entry_of_its_scheme_or_of_every_scheme_names() {
        let sockets =
            sockets(&["tcp://10.0.0.0/8:5432", "udp://127.0.0.1:53", "http://192.0.2.1:80", "*://192.0.2.2:*"]);
        assert!(sockets.permits(at("10.1.2.3:5432"), SocketAddrUse::TcpConnect));
        assert!(sockets.permits(at("192.0.2.2:7"), SocketAddrUse::TcpConnect));
        assert!(sockets.permits(at("127.0.0.1:53"), SocketAddrUse::UdpSend));
        assert!(sockets.permits(at("127.0.0.1:53"), SocketAddrUse::UdpReceive));
        for other in ["10.1.2.3:5433", "11.0.0.1:5432", "127.0.0.1:53", "192.0.2.1:80"] {
            assert!(!sockets.permits(at(other), SocketAddrUse::TcpConnect), "{other}");
        }
        assert!(!sockets.permits(at("10.1.2.3:5432"), SocketAddrUse::UdpSend));
    }

    #[test]
    fn nobody_listens_or_chooses_a_port() {
        let sockets = sockets(&["*://*:*"]);
        for address in ["0.0.0.0:0", "[::]:0", "127.0.0.1:80"] {
            assert!(!sockets.permits(at(address), SocketAddrUse::TcpListen), "{address}");
        }
        assert!(sockets.permits(at("0.0.0.0:0"), SocketAddrUse::TcpBind));
        assert!(!sockets.permits(at("0.0.0.0:80"), SocketAddrUse::TcpBind));
        assert!(!sockets.permits(at("127.0.0.1:0"), SocketAddrUse::UdpBind));
    }

    #[test]
    fn connections_are_counted_until_the_request_ends() {
        let sockets = sockets(&["*://*:*"]);
        let connections = Arc::clone(sockets.grants.network.connections());
        let others: Vec<_> = (0..255).map(|_| connections.try_permit(ConnectionKind::Http).unwrap()).collect();
        assert!(sockets.permits(at("10.0.0.1:1"), SocketAddrUse::TcpConnect));
        assert!(!sockets.permits(at("10.0.0.1:1"), SocketAddrUse::TcpConnect));
        drop(sockets);
        assert!(connections.try_permit(ConnectionKind::Http).is_ok());
        drop(others);
    }
}

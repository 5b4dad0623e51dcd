//! [`BlockedNetworks`]: addresses that no guest may connect to, whatever its manifest allows.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    str::FromStr,
};

use manifest::runtime_config::BlockedNetwork;
use node_runtime_core::outbound::same_network;

/// A set of addresses. The default is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockedNetworks {
    /// All that the internet does not route.
    private: bool,
    networks: Vec<(IpAddr, u8)>,
    /// Ports of this host.
    own_ports: Vec<u16>,
}

/// Why a text is no set of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: write `private`, or a network such as `10.0.0.0/8`")]
pub struct BlockedNetworkError(String);

impl BlockedNetworks {
    /// The addresses that `block_networks` names.
    #[must_use]
    pub fn new(networks: &[BlockedNetwork]) -> Self {
        let mut blocked = Self::default();
        for network in networks {
            match *network {
                BlockedNetwork::Private => blocked.private = true,
                BlockedNetwork::Network { address, bits } => blocked.networks.push(canonical(address, bits)),
            }
        }
        blocked
    }

    /// The addresses of both.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.private |= other.private;
        self.networks.extend(&other.networks);
        self.own_ports.extend(&other.own_ports);
        self
    }

    /// These, and `ports` at every address of this host: where its own servers are.
    #[must_use]
    pub fn and_own_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.own_ports.extend(ports);
        self
    }

    /// Whether nobody may connect to `address`.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.contains_ip(address.ip()) || self.own_ports.contains(&address.port()) && is_own(address)
    }

    /// Whether nobody may connect to any port of `address`.
    #[must_use]
    pub fn contains_ip(&self, address: IpAddr) -> bool {
        let carried = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => carried(v6),
        };
        self.contains_exactly(address) || carried.is_some_and(|v4| self.contains_exactly(IpAddr::V4(v4)))
    }

    fn contains_exactly(&self, address: IpAddr) -> bool {
        self.private && !is_global(address)
            || self.networks.iter().any(|(network, bits)| same_network(*network, address, *bits))
    }
}

/// The IPv4 address that a connection to this IPv6 address ends at: mapped (`::ffff:0:0/96`), compatible (`::/96`), or by
/// way of a translator (`64:ff9b::/96`, RFC 6052) or relay (`2002::/16`, RFC 3056).
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, third, .., high, low] = address.segments();
    let relay = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (first, second) {
        (0x64, 0xff9b) => relay(high, low),
        (0x2002, _) => relay(second, third),
        _ => address.to_ipv4(),
    }
}

impl FromStr for BlockedNetworks {
    type Err = BlockedNetworkError;

    /// Reads a list with commas.
    fn from_str(list: &str) -> Result<Self, BlockedNetworkError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let parse = |entry: &str| entry.parse().map_err(|()| BlockedNetworkError(entry.to_owned()));
        Ok(Self::new(&entries.map(parse).collect::<Result<Vec<_>, _>>()?))
    }
}

/// The network with IPv4 addresses as such: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(address: IpAddr, bits: u8) -> (IpAddr, u8) {
    match (address, address.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(mapped)) if bits >= MAPPED_BITS => (mapped.into(), bits - MAPPED_BITS),
        _ => (address, bits),
    }
}

/// What precedes an IPv4 address in `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

/// Networks that the internet does not route (IANA's registries of special purpose addresses): what Spin calls `private`.
const NOT_GLOBAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// What IPv6's routed addresses begin with.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What is among them and not routed: special purposes and examples.
const NOT_GLOBAL_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether the internet routes it. An IPv6 address that carries an IPv4 address is judged by that one too.
fn is_global(address: IpAddr) -> bool {
    let is_in = |network: IpAddr, bits: u8| same_network(network, address, bits);
    match address {
        IpAddr::V4(_) => !NOT_GLOBAL_V4.iter().any(|(network, bits)| is_in((*network).into(), *bits)),
        IpAddr::V6(v6) => {
            let carries = v6.to_ipv4_mapped().is_some() || matches!(v6.segments(), [0x64, 0xff9b, ..]);
            carries
                || is_in(GLOBAL_V6.0.into(), GLOBAL_V6.1)
                    && !NOT_GLOBAL_V6.iter().any(|(network, bits)| is_in((*network).into(), *bits))
        }
    }
}

/// Whether `address` is this host's: then its packets have it as their source too. Asking sends none.
fn is_own(address: SocketAddr) -> bool {
    let unspecified: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || {
        let socket = UdpSocket::bind((unspecified, 0))?;
        socket.connect(address)?;
        socket.local_addr()
    };
    let to = address.ip().to_canonical();
    to.is_unspecified() || to.is_loopback() || source().is_ok_and(|source: SocketAddr| source.ip().to_canonical() == to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn private_is_what_the_internet_does_not_route() {
        let blocked: BlockedNetworks = "private".parse().unwrap();
        for inside in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "fd00:ec2::254",
        ] {
            assert!(blocked.contains_ip(ip(inside)), "{inside}");
        }
        for outside in ["1.1.1.1", "123.123.123.123", "2600::beef", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"] {
            assert!(!blocked.contains_ip(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn a_network_is_blocked_in_every_form_of_its_addresses() {
        let blocked: BlockedNetworks = "169.254.0.0/16, fe80::/10,123.4.5.6".parse().unwrap();
        for inside in ["169.254.169.254", "::ffff:169.254.1.1", "fe80::1", "febf::1", "123.4.5.6", "::ffff:7b04:506"] {
            assert!(blocked.contains_ip(ip(inside)), "{inside}");
        }
        for outside in ["169.253.1.1", "10.0.0.1", "::1", "fec0::1", "123.4.5.7"] {
            assert!(!blocked.contains_ip(ip(outside)), "{outside}");
        }
        let mapped: BlockedNetworks = "::ffff:10.0.0.0/104".parse().unwrap();
        assert!(mapped.contains_ip(ip("10.9.9.9")) && !mapped.contains_ip(ip("11.0.0.1")));
    }

    #[test]
    fn what_is_no_network_is_refused_with_advice() {
        for bad in ["public", "10.0.0.0/33", "fe80::/129", "10.0.0/8", "/8", "1.2.3.4/x"] {
            let error = bad.parse::<BlockedNetworks>().unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("10.0.0.0/8"), "{error}");
        }
        assert_eq!("".parse(), Ok(BlockedNetworks::default()));
    }

    #[test]
    fn own_ports_are_blocked_at_addresses_of_this_host_only() {
        let blocked = BlockedNetworks::default().and_own_ports([9090]);
        for own in ["127.0.0.1:9090", "127.9.9.9:9090", "0.0.0.0:9090"] {
            assert!(blocked.contains(own.parse().unwrap()), "{own}");
        }
        assert!(!blocked.contains("127.0.0.1:9091".parse().unwrap()));
        assert!(!blocked.contains("203.0.113.1:9090".parse().unwrap()));
    }
}

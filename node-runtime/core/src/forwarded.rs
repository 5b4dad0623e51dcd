//! Who a caller is when proxies stand between.
//!
//! The rule: what a connection says of its other end (`PROXY` protocol, `X-Forwarded-For`, `X-Forwarded-Proto`) is believed
//! only when that end is a trusted proxy. Of the addresses in `X-Forwarded-For`, from right to left, the first that is no
//! trusted proxy is the caller: everything left of it was written by the caller. Headers reach guests as they came, believed
//! or not.
//!
//! Absent on purpose: `Forwarded` (RFC 7239) and `X-Forwarded-Host`. Common proxies set neither and pass on a caller's own,
//! so believing them would let callers choose their address and host.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A network of trusted proxies: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// Why text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network: write an address, or one with the number of its network's bits, as in 10.0.0.0/8")]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let one = |_| text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(one).map(Self).map_err(|_| NetworkError(text.to_owned()))
    }
}

/// The proxies whose word counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies(Vec<Network>);

impl FromIterator<Network> for TrustedProxies {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl TrustedProxies {
    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` is a trusted proxy's. An IPv4 address that is mapped into IPv6 counts as itself.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }

    /// The caller and whether it used TLS, for a request with these headers from `peer`. `None` if the headers say nothing
    /// that is believed. The port of a caller that is named without one is 0.
    #[must_use]
    pub fn caller(&self, peer: SocketAddr, secure: bool, headers: &HeaderMap) -> Option<(SocketAddr, bool)> {
        if self.0.is_empty() || !self.trust(peer.ip()) {
            return None;
        }
        let hops: Vec<&str> = list(headers, &FOR).collect();
        let schemes: Vec<&str> = list(headers, &PROTO).collect();
        if hops.is_empty() && schemes.is_empty() {
            return None;
        }
        let (mut caller, mut at) = (peer, hops.len());
        for (index, hop) in hops.iter().enumerate().rev() {
            // What cannot be read was not written by a proxy that can be trusted to write.
            let Some(address) = address(hop) else { break };
            (caller, at) = (address, index);
            if !self.trust(address.ip()) {
                break;
            }
        }
        // Where each proxy has added a scheme, that of the caller is beside its address; else the nearest proxy's counts.
        let scheme = if schemes.len() == hops.len() { schemes.get(at) } else { None }.or(schemes.last());
        let secure = match scheme {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => true,
            Some(scheme) if scheme.eq_ignore_ascii_case("http") => false,
            _ => secure,
        };
        Some((caller, secure))
    }
}

/// The elements of a header that is a list, over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    // A line that is no text counts as one element that cannot be read.
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let whole = || text.parse::<SocketAddr>().ok();
    let address = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0)).or_else(whole)?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(trusted: &[&str], peer: &str, headers: &[(&str, &str)]) -> Option<(String, bool)> {
        let trusted: TrustedProxies = trusted.iter().map(|network| network.parse::<Network>().unwrap()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = trusted.caller(peer.parse().unwrap(), false, &map);
        found.map(|(address, secure)| (address.to_string(), secure))
    }

    #[test]
    fn nobody_is_believed_who_is_not_trusted() {
        let forged = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        assert_eq!(caller(&[], "10.0.0.1:5", &forged), None);
        assert_eq!(caller(&["10.0.0.0/8"], "11.0.0.1:5", &forged), None);
        assert_eq!(caller(&["10.0.0.0/8"], "10.0.0.1:5", &[]), None);
        assert_eq!(caller(&["10.0.0.0/8"], "10.0.0.1:5", &[("forwarded", "for=1.2.3.4;proto=https")]), None);
    }

    #[test]
    fn the_caller_is_the_rightmost_address_that_no_trusted_proxy_has() {
        for (header, expected) in [
            ("1.2.3.4", "1.2.3.4:0"),
            ("6.6.6.6, 1.2.3.4", "1.2.3.4:0"),
            ("6.6.6.6, 1.2.3.4, 10.9.9.9", "1.2.3.4:0"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1:0"),
            ("1.2.3.4:567", "1.2.3.4:567"),
            ("2001:db8::1", "[2001:db8::1]:0"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("[2001:db8::1]", "[2001:db8::1]:0"),
            ("::ffff:1.2.3.4", "1.2.3.4:0"),
            ("1.2.3.4, unknown", "10.0.0.1:5"),
            ("1.2.3.4, nonsense, 10.9.9.9", "10.9.9.9:0"),
            (", 1.2.3.4 ,", "1.2.3.4:0"),
        ] {
            let found = caller(&["10.0.0.0/8"], "10.0.0.1:5", &[("x-forwarded-for", header)]);
            assert_eq!(found, Some((expected.to_owned(), false)), "{header}");
        }
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(caller(&["10.0.0.1"], "10.0.0.1:5", &lines), Some(("1.2.3.4:0".to_owned(), false)));
    }

    #[test]
    fn the_scheme_is_the_callers_not_that_between_proxies() {
        let with = |proto: &str, hops: &str| {
            caller(&["10.0.0.0/8"], "10.0.0.1:5", &[("x-forwarded-proto", proto), ("x-forwarded-for", hops)]).unwrap().1
        };
        assert!(with("https", "1.2.3.4"));
        assert!(with("HTTPS", "6.6.6.6, 1.2.3.4, 10.9.9.9"));
        assert!(with("https, http", "1.2.3.4, 10.9.9.9"));
        assert!(!with("https, http", "6.6.6.6, 1.2.3.4"), "a caller's own word");
        assert!(!with("https, http", "1.2.3.4"), "the nearest proxy's word");
        assert!(!with("gopher", "1.2.3.4"));
        assert!(caller(&["10.0.0.0/8"], "10.0.0.1:5", &[("x-forwarded-proto", "https")]).unwrap().1);
    }

    #[test]
    fn a_proxy_in_an_ipv6_socket_is_known_by_its_ipv4_address() {
        let trusted: TrustedProxies =
            ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()].into_iter().collect();
        assert!(trusted.trust("::ffff:10.1.2.3".parse().unwrap()) && trusted.trust("fd00::1".parse().unwrap()));
        assert!(!trusted.trust("::ffff:11.1.2.3".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<Network>().is_err() && "proxy".parse::<Network>().is_err());
    }
}

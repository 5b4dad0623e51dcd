//! Where a component may connect to: the entries of `allowed_outbound_hosts`.
//!
//! Absent on purpose: deciding about a connection. An entry may hold `{{ templates }}`, so that is
//! only possible where the variables' values are known.

mod v1;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    ops::Range,
    str::FromStr,
};

pub(crate) use v1::to_allowed_http_hosts;
pub use v1::{HttpHostError, from_allowed_http_hosts};

use v1::ALLOW_ALL;

/// One entry of `allowed_outbound_hosts`, without templates: `scheme://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundHost {
    /// The protocol.
    pub scheme: Scheme,
    /// The hosts.
    pub host: HostPattern,
    /// The ports.
    pub ports: Ports,
}

/// The protocol of an [`OutboundHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// `*`: every one.
    Any,
    /// One, in lower case.
    Named(String),
}

/// The hosts of an [`OutboundHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: every one.
    Any,
    /// One name, in lower case.
    Name(String),
    /// `*.domain`: every name below the domain, which is in lower case and without the `*.`.
    Below(String),
    /// The addresses whose first bits are those of this one; a single address has all its bits.
    Network {
        /// An address of the network.
        address: IpAddr,
        /// How many of its bits count.
        bits: u8,
    },
    /// `self`, or `self.alt`: the application itself.
    Own,
}

/// The ports of an [`OutboundHost`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// `*`: every one.
    Any,
    /// From the start up to, not including, the end.
    Range(Range<u32>),
}

/// Why a string is not an [`OutboundHost`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is no `://`.
    #[error("`{0}` has no scheme: write `scheme://host:port`, such as `https://{0}`")]
    NoScheme(String),
    /// It is empty, or a way to allow everything that there is elsewhere.
    #[error("`{0}` is not an outbound host: write `scheme://host:port`, or `*://*:*` to allow everything")]
    NotOne(String),
    /// The scheme is neither `*` nor a name.
    #[error("`{0}` is not a scheme: use a name such as `https`, or `*`")]
    Scheme(String),
    /// There is a path, a query or a user.
    #[error("`{0}` has more than a host and a port: remove the path, the query and the user")]
    NotOnlyHost(String),
    /// The host is none of the known forms.
    #[error("`{0}` is not a host: use a name, an address, a network such as `10.0.0.0/8`, `*`, `*.domain` or `self`")]
    Host(String),
    /// The application itself speaks HTTP only.
    #[error("`{0}://self` is not possible: the application itself is reached by `http://self` or `https://self`")]
    OwnScheme(String),
    /// The port is none of the known forms.
    #[error("`{0}` is not a port: use a number up to 65535, a range such as `8000..8010`, or `*`")]
    Port(String),
    /// There is no port, and the scheme has no default one.
    #[error("`{0}` needs a port: `{1}` has no default one; write `:*` for every port")]
    NoPort(String, String),
}

impl FromStr for OutboundHost {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        // As in Spin: values of variables often come with the end of a line.
        let text = text.trim();
        if matches!(text, "" | "*" | ALLOW_ALL) {
            return Err(HostError::NotOne(text.to_owned()));
        }
        let (scheme_text, rest) = text.split_once("://").ok_or_else(|| HostError::NoScheme(text.to_owned()))?;
        let scheme = parse_scheme(scheme_text)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['?', '#', '@', '\\']) {
            return Err(HostError::NotOnlyHost(text.to_owned()));
        }
        let (host, port) = split_port(rest);
        let host = parse_host(host, text)?;
        if host == HostPattern::Own && !matches!(scheme_text.to_ascii_lowercase().as_str(), "http" | "https" | "*") {
            return Err(HostError::OwnScheme(scheme_text.to_owned()));
        }
        let ports = match (port, default_port(&scheme_text.to_ascii_lowercase())) {
            (Some(port), _) => parse_ports(port)?,
            (None, Some(port)) => Ports::Range(port..port + 1),
            (None, None) => return Err(HostError::NoPort(text.to_owned(), scheme_text.to_owned())),
        };
        Ok(Self { scheme, host, ports })
    }
}

/// The port of a scheme, in lower case, that Spin knows.
#[must_use]
pub fn default_port(scheme: &str) -> Option<u32> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" => Some(5432),
        "mysql" => Some(3306),
        "redis" => Some(6379),
        "mqtt" => Some(1883),
        _ => None,
    }
}

fn parse_scheme(text: &str) -> Result<Scheme, HostError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if text == "*" {
        Ok(Scheme::Any)
    } else if text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(inner) {
        Ok(Scheme::Named(text.to_ascii_lowercase()))
    } else {
        Err(HostError::Scheme(text.to_owned()))
    }
}

/// Host and port of `host[:port]`, where a host in brackets may itself have colons.
fn split_port(rest: &str) -> (&str, Option<&str>) {
    let after_brackets = rest.rfind(']').map_or(0, |end| end + 1);
    let colon = rest.get(after_brackets..).and_then(|tail| tail.find(':')).map(|at| after_brackets + at);
    match colon.and_then(|at| rest.split_at_checked(at)) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => (rest, None),
    }
}

fn parse_host(host: &str, text: &str) -> Result<HostPattern, HostError> {
    let bad = || HostError::Host(host.to_owned());
    if let Some((address, bits)) = host.split_once('/') {
        let Some(address) = parse_address(address) else {
            return Err(HostError::NotOnlyHost(text.to_owned()));
        };
        let bits = bits.parse().ok().filter(|bits| *bits <= width(address)).ok_or_else(bad)?;
        return Ok(HostPattern::Network { address, bits });
    }
    if let Some(address) = parse_address(host) {
        return Ok(HostPattern::Network { address, bits: width(address) });
    }
    match host {
        "*" => Ok(HostPattern::Any),
        // SDKs that insist on a host with a dot have the second (Spin 3).
        "self" | "self.alt" => Ok(HostPattern::Own),
        _ => {
            let (name, below) = host.strip_prefix("*.").map_or((host, false), |domain| (domain, true));
            let name = if is_name(name) { name.to_lowercase() } else { return Err(bad()) };
            Ok(if below { HostPattern::Below(name) } else { HostPattern::Name(name) })
        }
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether it could be a DNS name. Underscores occur in the wild; letters beyond ASCII do too.
fn is_name(name: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    name.strip_suffix('.').unwrap_or(name).split('.').all(label)
}

fn parse_ports(text: &str) -> Result<Ports, HostError> {
    let bad = || HostError::Port(text.to_owned());
    let number = |digits: &str| match digits.parse::<u32>() {
        // As in Spin, where 0 stands for a port that nothing has.
        Ok(port @ 0..=65_535) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(bad()),
    };
    if text == "*" {
        return Ok(Ports::Any);
    }
    match text.split_once("..") {
        None => number(text).map(|port| Ports::Range(port..port + 1)),
        Some((start, end)) => {
            let range = number(start)?..number(end)?;
            if range.is_empty() { Err(bad()) } else { Ok(Ports::Range(range)) }
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> OutboundHost {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn an_outbound_host_is_read_in_every_form_that_spin_knows() {
        assert_eq!(host("https://example.com").ports, Ports::Range(443..444));
        assert_eq!(host("https://Example.com/").host, HostPattern::Name("example.com".to_owned()));
        assert_eq!(host("*://*:*"), OutboundHost { scheme: Scheme::Any, host: HostPattern::Any, ports: Ports::Any });
        assert_eq!(host("http://*.example.com").host, HostPattern::Below("example.com".to_owned()));
        assert_eq!(
            host("redis://10.0.0.0/8:6379").host,
            HostPattern::Network { address: [10, 0, 0, 0].into(), bits: 8 }
        );
        assert_eq!(host("mysql://db:3000..3010").ports, Ports::Range(3000..3010));
        assert_eq!(
            host("http://[::1]:8080"),
            OutboundHost {
                scheme: Scheme::Named("http".to_owned()),
                host: HostPattern::Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
                ports: Ports::Range(8080..8081),
            }
        );
        assert_eq!(host("no://no:0000").ports, Ports::Range(0..1));
        assert_eq!(host(" https://example.com\n"), host("https://example.com"));
        assert_eq!(host("http://self").host, HostPattern::Own);
        assert_eq!(host("http://*.spin.internal").host, HostPattern::Below("spin.internal".to_owned()));
    }

    #[test]
    fn an_outbound_host_that_is_not_one_says_what_to_write_instead() {
        for (text, part) in [
            ("example.com", "`https://example.com`"),
            ("insecure:allow-all", "`*://*:*`"),
            ("*", "`*://*:*`"),
            ("", "`scheme://host:port`"),
            ("*://*.spin.internal", "needs a port"),
            ("https://example.com/path", "remove the path"),
            ("https://user@example.com", "remove the path"),
            ("ht tp://example.com", "is not a scheme"),
            ("tcp://example.com", "needs a port"),
            ("*://example.com", "needs a port"),
            ("http://", "is not a host"),
            ("http://a..b", "is not a host"),
            ("http://10.0.0.0/33", "is not a host"),
            ("http://a:65536", "is not a port"),
            ("http://a:20..10", "is not a port"),
            ("http://a:+1", "is not a port"),
            ("redis://self", "http://self"),
        ] {
            let error = text.parse::<OutboundHost>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

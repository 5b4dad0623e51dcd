//! [`AllowedHosts`]: where a component may connect to.
//!
//! The syntax is that of Spin's `allowed_outbound_hosts`: `scheme://host[:port]`, where the scheme may be `*`; the host a
//! name, `*`, `*.domain`, an address or a network (`10.0.0.0/8`); the port a number, `*` or a range `a..b` without its end.
//! Without a port, the scheme's own is meant. `self` (the application itself) is understood, and matches no other host.
//!
//! Absent on purpose: resolving names. What a name resolves to is not looked at here.

use std::net::IpAddr;

/// A component's allowed hosts, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedHosts {
    entries: Vec<Entry>,
}

/// Why an entry is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` in allowed_outbound_hosts is not understood: {problem}")]
pub struct AllowedHostError {
    /// The entry, as written.
    pub entry: String,
    /// What is wrong with it and what to write instead.
    pub problem: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    scheme: Option<String>,
    host: Host,
    ports: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// Without the leading `*`, so `.example.com`.
    Below(String),
    Name(String),
    Network {
        address: IpAddr,
        bits: u8,
    },
    Itself,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ports {
    Any,
    /// The last one excluded.
    Range(u32, u32),
}

impl AllowedHosts {
    /// Reads the entries of a manifest, after templates in them were filled in. Empty entries, and those that are a
    /// scheme without a host (from an empty variable), allow nothing.
    ///
    /// # Errors
    /// The first entry that is not understood.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, AllowedHostError> {
        let mut parsed = Vec::new();
        for entry in entries {
            let entry = entry.as_ref().trim();
            if entry.is_empty() || entry.ends_with("://") {
                continue;
            }
            parsed.push(Entry::parse(entry).map_err(|problem| AllowedHostError { entry: entry.to_owned(), problem })?);
        }
        Ok(Self { entries: parsed })
    }

    /// Whether a connection to `host` is allowed. `host` may be a bracketed IPv6 address; without a `port` the
    /// scheme's own counts.
    #[must_use]
    pub fn permits(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let Some(port) = port.or_else(|| default_port(scheme)) else { return false };
        self.entries.iter().any(|entry| {
            entry.scheme.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(scheme))
                && entry.host.matches(host)
                && entry.ports.matches(port)
        })
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    fn parse(entry: &str) -> Result<Self, &'static str> {
        if entry == "insecure:allow-all" {
            return Err("write `*://*:*` to allow everything");
        }
        let (scheme, rest) = entry.split_once("://").ok_or("it needs a scheme, as in `https://example.com`")?;
        if scheme.is_empty() || scheme != "*" && !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        {
            return Err("its scheme must be a name or `*`");
        }
        let (host, port) = split_port(rest);
        let (host, cidr) = match host.split_once('/') {
            Some((host, "")) => (host, None),
            Some((host, bits)) => (host, Some(bits)),
            None => (host, None),
        };
        let port = port.map(|port| port.strip_suffix('/').unwrap_or(port));
        let ports = match port {
            Some(port) => Ports::parse(port)?,
            None => default_port(scheme)
                .map(|port| Ports::Range(u32::from(port), u32::from(port) + 1))
                .ok_or("it needs a port, because its scheme has none of its own; `*` means any")?,
        };
        let scheme = (scheme != "*").then(|| scheme.to_owned());
        Ok(Self { scheme, host: Host::parse(host, cidr)?, ports })
    }
}

/// Separates `host` or `[v6]` from `:port`.
fn split_port(text: &str) -> (&str, Option<&str>) {
    let after = text.rfind(']').map_or(0, |end| end + 1);
    match text.get(after..).and_then(|rest| rest.find(':')) {
        Some(colon) => (text.get(..after + colon).unwrap_or(text), text.get(after + colon + 1..)),
        None => (text, None),
    }
}

impl Host {
    fn parse(host: &str, cidr: Option<&str>) -> Result<Self, &'static str> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = match cidr {
                Some(bits) => {
                    bits.parse().ok().filter(|bits| *bits <= most).ok_or("its network length is no number of bits")?
                }
                None => most,
            };
            return Ok(Self::Network { address, bits });
        }
        if cidr.is_some() {
            return Err("a path is not allowed: whole hosts are allowed or not");
        }
        match bare {
            "*" => Ok(Self::Any),
            "self" => Ok(Self::Itself),
            _ => match bare.strip_prefix('*') {
                Some(domain) if domain.len() > 1 && domain.starts_with('.') && !domain.contains('*') => {
                    Ok(Self::Below(domain.to_ascii_lowercase()))
                }
                Some(_) => Err("`*` stands for a whole host, or for all names below a domain as in `*.example.com`"),
                None if bare.is_empty() || bare.contains(['*', '?', '#', '@', ' ']) => {
                    Err("its host is not a name or an address")
                }
                None => Ok(Self::Name(bare.to_ascii_lowercase())),
            },
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Itself => false,
            Self::Name(name) => name.eq_ignore_ascii_case(host),
            Self::Below(domain) => host
                .len()
                .checked_sub(domain.len())
                .filter(|start| *start > 0)
                .and_then(|start| host.get(start..))
                .is_some_and(|end| end.eq_ignore_ascii_case(domain)),
            Self::Network { address, bits } => {
                host.parse::<IpAddr>().is_ok_and(|host| same_network(*address, host, u32::from(*bits)))
            }
        }
    }
}

/// Whether the first `bits` of two addresses are the same.
fn same_network(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(32_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(128_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

impl Ports {
    fn parse(port: &str) -> Result<Self, &'static str> {
        const PROBLEM: &str = "its port must be a number, `*`, or a range such as `8000..9000`";
        let number = |text: &str| text.parse::<u16>().map(u32::from).map_err(|_| PROBLEM);
        if port == "*" {
            return Ok(Self::Any);
        }
        match port.split_once("..") {
            Some((first, end)) => {
                let (first, end) = (number(first)?, number(end)?);
                if first < end { Ok(Self::Range(first, end)) } else { Err("its range of ports is empty") }
            }
            None => number(port).map(|port| Self::Range(port, port + 1)),
        }
    }

    fn matches(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Range(first, end) => (*first..*end).contains(&u32::from(port)),
        }
    }
}

/// The port a scheme has of its own.
fn default_port(scheme: &str) -> Option<u16> {
    Some(match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        "postgres" => 5432,
        "mysql" => 3306,
        "redis" => 6379,
        "mqtt" => 1883,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(entry: &str, scheme: &str, host: &str, port: Option<u16>) -> bool {
        AllowedHosts::parse(&[entry]).unwrap().permits(scheme, host, port)
    }

    #[test]
    fn nothing_is_allowed_without_entries_or_by_empty_ones() {
        assert!(!AllowedHosts::default().permits("http", "example.com", None));
        assert!(AllowedHosts::parse(&["", " ", "https://"]).unwrap().is_empty());
    }

    #[test]
    fn a_host_is_allowed_with_its_scheme_and_port_only() {
        assert!(permits("https://example.com", "https", "EXAMPLE.com", None));
        assert!(permits("https://example.com/", "https", "example.com", Some(443)));
        assert!(!permits("https://example.com", "http", "example.com", Some(443)));
        assert!(!permits("https://example.com", "https", "example.com", Some(8443)));
        assert!(!permits("https://example.com", "https", "sub.example.com", None));
        assert!(permits("http://example.com:8080/", "http", "example.com", Some(8080)));
    }

    #[test]
    fn wildcards_stand_for_schemes_hosts_subdomains_and_ports() {
        assert!(permits("*://*:*", "http", "any", Some(1)));
        assert!(permits("http://*.example.com", "http", "a.b.example.com", None));
        assert!(!permits("http://*.example.com", "http", "example.com", None));
        assert!(!permits("http://*.example.com", "http", "badexample.com", None));
        assert!(permits("http://h:8000..8002", "http", "h", Some(8001)));
        assert!(!permits("http://h:8000..8002", "http", "h", Some(8002)));
    }

    #[test]
    fn networks_match_addresses_and_never_names() {
        assert!(permits("http://127.0.0.0/24:*", "http", "127.0.0.7", Some(1)));
        assert!(!permits("http://127.0.0.0/24:*", "http", "127.0.1.7", Some(1)));
        assert!(permits("http://0.0.0.0/0", "http", "8.8.8.8", None));
        assert!(!permits("http://0.0.0.0/0", "http", "localhost", None));
        assert!(permits("http://[::1]:80", "http", "[::1]", None));
        assert!(!permits("http://[::1]", "http", "127.0.0.1", None));
        assert!(permits("http://[fd00::]/8", "http", "[fd12::1]", None));
    }

    #[test]
    fn self_is_understood_and_allows_no_other_host() {
        assert!(!permits("http://self", "http", "self", None));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_entry_and_advice() {
        for bad in [
            "example.com",
            "insecure:allow-all",
            "https://example.com/path",
            "://h",
            "ftp://h",
            "*://h",
            "http://h:x",
            "http://h:9..3",
            "http://a*b",
            "http://10.0.0.0/33",
            "http://user@h",
        ] {
            let error = AllowedHosts::parse(&[bad]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{bad}` in allowed_outbound_hosts")), "{error}");
        }
    }
}

//! [`AllowedHosts`]: where a component may connect to, by its `allowed_outbound_hosts`.
//!
//! The syntax is [`OutboundHost`]'s. A host is compared as what it means: letters' case, one dot at its end, the two ways to
//! write a domain beyond ASCII and an IPv4 address written as IPv6 make no difference.
//!
//! Absent on purpose: resolving names. What a name resolves to is not looked at here.

use std::net::IpAddr;

use manifest::hosts::{HostError, HostPattern, OutboundHost, Ports, Scheme, default_port};

/// A component's allowed hosts, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedHosts {
    entries: Vec<OutboundHost>,
}

/// Why an entry is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` in allowed_outbound_hosts is not understood: {problem}")]
pub struct AllowedHostError {
    /// The entry, as written.
    pub entry: String,
    /// What is wrong with it and what to write instead.
    pub problem: HostError,
}

impl AllowedHosts {
    /// Reads the entries of a manifest, after templates in them were filled in. Empty entries, and those that are a
    /// scheme without a host (from an empty variable), allow nothing.
    ///
    /// # Errors
    /// The first entry that is not understood.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, AllowedHostError> {
        let entries = entries.iter().map(|entry| entry.as_ref().trim());
        let entries = entries.filter(|entry| !entry.is_empty() && !entry.ends_with("://"));
        let parse = |entry: &str| {
            let parsed = entry.parse::<OutboundHost>();
            parsed.map(comparable).map_err(|problem| AllowedHostError { entry: entry.to_owned(), problem })
        };
        Ok(Self { entries: entries.map(parse).collect::<Result<_, _>>()? })
    }

    /// Whether a connection to `host` is allowed. `host` may be a bracketed IPv6 address; without a `port` the
    /// scheme's own counts.
    #[must_use]
    pub fn permits(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let own_port = || default_port(&scheme.to_ascii_lowercase());
        let Some(port) = port.map(u32::from).or_else(own_port) else { return false };
        let ascii = (!host.is_ascii()).then(|| ascii(host));
        let host = Host::of(ascii.as_deref().unwrap_or(host));
        self.entries
            .iter()
            .any(|entry| has_scheme(entry, scheme) && host.is(&entry.host) && has_port(&entry.ports, port))
    }

    /// Whether the application may call itself by `scheme`: `self`, or every host. Ports do not matter.
    #[must_use]
    pub fn permits_own(&self, scheme: &str) -> bool {
        let own = |entry: &OutboundHost| matches!(entry.host, HostPattern::Own | HostPattern::Any);
        self.entries.iter().any(|entry| has_scheme(entry, scheme) && own(entry))
    }

    /// Whether any socket is allowed: whether an entry is of `tcp`, `udp` or every scheme.
    #[must_use]
    pub fn permits_sockets(&self) -> bool {
        self.entries.iter().any(|entry| has_scheme(entry, "tcp") || has_scheme(entry, "udp"))
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A host that is asked for.
enum Host<'a> {
    Name(&'a str),
    Address(IpAddr),
}

impl<'a> Host<'a> {
    fn of(text: &'a str) -> Self {
        let bare = text.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(without_dot(text)),
        }
    }

    fn is(&self, pattern: &HostPattern) -> bool {
        match (pattern, self) {
            (HostPattern::Any, _) => true,
            (HostPattern::Name(name), Self::Name(host)) => name.eq_ignore_ascii_case(host),
            (HostPattern::Below(domain), Self::Name(host)) => is_below(host, domain),
            (HostPattern::Network { address, bits }, Self::Address(host)) => same_network(*address, *host, *bits),
            (HostPattern::Name(_) | HostPattern::Below(_) | HostPattern::Network { .. } | HostPattern::Own, _) => false,
        }
    }
}

/// Whether `host` is `anything.domain`.
fn is_below(host: &str, domain: &str) -> bool {
    let start = host.len().checked_sub(domain.len() + 1).filter(|start| *start > 0);
    let end = start.and_then(|start| host.get(start..)).and_then(|end| end.strip_prefix('.'));
    end.is_some_and(|end| end.eq_ignore_ascii_case(domain))
}

fn has_scheme(entry: &OutboundHost, scheme: &str) -> bool {
    match &entry.scheme {
        Scheme::Any => true,
        Scheme::Named(name) => name.eq_ignore_ascii_case(scheme),
    }
}

fn has_port(ports: &Ports, port: u32) -> bool {
    match ports {
        Ports::Any => true,
        Ports::Range(range) => range.contains(&port),
    }
}

/// The entry with its host as requests have it: DNS' form of names, IPv4 addresses as such.
fn comparable(mut entry: OutboundHost) -> OutboundHost {
    entry.host = match entry.host {
        HostPattern::Name(name) => HostPattern::Name(without_dot(&ascii(&name)).to_owned()),
        HostPattern::Below(domain) => HostPattern::Below(without_dot(&ascii(&domain)).to_owned()),
        HostPattern::Network { address, bits } => match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) if bits >= MAPPED_BITS => {
                HostPattern::Network { address: mapped.into(), bits: bits - MAPPED_BITS }
            }
            _ => HostPattern::Network { address, bits },
        },
        host @ (HostPattern::Any | HostPattern::Own) => host,
    };
    entry
}

/// What precedes an IPv4 address in `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// A name as DNS has it (`xn--...`), where there is such a form.
fn ascii(name: &str) -> String {
    match url::Host::parse(name) {
        Ok(url::Host::Domain(name)) => name,
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(_) => name.to_owned(),
    }
}

/// Whether the first `bits` of two addresses are the same.
#[must_use]
pub fn same_network(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn self_is_the_application_and_no_host() {
        assert!(!permits("http://self", "http", "self", None));
        let own = |entry: &str, scheme: &str| AllowedHosts::parse(&[entry]).unwrap().permits_own(scheme);
        assert!(own("http://self", "http") && own("https://self.alt", "https") && own("*://*:*", "http"));
        assert!(!own("http://self", "https") && !own("http://example.com", "http") && !own("tcp://*:*", "http"));
    }

    #[test]
    fn a_host_is_compared_as_what_it_means() {
        assert!(permits("https://bücher.example", "https", "xn--bcher-kva.example", None));
        assert!(permits("https://xn--bcher-kva.example", "https", "BÜCHER.example", None));
        assert!(permits("https://*.bücher.example", "https", "a.xn--bcher-kva.example", None));
        assert!(permits("https://example.com", "https", "example.com.", None));
        assert!(permits("https://example.com.", "https", "example.com", None));
        assert!(permits("http://10.0.0.0/8", "http", "[::ffff:10.1.2.3]", None));
        assert!(permits("http://[::ffff:10.0.0.0]/104", "http", "10.1.2.3", None));
        assert!(!permits("http://*.com", "http", "1.2.3.4", None));
    }

    #[test]
    fn sockets_are_for_those_who_name_tcp_udp_or_every_scheme() {
        let sockets = |entry: &str| AllowedHosts::parse(&[entry]).unwrap().permits_sockets();
        assert!(sockets("tcp://1.2.3.4:1") && sockets("udp://1.2.3.4:1") && sockets("*://1.2.3.4:1"));
        assert!(!sockets("http://1.2.3.4") && !sockets("redis://*:*"));
    }

    fn a_name() -> impl Strategy<Value = String> {
        "[a-z][a-z0-9-]{0,8}[a-z0-9](\\.[a-z]{2,5}){0,2}"
    }

    fn an_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
    }

    /// As it is written in a URL.
    fn written(address: IpAddr) -> String {
        if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
    }

    proptest! {
        #[test]
        fn parsing_and_asking_never_panic(entry in ".{0,40}", scheme in ".{0,8}", host in ".{0,40}", port: Option<u16>) {
            for entry in [entry.clone(), format!("http://{entry}"), format!("*://{entry}:*")] {
                if let Ok(hosts) = AllowedHosts::parse(&[entry]) {
                    let _permitted = hosts.permits(&scheme, &host, port);
                }
            }
        }

        #[test]
        fn an_entry_permits_exactly_its_host_and_port(name in a_name(), other in a_name(), port in 1_u16.., ask in 1_u16..) {
            let hosts = AllowedHosts::parse(&[format!("http://{name}:{port}")]).unwrap();
            prop_assert!(hosts.permits("HTTP", &name.to_uppercase(), Some(port)));
            prop_assert_eq!(hosts.permits("http", &other, Some(ask)), other == name && ask == port);
            prop_assert!(!hosts.permits("https", &name, Some(port)));
        }

        #[test]
        fn a_domain_permits_what_is_below_it_and_not_itself(domain in a_name(), label in "[a-z]{1,8}", name in a_name()) {
            let hosts = AllowedHosts::parse(&[format!("http://*.{domain}")]).unwrap();
            let below = format!("{label}.{domain}");
            prop_assert!(hosts.permits("http", &below, None));
            prop_assert!(!hosts.permits("http", &domain, None));
            let beside = format!("{label}{domain}");
            prop_assert!(!hosts.permits("http", &beside, None));
            prop_assert_eq!(hosts.permits("http", &name, None), name.ends_with(&format!(".{domain}")));
        }

        #[test]
        fn a_network_permits_addresses_that_begin_like_it(one in an_address(), other in an_address(), bits in 0_u8..=128) {
            let width = if one.is_ipv4() { 32 } else { 128 };
            let bits = bits.min(width);
            let hosts = AllowedHosts::parse(&[format!("http://{}/{bits}", written(one))]).unwrap();
            prop_assert!(hosts.permits("http", &written(one), None));
            let same = one.is_ipv4() == other.is_ipv4() && {
                let bytes = |address: IpAddr| match address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                let bit = |address: IpAddr, at: u8| bytes(address)[usize::from(at / 8)] >> (7 - at % 8) & 1;
                (0..bits).all(|at| bit(one, at) == bit(other, at))
            };
            prop_assert_eq!(hosts.permits("http", &written(other), None), same);
        }

        #[test]
        fn more_entries_never_permit_less(names in proptest::collection::vec(a_name(), 1..5), ask in a_name()) {
            let entries: Vec<String> = names.iter().map(|name| format!("https://{name}")).collect();
            let all = AllowedHosts::parse(&entries).unwrap();
            let each = entries.iter().any(|entry| AllowedHosts::parse(&[entry]).unwrap().permits("https", &ask, None));
            prop_assert_eq!(all.permits("https", &ask, None), each);
        }
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

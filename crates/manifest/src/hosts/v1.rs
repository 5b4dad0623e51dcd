//! What version 1's `allowed_http_hosts` mean in the terms of `allowed_outbound_hosts`.

use super::{HostPattern, Ports, default_port, parse_host, parse_ports, split_port};

/// The entry of `allowed_http_hosts` that allows everything.
pub(super) const ALLOW_ALL: &str = "insecure:allow-all";
/// What every component of version 1 could reach, before there was a way to say so.
const DATABASES: [&str; 3] = ["redis://*:*", "mysql://*:*", "postgres://*:*"];
/// What [`ALLOW_ALL`] means.
const EVERY_HTTP: [&str; 3] = ["http://*:*", "https://*:*", "http://self"];

/// Why an entry of `allowed_http_hosts` is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` {problem}")]
pub struct HttpHostError {
    entry: String,
    problem: &'static str,
}

/// `allowed_http_hosts` in the terms of `allowed_outbound_hosts`, by Spin's rules.
///
/// With `databases`, as for a component of version 1 that says nothing about outbound hosts, Redis,
/// MySQL and `PostgreSQL` are allowed anywhere.
///
/// # Errors
/// When an entry is not a host with an optional port.
pub fn from_allowed_http_hosts(entries: &[String], databases: bool) -> Result<Vec<String>, HttpHostError> {
    let mut hosts: Vec<String> = Vec::new();
    if databases {
        hosts.extend(DATABASES.map(str::to_owned));
    }
    if entries.iter().any(|entry| entry == ALLOW_ALL) {
        hosts.extend(EVERY_HTTP.map(str::to_owned));
        return Ok(hosts);
    }
    for entry in entries {
        let authority = http_authority(entry).map_err(|problem| HttpHostError { entry: entry.clone(), problem })?;
        if authority == "self" {
            hosts.push("http://self".to_owned());
        } else {
            hosts.push(format!("http://{authority}"));
            hosts.push(format!("https://{authority}"));
        }
    }
    Ok(hosts)
}

/// `host[:port]` of an entry of `allowed_http_hosts`. The scheme never mattered, except that its own
/// port is as good as none.
fn http_authority(entry: &str) -> Result<String, &'static str> {
    let (scheme, rest) = entry.split_once("://").map_or((None, entry), |(scheme, rest)| (Some(scheme), rest));
    if !matches!(scheme, None | Some("http" | "https")) {
        return Err("has a scheme other than http and https: only those can be allowed here");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err("has more than a host and a port: remove the path, the query and the user");
    }
    let (host, port) = split_port(rest);
    match parse_host(host, entry) {
        Ok(HostPattern::Name(_) | HostPattern::Network { .. } | HostPattern::Own) => {}
        _ => return Err("is not a host, `host:port` or `http(s)://host[:port]`"),
    }
    let host = host.to_lowercase();
    match port.map(parse_ports) {
        None => Ok(host),
        Some(Ok(Ports::Range(ports))) if ports.len() == 1 => {
            let own = scheme.unwrap_or("http");
            let is_default = default_port(own) == Some(ports.start);
            Ok(if is_default { host } else { format!("{host}:{}", ports.start) })
        }
        Some(_) => Err("has no port number from 1 to 65535 after its colon"),
    }
}

/// The `allowed_http_hosts` of which [`from_allowed_http_hosts`], with databases, makes exactly `hosts`.
pub(crate) fn to_allowed_http_hosts(hosts: &[String]) -> Option<Vec<String>> {
    let mut rest = hosts.strip_prefix(&DATABASES.map(str::to_owned))?;
    if rest == EVERY_HTTP.map(str::to_owned) {
        return Some(vec![ALLOW_ALL.to_owned()]);
    }
    let mut entries = Vec::new();
    while let Some((first, others)) = rest.split_first() {
        let authority = first.strip_prefix("http://")?.to_owned();
        rest = match others.split_first() {
            _ if authority == "self" => others,
            Some((second, others)) if second.strip_prefix("https://") == Some(authority.as_str()) => others,
            _ => return None,
        };
        entries.push(authority);
    }
    (from_allowed_http_hosts(&entries, true).as_deref() == Ok(hosts)).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::OutboundHost;

    #[test]
    fn allowed_http_hosts_mean_both_schemes_and_come_back_unchanged() {
        let entries = ["example.com", "localhost:3001", "self", "192.168.1.1", "[::1]:8001"].map(str::to_owned);
        let hosts = from_allowed_http_hosts(&entries, true).unwrap();
        assert_eq!(hosts[3..6], ["http://example.com", "https://example.com", "http://localhost:3001"]);
        assert_eq!(to_allowed_http_hosts(&hosts), Some(entries.to_vec()));
        let all = from_allowed_http_hosts(&["a.b".to_owned(), ALLOW_ALL.to_owned()], true).unwrap();
        assert_eq!(to_allowed_http_hosts(&all), Some(vec![ALLOW_ALL.to_owned()]));
        assert_eq!(to_allowed_http_hosts(&[]), None, "version 2 without hosts allows less than version 1");
        for hosts in [&hosts, &all] {
            assert!(hosts.iter().all(|entry| entry.parse::<OutboundHost>().is_ok()));
        }
    }

    #[test]
    fn an_allowed_http_host_with_a_path_or_another_scheme_is_refused() {
        for bad in ["http://a.b/c", "ftp://a.b", "a.b:x", "", "*", "*.a.b", "a.b:1..5"] {
            assert!(from_allowed_http_hosts(&[bad.to_owned()], false).is_err(), "{bad}");
        }
    }
}

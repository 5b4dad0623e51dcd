//! [`Address`]: where a broker is: `mqtt://host:port?client_id=…`, or `mqtts://` for TLS.

use url::Url;

use crate::host::databases::check_length;

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// `mqtt` or `mqtts`, as written.
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// By which name the broker knows the client; none is as good as any.
    pub(super) client_id: Option<String>,
}

/// How long a text may be in MQTT, in bytes (MQTT 3.1.1, 1.5.3).
pub(super) const MOST_TEXT: usize = 65_535;

impl Address {
    /// Reads an address. Options other than `client_id` say how a client behaves that stays for long; they mean nothing here.
    pub(super) fn parse(address: &str) -> Option<Self> {
        check_length(address).ok()?;
        let url = Url::parse(address).ok()?;
        let (tls, port) = match url.scheme() {
            "mqtt" | "tcp" => (false, 1883),
            "mqtts" | "ssl" => (true, 8883),
            _ => return None,
        };
        let host = url.host_str().filter(|host| !host.is_empty())?.to_owned();
        let client_id = url.query_pairs().find(|(name, _)| name == "client_id").map(|(_, id)| id.into_owned());
        if client_id.as_ref().is_some_and(|id| !is_text(id)) {
            return None;
        }
        Some(Self { scheme: url.scheme().to_owned(), host, port: url.port().unwrap_or(port), tls, client_id })
    }
}

/// Whether MQTT can carry `text`.
pub(super) fn is_text(text: &str) -> bool {
    text.len() <= MOST_TEXT && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port_of_their_scheme() {
        let address = Address::parse("mqtt://broker.example?client_id=me&keep_alive_secs=3").unwrap();
        assert_eq!((address.host.as_str(), address.port, address.tls), ("broker.example", 1883, false));
        assert_eq!(address.client_id.as_deref(), Some("me"));
        assert_eq!(Address::parse("mqtts://[::1]:9").unwrap().port, 9);
        assert_eq!(Address::parse("mqtts://h").unwrap().port, 8883);
        for wrong in ["h:1883", "http://h", "mqtt://", "mqtt:h", "ws://h", ""] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }
}

//! [`Address`]: to which servers an address leads, and how.
//!
//! An address is a URL (`postgres://user:password@host:port/database?sslmode=require`) or libpq's `host=… user=…` form. With
//! several hosts, each must be permitted; they are tried in their order.
//!
//! `sslmode` says whether TLS is spoken, and never that a certificate is not looked at: `disable` no; `allow` and `prefer`
//! (the default) if the server does; `require`, `verify-ca` and `verify-full` always. Whoever is spoken TLS with is verified.

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::host::databases::check_length;

/// A parsed address.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// All of it, for the client.
    pub(super) config: Config,
    /// Where servers are: never none.
    pub(super) servers: Vec<(String, u16)>,
}

/// The port that PostgreSQL has.
const PORT: u16 = 5432;
/// What libpq knows beside the client's own words, and which of those it is here.
const SSL_MODES: [(&str, SslMode); 3] =
    [("verify-full", SslMode::Require), ("verify-ca", SslMode::Require), ("allow", SslMode::Prefer)];

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, without any of it.
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        check_length(address)?;
        let mut config = parse_config(address)?;
        if !config.get_hostaddrs().is_empty() {
            return Err("`hostaddr` is not supported: write the address as `host`".to_owned());
        }
        let ports = config.get_ports();
        let port = |index: usize| match ports {
            [] => PORT,
            [one] => *one,
            many => many.get(index).copied().unwrap_or(PORT),
        };
        let mut servers = Vec::new();
        for (index, host) in config.get_hosts().iter().enumerate() {
            match host {
                Host::Tcp(host) => servers.push((host.clone(), port(index))),
                Host::Unix(_) => return Err("sockets in files are not supported: write a host".to_owned()),
            }
        }
        if servers.is_empty() {
            return Err("it has no host".to_owned());
        }
        if config.get_ports().len() > 1 && config.get_ports().len() != servers.len() {
            return Err("it has not as many ports as hosts".to_owned());
        }
        config.application_name(config.get_application_name().unwrap_or("spindle").to_owned());
        Ok(Self { config, servers })
    }
}

/// The client's parser, and what it does not know.
fn parse_config(address: &str) -> Result<Config, String> {
    // Its errors repeat a part of the address only where that is the name of an option; values may be secrets.
    let problem =
        || "it is neither a URL such as postgres://user:password@host/database nor a list of options".to_owned();
    if let Ok(config) = address.parse() {
        return Ok(config);
    }
    for (word, mode) in SSL_MODES {
        let option = format!("sslmode={word}");
        let Some((before, after)) = address.rsplit_once(&option) else { continue };
        let known = format!("{before}sslmode=prefer{after}");
        if let Ok(mut config) = known.parse::<Config>()
            && config.get_ssl_mode() == SslMode::Prefer
        {
            config.ssl_mode(mode);
            return Ok(config);
        }
    }
    Err(problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(address: &str) -> Vec<(String, u16)> {
        Address::parse(address).unwrap().servers
    }

    fn server(host: &str, port: u16) -> (String, u16) {
        (host.to_owned(), port)
    }

    #[test]
    fn urls_and_options_name_every_server() {
        assert_eq!(servers("postgres://u:p@db.example/app"), [server("db.example", 5432)]);
        assert_eq!(servers("postgresql://u:p@db.example:99/app"), [server("db.example", 99)]);
        assert_eq!(servers("host=a,b port=1,2 user=u"), [server("a", 1), server("b", 2)]);
        assert_eq!(servers("postgres://u@a:1,b:2/app"), [server("a", 1), server("b", 2)]);
        assert_eq!(servers("host=a,b port=7"), [server("a", 7), server("b", 7)]);
    }

    #[test]
    fn ways_around_the_check_of_hosts_are_refused() {
        for address in [
            "host=/var/run/postgresql user=u",
            "postgres://u@%2Ftmp/app",
            "host=allowed hostaddr=10.0.0.1",
            "postgres://u@allowed/app?hostaddr=10.0.0.1",
            "postgres://u@allowed/app?host=/tmp",
            "user=u",
            "host=a,b,c port=1,2",
        ] {
            assert!(Address::parse(address).is_err(), "{address}");
        }
        assert_eq!(servers("postgres://u@a/app?host=b"), [server("a", 5432), server("b", 5432)]);
    }

    #[test]
    fn every_word_of_libpq_for_tls_is_known() {
        let mode = |address: &str| Address::parse(address).unwrap().config.get_ssl_mode();
        assert_eq!(mode("postgres://u@a/app"), SslMode::Prefer);
        assert_eq!(mode("postgres://u@a/app?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("host=a sslmode=verify-ca user=u"), SslMode::Require);
        assert_eq!(mode("host=a sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("host=a sslmode=allow"), SslMode::Prefer);
        assert!(Address::parse("host=a sslmode=maybe").is_err());
    }

    #[test]
    fn no_error_repeats_the_address() {
        let problem = Address::parse("postgres://u:geheim@a:port/app").unwrap_err();
        assert!(!problem.contains("geheim") && !problem.contains("port/app"), "{problem}");
    }
}

//! [`Address`]: where a server is, and whether TLS is spoken with it.
//!
//! An address is `mysql://user:password@host:port/database`, with the client's options and with MySQL's own `ssl-mode`:
//! `DISABLED` (the default) no TLS, `PREFERRED` if the server does, `REQUIRED` and `VERIFY_IDENTITY` always, `VERIFY_CA` whatever
//! the certificate's name is. Whoever is spoken TLS with has a certificate of an authority that is trusted.

use mysql_async::{Opts, OptsBuilder, UrlError};
use url::Url;

use crate::host::databases::check_length;

/// A parsed address.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// What the client needs beside TLS.
    pub(super) opts: Opts,
    /// Whether to speak TLS.
    pub(super) tls: TlsMode,
}

/// `ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// In the clear.
    No,
    /// If the server does.
    Preferred,
    /// A server of any name.
    AnyName,
    /// This server.
    Required,
}

/// The port that MySQL has.
const PORT: u16 = 3306;

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, without its values.
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        check_length(address)?;
        let mut url = Url::parse(address).map_err(|error| error.to_string())?;
        if url.scheme() != "mysql" {
            return Err("it does not begin with mysql://".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it has no host".to_owned());
        }
        if url.port().is_none() {
            url.set_port(Some(PORT)).map_err(|()| "it has no host".to_owned())?;
        }
        let (mut tls, mut others) = (TlsMode::No, Vec::new());
        for (name, value) in url.query_pairs().into_owned() {
            match name.to_ascii_lowercase().as_str() {
                "ssl-mode" | "ssl_mode" | "sslmode" => tls = mode(&value)?,
                "require_ssl" if value == "true" => tls = TlsMode::Required,
                "require_ssl" => {}
                // Ways to somewhere else, or around the certificate.
                "socket" | "prefer_socket" | "verify_ca" | "verify_identity" | "built_in_roots" | "root_certs" => {
                    return Err(format!("its option `{name}` is not supported"));
                }
                _ => others.push((name, value)),
            }
        }
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
        let opts = Opts::from_url(url.as_str()).map_err(|error| problem(&error))?;
        // A server on this machine must not move us to its socket.
        Ok(Self { opts: OptsBuilder::from_opts(opts).prefer_socket(false).into(), tls })
    }
}

fn mode(word: &str) -> Result<TlsMode, String> {
    Ok(match word.to_ascii_uppercase().as_str() {
        "DISABLED" => TlsMode::No,
        "PREFERRED" => TlsMode::Preferred,
        "REQUIRED" | "VERIFY_IDENTITY" => TlsMode::Required,
        "VERIFY_CA" => TlsMode::AnyName,
        _ => {
            return Err(
                "its ssl-mode is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA and VERIFY_IDENTITY".to_owned()
            );
        }
    })
}

/// An error without values.
fn problem(error: &UrlError) -> String {
    match error {
        UrlError::UnknownParameter { param } => format!("its option `{param}` is not known"),
        UrlError::InvalidParamValue { param, .. } => format!("its option `{param}` has a value that is none"),
        UrlError::FeatureRequired { param, .. } => format!("its option `{param}` is not supported"),
        _ => "it is no URL such as mysql://user:password@host/database".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_where_and_how() {
        let address = Address::parse("mysql://u:p%40ss@db.example/app?ssl-mode=VERIFY_CA&stmt_cache_size=0").unwrap();
        assert_eq!((address.opts.ip_or_hostname(), address.opts.tcp_port()), ("db.example", 3306));
        assert_eq!((address.opts.pass(), address.opts.stmt_cache_size()), (Some("p@ss"), 0));
        assert!(!address.opts.prefer_socket());
        assert_eq!(address.tls, TlsMode::AnyName);
        assert_eq!(Address::parse("mysql://u@h:1/app").unwrap().tls, TlsMode::No);
        assert_eq!(Address::parse("mysql://u@h:1/app?sslmode=required").unwrap().tls, TlsMode::Required);
    }

    #[test]
    fn what_leads_elsewhere_is_refused_without_naming_a_value() {
        for address in [
            "mysql://u@h/app?socket=/run/geheim.sock",
            "mysql://u@h/app?prefer_socket=true",
            "mysql://u@h/app?verify_ca=false",
            "mysql://u@h/app?ssl-mode=geheim",
            "mysql://u@h/app?stmt_cache_size=geheim",
            "mysql:///app",
            "postgres://u:geheim@h/app",
            "u:geheim@h",
        ] {
            let problem = Address::parse(address).unwrap_err();
            assert!(!problem.contains("geheim"), "{problem}");
        }
    }
}

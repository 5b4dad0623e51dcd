//! Where `spindle up` listens, and how it speaks HTTP there.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use daemon::{ServerTls, Tasks, TlsFiles};
use node_runtime::{open_files, trigger::TriggerSettings};
use tokio::net::TcpListener;

/// How many ports `--find-free-port` tries.
const TRIES: u16 = 100;

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub(super) struct NetworkArgs {
    /// Where to listen; port 0 means any free one
    #[arg(
        long,
        alias = "address",
        env = "SPIN_HTTP_LISTEN_ADDR",
        default_value = "127.0.0.1:3000",
        value_name = "ADDRESS:PORT"
    )]
    listen: String,
    /// Where the port is taken, listen at the next one that is free
    #[arg(long)]
    find_free_port: bool,
    /// Serve HTTPS with this certificate chain (PEM)
    #[arg(long, env = "SPIN_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, env = "SPIN_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The most bytes of a request's headers, at least 8192; more is answered with 431
    #[arg(
        long,
        env = "SPIN_HTTP1_MAX_BUF_SIZE",
        value_name = "BYTES",
        value_parser = clap::value_parser!(u32).range(8192..)
    )]
    http1_max_buf_size: Option<u32>,
    /// How long a request may take, such as 30, 30s or 500ms; then it is answered with 504 [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    request_timeout: Option<Duration>,
}

/// Spin's durations: a number of seconds, or a number with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    type Unit = fn(u64) -> Duration;
    let units: [(&str, Unit); 5] = [
        ("ms", Duration::from_millis),
        ("us", Duration::from_micros),
        ("μs", Duration::from_micros),
        ("ns", Duration::from_nanos),
        ("s", Duration::from_secs),
    ];
    if text.contains("..") {
        return Err("a range is not supported: give one duration, such as 30s".to_owned());
    }
    let with_unit = units.into_iter().find_map(|(unit, of)| Some((text.strip_suffix(unit)?, of)));
    let (number, of) = with_unit.unwrap_or((text, Duration::from_secs));
    match number.parse().map(of) {
        Ok(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        Ok(_) => Err("it must be 1ms at least".to_owned()),
        Err(_) => Err("expected a number of seconds, or a number with s, ms, us or ns".to_owned()),
    }
}

impl NetworkArgs {
    /// How long a request may take, if that was said.
    pub(super) const fn request_timeout(&self) -> Option<Duration> {
        self.request_timeout
    }

    /// The scheme of the application's URLs.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }

    /// How the port is served. A certificate that changes is taken up by a task of `tasks`.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub(super) fn trigger(&self, tasks: &Tasks) -> anyhow::Result<TriggerSettings> {
        let mut settings = TriggerSettings { all_connections: open_files::connections(), ..TriggerSettings::default() };
        if let Some(bytes) = self.http1_max_buf_size {
            settings.http.max_header_bytes = usize::try_from(bytes)?;
            settings.max_uri_bytes = settings.http.max_header_bytes;
        }
        if let (Some(certificate), Some(key)) = (self.tls_cert.clone(), self.tls_key.clone()) {
            let tls = ServerTls::load(TlsFiles { certificate, key }).context("--tls-cert, --tls-key")?;
            let tls = Arc::new(tls);
            tls.keep_current(tasks);
            settings.tls = Some(tls);
        }
        Ok(settings)
    }

    /// The listener.
    ///
    /// # Errors
    /// When the address is none of this machine's, or taken.
    pub(super) async fn bind(&self) -> anyhow::Result<TcpListener> {
        let mut address = self.address().await?;
        let first = address;
        loop {
            let error = match TcpListener::bind(address).await {
                Ok(listener) => return Ok(listener),
                Err(error) => error,
            };
            let taken = error.kind() == io::ErrorKind::AddrInUse;
            if taken && !self.find_free_port {
                anyhow::bail!(
                    "cannot listen at {address} (--listen): it is in use: name another one, or add --find-free-port"
                );
            }
            let next = address.port().checked_add(1).filter(|next| next - first.port() < TRIES);
            match next {
                Some(next) if taken => address.set_port(next),
                None if taken => anyhow::bail!(
                    "no port from {} to {} is free (--listen, --find-free-port): name another one",
                    first.port(),
                    address.port()
                ),
                _ => return Err(error).with_context(|| format!("cannot listen at {address} (--listen)")),
            }
        }
    }

    /// The address to listen at. Of several that a name has, 127.0.0.1 is preferred, as in Spin.
    async fn address(&self) -> anyhow::Result<SocketAddr> {
        let listen = &self.listen;
        let found = tokio::net::lookup_host(listen).await;
        let found: Vec<SocketAddr> = found
            .with_context(|| {
                format!("`{listen}` is no address to listen at (--listen): write one such as 127.0.0.1:3000")
            })?
            .collect();
        let loopback = found.iter().find(|address| address.is_ipv4() && address.ip().is_loopback());
        let chosen = loopback.or_else(|| found.first()).copied();
        chosen.with_context(|| format!("`{listen}` has no address (--listen)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spins() {
        for (text, expected) in [
            ("30", Duration::from_secs(30)),
            ("30s", Duration::from_secs(30)),
            ("500ms", Duration::from_millis(500)),
            ("2000us", Duration::from_millis(2)),
            ("5000000ns", Duration::from_millis(5)),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for wrong in ["", "s", "0", "1.5s", "1..8s", "-1", "3m", "10ns", "99999999999999999999"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

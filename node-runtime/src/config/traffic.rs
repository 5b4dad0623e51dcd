//! The flags about callers and their connections.

use std::{net::IpAddr, time::Duration};

use clap::Args;
use daemon::HttpSettings;
use node_runtime_core::forwarded::Network;

use super::ConfigError;
use crate::{
    open_files,
    trigger::{ProxyProtocol, TriggerSettings},
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Traffic")]
pub(super) struct TrafficFlags {
    /// The address that apps' ports are bound at [default: all, IPv6 and IPv4]
    #[arg(long, env = "SPINDLE_LISTEN_ADDRESS", value_name = "ADDRESS")]
    listen_address: Option<IpAddr>,

    /// How many connections one app takes at a time, at most a quarter of what the limit of open files allows; more wait
    #[arg(long, env = "SPINDLE_CONNECTIONS_PER_APP", default_value_t = 4096, value_name = "CONNECTIONS")]
    connections_per_app: usize,

    /// How long, in seconds, a client may take to send a request's headers, or keep an idle connection
    #[arg(long, env = "SPINDLE_HEADER_TIMEOUT", default_value_t = 75, value_name = "SECONDS")]
    header_timeout: u64,

    /// How long, in seconds, a client may send nothing of a body that a guest waits for; then it is a 408
    #[arg(long, env = "SPINDLE_BODY_TIMEOUT", default_value_t = 60, value_name = "SECONDS")]
    body_timeout: u64,

    /// How long, in seconds, a client may take nothing of what is sent to it; then its connection is closed
    #[arg(long, env = "SPINDLE_WRITE_TIMEOUT", default_value_t = 60, value_name = "SECONDS")]
    write_timeout: u64,

    /// The most bytes of a request's headers, with the request line, at least 8192; more is answered with 431
    #[arg(long, env = "SPINDLE_MAX_HEADER_BYTES", default_value_t = 65_536, value_name = "BYTES")]
    max_header_bytes: usize,

    /// The most headers of a request; more is answered with 431
    #[arg(long, env = "SPINDLE_MAX_HEADERS", default_value_t = 100, value_name = "HEADERS")]
    max_headers: usize,

    /// The most bytes of a request's path and query; more is answered with 414
    #[arg(long, env = "SPINDLE_MAX_URI_BYTES", default_value_t = 8192, value_name = "BYTES")]
    max_uri_bytes: usize,

    /// The most requests at a time on one HTTP/2 connection
    #[arg(long, env = "SPINDLE_MAX_STREAMS", default_value_t = 256, value_name = "REQUESTS")]
    max_streams: u32,

    /// Whose X-Forwarded-For, X-Forwarded-Proto and PROXY headers count: networks, separated by commas [default: nobody's]
    #[arg(long, env = "SPINDLE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORKS")]
    trusted_proxies: Vec<Network>,

    /// Whether connections begin with a PROXY header: those of trusted proxies may, or all do and must be theirs
    #[arg(long, env = "SPINDLE_PROXY_PROTOCOL", value_enum, default_value_t = ProxyProtocol::Off)]
    proxy_protocol: ProxyProtocol,

    /// How long, in seconds, to go on as before after SIGTERM, so that endpoints go away first
    #[arg(long, env = "SPINDLE_DRAIN_DELAY", default_value_t = 5, value_name = "SECONDS")]
    drain_delay: u64,

    /// How long, in seconds, to go on serving after that while callers still come, because nobody else can take them yet
    #[arg(long, env = "SPINDLE_DRAIN_WAIT", default_value_t = 30, value_name = "SECONDS")]
    drain_wait: u64,

    /// How long, in seconds, requests may then take to finish; also those of an app that is removed
    #[arg(long, env = "SPINDLE_DRAIN_TIMEOUT", default_value_t = 20, value_name = "SECONDS")]
    drain_timeout: u64,
}

impl TrafficFlags {
    pub(super) const fn drain_delay(&self) -> Duration {
        Duration::from_secs(self.drain_delay)
    }

    pub(super) const fn drain_wait(&self) -> Duration {
        Duration::from_secs(self.drain_wait)
    }

    pub(super) const fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout)
    }

    pub(super) fn trigger(self) -> Result<TriggerSettings, ConfigError> {
        if self.proxy_protocol != ProxyProtocol::Off && self.trusted_proxies.is_empty() {
            return Err(ConfigError::NobodyTrusted);
        }
        let all_connections = open_files::connections();
        Ok(TriggerSettings {
            address: self.listen_address,
            connections: self.connections_per_app.min(all_connections.div_ceil(4)),
            all_connections,
            http: HttpSettings {
                header_timeout: Duration::from_secs(self.header_timeout),
                write_timeout: Duration::from_secs(self.write_timeout),
                max_header_bytes: self.max_header_bytes,
                max_headers: self.max_headers,
                max_streams: self.max_streams,
                ..HttpSettings::default()
            },
            max_uri_bytes: self.max_uri_bytes,
            body_timeout: Duration::from_secs(self.body_timeout),
            tls: None,
            proxy_protocol: self.proxy_protocol,
            trusted_proxies: self.trusted_proxies.into_iter().collect(),
        })
    }
}

//! [`Config`]: the process's flags, each with an environment variable, a default and a chart value.
//!
//! The only place where flags and the environment are read.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser};
use control::RuntimeName;
use daemon::{AdminArgs, HttpSettings, LogArgs};
use node_runtime_core::converge::{Backoff, Room};
use sources::http::Trust;

use crate::{
    apps::AppsSettings, control::ControlSettings, engine::EngineConfig, host::BlockedNetworks, trigger::TriggerSettings,
};

/// Runs Spin applications that an operator assigns to it
#[derive(Debug, Parser)]
#[command(name = "node-runtime", version, disable_help_subcommand = true)]
pub struct Flags {
    /// This runtime's name, which must be that of its pod
    #[arg(long, env = "POD_NAME", default_value = "node-runtime", value_name = "NAME")]
    pub runtime_name: String,

    /// How many apps this runtime wants at most
    #[arg(long, env = "SPINDLE_CAPACITY", default_value_t = 1000, value_name = "APPS")]
    pub capacity: u32,

    /// Where assignments, content and compiled code are kept
    #[arg(long, env = "SPINDLE_DATA_DIR", default_value = "/var/lib/spindle", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Where secret values are kept: a directory on a memory volume
    #[arg(long, env = "SPINDLE_SECRETS_DIR", default_value = "/run/spindle/secrets", value_name = "DIR")]
    pub secrets_dir: PathBuf,

    #[command(flatten)]
    control: ControlFlags,

    #[command(flatten)]
    traffic: TrafficFlags,

    #[command(flatten)]
    work: WorkFlags,

    #[command(flatten)]
    guests: GuestFlags,

    #[command(flatten)]
    outbound: OutboundFlags,

    #[command(flatten)]
    admin: AdminArgs,

    /// How this process logs
    #[command(flatten)]
    pub logs: LogArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Control")]
struct ControlFlags {
    /// Where the operator connects to
    #[arg(long, env = "SPINDLE_CONTROL_ADDRESS", default_value = "0.0.0.0:9443", value_name = "ADDRESS:PORT")]
    control_address: SocketAddr,

    /// The directory of ca.crt, tls.crt and tls.key: read again for each connection, waited for at start
    #[arg(long, env = "SPINDLE_TLS_DIR", default_value = "/run/spindle/tls", value_name = "DIR")]
    tls_dir: PathBuf,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Traffic")]
struct TrafficFlags {
    /// The address that apps' ports are bound at [default: all, IPv6 and IPv4]
    #[arg(long, env = "SPINDLE_LISTEN_ADDRESS", value_name = "ADDRESS")]
    listen_address: Option<IpAddr>,

    /// How many connections one app takes at a time; more wait
    #[arg(long, env = "SPINDLE_CONNECTIONS_PER_APP", default_value_t = 4096, value_name = "CONNECTIONS")]
    connections_per_app: usize,

    /// How long, in seconds, a client may take to send a request's headers, or keep an idle connection
    #[arg(long, env = "SPINDLE_HEADER_TIMEOUT", default_value_t = 75, value_name = "SECONDS")]
    header_timeout: u64,

    /// The most bytes of a request's headers; more is answered with 431
    #[arg(long, env = "SPINDLE_MAX_HEADER_BYTES", default_value_t = 65_536, value_name = "BYTES")]
    max_header_bytes: usize,

    /// How long, in seconds, to go on as before after SIGTERM, so that endpoints go away first
    #[arg(long, env = "SPINDLE_DRAIN_DELAY", default_value_t = 5, value_name = "SECONDS")]
    drain_delay: u64,

    /// How long, in seconds, requests may then take to finish; also those of an app that is removed
    #[arg(long, env = "SPINDLE_DRAIN_TIMEOUT", default_value_t = 20, value_name = "SECONDS")]
    drain_timeout: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
struct WorkFlags {
    /// How long, in seconds, content and compiled code stay on disk after the last app that needs them
    #[arg(long, env = "SPINDLE_SWEEP_DELAY", default_value_t = 60, value_name = "SECONDS")]
    sweep_delay: u64,

    /// How many revisions are fetched at a time
    #[arg(long, env = "SPINDLE_FETCHES", default_value = "8", value_name = "REVISIONS")]
    fetches: NonZeroUsize,

    /// How many revisions are compiled and linked at a time
    #[arg(long, env = "SPINDLE_PREPARATIONS", default_value = "4", value_name = "REVISIONS")]
    preparations: NonZeroUsize,

    /// How many threads compile [default: one less than there are processors]
    #[arg(long, env = "SPINDLE_COMPILE_THREADS", value_name = "THREADS")]
    compile_threads: Option<NonZeroUsize>,

    /// The only certificate authorities to trust when fetching, in PEM form [default: the system's]
    #[arg(long, env = "SPINDLE_SOURCE_CA_FILE", value_name = "FILE")]
    source_ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Guests")]
struct GuestFlags {
    /// How many guests may run at a time; a request beyond that is answered with 503
    #[arg(long, env = "SPINDLE_MAX_INSTANCES", default_value_t = 1000, value_name = "INSTANCES")]
    max_instances: u32,

    /// How many idle instance slots keep their memory
    #[arg(long, env = "SPINDLE_WARM_SLOTS", default_value_t = 200, value_name = "SLOTS")]
    warm_slots: u32,

    /// The linear memory of one guest, in MiB, where its app sets no limit
    #[arg(long, env = "SPINDLE_GUEST_MEMORY", default_value_t = 128, value_name = "MIB")]
    guest_memory: u64,

    /// How long, in seconds, one request may take, where its app sets no limit
    #[arg(long, env = "SPINDLE_REQUEST_TIMEOUT", default_value_t = 60, value_name = "SECONDS")]
    request_timeout: u64,

    /// The most MiB of a body that must be held in memory, for guests that know no streams
    #[arg(long, env = "SPINDLE_BUFFERED_BODY", default_value_t = 16, value_name = "MIB")]
    buffered_body: usize,
}

/// Where guests may not connect to on a cluster: this pod itself, and what hands out a node's credentials (link-local, and
/// the addresses of AWS, Azure and Alibaba beside it).
const BLOCK_NETWORKS: &str = "0.0.0.0/8,127.0.0.0/8,169.254.0.0/16,::/128,::1/128,fe80::/10,fd00:ec2::254/128,168.63.129.16/32,100.100.100.200/32";

#[derive(Debug, Args)]
#[command(next_help_heading = "Outgoing connections")]
struct OutboundFlags {
    /// Where no guest may connect to, whatever its manifest allows: networks with commas between them, or `private` for all
    /// that the internet does not route. This process's control and admin ports are always closed to them
    #[arg(long, env = "SPINDLE_BLOCK_NETWORKS", default_value = BLOCK_NETWORKS, value_name = "NETWORKS")]
    block_networks: BlockedNetworks,

    /// How many connections the guests of one app may have open at a time; more wait
    #[arg(long, env = "SPINDLE_OUTBOUND_CONNECTIONS", default_value_t = 256, value_name = "CONNECTIONS")]
    outbound_connections: usize,
}

/// Everything that a process can be told.
#[derive(Debug)]
pub struct Config {
    /// Where assignments, content and compiled code are kept.
    pub data_dir: PathBuf,
    /// Where secret values are kept.
    pub secrets_dir: PathBuf,
    /// The control server.
    pub control: ControlSettings,
    /// Apps' ports.
    pub trigger: TriggerSettings,
    /// The apps.
    pub apps: AppsSettings,
    /// The engine.
    pub engine: EngineConfig,
    /// Whom to trust when fetching.
    pub trust: Trust,
    /// The admin server.
    pub admin: AdminArgs,
    /// How long to go on as before after being told to stop.
    pub drain_delay: Duration,
    /// How long requests may then take to finish.
    pub drain_timeout: Duration,
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that a flag names cannot be read.
    #[error("cannot read {} (--source-ca-file)", .path.display())]
    CaFile {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl TryFrom<Flags> for Config {
    type Error = ConfigError;

    fn try_from(flags: Flags) -> Result<Self, ConfigError> {
        let Flags {
            runtime_name,
            capacity,
            data_dir,
            secrets_dir,
            control,
            traffic,
            work,
            guests,
            outbound,
            admin,
            logs: _,
        } = flags;
        let own_ports = [control.control_address.port(), admin.admin_address.port()];
        let engine = EngineConfig {
            outbound_connections: outbound.outbound_connections,
            blocked_networks: outbound.block_networks.and_own_ports(own_ports),
            ..engine(&guests, &work, &data_dir)
        };
        let drain_timeout = Duration::from_secs(traffic.drain_timeout);
        let trust = match work.source_ca_file {
            None => Trust::System,
            Some(path) => match fs::read_to_string(&path) {
                Ok(pem) => Trust::Only(pem),
                Err(source) => return Err(ConfigError::CaFile { path, source }),
            },
        };
        Ok(Self {
            control: ControlSettings {
                address: control.control_address,
                tls_dir: control.tls_dir,
                runtime: RuntimeName(runtime_name),
                capacity,
            },
            trigger: TriggerSettings {
                address: traffic.listen_address,
                connections: traffic.connections_per_app,
                http: HttpSettings {
                    header_timeout: Duration::from_secs(traffic.header_timeout),
                    max_header_bytes: traffic.max_header_bytes,
                    ..HttpSettings::default()
                },
            },
            apps: AppsSettings {
                room: Room { fetches: work.fetches.get(), preparations: work.preparations.get() },
                backoff: Backoff::default(),
                drain_timeout,
                sweep_delay: Duration::from_secs(work.sweep_delay),
            },
            engine,
            trust,
            data_dir,
            secrets_dir,
            admin,
            drain_delay: Duration::from_secs(traffic.drain_delay),
            drain_timeout,
        })
    }
}

fn engine(guests: &GuestFlags, work: &WorkFlags, data_dir: &std::path::Path) -> EngineConfig {
    let default = EngineConfig::default();
    EngineConfig {
        max_instances: guests.max_instances,
        warm_slots: guests.warm_slots,
        default_memory: guests.guest_memory.saturating_mul(1 << 20),
        default_timeout: Duration::from_secs(guests.request_timeout),
        buffered_body: guests.buffered_body.saturating_mul(1 << 20),
        cache_dir: Some(data_dir.join("compiled")),
        compile_threads: work.compile_threads.map_or(default.compile_threads, NonZeroUsize::get),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_flag_is_documented_and_has_an_environment_variable() {
        let command = Flags::command();
        command.clone().debug_assert();
        for flag in command.get_arguments().filter(|flag| !matches!(flag.get_id().as_str(), "help" | "version")) {
            assert!(flag.get_help().is_some() && flag.get_env().is_some(), "{}", flag.get_id());
        }
    }

    #[test]
    fn a_missing_ca_file_is_named() {
        let flags = Flags::parse_from(["node-runtime", "--source-ca-file", "/nowhere/ca.pem"]);
        let error = Config::try_from(flags).unwrap_err();
        assert!(daemon::chain(&error).starts_with("cannot read /nowhere/ca.pem (--source-ca-file): "), "{error}");
    }
}

//! [`Config`]: the process's flags, each with an environment variable, a default and a chart value.
//!
//! The only place where flags and the environment are read.

mod guests;
mod traffic;

use std::{fs, io, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{Args, Parser};
use control::RuntimeName;
use daemon::{AdminArgs, LogArgs, logs::LogFormat};
use node_runtime_core::converge::{Backoff, Room};
use sources::http::Trust;

use guests::GuestFlags;
use traffic::TrafficFlags;

use crate::{
    apps::AppsSettings,
    control::ControlSettings,
    engine::EngineConfig,
    host::{BlockedNetworks, LineFormat},
    trigger::TriggerSettings,
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
#[command(next_help_heading = "Work")]
struct WorkFlags {
    /// How long, in seconds, content and compiled code stay on disk after the last app that needs them
    #[arg(long, env = "SPINDLE_SWEEP_DELAY", default_value_t = 60, value_name = "SECONDS")]
    sweep_delay: u64,

    /// How many revisions are fetched at a time
    #[arg(long, env = "SPINDLE_FETCHES", default_value = "8", value_name = "REVISIONS")]
    fetches: NonZeroUsize,

    /// How many revisions are compiled and linked at a time
    #[arg(long, env = "SPINDLE_PREPARATIONS", default_value = "32", value_name = "REVISIONS")]
    preparations: NonZeroUsize,

    /// How many threads compile [default: one less than there are processors]
    #[arg(long, env = "SPINDLE_COMPILE_THREADS", value_name = "THREADS")]
    compile_threads: Option<NonZeroUsize>,

    /// The only certificate authorities to trust when fetching, in PEM form [default: the system's]
    #[arg(long, env = "SPINDLE_SOURCE_CA_FILE", value_name = "FILE")]
    source_ca_file: Option<PathBuf>,
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
    /// How long to go on serving after that while callers still come.
    pub drain_wait: Duration,
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
    /// PROXY headers are to be read, and nobody's count.
    #[error("--proxy-protocol needs --trusted-proxies: the networks of the load balancers that send PROXY headers")]
    NobodyTrusted,
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
            logs,
        } = flags;
        let own_ports = [control.control_address.port(), admin.admin_address.port()];
        let default = EngineConfig::default();
        let engine = EngineConfig {
            outbound_connections: outbound.outbound_connections,
            blocked_networks: outbound.block_networks.and_own_ports(own_ports),
            cache_dir: Some(data_dir.join("compiled")),
            compile_threads: work.compile_threads.map_or(default.compile_threads, NonZeroUsize::get),
            log_format: match logs.log_format {
                LogFormat::Json => LineFormat::Json,
                LogFormat::Text => LineFormat::Text,
            },
            ..guests.over(default)
        };
        let (drain_delay, drain_wait) = (traffic.drain_delay(), traffic.drain_wait());
        let drain_timeout = traffic.drain_timeout();
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
            trigger: traffic.trigger()?,
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
            drain_delay,
            drain_wait,
            drain_timeout,
        })
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
    fn proxy_headers_of_nobody_in_particular_are_refused() {
        let config = |flags: &[&str]| Config::try_from(Flags::parse_from([&["node-runtime"], flags].concat()));
        let error = config(&["--proxy-protocol", "required"]).unwrap_err();
        assert!(error.to_string().contains("--trusted-proxies"), "{error}");
        let trusted = config(&["--proxy-protocol", "required", "--trusted-proxies", "10.0.0.0/8,fd00::1"]).unwrap();
        assert!(trusted.trigger.trusted_proxies.trust("fd00::1".parse().unwrap()));
    }

    #[test]
    fn a_missing_ca_file_is_named() {
        let flags = Flags::parse_from(["node-runtime", "--source-ca-file", "/nowhere/ca.pem"]);
        let error = Config::try_from(flags).unwrap_err();
        assert!(daemon::chain(&error).starts_with("cannot read /nowhere/ca.pem (--source-ca-file): "), "{error}");
    }

    #[test]
    fn every_flag_is_in_the_reference_with_its_variable_and_default() {
        let reference = include_str!("../../docs/reference/flags.md");
        let rows: Vec<&str> = reference.lines().skip_while(|line| *line != "## node-runtime").collect();
        for flag in
            Flags::command().get_arguments().filter(|flag| !matches!(flag.get_id().as_str(), "help" | "version"))
        {
            let name = format!("| `--{}", flag.get_long().unwrap());
            let is_its = |row: &&&str| row.strip_prefix(&name).is_some_and(|rest| rest.starts_with([' ', '`']));
            let row = rows.iter().find(is_its).unwrap_or_else(|| panic!("no row {name} in docs/reference/flags.md"));
            let variable = flag.get_env().map(|variable| format!("`${}`", variable.to_string_lossy()));
            // A long one is told in other words.
            let default = flag.get_default_values().first().map(|default| default.to_string_lossy().into_owned());
            let default = default.filter(|default| (1..100).contains(&default.len()));
            for told in [variable, default].into_iter().flatten() {
                assert!(row.contains(&told), "{told} is not in {row}");
            }
        }
    }
}

//! The operator's settings: every flag, its environment variable and its default. Nothing else reads the
//! environment.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use control::SecretString;
use daemon::{AdminArgs, LogArgs};
use k8s_openapi::jiff::SignedDuration;
use manifest::runtime_config::{self, Origin};
use operator_core::{ConfigText, lease, pki};
use sources::bindle::{ClientOptions, Keyring, Verification};
use sources::http::Trust;
use url::Url;

/// Makes SpinApps real: resolves bundles, places apps on runtimes, publishes Services.
#[derive(Debug, Clone, Parser)]
#[command(name = "spindle-operator", version)]
pub struct Args {
    /// The namespace of the operator and its runtimes
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub namespace: String,

    /// The operator's own pod: who it is in the lease and in logs
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: String,

    /// The label selector of runtime pods
    #[arg(
        long,
        env = "SPINDLE_RUNTIME_SELECTOR",
        default_value = "app.kubernetes.io/name=spindle,app.kubernetes.io/component=node-runtime",
        value_name = "SELECTOR"
    )]
    pub runtime_selector: String,

    /// The port at which runtimes take the operator's stream
    #[arg(long, env = "SPINDLE_CONTROL_PORT", default_value_t = 9443, value_name = "PORT")]
    pub control_port: u16,

    /// The Bindle server of apps that name none, with its path, as in https://bindle.example.com/v1
    #[arg(long, env = "SPINDLE_DEFAULT_BINDLE_SERVER", value_name = "URL")]
    pub default_bindle_server: Option<Url>,

    /// A file with the certificate authorities, as PEM, of Bindle servers; the system's without
    #[arg(long, env = "SPINDLE_BINDLE_CA_FILE", value_name = "FILE")]
    pub bindle_ca_file: Option<PathBuf>,

    /// A file with a Bindle keyring: bundles without a signature by one of its keys are refused
    #[arg(long, env = "SPINDLE_BINDLE_KEYRING_FILE", value_name = "FILE")]
    pub bindle_keyring_file: Option<PathBuf>,

    /// A runtime-config.toml that holds for every app, below what the app's own says
    #[arg(long, env = "SPINDLE_RUNTIME_CONFIG_FILE", value_name = "FILE")]
    pub runtime_config_file: Option<PathBuf>,

    /// The name of the Lease that operators elect their leader with
    #[arg(long, env = "SPINDLE_LEASE_NAME", default_value = operator_api::rbac::LEASE, value_name = "NAME")]
    pub lease_name: String,

    /// How long a leader that has died stays leader, in seconds
    #[arg(long, env = "SPINDLE_LEASE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(i64).range(3..=3600), value_name = "SECONDS")]
    pub lease_seconds: i64,

    /// How long an authority of the control stream's certificates holds, in hours
    #[arg(long, env = "SPINDLE_CA_HOURS", default_value_t = 365 * 24, value_parser = clap::value_parser!(i64).range(1..=87_600), value_name = "HOURS")]
    pub ca_hours: i64,

    /// How long a certificate of the control stream holds, in hours
    #[arg(long, env = "SPINDLE_CERTIFICATE_HOURS", default_value_t = 30 * 24, value_parser = clap::value_parser!(i64).range(1..=87_600), value_name = "HOURS")]
    pub certificate_hours: i64,

    /// How long a change of a Secret may take to reach every runtime, in seconds
    #[arg(long, env = "SPINDLE_PROPAGATION_SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(i64).range(1..=86_400), value_name = "SECONDS")]
    pub propagation_seconds: i64,

    /// Where the admin server is.
    #[command(flatten)]
    pub admin: AdminArgs,

    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Settings that can be used.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespace of the operator and its runtimes.
    pub namespace: String,
    /// The operator's own pod.
    pub pod_name: String,
    /// The label selector of runtime pods.
    pub runtime_selector: String,
    /// The port at which runtimes take the stream.
    pub control_port: u16,
    /// The Bindle server of apps that name none.
    pub default_bindle_server: Option<String>,
    /// How Bindle servers are asked.
    pub bindle: ClientOptions,
    /// The runtime configuration that every app is given.
    pub pool_config: Option<Arc<ConfigText>>,
    /// The name of the Lease.
    pub lease_name: String,
    /// The times of the Lease.
    pub lease: lease::Settings,
    /// The times of certificates.
    pub pki: pki::Settings,
    /// The admin server.
    pub admin: AdminArgs,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {file}, which {flag} names")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{file}, which {flag} names, is no Bindle keyring")]
    Keyring {
        /// The flag.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: sources::bindle::KeyError,
    },
    /// A runtime configuration says what cannot be honoured.
    #[error("{file}, which --runtime-config-file names, cannot be used: {problems}")]
    RuntimeConfig {
        /// The file.
        file: PathBuf,
        /// What is wrong, in one line.
        problems: String,
    },
    /// Certificates would be too old before they have arrived.
    #[error(
        "--certificate-hours must be more than three times --propagation-seconds, and --ca-hours more than --certificate-hours"
    )]
    Lifetimes,
}

impl TryFrom<Args> for Config {
    type Error = ConfigError;

    fn try_from(args: Args) -> Result<Self, ConfigError> {
        let pki = pki::Settings {
            authority: SignedDuration::from_hours(args.ca_hours),
            leaf: SignedDuration::from_hours(args.certificate_hours),
            propagation: SignedDuration::from_secs(args.propagation_seconds),
        };
        if pki.leaf <= pki.propagation * 3 || pki.authority <= pki.leaf {
            return Err(ConfigError::Lifetimes);
        }
        Ok(Self {
            bindle: bindle_options(&args)?,
            pool_config: pool_config(args.runtime_config_file.as_deref())?,
            namespace: args.namespace,
            pod_name: args.pod_name,
            runtime_selector: args.runtime_selector,
            control_port: args.control_port,
            default_bindle_server: args.default_bindle_server.map(Into::into),
            lease_name: args.lease_name,
            lease: lease_settings(args.lease_seconds),
            pki,
            admin: args.admin,
        })
    }
}

/// A leader stops at seven tenths of the duration; others look every second, so that a lease that was
/// given back is taken within one.
fn lease_settings(seconds: i64) -> lease::Settings {
    let duration = SignedDuration::from_secs(seconds);
    let retry = SignedDuration::from_millis((seconds * 100).min(1000));
    lease::Settings { duration, deadline: SignedDuration::from_millis(seconds * 700), retry }
}

fn pool_config(file: Option<&Path>) -> Result<Option<Arc<ConfigText>>, ConfigError> {
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file).map_err(|source| ConfigError::File {
        flag: "--runtime-config-file",
        file: file.to_path_buf(),
        source,
    })?;
    let config = runtime_config::parse(&text, "runtime-config.toml", Origin::Pool).map_err(|error| {
        ConfigError::RuntimeConfig { file: file.to_path_buf(), problems: error.to_string().replace('\n', "; ") }
    })?;
    Ok(Some(Arc::new(ConfigText { text: SecretString::new(text), config: Box::new(config) })))
}

fn bindle_options(args: &Args) -> Result<ClientOptions, ConfigError> {
    let read = |flag: &'static str, file: &PathBuf| {
        fs::read_to_string(file).map_err(|source| ConfigError::File { flag, file: file.clone(), source })
    };
    let trust = match &args.bindle_ca_file {
        None => Trust::System,
        Some(file) => Trust::Only(read("--bindle-ca-file", file)?),
    };
    let verification = match &args.bindle_keyring_file {
        None => Verification::default(),
        Some(file) => {
            let flag = "--bindle-keyring-file";
            let ring = Keyring::from_toml(&read(flag, file)?).map_err(|source| ConfigError::Keyring {
                flag,
                file: file.clone(),
                source,
            })?;
            Verification::Keyring(ring)
        }
    };
    Ok(ClientOptions { trust, verification, ..ClientOptions::default() })
}

/// How long stopping may take: a lease to give back, streams to close.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn args(more: &[&str]) -> Args {
        let base = ["spindle-operator", "--namespace", "spindle", "--pod-name", "operator-0"];
        Args::try_parse_from(base.iter().chain(more)).unwrap()
    }

    #[test]
    fn a_namespace_and_a_pod_name_are_all_that_is_needed() {
        let config = Config::try_from(args(&[])).unwrap();
        assert_eq!((config.control_port, config.lease_name.as_str()), (9443, "spindle-operator"));
    }

    #[test]
    fn a_leader_stops_before_another_may_start_whatever_the_duration() {
        for seconds in [3, 10, 15, 3600] {
            let settings = lease_settings(seconds);
            assert!(settings.deadline + settings.retry < settings.duration, "{settings:?}");
        }
    }

    #[test]
    fn certificates_that_would_be_too_old_before_they_arrive_are_refused() {
        let refused = Config::try_from(args(&["--certificate-hours", "1"]));
        assert!(matches!(refused, Err(ConfigError::Lifetimes)));
        assert!(Config::try_from(args(&["--certificate-hours", "1", "--propagation-seconds", "60"])).is_ok());
    }

    #[test]
    fn a_runtime_configuration_that_apps_would_share_too_much_by_is_refused_with_its_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        fs::write(path, "[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://:hunter2@redis\"\n").unwrap();
        assert!(Config::try_from(args(&["--runtime-config-file", path])).unwrap().pool_config.is_some());
        fs::write(path, "state_dir = \"/hunter2\"\n").unwrap();
        let error = Config::try_from(args(&["--runtime-config-file", path])).unwrap_err().to_string();
        assert!(error.contains("runtime-config.toml:1:13: state_dir") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_is_named_with_its_flag() {
        let error = Config::try_from(args(&["--bindle-ca-file", "/nonexistent/ca.pem"])).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/ca.pem, which --bindle-ca-file names");
    }

    #[test]
    fn every_flag_is_in_the_reference_with_its_variable_and_default() {
        let reference = include_str!("../../docs/reference/flags.md");
        let rows: Vec<&str> = reference.lines().skip_while(|line| *line != "## operator").collect();
        for flag in Args::command().get_arguments().filter(|flag| !matches!(flag.get_id().as_str(), "help" | "version"))
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

//! Which components run, and what they are given: environment, variables, memory, files.

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path};

use clap::Args;
use control::{Limits, SecretString};
use manifest::Application;
use node_runtime::{engine::EngineConfig, machine};

use super::variables::{self, VariableFlag};

/// How much components may print in a second, and the longest line, in bytes: more than where apps share a runtime.
const OUTPUT: u64 = 64 << 20;
const LONGEST_LINE: usize = 1 << 20;
/// How many guests have room in the address space.
const MOST_INSTANCES: i64 = 20_000;

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Components")]
pub(super) struct GuestArgs {
    /// Run only this component, and those that it calls through spin.internal; repeatable
    #[arg(short = 'c', long = "component-id", value_name = "ID")]
    components: Vec<String>,
    /// Set an environment variable in every component; repeatable
    #[arg(short = 'e', long = "env", value_name = "KEY=VALUE", value_parser = key_value)]
    environment: Vec<(String, String)>,
    /// Set a variable of the application, to a value or a file's content, or all that a JSON or TOML file has; repeatable
    #[arg(long = "variable", value_name = "NAME=VALUE|NAME=@FILE|@FILE")]
    variables: Vec<VariableFlag>,
    /// The most memory of one instance, in bytes [default: 128 MiB]
    #[arg(long, env = "SPIN_MAX_INSTANCE_MEMORY", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    max_instance_memory: Option<u64>,
    /// How many guests may run at once [default: 1000]
    #[arg(long, env = "SPIN_MAX_INSTANCE_COUNT", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=MOST_INSTANCES))]
    max_instance_count: Option<u32>,
    /// The memory of all guests together, with what is held for them, in MiB; a request for which there is none left is answered
    /// with 503 [default: three quarters of the machine's memory]
    #[arg(long, env = "SPINDLE_GUESTS_MEMORY", value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    guests_memory: Option<u64>,
    /// How many files and sockets guests have open together [default: an eighth of what the process may]
    #[arg(long, env = "SPINDLE_APP_OPEN_FILES", value_name = "FILES")]
    app_open_files: Option<NonZeroUsize>,
}

/// Splits `KEY=VALUE`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

impl GuestArgs {
    /// The components that run, with those that they reach; all if it is empty.
    pub(super) fn components(&self) -> &[String] {
        &self.components
    }

    /// Gives the components of `application` the environment that the flags say.
    pub(super) fn add_environment(&self, application: &mut Application) {
        for component in application.components.values_mut() {
            component.environment.extend(self.environment.iter().cloned());
        }
    }

    /// The files that values of variables are in.
    pub(super) fn variable_files(&self) -> impl Iterator<Item = &Path> {
        self.variables.iter().filter_map(VariableFlag::file)
    }

    /// The values of variables.
    ///
    /// # Errors
    /// When a file cannot be read, or the application has no such variable.
    pub(super) fn variables(&self, application: &Application) -> anyhow::Result<BTreeMap<String, SecretString>> {
        let given = variables::values(&self.variables)?;
        variables::check(application, &given)?;
        Ok(given)
    }

    /// What all guests together may use. There is no other app that something must be left for.
    pub(super) fn engine(&self) -> EngineConfig {
        let defaults = EngineConfig::default();
        let memory = self.guests_memory.map(|mebibytes| mebibytes.saturating_mul(1 << 20));
        let memory = memory.or_else(machine::memory_for_guests);
        EngineConfig {
            max_instances: self.max_instance_count.unwrap_or(defaults.max_instances),
            guests_memory: memory,
            app_memory: memory,
            open_files: self.app_open_files.map_or(defaults.open_files, NonZeroUsize::get),
            default_output: OUTPUT,
            longest_line: LONGEST_LINE,
            ..defaults
        }
    }

    /// What one request may use, where a flag says so.
    pub(super) fn limits(&self, timeout: Option<std::time::Duration>) -> Limits {
        Limits {
            memory: self.max_instance_memory,
            timeout_ms: timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ..Limits::default()
        }
    }
}

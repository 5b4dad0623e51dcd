//! Which components run, and what they are given: environment, variables, memory.

use std::{collections::BTreeMap, path::Path};

use clap::Args;
use control::{Limits, SecretString};
use manifest::Application;

use super::variables::{self, VariableFlag};

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

    /// What one request may use, where a flag says so.
    pub(super) fn limits(&self, timeout: Option<std::time::Duration>) -> Limits {
        Limits {
            memory: self.max_instance_memory,
            timeout_ms: timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            ..Limits::default()
        }
    }
}

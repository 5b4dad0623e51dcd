//! Logs: [`LogArgs`] and how errors are written.

use std::{error::Error, io};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::certificates::certificate_advice;

/// How a process logs. Everything goes to standard error.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// The form of a log line
    #[arg(long, env = "SPINDLE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as `info,node_runtime=debug`
    #[arg(long, env = "SPINDLE_LOG", default_value = "info", value_name = "DIRECTIVES")]
    pub log: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line, for a log collector.
    Json,
    /// For people.
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directives cannot be read.
    #[error("`{0}` is not a list of log directives: write a level such as `info`, or `info,node_runtime=debug`")]
    Directives(String, #[source] tracing_subscriber::filter::ParseError),
    /// Something has set up logging before.
    #[error("logging is set up already")]
    AlreadySet(#[source] Box<dyn Error + Send + Sync>),
}

impl LogArgs {
    /// Makes this process log so, panics included.
    ///
    /// # Errors
    /// When the directives cannot be read, or logging was set up before.
    pub fn init(&self) -> Result<(), LogError> {
        let filter = EnvFilter::try_new(&self.log).map_err(|source| LogError::Directives(self.log.clone(), source))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        match self.log_format {
            LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
            LogFormat::Text => builder.with_ansi(false).try_init(),
        }
        .map_err(LogError::AlreadySet)?;
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("a panic without a message");
            tracing::error!(place, message, "a task panicked");
        }));
        Ok(())
    }
}

/// An error with its causes, joined by `: `; a cause that its effect already tells is left out. Ends with what to do about a
/// certificate, where there is something to say.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    let advice = cause.and_then(certificate_advice);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    if let Some(advice) = advice {
        text.push_str(": ");
        text.push_str(advice);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn an_error_is_told_with_its_causes_and_none_of_them_twice() {
        let error = Layer("no app", Some(Box::new(Layer("no file: gone", Some(Box::new(Layer("gone", None)))))));
        assert_eq!(chain(&error), "no app: no file: gone");
    }
}

//! The spindle command: run and publish Spin applications.

mod access;
mod bindle;
mod kubectl;
mod output;
mod registry;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run and publish Spin applications
#[derive(Debug, Parser)]
#[command(name = "spindle", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an application on this machine, as a cluster would
    Up(Box<up::UpArgs>),
    /// Publish an application to a Bindle server
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Bindle(Box<bindle::BindleArgs>),
}

fn main() -> ExitCode {
    let result = if is_plugin() {
        to_its_end(kubectl::run(kubectl::Flags::parse()))
    } else {
        to_its_end(run(Flags::parse().command))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Whether this is `kubectl spindle`: `kubectl` runs a plugin by the name of its file.
fn is_plugin() -> bool {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    path.and_then(|path| Some(path.file_stem()?.to_str()?.starts_with("kubectl-spindle"))).unwrap_or_default()
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => {
            node_runtime::open_files::raise_limit();
            up::run(*args).await
        }
        Command::Bindle(args) => bindle::run(*args).await,
    }
}

/// Runs a command to its end. What still blocks a thread then (a name being looked up) does not keep the process.
fn to_its_end(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}

/// One line: what went wrong, and why.
#[expect(clippy::print_stderr, reason = "a command tells its user why it failed")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", daemon::chain(error.as_ref()));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The flags of `command` and of those below it.
    fn flags(command: &clap::Command) -> Vec<&clap::Arg> {
        let below = command.get_subcommands().flat_map(flags);
        command.get_arguments().filter(|flag| !flag.is_hide_set()).chain(below).collect()
    }

    #[test]
    fn every_flag_is_in_the_reference() {
        let reference = include_str!("../../docs/reference/flags.md");
        let command = Flags::command();
        let found: Vec<&clap::Arg> = flags(&command).into_iter().filter(|flag| flag.get_long().is_some()).collect();
        assert!(found.len() > 50, "{}", found.len());
        for flag in found {
            let name = format!("`--{}", flag.get_long().unwrap());
            assert!(reference.contains(&name), "{name} is not in docs/reference/flags.md");
            let variable = flag.get_env().map(|variable| format!("`${}`", variable.to_string_lossy()));
            assert!(variable.is_none_or(|variable| reference.contains(&variable)), "{name}: its variable is missing");
        }
    }
}

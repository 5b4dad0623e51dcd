//! The spindle command: run and publish Spin applications.

mod access;
mod bindle;
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
    let flags = Flags::parse();
    match run(flags.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Up(args) => {
                node_runtime::open_files::raise_limit();
                up::run(*args).await
            }
            Command::Bindle(args) => bindle::run(*args).await,
        }
    });
    // What still blocks a thread (a name being looked up) does not keep the command from ending.
    runtime.shutdown_background();
    outcome
}

/// One line: what went wrong, and why.
#[expect(clippy::print_stderr, reason = "a command tells its user why it failed")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", daemon::chain(error.as_ref()));
    ExitCode::FAILURE
}

//! The process: reads its configuration, runs until told to stop.

use std::{error::Error, process::ExitCode};

use clap::Parser as _;
use node_runtime::config::{Config, Flags};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Err(error) = flags.logs.init() {
        return fail(&error);
    }
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

fn run(flags: Flags) -> Result<(), Failure> {
    let config = Config::try_from(flags)?;
    node_runtime::open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { node_runtime::runtime::run(config, daemon::Signals::listen()?).await })
}

#[expect(clippy::print_stderr, reason = "the last word of a process, also before it has a log")]
fn fail(error: &(dyn Error + 'static)) -> ExitCode {
    eprintln!("error: {}", daemon::chain(error));
    ExitCode::FAILURE
}

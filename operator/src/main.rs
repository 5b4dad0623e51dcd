//! The process: reads its configuration, runs until told to stop.

use std::process::ExitCode;

use clap::Parser as _;
use operator::config::{Args, Config};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator cannot go on");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    args.log.init()?;
    let config = Config::try_from(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(operator::operator::run(config))
}

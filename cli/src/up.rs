//! `spindle up`: run an application on this machine, with the code that runs it on a cluster.
//!
//! Its flags are those of `spin up`. One that means nothing here is refused (see [`refused`]), never ignored.

mod announce;
mod application;
mod build;
mod cache;
mod console;
mod files;
mod guests;
mod network;
mod output;
mod project;
mod refused;
mod revision;
mod state;
mod variables;
mod watch;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Args, builder::FalseyValueParser};
use daemon::{LogArgs, Signals, StillRunning, Tasks, logs::LogFormat};
use node_runtime::{
    metrics::Metrics,
    trigger::{Slot, Trigger},
};
use tokio::time::Instant;

use announce::Format;
use output::Output;
use revision::{Inputs, Revision, Revisions};
use watch::{Eyes, Watch};

/// How long requests in flight may take to finish after a signal to stop. A second signal ends them at once.
const DRAIN: Duration = Duration::from_secs(30);
/// What is logged. A directory that is gone is nothing to warn of: `--watch` waits for it to come back.
const LOGGED: &str = "warn,notify=error";
/// When it is told that requests are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The arguments of `spindle up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    source: application::SourceArgs,
    /// How to tell where the application is
    #[arg(long, value_enum, default_value_t, help_heading = "HTTP")]
    format: Format,
    #[command(flatten)]
    network: network::NetworkArgs,
    #[command(flatten)]
    guests: guests::GuestArgs,
    #[command(flatten)]
    files: files::FilesArgs,
    #[command(flatten)]
    state: state::StateArgs,
    #[command(flatten)]
    output: output::OutputArgs,
    #[command(flatten)]
    cache: cache::CacheArgs,
    #[command(flatten)]
    refused: refused::RefusedArgs,

    /// Run the build commands of the components first
    #[arg(long, env = "SPIN_ALWAYS_BUILD", value_parser = FalseyValueParser::new(), help_heading = "Development")]
    build: bool,
    /// Run what changes: manifest, wasm and files; with --build, build again when what is in `build.watch` changes
    #[arg(long, help_heading = "Development")]
    watch: bool,
}

/// Runs `spindle up`.
///
/// # Errors
/// When the application cannot be loaded or served; the text says what to do about it.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    LogArgs { log_format: LogFormat::Text, log: LOGGED.to_owned() }.init()?;
    args.refused.check()?;
    let mut signals = Signals::listen()?;
    let tasks = Tasks::new("up");
    let started = tokio::select! {
        started = start(args, &tasks) => Some(started?),
        _ = signals.next() => None,
    };
    let Some(started) = started else { return Ok(()) };
    tokio::select! {
        _ = signals.next() => {}
        failure = tasks.failed() => anyhow::bail!(daemon::chain(failure.as_ref())),
    }
    stop(&tasks, started, &mut signals).await
}

/// What lives as long as the command runs.
struct Started {
    slot: Arc<Slot>,
    output: Output,
    revisions: Arc<Revisions>,
}

/// The first version, and where its components print to.
struct First {
    inputs: Inputs,
    output: Output,
    revision: Revision,
}

impl First {
    /// The version that `inputs` make.
    ///
    /// # Errors
    /// When it cannot run.
    async fn of(revisions: &Revisions, inputs: Inputs) -> anyhow::Result<Self> {
        let args = &revisions.args.output;
        let log_dir = args.log_dir(&inputs.runtime_config.log_dir, inputs.state_dir.as_deref());
        let output = Output::start(args, log_dir, &inputs.application)?;
        let revision = revisions.make(&inputs, output.log()).await?;
        Ok(Self { inputs, output, revision })
    }
}

async fn start(args: UpArgs, tasks: &Tasks) -> anyhow::Result<Started> {
    let revisions = Arc::new(Revisions::new(args)?);
    let args = &revisions.args;
    let project = revisions.project_to_develop()?;
    let trigger = Trigger::new(tasks, args.network.trigger(tasks)?);
    // First, so that no change is missed while this builds.
    let mut eyes =
        project.as_ref().filter(|_| args.watch).map(|project| Eyes::open(&revisions, project)).transpose()?;
    let first = match (&mut eyes, &project) {
        (Some(eyes), _) => eyes.first(&revisions).await,
        (None, Some(project)) => {
            build::build(project, |_| true).await?;
            First::of(&revisions, revisions.gather().await?).await?
        }
        (None, None) => First::of(&revisions, revisions.gather().await?).await?,
    };
    let First { inputs, output, revision } = first;
    args.state.fill(revision.serving.application().context()).await?;
    for warning in revision.serving.application().warnings() {
        tracing::warn!("{warning}");
    }
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let slot = Arc::new(Slot::new(metrics.of_app(&inputs.application.name)));
    slot.switch(Arc::clone(&revision.serving));
    let port = trigger.serve(args.network.bind().await?, Arc::clone(&slot))?;
    let base_url = format!("{}://{}", args.network.scheme(), port.address());
    tell(args, &inputs);
    announce::announce(revision.serving.application(), &base_url, args.format)
        .context("cannot write to standard output")?;
    if let Some(eyes) = eyes {
        let (log, current, served) = (output.log(), inputs, revision);
        let (tasks, slot) = (tasks.clone(), Arc::clone(&slot));
        let watch = Watch { eyes, tasks, revisions: Arc::clone(&revisions), slot, log, base_url, current, served };
        watch.start();
    }
    Ok(Started { slot, output, revisions })
}

/// Tells where stores are.
fn tell(args: &UpArgs, inputs: &Inputs) {
    if args.output.is_quiet() {
        return;
    }
    for line in announce::storage(&inputs.application, &inputs.runtime_config, inputs.state_dir.as_deref()) {
        console::say(&line);
    }
}

/// Finishes what is in flight: requests first, then guests that go on after their responses.
async fn stop(tasks: &Tasks, started: Started, signals: &mut Signals) -> anyhow::Result<()> {
    let tails = started.revisions.tails().clone();
    let finished = async {
        let until = Instant::now() + DRAIN;
        let requests = tasks.stop(DRAIN).await;
        // No request is left that could start another.
        tails.close();
        if tokio::time::timeout_at(until, tails.wait()).await.is_err() {
            tracing::warn!(guests = tails.len(), "guests that went on after their responses were cut");
        }
        requests
    };
    let telling = async {
        tokio::time::sleep(PATIENCE).await;
        console::say("Waiting for requests to finish. A second Ctrl-C ends them.");
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = finished => outcome.map_err(|StillRunning { waited, .. }| {
            anyhow::anyhow!("requests that did not finish within {} s were cut", waited.as_secs())
        }),
        () = telling => Ok(()),
        _ = signals.next() => {
            // What is in flight ends with its tasks; nothing is waited for.
            let _cut = tasks.stop(Duration::ZERO).await;
            Err(anyhow::anyhow!("stopped by a second signal: requests in flight were cut"))
        }
    };
    let Started { slot, output, revisions } = started;
    drop(slot);
    output.finish();
    drop(revisions);
    outcome
}

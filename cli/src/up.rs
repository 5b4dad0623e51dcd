//! `spindle up`: run an application on this machine, with the code that runs it on a cluster.

mod application;
mod output;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use control::{RevisionId, SecretString};
use daemon::{LogArgs, Signals, Tasks, logs::LogFormat};
use manifest::Application;
use node_runtime::{
    application::HttpApplication,
    engine::{Builder, Engine, EngineConfig, RevisionSettings},
    metrics::Metrics,
    trigger::{Serving, Slot, Trigger, TriggerSettings},
};
use sources::Store;
use tokio::net::TcpListener;

use application::{Loaded, SourceArgs};
use output::Output;

/// How long requests in flight may take to finish after a signal to stop. A second signal ends them at once.
const DRAIN: Duration = Duration::from_secs(30);

/// The arguments of `spindle up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    source: SourceArgs,

    /// Where to listen; port 0 means any free one
    #[arg(long, env = "SPINDLE_LISTEN", default_value = "127.0.0.1:3000", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Set an environment variable in every component
    #[arg(short = 'e', long = "env", value_name = "KEY=VALUE", value_parser = key_value)]
    environment: Vec<(String, String)>,

    /// Set a variable of the application
    #[arg(long = "variable", value_name = "KEY=VALUE", value_parser = key_value)]
    variables: Vec<(String, String)>,

    /// Also append what components print to COMPONENT_stdout.txt and COMPONENT_stderr.txt in this directory
    #[arg(short = 'L', long, env = "SPINDLE_LOG_DIR", value_name = "DIR")]
    log_dir: Option<PathBuf>,

    /// Do not show what components print
    #[arg(short = 'q', long)]
    quiet: bool,

    /// Where content and compiled code are kept [default: spindle in the user's cache directory]
    #[arg(long, env = "SPINDLE_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[arg(long, env = "XDG_CACHE_HOME", hide = true)]
    xdg_cache_home: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<PathBuf>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// A directory, and what removes it in the end if it was made for this run.
struct Cache {
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl UpArgs {
    fn cache(&self) -> anyhow::Result<Cache> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
        let user = absolute(&self.xdg_cache_home).or_else(|| Some(absolute(&self.home)?.join(".cache")));
        if let Some(dir) = self.cache_dir.clone().or_else(|| Some(user?.join("spindle"))) {
            return Ok(Cache { dir, _temporary: None });
        }
        let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
        Ok(Cache { dir: temporary.path().to_path_buf(), _temporary: Some(temporary) })
    }
}

/// Runs `spindle up`.
///
/// # Errors
/// When the application cannot be loaded or served; the text says what to do about it.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    LogArgs { log_format: LogFormat::Text, log: "warn".to_owned() }.init()?;
    let mut signals = Signals::listen()?;
    let tasks = Tasks::new("up");
    let started = tokio::select! {
        started = start(&args, &tasks) => Some(started?),
        _ = signals.next() => None,
    };
    let Some(started) = started else { return Ok(()) };
    tokio::select! {
        _ = signals.next() => {}
        failure = tasks.failed() => anyhow::bail!(daemon::chain(failure.as_ref())),
    }
    tokio::select! {
        stopped = tasks.stop(DRAIN) => stopped?,
        _ = signals.next() => tasks.stop(Duration::ZERO).await.context("stopped by a second signal")?,
    }
    started.end();
    Ok(())
}

/// What lives as long as the command runs.
struct Started {
    slot: Arc<Slot>,
    output: Output,
    _cache: Cache,
}

impl Started {
    /// Writes the last lines.
    fn end(self) {
        let Self { slot, output, _cache } = self;
        drop(slot);
        output.finish();
    }
}

async fn start(args: &UpArgs, tasks: &Tasks) -> anyhow::Result<Started> {
    let cache = args.cache()?;
    let store = Store::open(cache.dir.join("content")).context("no place for content (--cache-dir)")?;
    let Loaded { mut application, bundle } = args.source.load(&store).await?;
    for component in application.components.values_mut() {
        component.environment.extend(args.environment.iter().cloned());
    }
    check_variables(&application, &args.variables)?;
    let output = Output::start(args.quiet, args.log_dir.as_deref())?;
    let revision = RevisionId("local".to_owned());
    let settings = RevisionSettings {
        app: application.name.clone(),
        revision: revision.to_string(),
        bundle,
        variables: args.variables.iter().map(|(k, v)| (k.clone(), SecretString::new(v))).collect(),
        log: Some(output.log()),
        ..RevisionSettings::default()
    };
    let engine = Engine::new(EngineConfig { cache_dir: Some(cache.dir.join("compiled")), ..EngineConfig::default() })?;
    let name = application.name.clone();
    let context = Builder::new(&engine, Arc::new(application), &store, settings).build().await?;
    let serving = Arc::new(Serving::new(revision, HttpApplication::new(context)));
    let slot = Arc::new(Slot::new(Metrics::new(&prometheus::Registry::new())?.of_app(&name)));
    slot.switch(Arc::clone(&serving));
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen at {} (--listen)", args.listen))?;
    let port = Trigger::new(tasks, TriggerSettings::default()).serve(listener, Arc::clone(&slot))?;
    announce(serving.application(), port.address())?;
    Ok(Started { slot, output, _cache: cache })
}

/// The variables that are given are the application's, and those that it requires are given.
fn check_variables(application: &Application, given: &[(String, String)]) -> anyhow::Result<()> {
    for (name, _) in given {
        anyhow::ensure!(
            application.variables.contains_key(name),
            "--variable {name}: the application has no such variable"
        );
    }
    for (name, variable) in &application.variables {
        anyhow::ensure!(
            variable.default.is_some() || given.iter().any(|(given, _)| given == name),
            "variable `{name}` is required and has no value: add --variable {name}=VALUE"
        );
    }
    Ok(())
}

/// Tells where the application is, as `spin up` does, and what its author should know about its routes.
fn announce(application: &HttpApplication, address: SocketAddr) -> io::Result<()> {
    for warning in application.warnings() {
        tracing::warn!("{warning}");
    }
    let mut out = io::stdout().lock();
    writeln!(out, "Serving http://{address}")?;
    writeln!(out, "Available Routes:")?;
    for route in application.routes() {
        let name = route.component.map_or("(static response)", |id| id.as_str());
        let wildcard = if route.wildcard { " (wildcard)" } else { "" };
        writeln!(out, "  {name}: http://{address}{}{wildcard}", route.path)?;
    }
    out.flush()
}

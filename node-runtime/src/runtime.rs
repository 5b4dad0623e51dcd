//! [`Runtime`]: the process, put together.
//!
//! Promise: it serves what it was told before, whether or not an operator is there. Told to stop, it first says so,
//! serves on while endpoints go away and others take over, asking its callers to go; when nobody new comes any more it
//! finishes the requests that it has, and ends in a bounded time.

use std::{error::Error, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use daemon::{Admin, Tasks};
use prometheus::Registry;
use serde_json::{Value, json};
use sources::{Store, StoreError};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    apps::{Apps, Board},
    config::Config,
    control::Control,
    disk::{Disk, DiskError},
    engine::{Engine, EngineError},
    loader::Loader,
    metrics::{self, Metrics},
    trigger::{Farewell, Trigger},
};

/// How long tasks other than requests may take to end.
const STOP: Duration = Duration::from_secs(2);

/// For how long nobody new must have come before ports may be closed: what kube-proxy and ingress controllers take between two
/// looks at endpoints, twice.
const QUIET: Duration = Duration::from_secs(2);

/// Why a runtime could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No engine.
    #[error("guests cannot be run")]
    Engine(#[from] EngineError),
    /// No store for content.
    #[error("content cannot be kept")]
    Store(#[from] StoreError),
    /// No place for assignments.
    #[error("assignments cannot be kept")]
    Disk(#[from] DiskError),
    /// Metrics clash.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The admin server's address cannot be bound.
    #[error("cannot listen at {address} for the admin server")]
    Admin {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A running runtime.
pub struct Runtime {
    tasks: Tasks,
    traffic: Tasks,
    work: Tasks,
    control_tasks: Tasks,
    draining: watch::Sender<bool>,
    farewell: Arc<Farewell>,
    drain_delay: Duration,
    drain_wait: Duration,
    drain_timeout: Duration,
    engine: Engine,
    /// Where the admin server is.
    pub admin: SocketAddr,
}

impl Runtime {
    /// Starts everything: what was kept on disk is served, the operator is listened to.
    ///
    /// # Errors
    /// When a part of it cannot start.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let tasks = Tasks::new("node-runtime");
        let (traffic, work, control_tasks) = (tasks.group("traffic"), tasks.group("work"), tasks.group("control"));
        let registry = Registry::new();
        let metrics = Metrics::new(&registry)?;
        let disk = Disk::open(&config.data_dir, &config.secrets_dir)?;
        let engine = Engine::new(config.engine)?;
        let store = Store::open(config.data_dir.join("content"))?;
        let loader = Arc::new(Loader::new(engine.clone(), store, config.trust, config.data_dir.join("stores")));
        let trigger = Trigger::new(&traffic, config.trigger);
        let farewell = Arc::clone(trigger.farewell());
        let apps = Apps::start(&work, loader, trigger, disk.clone(), metrics.clone(), config.apps);
        mirror(&registry, apps.board(), engine.clone())?;
        let (draining, is_draining) = watch::channel(false);
        let is_restored = restore(&work, disk, apps.clone());
        let control = Control::start(
            &control_tasks,
            config.control,
            apps.clone(),
            metrics,
            is_restored.clone(),
            is_draining.clone(),
        );
        let ready = readiness(control, is_draining, is_restored);
        let board = Arc::clone(apps.board());
        let admin = Admin::new(registry).ready_when(ready).with_state(move || state(&board));
        let address = config.admin.admin_address;
        let admin = admin.serve(&config.admin, &tasks).await.map_err(|source| StartError::Admin { address, source })?;
        tracing::info!(address = %admin, "admin server listens");
        Ok(Self {
            tasks,
            traffic,
            work,
            control_tasks,
            draining,
            farewell,
            drain_delay: config.drain_delay,
            drain_wait: config.drain_wait,
            drain_timeout: config.drain_timeout,
            engine,
            admin,
        })
    }

    /// Resolves with the error that the process cannot go on with.
    pub async fn failed(&self) -> Arc<daemon::TaskError> {
        self.tasks.failed().await
    }

    /// Stops: says so, waits until endpoints have gone and nobody new comes (or `hurry`), finishes requests, ends everything
    /// else.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        self.draining.send_replace(true);
        self.farewell.begin();
        tracing::info!(delay_ms = self.drain_delay.as_millis(), "draining");
        tokio::select! {
            () = self.wait_for_callers_to_go() => {}
            () = hurry => {}
        }
        let until = Instant::now() + self.drain_timeout;
        end(&self.traffic, self.drain_timeout).await;
        finish_tails(self.engine.tails(), until).await;
        for tasks in [&self.work, &self.control_tasks, &self.tasks] {
            end(tasks, STOP).await;
        }
        self.engine.finish_logs(STOP).await;
        tracing::info!("stopped");
    }
}

impl Runtime {
    /// As long as callers are sent here, nobody else can take them.
    async fn wait_for_callers_to_go(&self) {
        tokio::time::sleep(self.drain_delay).await;
        if !self.farewell.quiet(QUIET, self.drain_wait).await {
            tracing::warn!("requests still come, and cannot be waited for any longer");
        }
    }
}

async fn end(tasks: &Tasks, within: Duration) {
    if let Err(error) = tasks.stop(within).await {
        tracing::warn!(%error, "not everything ended by itself");
    }
}

/// Lets guests finish what they do after their responses. Called when no request is left that could start another.
async fn finish_tails(tails: &TaskTracker, until: Instant) {
    tails.close();
    if tokio::time::timeout_at(until, tails.wait()).await.is_err() {
        tracing::warn!(guests = tails.len(), "guests that went on after their responses were cut");
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("tasks", &self.tasks).field("admin", &self.admin).finish_non_exhaustive()
    }
}

fn mirror(registry: &Registry, board: &Arc<Board>, engine: Engine) -> Result<(), prometheus::Error> {
    let board = Arc::clone(board);
    metrics::observe(registry, move || {
        let mut counts = board.counts();
        counts.instances = engine.live_instances();
        counts
    })
}

/// Reads what was kept and has it run again; whether that is done.
fn restore(tasks: &Tasks, disk: Disk, apps: Apps) -> watch::Receiver<bool> {
    let (done, is_done) = watch::channel(false);
    tasks.spawn_brief("restore", async move {
        let Ok(restored) = tokio::task::spawn_blocking(move || disk.restore()).await else { return };
        for problem in &restored.problems {
            tracing::warn!(problem = daemon::chain(problem), "an assignment was not restored");
        }
        tracing::info!(apps = restored.assignments.len(), "assignments restored");
        apps.restore(restored.assignments).await;
        done.send_replace(true);
    });
    is_done
}

fn readiness(
    control: Control,
    draining: watch::Receiver<bool>,
    restored: watch::Receiver<bool>,
) -> impl Fn() -> Result<(), String> + Send + Sync {
    move || {
        if *draining.borrow() {
            Err("draining".to_owned())
        } else if !*restored.borrow() {
            Err("reading what was kept on disk".to_owned())
        } else if !control.is_listening() {
            Err("waiting for the control server's certificates".to_owned())
        } else {
            Ok(())
        }
    }
}

/// What `/debug/state` shows. Reports hold no secrets.
fn state(board: &Board) -> Value {
    let (_, inventory) = board.inventory();
    serde_json::to_value(inventory.reports)
        .map_or_else(|error| json!({ "error": error.to_string() }), |apps| json!({ "apps": apps }))
}

/// Starts a runtime with `config` and runs it until `signals` says to stop.
///
/// # Errors
/// When it cannot start, or cannot go on.
pub async fn run(config: Config, mut signals: daemon::Signals) -> Result<(), Box<dyn Error + Send + Sync>> {
    let runtime = Runtime::start(config).await?;
    let failure = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "told to stop");
            None
        }
        failure = runtime.failed() => Some(failure),
    };
    let hurry = async {
        if failure.is_none() {
            signals.next().await;
        }
    };
    runtime.stop(hurry).await;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn guests_that_go_on_after_their_responses_are_waited_for() {
        let (tails, done) = (TaskTracker::new(), Arc::new(AtomicBool::new(false)));
        let finished = Arc::clone(&done);
        tails.spawn(async move {
            tokio::task::yield_now().await;
            finished.store(true, Ordering::Relaxed);
        });
        finish_tails(&tails, Instant::now() + Duration::from_secs(60)).await;
        assert!(done.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn guests_that_never_end_are_given_up_in_time() {
        let tails = TaskTracker::new();
        let endless = tails.track_future(std::future::pending::<()>());
        finish_tails(&tails, Instant::now() + Duration::from_millis(1)).await;
        drop(endless);
        finish_tails(&tails, Instant::now() + Duration::from_secs(60)).await;
    }
}

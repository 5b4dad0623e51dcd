//! The process's tasks: what runs in every replica, and what only the leader does.

mod readers;
mod state;

use std::{convert::Infallible, sync::Arc};

use daemon::{Admin, Signals, Tasks};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use prometheus::Registry;
use rustls::ClientConfig;
use tokio::sync::watch;

use self::{
    readers::start_readers,
    state::{describe, levels_of, readiness},
};
use crate::{
    api_server::{ApiServer, Patience},
    config::{Config, STOP_WITHIN},
    controller::{Controller, Leadership},
    lease::{Elector, Mandate},
    metrics::Metrics,
    pki::Pki,
    queue::Queue,
    resolve::{BindleServers, Oracle},
    runtimes::{Caller, Speaker, Timings},
};

/// What an operator works with that is not its own.
#[derive(Clone)]
pub struct Outside {
    /// The API server.
    pub api: ApiServer,
    /// Who is asked about bundles.
    pub oracle: Arc<dyn Oracle>,
    /// How long to wait for runtimes.
    pub timings: Timings,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("api", &self.api).field("timings", &self.timings).finish_non_exhaustive()
    }
}

/// One operator: everything that its tasks share.
#[derive(Debug, Clone)]
pub struct Operator {
    controller: Arc<Controller>,
    pki: Arc<Pki>,
    leading: watch::Sender<Option<u64>>,
    timings: Timings,
}

/// Runs the operator until a signal or a failure ends it.
///
/// # Errors
/// What made it impossible to go on.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    // kube's client takes its cryptography from the process's default; a second one would be ignored.
    let _set_before = rustls::crypto::ring::default_provider().install_default();
    let api = ApiServer::new(kube::Config::infer().await?, Patience::default())?;
    let oracle = Arc::new(BindleServers::new(config.bindle.clone()));
    let outside = Outside { api, oracle, timings: Timings::default() };
    let registry = Registry::new();
    let tasks = Tasks::new("operator");
    let operator = Operator::start(&config, &outside, &registry, &tasks)?;
    let admin = operator.admin(&registry)?;
    let address = admin.serve(&config.admin, &tasks).await?;
    tracing::info!(%address, namespace = config.namespace, pod = config.pod_name, "started");
    let failure = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            None
        }
        error = tasks.failed() => Some(error),
    };
    if let Err(late) = tasks.stop(STOP_WITHIN).await {
        tracing::warn!(error = %late, "stopped without waiting any longer");
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

impl Operator {
    /// Starts an operator as tasks of `tasks`: it reads along, and leads when it can.
    ///
    /// # Errors
    /// When `registry` has metrics of the operator's names already.
    pub fn start(config: &Config, outside: &Outside, registry: &Registry, tasks: &Tasks) -> prometheus::Result<Self> {
        let metrics = Metrics::register(registry)?;
        let pki = Arc::new(Pki::new(outside.api.client(), &config.namespace, config.pki));
        tasks.spawn("pki", {
            let (pki, stop) = (Arc::clone(&pki), tasks.stop_token());
            async move { until(stop, Box::pin(pki.run())).await }
        });
        let controller = start_readers(config, outside, &metrics, tasks);
        let operator = Self { controller, pki, leading: watch::Sender::new(None), timings: outside.timings };
        let leases: Api<Lease> = Api::namespaced(outside.api.apart(), &config.namespace);
        let elector = Elector::new(leases, &config.lease_name, config.pod_name.clone(), config.lease);
        tasks.spawn("leader", {
            let (operator, config, stop) = (operator.clone(), config.clone(), tasks.stop_token());
            async move {
                elector.run(stop, |mandate| lead(operator.clone(), config.clone(), metrics.clone(), mandate)).await;
                Ok::<_, Infallible>(())
            }
        });
        Ok(operator)
    }

    /// The part that looks, decides and does.
    #[must_use]
    pub const fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    /// The term that it leads now, if it does.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        *self.leading.borrow()
    }

    fn admin(&self, registry: &Registry) -> prometheus::Result<Admin> {
        let (ready, levels, state) = (self.clone(), Arc::clone(&self.controller), self.clone());
        Metrics::observe_state(registry, move || levels_of(&levels))?;
        Ok(Admin::new(registry.clone()).ready_when(move || readiness(&ready)).with_state(move || describe(&state)))
    }
}

/// Polls `work`, which never ends by itself, until `stop`.
async fn until(stop: tokio_util::sync::CancellationToken, work: impl Future<Output = ()>) -> Result<(), Infallible> {
    stop.run_until_cancelled(work).await;
    Ok(())
}

/// What the leader does, for as long as it is polled.
async fn lead(operator: Operator, config: Config, metrics: Metrics, mandate: Mandate) {
    let controller = &operator.controller;
    controller.caches.synced().await;
    controller.fleet.synced().await;
    let (tls, key) = certificates(&operator.pki).await;
    let _leading = Leading::begin(&operator, &metrics, mandate.term());
    let caller = Caller {
        speaker: Speaker { operator: config.pod_name, mandate: mandate.clone() },
        port: config.control_port,
        tls,
        timings: operator.timings,
    };
    controller.clock.set();
    let leadership = Leadership::begin(Arc::clone(controller), key, mandate);
    tokio::join!(controller.fleet.lead(Arc::new(caller)), leadership.run());
}

/// Waits until there are certificates.
async fn certificates(pki: &Pki) -> (watch::Receiver<Option<Arc<ClientConfig>>>, operator_core::RevisionKey) {
    let mut tls = pki.tls();
    loop {
        if tls.borrow_and_update().is_some()
            && let Some(key) = pki.revision_key()
        {
            return (tls, key);
        }
        if tls.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Says that this process leads, until it is dropped.
struct Leading {
    leading: watch::Sender<Option<u64>>,
    metrics: Metrics,
    queue: Arc<Queue>,
}

impl Leading {
    fn begin(operator: &Operator, metrics: &Metrics, term: u64) -> Self {
        operator.leading.send_replace(Some(term));
        metrics.leading(true);
        let queue = Arc::clone(&operator.controller.queue);
        Self { leading: operator.leading.clone(), metrics: metrics.clone(), queue }
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        self.queue.close();
        self.leading.send_replace(None);
        self.metrics.leading(false);
    }
}

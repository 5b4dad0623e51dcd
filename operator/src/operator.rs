//! The process's tasks: what runs in every replica, and what only the leader does.

use std::{collections::BTreeMap, convert::Infallible, pin::pin, sync::Arc};

use daemon::{Admin, Signals, Tasks};
use futures::TryStreamExt as _;
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    coordination::v1::Lease,
    core::v1::{Node, Pod},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use operator_api::names;
use prometheus::Registry;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;

use crate::{
    api_server::{ApiServer, Patience},
    apply::{self, Applier, Caches},
    backoff::Pauses,
    cache::{Cache, Concerns},
    clock::Clock,
    config::{Config, STOP_WITHIN},
    controller::{Controller, Leadership},
    failure,
    lease::{Elector, Mandate},
    metrics::{Levels, Metrics},
    pki::Pki,
    queue::{Queue, Trigger},
    references::References,
    resolve::{BindleServers, Oracle, Resolver},
    runtimes::{Caller, Fleet, Link, Speaker, Timings},
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

/// Starts what every replica does: reading along, so that a new leader knows everything at once.
fn start_readers(config: &Config, outside: &Outside, metrics: &Metrics, tasks: &Tasks) -> Arc<Controller> {
    let client = outside.api.client();
    let queue = Arc::new(Queue::default());
    queue.close();
    let caches = Arc::new(Caches::default());
    let clock = Arc::new(Clock::default());
    let fleet = Arc::new(Fleet::new(Arc::clone(&queue), Arc::clone(&clock)));
    let references = Arc::new(References::new(Arc::clone(&queue), *outside.api.patience()));
    let resolver = Arc::new(Resolver::new(Arc::clone(&outside.oracle), Arc::clone(&queue), metrics.clone()));
    let (applier, news) = Applier::new(client.clone(), metrics.clone());

    let all = outside.api.patience().watches();
    let labelled = |label: &str, value: &str| all.clone().labels(&format!("{label}={value}"));
    let reader = Reader {
        client: client.clone(),
        all: all.clone(),
        queue: Arc::clone(&queue),
        metrics: metrics.clone(),
        tasks: tasks.clone(),
    };
    reader.watch("apps", all.clone(), Arc::clone(&caches), |caches| &caches.apps);
    reader.watch("services", all.clone(), Arc::clone(&caches), |caches| &caches.services);
    let slices = labelled(names::SLICE_MANAGED_BY_LABEL, names::SLICE_MANAGED_BY);
    reader.watch::<EndpointSlice>("slices", slices, Arc::clone(&caches), |caches| &caches.slices);
    let history = labelled(names::MANAGED_BY_LABEL, names::MANAGED_BY);
    reader.watch::<ControllerRevision>("history", history, Arc::clone(&caches), |caches| &caches.history);
    reader.watch_pods(config, Arc::clone(&fleet));
    reader.watch_nodes(Arc::clone(&fleet));

    tasks.spawn("api server", {
        let (api, stop) = (outside.api.clone(), tasks.stop_token());
        async move { until(stop, api.ask_after_it()).await }
    });
    tasks.spawn("references", {
        let (references, client, stop) = (Arc::clone(&references), client.clone(), tasks.stop_token());
        async move { until(stop, Box::pin(references.run(client))).await }
    });
    tasks.spawn("resolver", {
        let (resolver, stop) = (Arc::clone(&resolver), tasks.stop_token());
        async move { until(stop, resolver.run()).await }
    });
    tasks.spawn("events", {
        let (client, pod, stop) = (client, config.pod_name.clone(), tasks.stop_token());
        async move { until(stop, apply::tell(client, pod, news)).await }
    });
    Arc::new(Controller {
        caches,
        queue,
        fleet,
        resolver,
        references,
        applier,
        gate: Arc::clone(outside.api.gate()),
        clock,
        default_server: config.default_bindle_server.clone(),
        pool_config: config.pool_config.clone(),
        metrics: metrics.clone(),
    })
}

/// Starts watches.
struct Reader {
    client: Client,
    all: watcher::Config,
    queue: Arc<Queue>,
    metrics: Metrics,
    tasks: Tasks,
}

impl Reader {
    /// Watches one kind of object in all namespaces into a cache.
    fn watch<K>(
        &self,
        name: &'static str,
        config: watcher::Config,
        caches: Arc<Caches>,
        cache: fn(&Caches) -> &Cache<K>,
    ) where
        K: Concerns + DeserializeOwned,
    {
        let queue = Arc::clone(&self.queue);
        let events = watcher(Api::<K>::all(self.client.clone()), config).modify(Concerns::trim);
        self.observe(name, events, move |event| {
            for app in cache(&caches).observe(event) {
                queue.add(Trigger::App(app));
            }
        });
    }

    fn watch_pods(&self, config: &Config, fleet: Arc<Fleet>) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &config.namespace);
        let selected = self.all.clone().labels(&config.runtime_selector);
        self.observe("pods", watcher(pods, selected), move |event| fleet.observe_pod(event));
    }

    /// Nodes' zones, from metadata alone.
    fn watch_nodes(&self, fleet: Arc<Fleet>) {
        let nodes: Api<PartialObjectMeta<Node>> = Api::all(self.client.clone());
        let events = watcher(nodes, self.all.clone());
        self.observe("nodes", events, move |event| fleet.observe_node(&event));
    }

    fn observe<K>(
        &self,
        name: &'static str,
        events: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
        mut take: impl FnMut(Event<K>) + Send + 'static,
    ) where
        K: Resource + Send + 'static,
    {
        let metrics = self.metrics.clone();
        let work = async move {
            let mut events = pin!(events.backoff(Pauses::default()));
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => take(event),
                    Ok(None) => return,
                    Err(error) => {
                        metrics.watch_failed(name);
                        tracing::warn!(kind = name, error = failure::of_watch(&error), "a watch failed");
                    }
                }
            }
        };
        let stop = self.tasks.stop_token();
        self.tasks.spawn(name, async move { until(stop, work).await });
    }
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

/// What keeps this replica from being ready: followers are ready too.
fn readiness(operator: &Operator) -> Result<(), String> {
    if operator.pki.tls().borrow().is_none() {
        return Err("there are no certificates yet".to_owned());
    }
    if let Some(missing) = operator.controller.caches.missing() {
        return Err(missing.to_owned());
    }
    if operator.controller.fleet.is_synced() {
        Ok(())
    } else {
        Err("pods and nodes have not been listed yet".to_owned())
    }
}

fn levels_of(controller: &Controller) -> Levels {
    let runtimes = controller.fleet.runtimes();
    let connected = |runtime: &&Arc<_>| connected(runtime);
    Levels {
        apps: controller.caches.apps.len(),
        connected: runtimes.iter().filter(connected).count(),
        runtimes: runtimes.len(),
        queued: controller.queue.depth(),
    }
}

fn connected(runtime: &crate::runtimes::Runtime) -> bool {
    runtime.read(|said| said.link == Link::Connected)
}

/// The state for people, without secrets.
fn describe(operator: &Operator) -> serde_json::Value {
    let runtimes: BTreeMap<String, serde_json::Value> = operator
        .controller
        .fleet
        .runtimes()
        .iter()
        .map(|runtime| {
            let pod = runtime.pod();
            let (held, synced) = (runtime.mailbox().held(), runtime.mailbox().is_synced());
            let state = runtime.read(|said| {
                json!({
                    "addresses": pod.id.ips,
                    "node": pod.id.node,
                    "pod": format!("{:?}", pod.state),
                    "link": format!("{:?}", said.link),
                    "failure": said.failure,
                    "build": said.build,
                    "draining": said.draining,
                    "capacity": said.capacity,
                    "assigned": held,
                    "synced": synced,
                    "reports": said.reports.values().collect::<Vec<_>>(),
                })
            });
            (runtime.name().to_string(), state)
        })
        .collect();
    json!({
        "leading": operator.term(),
        "apps": operator.controller.caches.apps.len(),
        "queued": operator.controller.queue.depth(),
        "runtimes": runtimes,
    })
}

//! What every replica does: it reads along, so that a new leader knows everything at once.

use std::{pin::pin, sync::Arc};

use daemon::Tasks;
use futures::TryStreamExt as _;
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
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
use serde::de::DeserializeOwned;

use super::{Outside, until};
use crate::{
    apply::{self, Applier, Caches},
    backoff::Pauses,
    cache::{Cache, Concerns},
    clock::Clock,
    config::Config,
    controller::Controller,
    failure,
    metrics::Metrics,
    queue::{Queue, Trigger},
    references::References,
    resolve::Resolver,
    runtimes::Fleet,
};

/// Starts it, as tasks of `tasks`.
pub(super) fn start_readers(config: &Config, outside: &Outside, metrics: &Metrics, tasks: &Tasks) -> Arc<Controller> {
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

//! The runtimes: who there is, what each is to be told, what each has said.
//!
//! Promise: one task per runtime, owned by whoever polls [`Fleet::lead`]; a runtime that is slow, away or
//! hostile delays no other. What the fleet knows of a runtime lives exactly as long as its pod.
//!
//! Absent on purpose: any decision about apps.

pub mod dial;
pub mod frames;
pub mod mailbox;
mod pods;
pub mod runtime;
pub mod session;
pub mod talk;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::{AppKey, RuntimeName};
use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::Event;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
};

pub use dial::Timings;
pub use mailbox::{Desired, Order};
pub use runtime::{Link, PodFacts, Runtime};
pub use session::Speaker;
pub use talk::Caller;

use self::pods::{facts, name_of};
use crate::{
    clock::Clock,
    queue::{Queue, Trigger},
};

/// The zone label of nodes.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// All runtimes of an installation.
#[derive(Debug)]
pub struct Fleet {
    inner: Mutex<Inner>,
    pods_changed: Notify,
    listed: watch::Sender<Listed>,
    triggers: Arc<Queue>,
    clock: Arc<Clock>,
}

/// What has been listed once.
#[derive(Debug, Clone, Copy, Default)]
struct Listed {
    pods: bool,
    nodes: bool,
}

#[derive(Debug, Default)]
struct Inner {
    pods: BTreeMap<RuntimeName, PodFacts>,
    listed: BTreeSet<RuntimeName>,
    /// By node.
    zones: HashMap<String, Arc<str>>,
    listed_nodes: BTreeSet<String>,
    runtimes: BTreeMap<RuntimeName, Arc<Runtime>>,
    /// Per runtime, the apps that have not been looked at since it introduced itself.
    reviews: BTreeMap<RuntimeName, BTreeSet<AppKey>>,
}

impl Fleet {
    /// No runtimes yet; news go to `triggers`, with the time of `clock`.
    #[must_use]
    pub fn new(triggers: Arc<Queue>, clock: Arc<Clock>) -> Self {
        Self { inner: Mutex::default(), pods_changed: Notify::new(), listed: watch::Sender::default(), triggers, clock }
    }

    /// Takes in what the watch of pods says.
    pub fn observe_pod(&self, event: Event<core::Pod>) {
        let mut inner = self.lock();
        match event {
            Event::Apply(pod) => inner.put(&pod),
            Event::Delete(pod) => inner.drop_pod(&pod),
            Event::Init => inner.listed.clear(),
            Event::InitApply(pod) => {
                inner.listed.extend(name_of(&pod));
                inner.put(&pod);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut inner.listed);
                inner.pods.retain(|name, _| listed.contains(name));
                self.listed.send_modify(|listed| listed.pods = true);
            }
        }
        drop(inner);
        self.pods_changed.notify_one();
    }

    /// Takes in what the watch of nodes says.
    pub fn observe_node<K>(&self, event: &Event<K>)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let mut inner = self.lock();
        let changed = match event {
            Event::Apply(node) => inner.put_node(node),
            Event::Delete(node) => inner.zones.remove(node.meta().name.as_deref().unwrap_or_default()).is_some(),
            Event::Init => {
                inner.listed_nodes.clear();
                false
            }
            Event::InitApply(node) => {
                inner.listed_nodes.extend(node.meta().name.clone());
                inner.put_node(node)
            }
            Event::InitDone => {
                self.listed.send_modify(|listed| listed.nodes = true);
                inner.drop_unlisted_nodes()
            }
        };
        drop(inner);
        if changed {
            self.triggers.add(Trigger::Fleet);
        }
    }

    /// Whether every pod and node that there was at the start is known.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let Listed { pods, nodes } = *self.listed.borrow();
        pods && nodes
    }

    /// Waits for that: to decide with less would take endpoints away, and move apps.
    pub async fn synced(&self) {
        // It ends when they are, or when nobody can list any more.
        drop(self.listed.subscribe().wait_for(|listed| listed.pods && listed.nodes).await);
    }

    /// Talks to every runtime, for as long as it is polled. Starts from nothing: what an earlier leader of
    /// this process knew is forgotten.
    pub async fn lead(&self, caller: Arc<Caller>) {
        self.lock().forget_runtimes();
        let mut talks = JoinSet::new();
        let mut handles: HashMap<RuntimeName, (String, AbortHandle)> = HashMap::new();
        loop {
            let pods = self.lock().pods.clone();
            handles.retain(|name, (uid, handle)| {
                let stays = pods.get(name).is_some_and(|pod| pod.id.uid == *uid);
                if !stays {
                    handle.abort();
                    self.forget(name);
                }
                stays
            });
            for (name, pod) in pods {
                match handles.entry(name) {
                    Entry::Occupied(_) => self.update(pod),
                    Entry::Vacant(free) => {
                        let uid = pod.id.uid.clone();
                        let runtime = self.add(pod);
                        let talk = talks.spawn(talk::keep_talking(runtime, Arc::clone(&caller)));
                        free.insert((uid, talk));
                    }
                }
            }
            tokio::select! {
                () = self.pods_changed.notified() => {}
                Some(ended) = talks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        // Its state may be half-changed: start over with this runtime.
                        handles.retain(|_, (_, handle)| handle.id() != error.id());
                    }
                }
            }
        }
    }

    /// Every runtime.
    #[must_use]
    pub fn runtimes(&self) -> Vec<Arc<Runtime>> {
        self.lock().runtimes.values().cloned().collect()
    }

    /// The runtime called `name`.
    #[must_use]
    pub fn runtime(&self, name: &RuntimeName) -> Option<Arc<Runtime>> {
        self.lock().runtimes.get(name).cloned()
    }

    /// The runtimes as a decision about `app` sees them.
    #[must_use]
    pub fn view(&self, app: &AppKey) -> Vec<operator_core::Runtime> {
        let inner = self.lock();
        let zone = |node: &str| inner.zones.get(node).cloned();
        inner.runtimes.values().map(|runtime| runtime.view(app, zone)).collect()
    }

    /// Which runtimes have introduced themselves since this was last asked: for those, `apps` must be
    /// looked at before anything that they hold may be removed as unknown.
    pub fn start_reviews(&self, apps: &[AppKey]) {
        let mut inner = self.lock();
        let new: Vec<_> = inner.runtimes.values().filter(|runtime| runtime.take_unreviewed()).cloned().collect();
        for runtime in new {
            if apps.is_empty() {
                runtime.mailbox().complete();
            } else {
                inner.reviews.insert(runtime.name().clone(), apps.iter().cloned().collect());
            }
        }
    }

    /// `app` has been looked at (or is no more), with every runtime as it is now in view.
    pub fn reviewed(&self, app: &AppKey) {
        let mut inner = self.lock();
        let mut done = Vec::new();
        inner.reviews.retain(|name, apps| {
            apps.remove(app);
            if apps.is_empty() {
                done.push(name.clone());
            }
            !apps.is_empty()
        });
        for name in done {
            if let Some(runtime) = inner.runtimes.get(&name) {
                runtime.reviewed();
            }
        }
    }

    fn add(&self, pod: PodFacts) -> Arc<Runtime> {
        let runtime = Arc::new(Runtime::new(pod, Arc::clone(&self.triggers), Arc::clone(&self.clock)));
        self.lock().runtimes.insert(runtime.name().clone(), Arc::clone(&runtime));
        self.triggers.add(Trigger::Fleet);
        runtime
    }

    fn update(&self, pod: PodFacts) {
        if let Some(runtime) = self.runtime(&pod.id.name) {
            runtime.set_pod(pod);
        }
    }

    fn forget(&self, name: &RuntimeName) {
        let mut inner = self.lock();
        let gone = inner.runtimes.remove(name);
        inner.reviews.remove(name);
        drop(inner);
        if let Some(runtime) = gone {
            runtime.concerns();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, pod: &core::Pod) {
        let Some(name) = name_of(pod) else { return };
        match facts(pod) {
            Some(facts) => self.pods.insert(name, facts),
            None => self.pods.remove(&name),
        };
    }

    fn drop_pod(&mut self, pod: &core::Pod) {
        if let Some(name) = name_of(pod)
            && self.pods.get(&name).is_some_and(|known| Some(&known.id.uid) == pod.metadata.uid.as_ref())
        {
            self.pods.remove(&name);
        }
    }

    /// Notes the zone of a node; whether that is news.
    fn put_node<K: kube::Resource>(&mut self, node: &K) -> bool {
        let name = node.meta().name.clone().unwrap_or_default();
        match node.meta().labels.as_ref().and_then(|labels| labels.get(ZONE_LABEL)) {
            Some(zone) => self.zones.insert(name, zone.as_str().into()).as_deref() != Some(zone.as_str()),
            None => self.zones.remove(&name).is_some(),
        }
    }

    /// Forgets the nodes that the list just ended has not; whether there were any.
    fn drop_unlisted_nodes(&mut self) -> bool {
        let (listed, before) = (std::mem::take(&mut self.listed_nodes), self.zones.len());
        self.zones.retain(|node, _| listed.contains(node));
        self.zones.len() != before
    }

    fn forget_runtimes(&mut self) {
        self.runtimes.clear();
        self.reviews.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> core::Pod {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_node_that_is_not_listed_any_more_has_no_zone() {
        let fleet = Fleet::new(Arc::default(), Arc::default());
        let node = |name: &str| -> core::Node {
            serde_json::from_value(serde_json::json!({ "metadata": { "name": name, "labels": { ZONE_LABEL: "z" } } }))
                .unwrap()
        };
        fleet.observe_node(&Event::Apply(node("stays")));
        fleet.observe_node(&Event::Apply(node("gone")));
        // The watch was away when it went.
        fleet.observe_node(&Event::<core::Node>::Init);
        fleet.observe_node(&Event::InitApply(node("stays")));
        fleet.observe_node(&Event::<core::Node>::InitDone);
        assert_eq!(fleet.lock().zones.keys().collect::<Vec<_>>(), ["stays"]);
    }

    #[test]
    fn the_deletion_of_an_old_pod_does_not_remove_a_new_one_of_the_same_name() {
        let fleet = Fleet::new(Arc::default(), Arc::default());
        let named =
            |uid: &str| pod(serde_json::json!({ "metadata": { "name": "r1", "namespace": "spindle", "uid": uid } }));
        fleet.observe_pod(Event::Apply(named("old")));
        fleet.observe_pod(Event::Apply(named("new")));
        fleet.observe_pod(Event::Delete(named("old")));
        assert_eq!(fleet.lock().pods[&RuntimeName("r1".to_owned())].id.uid, "new");
    }
}

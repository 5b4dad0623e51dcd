//! The loop: something has changed, look at the app, decide, do.
//!
//! Promise: every decision is [`operator_core::plan`]'s. Looking and deciding read memory only and take
//! one turn at a time, so no two apps get the same port and a runtime's word about unknown apps is acted
//! on only when every app has been looked at; what runtimes are told leaves at once, before any write, however
//! slow or far the API server is. What cannot be written now is not kept: the app is looked at again when it can.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use control::{AppKey, Problem};
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use operator_api::{ConditionType, Reason, SpinApp, SpinAppStatus};
use operator_core::{
    App, ConfigText, Event, EventKind, Memory, Plan, RevisionKey, View,
    objects::{entry_of, service_of, slice_of},
    plan, ports,
    publish::Slice,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{Id, JoinSet},
    time::Instant,
};

use crate::{
    api_server::Gate,
    apply::{Applier, Caches, Children, WriteError},
    clock::Clock,
    inputs,
    kinds::{AppObject, Unreadable},
    lease::Mandate,
    metrics::Metrics,
    queue::{Again, Queue, Trigger},
    references::References,
    resolve::Resolver,
    runtimes::{Desired, Fleet, Order, Runtime},
};

/// How many apps are written about side by side.
const WRITERS: usize = 64;

/// How many apps are looked at side by side while all writers are busy.
const THINKERS: usize = 8;

/// Everything that the loop works with.
#[derive(Debug)]
pub struct Controller {
    /// What the API server has.
    pub caches: Arc<Caches>,
    /// What is to be looked at.
    pub queue: Arc<Queue>,
    /// The runtimes.
    pub fleet: Arc<Fleet>,
    /// What bundles are.
    pub resolver: Arc<Resolver>,
    /// What Secrets and ConfigMaps hold.
    pub references: Arc<References>,
    /// Writes objects; nothing before there is a mandate.
    pub applier: Applier,
    /// Whether the API server takes anything.
    pub gate: Arc<Gate>,
    /// The time.
    pub clock: Arc<Clock>,
    /// The Bindle server of apps that name none.
    pub default_server: Option<String>,
    /// The runtime configuration that every app is given.
    pub pool_config: Option<Arc<ConfigText>>,
    /// Counts.
    pub metrics: Metrics,
}

/// What one leader remembers about apps.
#[derive(Debug, Default)]
struct Ledger {
    ports: ports::Book,
    apps: HashMap<AppKey, Remembered>,
    /// Whether it has been said that the CRD is of another release.
    crd_is_other: bool,
}

impl Ledger {
    /// Of a leader that takes over: the ports that these apps have are theirs until they go.
    fn of<'a>(all: impl Iterator<Item = (&'a AppKey, Arc<AppObject>)>) -> Self {
        let mut ledger = Self::default();
        for (key, object) in all {
            if let Some((uid, port)) = object.claim() {
                ledger.ports.claim(uid, Some(port));
                ledger.apps.insert(key.clone(), Remembered { uid: uid.to_owned(), ..Remembered::default() });
            }
        }
        ledger
    }

    /// The app called `key` is gone, and its port is free.
    fn forget(&mut self, key: &AppKey) {
        if let Some(remembered) = self.apps.remove(key) {
            self.ports.release(&remembered.uid);
        }
    }
}

#[derive(Debug, Default)]
struct Remembered {
    uid: String,
    memory: Memory,
    write_failure: Option<Problem>,
    /// A status that was written and not kept as a whole.
    cut: Option<Cut>,
    /// Whether the status of the last plan was left for the next one to write.
    status_put_off: bool,
    /// Why the object cannot be read, as it was told last.
    unreadable: Option<String>,
}

/// What a CRD of another release made of a status: what was written, and what is kept of it.
#[derive(Debug)]
struct Cut {
    written: SpinAppStatus,
    kept: SpinAppStatus,
}

/// One leadership: starts with nothing but what the API server has.
#[derive(Debug)]
pub struct Leadership {
    controller: Arc<Controller>,
    key: RevisionKey,
    applier: Applier,
    writers: Arc<Semaphore>,
    ledger: Mutex<Ledger>,
}

/// A decision about one app.
#[derive(Debug)]
struct Decision {
    app: App,
    object: Arc<SpinApp>,
    /// What the app had then.
    children: Children,
    plan: Plan,
    /// When it was made.
    made: Timestamp,
}

impl Leadership {
    /// Takes over: the ports that apps have are theirs, and everything is to be looked at.
    #[must_use]
    pub fn begin(controller: Arc<Controller>, key: RevisionKey, mandate: Mandate) -> Arc<Self> {
        // From here on whatever happens to an app is looked at.
        controller.queue.open();
        let all: BTreeSet<AppKey> = controller.caches.apps.apps().into_iter().collect();
        controller.resolver.forget_all_but(&all);
        controller.references.forget_all_but(&all);
        let ledger = Ledger::of(all.iter().filter_map(|app| Some((app, controller.caches.apps.named(app)?))));
        controller.queue.add(Trigger::Fleet);
        let applier = controller.applier.with(mandate);
        let ledger = Mutex::new(ledger);
        Arc::new(Self { controller, key, applier, writers: Arc::new(Semaphore::new(WRITERS)), ledger })
    }

    /// Looks at whatever is to be looked at, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let Controller { queue, gate, .. } = self.controller.as_ref();
        let mut looks = JoinSet::new();
        let mut apps: HashMap<Id, AppKey> = HashMap::new();
        loop {
            let open = gate.is_open();
            let room = open && self.writers.available_permits() > 0;
            tokio::select! {
                trigger = queue.next(room), if looks.len() < WRITERS + THINKERS => match trigger {
                    Trigger::Fleet => self.look_at_all(),
                    Trigger::App(app) => {
                        let look = looks.spawn(Arc::clone(&self).reconcile(app.clone()));
                        apps.insert(look.id(), app);
                    }
                },
                Some(ended) = looks.join_next_with_id() => match ended {
                    Ok((id, ())) => drop(apps.remove(&id)),
                    // The panic is logged. Whatever it was about, the others go on.
                    Err(error) => if let Some(app) = apps.remove(&error.id()) {
                        queue.done(&app, Again::Backoff);
                    },
                },
                () = gate.changed(open) => {}
            }
        }
    }

    /// The fleet has changed: every app must be looked at.
    fn look_at_all(&self) {
        let ledger = self.ledger();
        let apps = self.controller.caches.apps.apps();
        self.controller.fleet.start_reviews(&apps);
        drop(ledger);
        self.controller.queue.add_round(apps);
    }

    /// Looks at one app, decides, does.
    async fn reconcile(self: Arc<Self>, key: AppKey) {
        let started = Instant::now();
        let again = match self.decide(&key) {
            None => Again::OnChange,
            Some(decision) if writes_nothing(&decision.plan) => self.carry_out(decision).await,
            Some(decision) => match self.turn() {
                Some(_turn) => self.carry_out(decision).await,
                None => Again::WhenRoom,
            },
        };
        let result = match again {
            Again::Backoff => "failed",
            Again::WhenRoom => "waiting",
            Again::OnChange | Again::After(_) => "ok",
        };
        self.controller.metrics.reconciled(result, started.elapsed());
        self.controller.queue.done(&key, again);
    }

    /// A turn to write, if there is one now.
    fn turn(&self) -> Option<OwnedSemaphorePermit> {
        if self.controller.gate.is_open() { Arc::clone(&self.writers).try_acquire_owned().ok() } else { None }
    }

    /// Looks, decides, and tells runtimes; `None` when there is no such app (any more), or none that can be read.
    fn decide(&self, key: &AppKey) -> Option<Decision> {
        let mut ledger = self.ledger();
        let found = self.controller.caches.apps.named(key);
        let decision = match found.as_deref() {
            None => {
                self.forget(&mut ledger, key);
                None
            }
            Some(AppObject::Unreadable(object)) => {
                self.leave_alone(&mut ledger, key, object);
                None
            }
            Some(AppObject::Readable(object)) => App::try_from(object.as_ref()).ok().map(|app| {
                let children = self.controller.caches.children(key);
                let view = self.look(&mut ledger, app, object, &children);
                let plan = plan(&view);
                self.tell_runtimes(key, &plan);
                if let Some(remembered) = ledger.apps.get_mut(key) {
                    remembered.memory = plan.memory.clone();
                    remembered.unreadable = None;
                }
                Decision { made: view.now, app: view.app, object: Arc::clone(object), children, plan }
            }),
        };
        self.controller.fleet.reviewed(key);
        decision
    }

    /// Runtimes keep what they have of an app that cannot be read, and its port stays its own.
    fn leave_alone(&self, ledger: &mut Ledger, key: &AppKey, object: &Unreadable) {
        for runtime in self.controller.fleet.runtimes() {
            runtime.mailbox().set(key, Desired::Keep);
        }
        let uid = object.metadata.uid.clone().unwrap_or_default();
        if let Some(port) = object.port {
            ledger.ports.claim(&uid, Some(port));
        }
        let remembered = ledger.apps.entry(key.clone()).or_default();
        if remembered.unreadable.as_ref() != Some(&object.why) {
            tracing::warn!(app = %key, error = object.why, "a SpinApp cannot be read: it is left as it is");
            let about = AppObject::Unreadable(Box::new(object.clone())).object_ref(&());
            self.applier.tell(&about, vec![cannot_be_read(&object.why)]);
            remembered.unreadable = Some(object.why.clone());
        }
        if remembered.uid.is_empty() {
            remembered.uid = uid;
        }
    }

    /// Everything that a decision about `app` may depend on.
    fn look(&self, ledger: &mut Ledger, app: App, object: &SpinApp, children: &Children) -> View {
        let Controller { caches, fleet, resolver, references, default_server, pool_config, clock, .. } =
            self.controller.as_ref();
        let Ledger { ports, apps, .. } = ledger;
        let remembered = apps.entry(app.key.clone()).or_default();
        if remembered.uid != app.uid {
            // The app was deleted and made again: it is another one.
            ports.release(&remembered.uid);
            *remembered = Remembered { uid: app.uid.clone(), ..Remembered::default() };
        }
        let status = without_others(object.status.clone().unwrap_or_default());
        // What the CRD does not know was said all the same: it is neither written nor told again.
        let status = match &remembered.cut {
            Some(cut) if cut.kept == status => cut.written.clone(),
            Some(_) | None => status,
        };
        let known = references.look_up(&app.key, inputs::references(&app.key, &object.spec));
        let bundle = inputs::question(&app.key, &object.spec, &known, default_server.as_deref())
            .map_or_else(Into::into, |question| resolver.look_up(&app.key, &question));
        View {
            now: clock.now(),
            bundle,
            variables: inputs::variables(&app.key, &object.spec, &known),
            runtime_config: inputs::runtime_config(&app.key, &object.spec, &known),
            pool_config: pool_config.clone(),
            port: ports.claim(&app.uid, status.port),
            status,
            runtimes: fleet.view(&app.key),
            service: service_of(&app, caches.services.named(&app.key).as_deref()),
            slices: children.slices.iter().filter_map(|slice| slice_of(&app, slice)).collect(),
            history: children.history.iter().filter_map(|entry| entry_of(&app, entry)).collect(),
            write_failure: remembered.write_failure.clone(),
            memory: remembered.memory.clone(),
            key: self.key.clone(),
            app,
        }
    }

    /// The app is gone: what belongs to it in Kubernetes goes with it, the rest is cleaned up here.
    fn forget(&self, ledger: &mut Ledger, key: &AppKey) {
        for runtime in self.controller.fleet.runtimes() {
            runtime.mailbox().set(key, Desired::Remove);
        }
        self.controller.resolver.forget(key);
        self.controller.references.look_up(key, BTreeSet::new());
        ledger.forget(key);
    }

    /// Puts what the plan says into the runtimes' mailboxes.
    fn tell_runtimes(&self, key: &AppKey, plan: &Plan) {
        let mut order: Option<Arc<Order>> = None;
        for runtime in self.controller.fleet.runtimes() {
            match plan.runtimes.get(runtime.name()) {
                None => runtime.mailbox().unset(key),
                Some(operator_core::Desired::Keep) => runtime.mailbox().set(key, Desired::Keep),
                Some(operator_core::Desired::Remove) => runtime.mailbox().set(key, Desired::Remove),
                Some(operator_core::Desired::Assign(assignment)) => {
                    // Runtimes usually get the same.
                    let shared = order.take().filter(|order| order.is(assignment));
                    order = shared.or_else(|| Order::new((**assignment).clone()).ok());
                    if let Some(order) = &order {
                        assign(&runtime, key, order);
                    }
                }
            }
        }
    }

    /// Writes what the plan says; when to look again.
    async fn carry_out(&self, decision: Decision) -> Again {
        let Decision { app, object, children, mut plan, made } = decision;
        let caches = &self.controller.caches;
        let applier = &self.applier;
        if may_be_gone(&app, &object, &plan, caches) {
            match applier.is_there(&app).await {
                Ok(true) => {}
                Ok(false) => {
                    // The watch is late. Whatever is made for an app that is gone is deleted again, and again.
                    caches.apps.forget(&app.key, app.key.name(), Some(&app.uid));
                    self.controller.queue.add(Trigger::App(app.key));
                    return Again::OnChange;
                }
                Err(error) => return self.failed(&app.key, &error, "an app could not be looked up"),
            }
        }
        let began = Instant::now();
        let published = applier.publish(&app, &plan, &children, caches).await;
        plan.note_published(began.elapsed().try_into().unwrap_or_default());
        if let Err(problem) = &published {
            if let Some(again) = self.not_the_apps_fault() {
                return again;
            }
            tracing::warn!(app = %app.key, error = problem.message, "a write failed");
        }
        if published.is_ok() {
            self.remember_published(&app, made);
        }
        if self.remember_failure(&app, published.err()) {
            // The status has to say so, or to stop saying so.
            self.controller.queue.add(Trigger::App(app.key));
            return Again::OnChange;
        }
        if self.puts_off_status(&app.key, &plan) {
            return Again::OnChange;
        }
        if let Some(status) = plan.status.take() {
            match applier.write_status(&object, &status, caches).await {
                Ok(kept) => self.remember_cut(&app, status, kept),
                Err(error) => return self.failed(&app.key, &error, "a status could not be written"),
            }
        }
        let remembered = applier.remember(&app, &plan, &children, caches).await;
        applier.tell(&object.object_ref(&()), plan.events);
        if let Err(error) = remembered {
            return self.failed(&app.key, &error, "a revision could not be remembered");
        }
        if self.has_failed(&app.key) {
            return Again::Backoff;
        }
        plan.recheck.map_or(Again::OnChange, |after| Again::After(after.try_into().unwrap_or_default()))
    }

    /// A write has failed: when to look again.
    fn failed(&self, app: &AppKey, error: &WriteError, what: &'static str) -> Again {
        self.not_the_apps_fault().unwrap_or_else(|| {
            tracing::warn!(%app, %error, "{what}");
            Again::Backoff
        })
    }

    /// When to look again if what failed would have failed for every app.
    fn not_the_apps_fault(&self) -> Option<Again> {
        if !self.applier.may_write() {
            return Some(Again::OnChange);
        }
        (!self.controller.gate.is_open()).then_some(Again::WhenRoom)
    }

    /// Remembers that the slices are as the decision of this time has them.
    fn remember_published(&self, app: &App, made: Timestamp) {
        if let Some(remembered) = self.ledger().apps.get_mut(&app.key).filter(|remembered| remembered.uid == app.uid) {
            remembered.memory.note_published(made, self.controller.clock.now());
        }
    }

    /// Remembers whether the last write failed; whether that is news. Another failure is none: its words may differ
    /// each time.
    fn remember_failure(&self, app: &App, failure: Option<Problem>) -> bool {
        let mut ledger = self.ledger();
        let Some(remembered) = ledger.apps.get_mut(&app.key).filter(|remembered| remembered.uid == app.uid) else {
            return false;
        };
        let news = remembered.write_failure.is_some() != failure.is_some();
        remembered.write_failure = failure;
        news
    }

    /// Remembers what the API server has not `kept` of a status.
    fn remember_cut(&self, app: &App, written: SpinAppStatus, kept: Option<SpinAppStatus>) {
        let kept = kept.map(without_others);
        let cut = kept.filter(|kept| *kept != written).map(|kept| Cut { written, kept });
        let mut ledger = self.ledger();
        if cut.is_some() && !std::mem::replace(&mut ledger.crd_is_other, true) {
            tracing::warn!(
                app = %app.key,
                "the CRD of SpinApps is of another release: not all that their status says is kept; apply the CRD of this release"
            );
        }
        if let Some(remembered) = ledger.apps.get_mut(&app.key).filter(|remembered| remembered.uid == app.uid) {
            remembered.cut = cut;
        }
    }

    fn has_failed(&self, key: &AppKey) -> bool {
        self.ledger().apps.get(key).is_some_and(|remembered| remembered.write_failure.is_some())
    }

    /// Whether something has changed meanwhile that matters more than a status which is old by now: an
    /// endpoint may be waiting. Never twice in a row, so that a busy app has a status too.
    fn puts_off_status(&self, key: &AppKey, plan: &Plan) -> bool {
        let again = plan.status.is_some() && self.controller.queue.comes_again(key);
        let mut ledger = self.ledger();
        let Some(remembered) = ledger.apps.get_mut(key) else { return false };
        let puts_off = again && !remembered.status_put_off;
        remembered.status_put_off = puts_off;
        puts_off
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status without the conditions of other tools, which stay theirs.
fn without_others(mut status: SpinAppStatus) -> SpinAppStatus {
    status.conditions.retain(|found| ConditionType::ALL.iter().any(|ours| ours.as_str() == found.type_));
    status
}

/// Whether carrying out `plan` asks nothing of the API server.
fn writes_nothing(plan: &Plan) -> bool {
    plan.service.is_none()
        && plan.slices.is_empty()
        && plan.stale_slices.is_empty()
        && plan.status.is_none()
        && plan.history.is_empty()
}

/// Whether the app may be gone though nobody has said so yet: its Service, a slice or an entry of its history has gone, or
/// the Service is there already and not as it should be, so that another app of its name may be the one that is.
fn may_be_gone(app: &App, object: &SpinApp, plan: &Plan, caches: &Caches) -> bool {
    let status = object.status.as_ref();
    let had_one = || status.is_some_and(|status| status.port.is_some());
    let service = plan.service.is_some() && (had_one() || caches.services.named(&app.key).is_some());
    let known = caches.slices.of(&app.key);
    let is_missing = |slice: &Slice| known.iter().all(|known| known.metadata.name.as_ref() != Some(&slice.name));
    let slice = status.is_some_and(|status| status.ready_replicas > 0) && plan.slices.iter().any(is_missing);
    // A new entry comes with a status.
    service || slice || (plan.history.write.is_some() && plan.status.is_none())
}

fn cannot_be_read(why: &str) -> Event {
    Event {
        kind: EventKind::Warning,
        reason: Reason::InvalidSpec.as_str().to_owned(),
        message: format!(
            "this object cannot be read, so what runs is left as it is: {why}. Apply it again as this version of the CRD has it"
        ),
        action: "Reading",
    }
}

fn assign(runtime: &Runtime, key: &AppKey, order: &Arc<Order>) {
    runtime.mailbox().set(key, Desired::Assign(Arc::clone(order)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_goes_before_a_new_leader_has_looked_at_it_gives_its_port_back() {
        let app = serde_json::json!({
            "metadata": { "namespace": "shop", "name": "cart", "uid": "u" },
            "spec": { "source": { "bindle": { "id": "a/1.0.0" } } },
            "status": { "port": 12_000 },
        });
        let (key, app): (_, AppObject) = (AppKey::new("shop", "cart").unwrap(), serde_json::from_value(app).unwrap());
        let mut ledger = Ledger::of([(&key, Arc::new(app))].into_iter());
        assert_eq!(ledger.ports.len(), 1);
        ledger.forget(&key);
        assert!(ledger.ports.is_empty() && ledger.apps.is_empty());
    }
}

//! An operator process: caches that lag behind, a lease, and while it leads a ledger and a stream per runtime.
//!
//! Does what `operator/src/{controller,runtimes}` do around the same deciders.

mod look;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control::{AppKey, FromRuntime, Inventory, Problem, RuntimeName};
use jiff::Timestamp;
use operator_core::{
    Memory, Plan, lease,
    mailbox::{Desired, Order},
    ports,
};

use crate::{
    api::{AppObject, Id, Object, Objects},
    link::{Link, LinkState},
};

/// An operator's process.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    pub(crate) up: bool,
    /// Counts its processes.
    pub(crate) process: u32,
    /// Whether its caches have been filled.
    pub(crate) listed: bool,
    /// The version of the last list: what is older than that is in it, or gone.
    pub(crate) listed_at: u64,
    /// Counts its processes and leaderships: what began in an earlier one is void.
    pub(crate) life: u32,
    /// How far its clock is off, in milliseconds.
    pub(crate) clock: i64,
    /// Until when it does nothing at all.
    pub(crate) frozen_until: i64,
    /// Until when it cannot reach the API server.
    pub(crate) cut_off_until: i64,
    pub(crate) cache: Objects,
    pub(crate) lease: Option<lease::Observed>,
    pub(crate) held: Option<lease::Held>,
    /// The highest term that was its own.
    pub(crate) led: u64,
    pub(crate) leading: Option<Leading>,
    /// The versions of bundles that it has resolved, and those that it asks for.
    pub(crate) resolved: BTreeMap<String, bool>,
}

/// What a leader knows.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) term: u64,
    pub(crate) ports: ports::Book,
    pub(crate) apps: BTreeMap<AppKey, Remembered>,
    pub(crate) links: BTreeMap<RuntimeName, Link>,
    reviews: BTreeMap<RuntimeName, BTreeSet<AppKey>>,
    /// To be looked at.
    pub(crate) dirty: BTreeSet<AppKey>,
    /// Being carried out.
    pub(crate) busy: BTreeSet<AppKey>,
}

/// What a leader remembers about an app.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    uid: String,
    pub(crate) memory: Memory,
    pub(crate) write_failure: Option<Problem>,
}

/// What an operator decided about an app.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) app: AppKey,
    pub(crate) uid: String,
    pub(crate) placement: Placement,
    pub(crate) plan: Plan,
    /// When it was made, by the operator's clock.
    pub(crate) made: Timestamp,
}

/// Where an operator wants an app.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    /// How many runtimes are to have it.
    pub(crate) replicas: u32,
    /// Those that are to.
    pub(crate) placed: BTreeSet<RuntimeName>,
    /// Those that could, and how many apps each takes; 0 while the operator does not know.
    pub(crate) able: BTreeMap<RuntimeName, u32>,
}

impl Operator {
    /// What its clock shows at the true time `now`.
    pub(crate) fn time(&self, now: i64) -> Timestamp {
        crate::time(now + self.clock)
    }

    /// Whether it can do something now.
    pub(crate) const fn runs(&self, now: i64) -> bool {
        self.up && now >= self.frozen_until
    }

    /// Whether it can reach the API server now.
    pub(crate) const fn reaches_api(&self, now: i64) -> bool {
        now >= self.cut_off_until
    }

    /// Takes in what a watch says; whether that is news.
    pub(crate) fn observe(&mut self, id: &Id, version: u64, object: Option<Object>) -> bool {
        if version <= self.listed_at || self.cache.get(id).is_some_and(|(known, _)| *known >= version) {
            return false;
        }
        match object {
            Some(object) => drop(self.cache.insert(id.clone(), (version, object))),
            None => drop(self.cache.remove(id)),
        }
        true
    }

    /// Begins to lead: with nothing but what the API server has.
    pub(crate) fn begin(&mut self, term: u64, now: i64) {
        self.life += 1;
        let mut ports = ports::Book::default();
        for (_, app) in self.apps() {
            if let Some(port) = app.status.port {
                ports.claim(&app.uid, Some(port));
            }
        }
        let dirty = self.apps().map(|(key, _)| key.clone()).collect();
        self.leading = Some(Leading {
            term,
            ports,
            apps: BTreeMap::new(),
            links: BTreeMap::new(),
            reviews: BTreeMap::new(),
            dirty,
            busy: BTreeSet::new(),
        });
        self.sync_pods(now);
    }

    /// Stops leading; what is under way is void.
    pub(crate) fn end(&mut self) -> Vec<u64> {
        self.life += 1;
        let links = self.leading.take().map(|leading| leading.links).unwrap_or_default();
        links.into_values().filter_map(|link| link.session).collect()
    }

    fn apps(&self) -> impl Iterator<Item = (&AppKey, &AppObject)> {
        self.cache.iter().filter_map(|(id, (_, object))| match (id, object) {
            (Id::App(key), Object::App(app)) => Some((key, app.as_ref())),
            _ => None,
        })
    }

    /// Has a link for each pod; the runtimes to dial.
    pub(crate) fn sync_pods(&mut self, now: i64) -> Vec<(RuntimeName, String)> {
        let since = self.time(now);
        let pods: BTreeMap<RuntimeName, String> = self
            .cache
            .iter()
            .filter_map(|(id, (_, object))| match (id, object) {
                (Id::Pod(name), Object::Pod(pod)) => Some((name.clone(), pod.uid.clone())),
                _ => None,
            })
            .collect();
        let Some(leading) = &mut self.leading else { return Vec::new() };
        leading.links.retain(|name, link| pods.get(name) == Some(&link.uid));
        let mut new = Vec::new();
        for (name, uid) in pods {
            if !leading.links.contains_key(&name) {
                leading.links.insert(name.clone(), Link::new(uid.clone(), since));
                new.push((name, uid));
            }
        }
        new
    }

    /// Everything must be looked at.
    pub(crate) fn look_at_all(&mut self) {
        let apps: BTreeSet<AppKey> = self.apps().map(|(key, _)| key.clone()).collect();
        let Some(leading) = &mut self.leading else { return };
        let known: Vec<AppKey> = leading.apps.keys().cloned().collect();
        leading.dirty.extend(apps.iter().cloned().chain(known));
        for (name, link) in &mut leading.links {
            if std::mem::take(&mut link.unreviewed) {
                if apps.is_empty() {
                    link.mailbox.complete();
                } else {
                    leading.reviews.insert(name.clone(), apps.clone());
                }
            }
        }
    }

    /// A runtime has said something; whether everything must be looked at.
    pub(crate) fn hear(&mut self, runtime: &RuntimeName, session: u64, message: FromRuntime) -> bool {
        let Some(leading) = &mut self.leading else { return false };
        let Some(link) = leading.links.get_mut(runtime).filter(|link| link.session == Some(session)) else {
            return false;
        };
        match message {
            FromRuntime::Welcome(welcome) => {
                let Inventory { assigned, reports, words, rollouts } = welcome.inventory;
                link.mailbox.open(assigned, words);
                link.state = LinkState::Connected;
                link.version = Some(welcome.version);
                link.capacity = welcome.capacity;
                link.draining = welcome.draining;
                link.reports = reports.into_iter().map(|report| (report.app.clone(), report)).collect();
                link.rollouts = rollouts.into_iter().map(|kept| (kept.app.clone(), Arc::new(kept))).collect();
                link.unreviewed = true;
                true
            }
            FromRuntime::Report(reports) => {
                for report in reports {
                    let app = report.app.clone();
                    if report.is_settled() {
                        link.rollouts.remove(&app);
                    }
                    if link.reports.insert(app.clone(), report.clone()).as_ref() != Some(&report) {
                        leading.dirty.insert(app);
                    }
                }
                false
            }
            FromRuntime::Removed(app) => {
                link.mailbox.gone(&app);
                link.rollouts.remove(&app);
                if link.reports.remove(&app).is_some() {
                    leading.dirty.insert(app);
                }
                false
            }
            FromRuntime::Draining => {
                link.draining = true;
                true
            }
            FromRuntime::Refused(_) | FromRuntime::Pong(_) => false,
        }
    }

    /// The stream with a runtime has ended; whether there was one.
    pub(crate) fn lose(&mut self, runtime: &RuntimeName, session: u64, now: i64) -> bool {
        let since = self.time(now);
        let link = self.leading.as_mut().and_then(|leading| leading.links.get_mut(runtime));
        let Some(link) = link.filter(|link| link.session == Some(session)) else { return false };
        link.session = None;
        if link.state == LinkState::Connected {
            link.state = LinkState::Lost(since);
        }
        true
    }
}

impl Leading {
    fn tell(&mut self, key: &AppKey, plan: &Plan) {
        for (name, link) in &mut self.links {
            match plan.runtimes.get(name) {
                None => link.mailbox.unset(key),
                Some(operator_core::Desired::Keep) => drop(link.mailbox.set(key, Desired::Keep)),
                Some(operator_core::Desired::Remove) => drop(link.mailbox.set(key, Desired::Remove)),
                Some(operator_core::Desired::Assign(assignment)) => {
                    if let Ok(order) = Order::new((**assignment).clone()) {
                        link.mailbox.set(key, Desired::Assign(order));
                    }
                }
            }
        }
    }

    fn reviewed(&mut self, key: &AppKey) {
        let links = &mut self.links;
        self.reviews.retain(|name, apps| {
            apps.remove(key);
            if apps.is_empty()
                && let Some(link) = links.get_mut(name)
                && !link.unreviewed
            {
                link.mailbox.complete();
            }
            !apps.is_empty()
        });
    }
}

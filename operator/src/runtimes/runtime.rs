//! One runtime as the operator knows it: its pod, its stream, what it has said.
//!
//! Promise: what a runtime has said outlives its stream, because it goes on serving; it is forgotten
//! with the pod.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::{AppKey, AppReport, Assignment, RuntimeName, Welcome};
use k8s_openapi::jiff::Timestamp;
use operator_api::names;
use operator_core::{
    Contact, Pod,
    view::{Holding, Identity},
};
use tokio::sync::watch;

use super::mailbox::Mailbox;
use crate::{
    clock::Clock,
    queue::{Queue, Trigger},
};

/// How many apps a runtime can have something to say about: each has a port of its own.
const MOST_APPS: usize = (names::HIGHEST_APP_PORT - names::LOWEST_APP_PORT) as usize + 1;

/// What Kubernetes says about a runtime's pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodFacts {
    /// Which pod, by name and uid (one made again under the same name is another runtime), and where; no addresses
    /// before it is started.
    pub id: Arc<Identity>,
    /// Whether it is ready or on its way out.
    pub state: Pod,
}

/// How things stand with the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Link {
    /// This operator has never had one.
    Never {
        /// Since when it has tried.
        since: Timestamp,
    },
    /// There is one.
    Connected,
    /// There was one.
    Lost {
        /// When it ended.
        since: Timestamp,
    },
}

/// What a runtime has said.
#[derive(Debug, Clone)]
pub struct Said {
    /// How things stand with the stream.
    pub link: Link,
    /// Why there is no stream, in a word and a sentence.
    pub failure: Option<(&'static str, String)>,
    /// Its build.
    pub build: String,
    /// The version of the protocol that both sides speak; `None` before it has introduced itself.
    pub version: Option<u32>,
    /// How many apps it wants at most.
    pub capacity: u32,
    /// Whether it is shutting down.
    pub draining: bool,
    /// Its latest report of each app.
    pub reports: BTreeMap<AppKey, AppReport>,
    /// What it kept, when it introduced itself, of apps whose update was not over then and is not over yet.
    pub rollouts: BTreeMap<AppKey, Arc<Assignment>>,
    /// Whether it has introduced itself, and the apps have not been looked at since.
    pub unreviewed: bool,
}

/// One runtime.
#[derive(Debug)]
pub struct Runtime {
    name: RuntimeName,
    pod: watch::Sender<PodFacts>,
    mailbox: Mailbox,
    said: Mutex<Said>,
    triggers: Arc<Queue>,
    clock: Arc<Clock>,
}

impl Runtime {
    /// The runtime in `pod`, which nothing is known of yet. What it says is looked at through `triggers`.
    #[must_use]
    pub fn new(pod: PodFacts, triggers: Arc<Queue>, clock: Arc<Clock>) -> Self {
        Self {
            name: pod.id.name.clone(),
            pod: watch::Sender::new(pod),
            mailbox: Mailbox::default(),
            said: Mutex::new(Said {
                link: Link::Never { since: clock.now() },
                failure: None,
                build: String::new(),
                version: None,
                capacity: 0,
                draining: false,
                reports: BTreeMap::new(),
                rollouts: BTreeMap::new(),
                unreviewed: false,
            }),
            triggers,
            clock,
        }
    }

    /// Its name, which is its pod's.
    #[must_use]
    pub const fn name(&self) -> &RuntimeName {
        &self.name
    }

    /// What Kubernetes says about it.
    #[must_use]
    pub fn pod(&self) -> PodFacts {
        self.pod.borrow().clone()
    }

    /// Takes in news about its pod; a runtime that is being dialled in vain is dialled again at once.
    pub fn set_pod(&self, pod: PodFacts) {
        let changed = self.pod.send_if_modified(|old| {
            let changed = *old != pod;
            *old = pod;
            changed
        });
        if changed {
            self.concerns();
        }
    }

    /// Something about it has changed: its own apps are looked at first, then all.
    pub(super) fn concerns(&self) {
        let reported: Vec<AppKey> = self.said().reports.keys().cloned().collect();
        for app in self.mailbox.apps().into_iter().chain(reported) {
            self.triggers.add(Trigger::App(app));
        }
        self.triggers.add(Trigger::Fleet);
    }

    /// What it is to be told.
    #[must_use]
    pub const fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// What becomes of its pod.
    pub(super) fn watch_pod(&self) -> watch::Receiver<PodFacts> {
        self.pod.subscribe()
    }

    /// Reads what it has said.
    pub fn read<T>(&self, read: impl FnOnce(&Said) -> T) -> T {
        read(&self.said())
    }

    /// How things stand with it, as a decision about `app` sees it.
    pub(super) fn view(&self, app: &AppKey, zone: impl FnOnce(&str) -> Option<Arc<str>>) -> operator_core::Runtime {
        let (id, pod) = {
            let pod = self.pod.borrow();
            (Arc::clone(&pod.id), pod.state)
        };
        // In the order in which an introduction takes them.
        let said = self.said();
        let mailbox = self.mailbox.read();
        let holding = || Holding {
            draining: said.draining,
            assigned: mailbox.told(app),
            parting: mailbox.is_parting(app),
            report: said.reports.get(app).filter(|report| mailbox.believes(report)).cloned(),
            rollout: said.rollouts.get(app).cloned(),
        };
        operator_core::Runtime {
            zone: id.node.as_deref().and_then(zone),
            id,
            pod,
            contact: match said.link {
                Link::Never { since } => Contact::Never { since },
                Link::Connected => Contact::Connected(holding()),
                Link::Lost { since } => Contact::Lost { since, holding: holding() },
            },
            version: said.version,
            capacity: said.capacity,
            assigned: u32::try_from(mailbox.held()).unwrap_or(u32::MAX),
        }
    }

    /// Whether it has introduced itself since this was last asked, so that every app must be looked at.
    pub(super) fn take_unreviewed(&self) -> bool {
        std::mem::take(&mut self.said().unreviewed)
    }

    /// Every app has been looked at since it introduced itself; if it has done so again meanwhile, it waits for the next
    /// review.
    pub(super) fn reviewed(&self) {
        // Held until the end, so that an introduction is before this or after it.
        let said = self.said();
        if !said.unreviewed {
            self.mailbox.complete();
        }
    }

    /// It has introduced itself.
    pub(super) fn welcomed(&self, welcome: Welcome) {
        tracing::info!(runtime = %self.name, build = welcome.build, apps = welcome.inventory.assigned.len(), "connected to a runtime");
        let mut said = self.said();
        self.mailbox.open(welcome.inventory.assigned, welcome.inventory.words);
        *said = Said {
            link: Link::Connected,
            failure: None,
            build: welcome.build,
            version: Some(welcome.version),
            capacity: welcome.capacity,
            draining: welcome.draining,
            reports: welcome.inventory.reports.into_iter().map(|report| (report.app.clone(), report)).collect(),
            rollouts: welcome.inventory.rollouts.into_iter().map(|kept| (kept.app.clone(), Arc::new(kept))).collect(),
            unreviewed: true,
        };
        drop(said);
        self.concerns();
    }

    /// It has said what is true of some apps.
    pub(super) fn reported(&self, reports: Vec<AppReport>) {
        let mut said = self.said();
        for report in reports {
            let app = report.app.clone();
            if said.reports.len() >= MOST_APPS && !said.reports.contains_key(&app) {
                tracing::warn!(runtime = %self.name, %app, "a runtime reports more apps than there can be");
                return;
            }
            if report.is_settled() {
                said.rollouts.remove(&app);
            }
            if said.reports.insert(app.clone(), report.clone()).as_ref() != Some(&report) {
                self.triggers.add(Trigger::App(app));
            }
        }
    }

    /// It has forgotten an app.
    pub(super) fn removed(&self, app: &AppKey) {
        self.mailbox.gone(app);
        let mut said = self.said();
        said.rollouts.remove(app);
        if said.reports.remove(app).is_some() {
            drop(said);
            self.triggers.add(Trigger::App(app.clone()));
        }
    }

    /// It is shutting down.
    pub(super) fn draining(&self) {
        self.said().draining = true;
        self.concerns();
    }

    /// Its stream, or an attempt to have one, has ended.
    pub(super) fn lost(&self, reason: &'static str, message: String) {
        let mut said = self.said();
        said.failure = Some((reason, message));
        if said.link == Link::Connected {
            said.link = Link::Lost { since: self.clock.now() };
            drop(said);
            self.concerns();
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodFacts {
    /// Where to dial it; nowhere while it has no address.
    pub(super) fn address(&self, port: u16) -> Option<SocketAddr> {
        self.id.ips.first().map(|ip| SocketAddr::new(*ip, port))
    }
}

//! A runtime's pod and its disk: what stays when its process does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use control::{AppKey, Assignment, RevisionId, RuntimeName};
use node_runtime_core::converge::Port;
use operator_core::Pod;

use crate::{
    api::PodObject,
    rules::Rules,
    runtime::{Effects, Process},
};

/// A pod with a runtime in it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: RuntimeName,
    pub(crate) uid: String,
    pub(crate) address: IpAddr,
    pub(crate) node: String,
    pub(crate) zone: Option<String>,
    /// How many apps it takes.
    pub(crate) capacity: u32,
    /// What the API server has of the pod.
    pub(crate) pod: Pod,
    pub(crate) process: Option<Process>,
    /// Counts the processes that it has had.
    pub(crate) life: u32,
    /// What a restart brings back.
    pub(crate) disk: BTreeMap<AppKey, Assignment>,
    /// The versions of applications whose content is on disk.
    pub(crate) content: BTreeSet<String>,
    /// What its last process served when it was killed: app, its uid, port.
    pub(crate) served: Vec<(AppKey, String, u16)>,
}

impl Machine {
    /// The pod, as the API server has it.
    pub(crate) fn object(&self) -> PodObject {
        let Self { uid, address, node, zone, pod, .. } = self;
        PodObject { uid: uid.clone(), address: *address, node: node.clone(), zone: zone.clone(), state: *pod }
    }

    /// The revision that it answers requests for `app` with.
    pub(crate) fn serving(&self, app: &AppKey, app_uid: &str) -> Option<&RevisionId> {
        let app = self.process.as_ref()?.actual.get(app).filter(|app| app.uid == app_uid)?;
        app.serving.as_ref().filter(|_| app.ports.values().any(|port| *port == Port::Bound))
    }

    /// Whether requests for `app` that arrive at `port` are answered.
    pub(crate) fn answers(&self, app: &AppKey, app_uid: &str, port: u16) -> bool {
        self.process.as_ref().and_then(|process| process.actual.get(app)).is_some_and(|app| {
            app.uid == app_uid && app.serving.is_some() && app.ports.get(&port) == Some(&Port::Bound)
        })
    }

    /// What it serves as it was last told to.
    pub(crate) fn serves(&self) -> Vec<(AppKey, String, u16)> {
        let Some(process) = &self.process else { return Vec::new() };
        let wanted = process.desired.iter().map(|(app, wanted)| (app, &wanted.assignment));
        let served = wanted.filter(|(app, wanted)| self.answers(app, &wanted.uid, wanted.port));
        served.map(|(app, wanted)| (app.clone(), wanted.uid.clone(), wanted.port)).collect()
    }

    /// The process begins, with what is on disk.
    pub(crate) fn boot(&mut self, now: i64, rules: &Rules) -> Effects {
        self.life += 1;
        if !rules.remembers {
            self.disk.clear();
        }
        let mut process = Process::begin(now, rules, self.disk.values());
        let effects = process.decide(now);
        self.process = Some(process);
        self.keep(&effects);
        effects
    }

    /// Writes to disk what must survive the process.
    pub(crate) fn keep(&mut self, effects: &Effects) {
        for (app, kept) in &effects.kept {
            match kept {
                Some(kept) => drop(self.disk.insert(app.clone(), kept.clone())),
                None => drop(self.disk.remove(app)),
            }
        }
    }
}

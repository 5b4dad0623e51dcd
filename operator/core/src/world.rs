//! A tiny world for tests: one app, its runtimes, and a shell, an API server and runtimes that do what they
//! are told.

mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control::{AppKey, Check, Fetch, Limits, Problem, RevisionSpec, RevisionState, RuntimeName};
use jiff::{SignedDuration, Timestamp};
use manifest::{Application, Digest};
use operator_api::{Condition, ConditionType, SpinAppStatus};

use crate::{
    history::Template,
    plan::{Desired, Event, Memory, Plan, plan},
    publish::Endpoint,
    rollout::Rollout,
    view::{
        App, Bundle, Contact, Holding, Identity, Pod, RevisionKey, Runtime, RuntimeConfiguration, ServiceState,
        Variables, View,
    },
};

use process::Process;

/// The port of the app under test.
pub(crate) const PORT: u16 = 12_345;

/// An app of this name in the namespace `demo`.
pub(crate) fn app(name: &str) -> App {
    App {
        key: AppKey::new("demo", name).unwrap(),
        uid: format!("uid-of-{name}"),
        generation: 1,
        is_ending: false,
        replicas: 2,
        limits: Ok(Limits::default()),
        readiness: None,
        rollout: Rollout::default(),
        components: Vec::new(),
        service_annotations: BTreeMap::new(),
        template: template("1.0.0"),
        history_limit: 10,
    }
}

/// An endpoint that is ready.
pub(crate) fn endpoint(runtime: &str, address: &str) -> Endpoint {
    Endpoint {
        runtime: name(runtime),
        namespace: "spindle".to_owned(),
        uid: format!("uid-of-{runtime}"),
        address: address.parse().unwrap(),
        node: Some("node-1".to_owned()),
        zone: None,
        ready: true,
        serving: true,
        terminating: false,
    }
}

/// The template of a spec that names `version`.
fn template(version: &str) -> Template {
    Template { digest: Digest::of(version.as_bytes()), spec: Arc::default() }
}

/// The application `shop` at `version`.
pub(crate) fn application(version: &str) -> Application {
    serde_json::from_value(serde_json::json!({
        "name": "shop", "version": version, "base": "/", "routes": [], "components": {},
    }))
    .unwrap()
}

pub(crate) fn problem(reason: &str, retrying: bool) -> Problem {
    Problem { reason: reason.to_owned(), message: format!("{reason} happened."), retrying }
}

pub(crate) fn name(runtime: &str) -> RuntimeName {
    RuntimeName(runtime.to_owned())
}

/// Everything there is.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) view: View,
    processes: BTreeMap<RuntimeName, Process>,
    bad: BTreeSet<String>,
    /// Versions that do not pass their check, on these runtimes.
    unfit: BTreeSet<(String, String)>,
    /// Runtimes that cannot read an assignment with this version in it.
    unread: BTreeSet<(String, String)>,
    pub(crate) events: Vec<Event>,
}

/// The app `demo/shop` at version 1, for two runtimes; there are none yet.
pub(crate) fn world() -> World {
    let view = View {
        now: Timestamp::from_second(1_700_000_000).unwrap(),
        app: app("shop"),
        status: SpinAppStatus::default(),
        bundle: Bundle::Pending,
        variables: Variables::Resolved(BTreeMap::new()),
        runtime_config: RuntimeConfiguration::Resolved(None),
        pool_config: None,
        port: Some(PORT),
        runtimes: Vec::new(),
        service: ServiceState::Absent,
        slices: Vec::new(),
        history: Vec::new(),
        write_failure: None,
        memory: Memory::default(),
        key: RevisionKey([7; 32]),
    };
    let mut world = World {
        view,
        processes: BTreeMap::new(),
        bad: BTreeSet::new(),
        unfit: BTreeSet::new(),
        unread: BTreeSet::new(),
        events: Vec::new(),
    };
    world.publish_version("1.0.0");
    world
}

impl World {
    /// With a runtime that is ready and connected and holds nothing.
    pub(crate) fn runtime(mut self, runtime: &str) -> Self {
        self.join(runtime);
        self
    }

    /// With this many replicas.
    pub(crate) fn replicas(mut self, replicas: u32) -> Self {
        self.view.app.replicas = replicas;
        self
    }

    /// With everything done that can be done.
    pub(crate) fn settled(mut self) -> Self {
        self.settle();
        self
    }

    /// A runtime starts.
    pub(crate) fn join(&mut self, runtime: &str) {
        let number = u8::try_from(self.processes.len()).unwrap() + 1;
        self.processes.insert(name(runtime), Process::default());
        self.view.runtimes.push(Runtime {
            id: Arc::new(Identity {
                name: name(runtime),
                namespace: "spindle".to_owned(),
                uid: format!("uid-of-{runtime}"),
                ips: vec![std::net::Ipv4Addr::new(10, 0, 0, number).into()],
                node: Some("node-1".to_owned()),
            }),
            zone: None,
            pod: Pod::Ready,
            contact: Contact::Connected(Holding::default()),
            version: Some(control::wire::VERSION),
            capacity: 100,
            assigned: 0,
        });
    }

    /// A runtime's pod is gone.
    pub(crate) fn vanish(&mut self, runtime: &str) {
        self.processes.remove(&name(runtime));
        self.view.runtimes.retain(|other| other.id.name.0 != runtime);
    }

    /// Changes what the operator sees of a runtime.
    pub(crate) fn see(&mut self, runtime: &str, change: impl FnOnce(&mut Runtime)) {
        if let Some(found) = self.view.runtimes.iter_mut().find(|found| found.id.name.0 == runtime) {
            change(found);
        }
    }

    /// The spec names another version, which can be resolved.
    pub(crate) fn publish_version(&mut self, version: &str) {
        self.view.app.generation += 1;
        self.view.app.template = template(version);
        self.view.bundle = Bundle::Resolved {
            application: Box::new(application(version)),
            digest: Digest::of(version.as_bytes()),
            fetch: Fetch::Bindle {
                server: "http://bindle/v1".to_owned(),
                id: format!("shop/{version}"),
                credentials: None,
            },
        };
    }

    /// No runtime can load this version.
    pub(crate) fn break_version(&mut self, version: &str) {
        self.bad.insert(version.to_owned());
    }

    /// A runtime is too old to read what it is told of this version.
    pub(crate) fn set_unread(&mut self, version: &str, runtime: &str) {
        self.unread.insert((version.to_owned(), runtime.to_owned()));
    }

    /// The spec has a check.
    pub(crate) fn check(mut self) -> Self {
        self.view.app.readiness = Some(Check {
            path: "/healthz".to_owned(),
            headers: Vec::new(),
            initial_delay_ms: 0,
            timeout_ms: 1000,
            period_ms: 1000,
            success_threshold: 1,
            failure_threshold: 3,
        });
        self
    }

    /// This version does not pass its check on a runtime, until it is said to be `fit`.
    pub(crate) fn set_fit(&mut self, version: &str, runtime: &str, fit: bool) {
        let what = (version.to_owned(), runtime.to_owned());
        if fit {
            self.unfit.remove(&what);
        } else {
            self.unfit.insert(what);
        }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, seconds: i64) {
        self.view.now += SignedDuration::from_secs(seconds);
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.view)
    }

    /// Plans, and does what the plan says; runtimes take it in but do nothing yet.
    pub(crate) fn act(&mut self) -> Plan {
        let plan = self.plan();
        for (runtime, desired) in &plan.runtimes {
            let told = match desired {
                Desired::Keep => continue,
                Desired::Assign(assignment) => Some((**assignment).clone()),
                Desired::Remove => None,
            };
            self.see(&runtime.0, |seen| {
                if let Contact::Connected(holding) = &mut seen.contact {
                    holding.assigned = told.as_ref().map(|told| told.fingerprint().unwrap());
                    holding.parting = told.is_none();
                }
            });
            let cannot_read =
                |spec: &RevisionSpec| self.unread.contains(&(spec.application.version.clone(), runtime.0.clone()));
            let unread = told.as_ref().is_some_and(|told| told.revisions.iter().any(cannot_read));
            let process = self.processes.get_mut(runtime).unwrap();
            process.unread = if unread { told.clone() } else { None };
            if !unread {
                process.told = told;
            }
        }
        if let Some(service) = &plan.service {
            self.view.service = ServiceState::Ours(service.clone());
        }
        self.view.slices.retain(|slice| !plan.stale_slices.contains(&slice.name));
        for slice in &plan.slices {
            self.view.slices.retain(|old| old.name != slice.name);
            self.view.slices.push(slice.clone());
        }
        self.view.slices.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(status) = &plan.status {
            self.view.status = status.clone();
        }
        self.view.history.retain(|entry| !plan.history.stale.contains(&entry.name));
        if let Some(record) = &plan.history.write {
            self.view.history.retain(|entry| entry.name != record.entry.name);
            self.view.history.push(record.entry.clone());
        }
        self.events.extend(plan.events.iter().cloned());
        self.view.memory = plan.memory.clone();
        plan
    }

    /// A runtime does everything that it can do of what it was told, and reports.
    pub(crate) fn work(&mut self, runtime: &str) {
        let (bad, unfit) = (self.bad.clone(), self.unfit.clone());
        let judge = |revision: &RevisionSpec| {
            let version = &revision.application.version;
            if bad.contains(version) {
                RevisionState::Failed(problem("CompileFailed", false))
            } else if revision.readiness.is_some() && unfit.contains(&(version.clone(), runtime.to_owned())) {
                RevisionState::Failed(problem("CheckFailed", true))
            } else {
                RevisionState::Ready
            }
        };
        let Some(process) = self.processes.get_mut(&name(runtime)) else { return };
        process.work(judge);
        self.hear(runtime);
    }

    /// A runtime's container restarts: it has what is on its disk.
    pub(crate) fn crash(&mut self, runtime: &str) {
        if let Some(process) = self.processes.get_mut(&name(runtime)) {
            process.report = None;
        }
        self.work(runtime);
    }

    /// What a connected runtime says reaches the operator.
    pub(crate) fn hear(&mut self, runtime: &str) {
        let report = self.processes.get(&name(runtime)).and_then(|process| process.report.clone());
        self.see(runtime, |seen| {
            if let Contact::Connected(holding) = &mut seen.contact {
                holding.report = report;
                holding.parting = false;
            }
        });
    }

    /// The stream to a runtime ends.
    pub(crate) fn lose(&mut self, runtime: &str) {
        let since = self.view.now;
        self.see(runtime, |seen| {
            if let Contact::Connected(holding) = &seen.contact {
                seen.contact = Contact::Lost { since, holding: holding.clone() };
            }
        });
    }

    /// A stream to a runtime begins.
    pub(crate) fn connect(&mut self, runtime: &str) {
        let Some(process) = self.processes.get(&name(runtime)) else { return };
        let assigned = process.told.as_ref().map(|told| told.fingerprint().unwrap());
        let rollout = process
            .told
            .as_ref()
            .filter(|told| told.revisions.len() > 1 || !told.hold.is_nothing())
            .cloned()
            .map(Arc::new);
        let holding = Holding { draining: false, assigned, report: process.report.clone(), parting: false, rollout };
        self.see(runtime, |seen| seen.contact = Contact::Connected(holding));
    }

    /// Another operator takes over: it has what the API server has.
    pub(crate) fn restart_operator(&mut self) {
        self.view.memory = Memory::default();
        let since = self.view.now;
        for runtime in &mut self.view.runtimes {
            runtime.contact = Contact::Never { since };
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.processes.keys().map(|name| name.0.clone()).collect()
    }

    /// Everybody acts until there is nothing to do; no time passes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            let idle = self.act().is_idle();
            let before = self.processes.values().map(|process| process.report.clone()).collect::<Vec<_>>();
            self.names().iter().for_each(|runtime| self.work(runtime));
            let after = self.processes.values().map(|process| process.report.clone()).collect::<Vec<_>>();
            if idle && before == after {
                return;
            }
        }
        panic!("never settles: {:#?}", self.plan());
    }

    /// The runtimes that are sent requests.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let all = self.view.slices.iter().flat_map(|slice| &slice.endpoints);
        all.filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.runtime.0.clone()).collect()
    }

    /// The version that a runtime really serves.
    pub(crate) fn serves(&self, runtime: &str) -> Option<String> {
        let serving = self.processes.get(&name(runtime))?.report.as_ref()?.serving.clone()?;
        ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
            .into_iter()
            .find(|version| serving.0.starts_with(&Digest::of(version.as_bytes()).short()))
            .map(str::to_owned)
    }

    /// The versions that a runtime is told to have.
    pub(crate) fn told(&self, runtime: &str) -> Vec<String> {
        let told = self.processes.get(&name(runtime)).and_then(|process| process.told.as_ref());
        told.iter().flat_map(|told| &told.revisions).map(|revision| revision.application.version.clone()).collect()
    }

    pub(crate) fn is_running(&self, runtime: &str) -> bool {
        self.processes.get(&name(runtime)).is_some_and(|process| process.told.is_some())
    }

    pub(crate) fn condition(&self, condition: ConditionType) -> &Condition {
        self.view.status.conditions.iter().find(|found| found.type_ == condition.as_str()).unwrap()
    }

    /// Status and reason of a condition, as in `True Ready`.
    pub(crate) fn says(&self, condition: ConditionType) -> String {
        let found = self.condition(condition);
        format!("{} {}", found.status, found.reason)
    }
}

impl World {
    /// A runtime has what it had in another world: a message was lost.
    pub(crate) fn replace_process(&mut self, runtime: &str, other: &Self) {
        if let Some(process) = other.processes.get(&name(runtime)) {
            self.processes.insert(name(runtime), process.clone());
        }
    }
}

//! What must be true at every moment, and in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use control::{AppKey, AppReport, RevisionId, RuntimeName, ToRuntime};
use operator_api::ConditionType;
use operator_core::{Pod, rollout::Strategy};

use crate::{
    api::Api,
    link::LinkState,
    machine::Machine,
    operator::Decision,
    scenario::{DEADLINE, Weather},
    world::World,
};

/// How long those who route requests may be behind, in milliseconds: less than `operator_core::place::LINGER`.
const ROUTING_LAG: i64 = 3_000;

/// How long after the last disturbance, and after the operator's return, an app that some runtime serves must have an endpoint, in milliseconds.
const RECOVERY: i64 = 25_000;

/// How long a runtime may take after a restart to serve what it served before, in milliseconds: each preparation takes up
/// to four seconds here, one at a time.
const RESTART: i64 = 20_000;

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The run; it happens again with the same.
    pub seed: u64,
    /// When, in milliseconds from the beginning of the world.
    pub at: i64,
    /// What is wrong.
    pub what: String,
    /// What happened before, if the run was a replay.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}, {} ms: {}", self.seed, self.at, self.what)
    }
}

impl std::error::Error for Violation {}

/// What the checks remember.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) violated: Option<String>,
    /// Who has ever reported to serve what: runtime, its uid, app's uid, port.
    reports: BTreeSet<(RuntimeName, String, String, u16)>,
    /// When something was last done to the world.
    disturbed: i64,
    machines: u8,
    /// The terms that each runtime has obeyed.
    obeyed: BTreeMap<RuntimeName, u64>,
    /// What every app's endpoints were when the world had come to rest.
    at_rest: Option<BTreeMap<AppKey, BTreeSet<(RuntimeName, String)>>>,
}

impl Checks {
    /// A runtime has posted a report.
    pub(crate) fn reported(&mut self, runtime: &RuntimeName, uid: Option<&str>, report: &AppReport) {
        if report.serving.is_some()
            && let Some(uid) = uid
        {
            self.reports.insert((runtime.clone(), uid.to_owned(), report.uid.clone(), report.port));
        }
    }

    pub(crate) fn disturbed(&mut self, now: i64) {
        self.disturbed = now;
    }

    pub(crate) fn next_machine(&mut self) -> u8 {
        self.machines = self.machines.saturating_add(1);
        self.machines
    }

    /// From now on nothing may change any more.
    pub(crate) fn rest(&mut self, api: &Api) {
        self.at_rest = Some(api.apps().map(|(key, _)| (key.clone(), api.ready(key))).collect());
    }

    fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violated.is_none() {
            self.violated = Some(what());
        }
    }
}

impl World {
    /// Rules that hold at every moment.
    pub(crate) fn check(&mut self) {
        self.check_endpoints();
        self.check_ports();
        self.check_requests();
        self.check_recovery();
        self.check_restarts();
        self.check_checks();
        self.check_alone();
        self.check_deadlines();
    }

    /// An app that must not run twice never answers with two revisions at once.
    fn check_alone(&mut self) {
        let Self { api, machines, checks, .. } = self;
        for (key, app) in api.apps().filter(|(_, app)| app.rollout.strategy == Strategy::Recreate) {
            let served = machines.values().filter_map(|machine| Some((machine, machine.serving(key, &app.uid)?)));
            let served: Vec<(&Machine, &RevisionId)> = served.collect();
            if let [(one, first), rest @ ..] = served.as_slice()
                && let Some((other, second)) = rest.iter().find(|(_, revision)| revision != first)
            {
                checks.fail(|| {
                    format!("{key} runs twice: {} answers with {first} and {} with {second}", one.name, other.name)
                });
            }
        }
    }

    /// A change that gets no further says so, some time after its deadline.
    fn check_deadlines(&mut self) {
        let late = DEADLINE.as_millis() + i128::from(RECOVERY);
        if self.now < self.checks.disturbed + RECOVERY || !self.is_led() {
            return;
        }
        let Self { api, checks, now, .. } = self;
        for (key, app) in api.apps().filter(|(_, app)| app.replicas > 0) {
            let Some(rollout) = app.status.rollout.as_ref().filter(|rollout| rollout.completed_at.is_none()) else {
                continue;
            };
            // Clocks of operators are off by minutes at times; those are not looked at here.
            let age = crate::time(*now).duration_since(rollout.progressed_at.0).as_millis();
            let progressing = app.status.conditions.iter().find(|one| one.type_ == "Progressing");
            let says = progressing.is_some_and(|one| one.reason == "ProgressDeadlineExceeded");
            if (late..late + 60_000).contains(&age) && !says {
                checks.fail(|| format!("{key} got no further for {age} ms and says {progressing:?}"));
            }
        }
    }

    /// No runtime takes requests with a revision whose check has not passed there.
    fn check_checks(&mut self) {
        let Self { machines, checks, .. } = self;
        for machine in machines.values() {
            if let Some((app, revision)) = machine.process.as_ref().and_then(crate::runtime::Process::unchecked) {
                checks.fail(|| format!("{} serves {app} {revision}, which has not passed its check", machine.name));
            }
        }
    }

    /// No endpoint without a ready report.
    fn check_endpoints(&mut self) {
        let Self { api, checks, .. } = self;
        for (key, app) in api.apps() {
            for slice in api.slices(key) {
                for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                    let said = (endpoint.runtime.clone(), endpoint.uid.clone(), app.uid.clone(), slice.port);
                    if !checks.reports.contains(&said) {
                        checks.fail(|| {
                            format!("{key} has the endpoint {} that never reported to serve it", endpoint.runtime)
                        });
                    }
                }
            }
        }
    }

    /// No two apps have the same port.
    fn check_ports(&mut self) {
        let Self { api, checks, .. } = self;
        let mut owners: BTreeMap<u16, &AppKey> = BTreeMap::new();
        for (key, _) in api.apps() {
            for slice in api.slices(key) {
                if let Some(other) = owners.insert(slice.port, key)
                    && other != key
                {
                    checks.fail(|| format!("{key} and {other} share port {}", slice.port));
                }
            }
        }
    }

    /// In calm weather every request is answered, also one that is sent where endpoints were a moment ago.
    fn check_requests(&mut self) {
        if self.scenario.weather != Weather::Calm {
            return;
        }
        let Self { api, checks, machines, now, summary, .. } = self;
        // An app that must not run twice is not served while its revision is replaced.
        for (key, app) in api.apps().filter(|(_, app)| app.rollout.strategy != Strategy::Recreate) {
            let Some(port) = app.status.port.and_then(|port| u16::try_from(port).ok()) else { continue };
            let routed = api.routed(key, *now, ROUTING_LAG);
            if routed.is_empty() {
                continue;
            }
            summary.probes += 1;
            if api.ready(key).is_empty() {
                checks.fail(|| format!("{key} had endpoints and has none: its requests are refused"));
            }
            for (runtime, uid) in routed {
                let answers = |machine: &Machine| machine.uid == uid && machine.answers(key, &app.uid, port);
                if !machines.get(&runtime).is_some_and(answers) {
                    checks.fail(|| format!("a request for {key} is lost: {runtime} does not answer at port {port}"));
                }
            }
        }
    }

    /// A runtime that has restarted, and that nobody has told anything since, serves what it served.
    fn check_restarts(&mut self) {
        let Self { machines, checks, now, .. } = self;
        for machine in machines.values() {
            let Some(process) = machine.process.as_ref().filter(|process| process.words == 0) else { continue };
            if *now < process.began + RESTART {
                continue;
            }
            if let Some((app, ..)) = machine.served.iter().find(|(app, uid, port)| !machine.answers(app, uid, *port)) {
                checks.fail(|| format!("{} has restarted and no longer serves {app}", machine.name));
            }
        }
    }

    /// An operator that leads and has not been away lately.
    fn leader(&self) -> Option<&crate::operator::Operator> {
        self.operators.iter().find(|operator| {
            let back_since = operator.frozen_until.max(operator.cut_off_until);
            operator.up && self.now >= back_since + RECOVERY && operator.leading.is_some()
        })
    }

    /// Whether there is one, whose clock is right.
    fn is_led(&self) -> bool {
        self.leader().is_some_and(|operator| operator.clock.abs() < 5_000)
    }

    /// Some time after the last disturbance an app that any healthy runtime serves has an endpoint.
    fn check_recovery(&mut self) {
        if self.now < self.checks.disturbed + RECOVERY {
            return;
        }
        let Some(leading) = self.leader().and_then(|one| one.leading.as_ref()) else { return };
        let mut unserved = Vec::new();
        for (key, app) in self.api.apps().filter(|(_, app)| app.replicas > 0) {
            let Some(port) = app.status.port.and_then(|port| u16::try_from(port).ok()) else { continue };
            let healthy = self.machines.values().filter(|machine| {
                let link = leading.links.get(&machine.name);
                machine.pod == Pod::Ready && link.is_some_and(|link| link.state == LinkState::Connected)
            });
            let serves = |machine: &Machine| machine.answers(key, &app.uid, port);
            if healthy.clone().any(serves) && self.api.ready(key).is_empty() {
                unserved.push(key.clone());
            }
        }
        for key in unserved {
            self.checks.fail(|| format!("{key} has no endpoint although a healthy runtime serves it"));
        }
    }

    /// What a plan must never do: a secret is for the runtimes that the app is placed on.
    pub(crate) fn check_decision(&mut self, operator: usize, decision: &Decision) {
        let told = |desired: &operator_core::Desired| matches!(desired, operator_core::Desired::Assign(_));
        let assigned = decision.plan.runtimes.iter().filter(|(_, desired)| told(desired)).map(|(runtime, _)| runtime);
        for runtime in assigned.filter(|runtime| !decision.placed.contains(*runtime)) {
            let app = &decision.app;
            self.checks.fail(|| format!("operator {operator} tells {runtime} of {app}, which is not placed there"));
        }
    }

    /// A message that an operator is about to send.
    pub(crate) fn check_message(&mut self, session: u64, message: &ToRuntime) {
        let Some(stream) = self.sessions.get(&session) else { return };
        let ToRuntime::Assign(assignment) = message else {
            if self.checks.at_rest.is_some() && matches!(message, ToRuntime::Remove(_)) {
                self.checks.fail(|| format!("a new leader takes {message:?} away though nothing has changed"));
            }
            return;
        };
        if self.checks.at_rest.is_some() {
            let app = assignment.app.clone();
            let runtime = stream.runtime.clone();
            self.checks.fail(|| format!("a new leader tells {runtime} of {app} though nothing has changed"));
        }
        // Every secret in it is one that this app has, or had.
        let number = (0..self.scenario.apps).find(|number| crate::faults::key(*number) == assignment.app);
        let prefix = format!("secret-of-{}-", number.unwrap_or_default());
        for value in assignment.revisions.iter().flat_map(|revision| revision.variables.values()) {
            if !value.expose().starts_with(&prefix) {
                let app = assignment.app.clone();
                self.checks.fail(|| format!("a secret of another app is sent with {app}"));
            }
        }
    }

    /// A runtime is about to obey an operator of `term`.
    pub(crate) fn check_obedience(&mut self, runtime: &RuntimeName, term: u64) {
        let Some(machine) = self.machines.get(runtime) else { return };
        // What a process has met is forgotten with it.
        let name = RuntimeName(format!("{runtime}/{}", machine.life));
        let highest = self.checks.obeyed.entry(name).or_default();
        if term < *highest {
            let highest = *highest;
            self.checks.fail(|| format!("{runtime} obeys term {term} after term {highest}"));
        } else {
            *highest = term;
        }
    }

    /// Rules that hold in the end, when nothing has gone wrong for long.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        for (key, app) in self.api.apps() {
            let machines: Vec<&Machine> = self.machines.values().filter(|machine| machine.pod == Pod::Ready).collect();
            let port = app
                .status
                .port
                .and_then(|port| u16::try_from(port).ok())
                .ok_or_else(|| format!("{key} has no port"))?;
            let ready = self.api.ready(key);
            let wanted = usize::try_from(app.replicas).unwrap_or_default().min(machines.len());
            if ready.len() != wanted {
                return Err(format!("{key} has {} endpoints and should have {wanted}", ready.len()));
            }
            for machine in machines {
                let is_endpoint = ready.contains(&(machine.name.clone(), machine.uid.clone()));
                if machine.answers(key, &app.uid, port) != is_endpoint {
                    return Err(format!(
                        "{} {} and is an endpoint: {is_endpoint}",
                        machine.name,
                        if is_endpoint { "does not serve" } else { "serves" }
                    ));
                }
                self.check_served(key, app, machine, is_endpoint)?;
            }
            let condition =
                |wanted: ConditionType| app.status.conditions.iter().find(|one| one.type_ == wanted.as_str());
            if condition(ConditionType::Ready).is_none_or(|ready| ready.status != "True") {
                return Err(format!("{key} is not Ready: {:?}", condition(ConditionType::Ready)));
            }
            if app.status.observed_generation != Some(app.generation) {
                return Err(format!(
                    "{key}'s status is about generation {:?} of {}",
                    app.status.observed_generation, app.generation
                ));
            }
        }
        if let Some(rest) = &self.checks.at_rest {
            for (key, before) in rest {
                if self.api.ready(key) != *before {
                    return Err(format!("{key}'s endpoints were {before:?} before a restart that changed nothing"));
                }
            }
        }
        Ok(())
    }

    /// In the end a runtime has one revision of an app: the one that was asked for.
    fn check_served(
        &self,
        key: &AppKey,
        app: &crate::api::AppObject,
        machine: &Machine,
        served: bool,
    ) -> Result<(), String> {
        let Some(process) = &machine.process else { return Err(format!("{} is not running", machine.name)) };
        let Some(wanted) = process.desired.get(key) else {
            return if served { Err(format!("{} serves {key} unasked", machine.name)) } else { Ok(()) };
        };
        let [only] = wanted.assignment.revisions.as_slice() else {
            return Err(format!("{} still has {} revisions of {key}", machine.name, wanted.assignment.revisions.len()));
        };
        let secret = only.variables.get("secret").map(|value| value.expose().to_owned());
        if only.application.version != app.version || secret.as_ref() != Some(&app.secret) {
            return Err(format!(
                "{} has version {} of {key} instead of {}",
                machine.name, only.application.version, app.version
            ));
        }
        Ok(())
    }
}

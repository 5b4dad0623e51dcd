//! What happens to the world: decided by the seed alone, before and while it runs.

use control::{AppKey, Assignment, RuntimeName};
use jiff::SignedDuration;
use operator_core::{
    Desired, Plan, Pod,
    rollout::{Rollout, Strategy, Surge},
};

use crate::{
    api::{AppObject, Id, Object},
    runtime::{JobKind, Machine},
    world::{Event, World},
};

/// How hard the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// What people do on purpose, one thing at a time: no request may be lost.
    Calm,
    /// Whatever can go wrong, at any time: requests may be lost where a runtime was, nothing else.
    Storm,
}

/// After how long without getting further a change has failed.
pub(crate) const DEADLINE: SignedDuration = SignedDuration::from_secs(15);

/// What one run is like.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) weather: Weather,
    pub(crate) operators: usize,
    pub(crate) runtimes: usize,
    pub(crate) apps: usize,
    /// When the last disturbance is over.
    pub(crate) calm_from: i64,
    /// When everything must have come to rest.
    pub(crate) settled_from: i64,
    pub(crate) end: i64,
    /// How slow watches, streams and writes are at most, in milliseconds.
    slowness: i64,
    quiet: bool,
    /// In how many zones runtimes are; 0 where nodes say nothing of zones.
    zones: u8,
    /// Whether runtimes take different numbers of apps.
    uneven: bool,
}

/// What another version is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateKind {
    Good,
    /// It cannot be loaded.
    Bad,
    /// It does not answer its check.
    Unfit,
}

impl UpdateKind {
    fn any(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..4) {
            0 => Self::Bad,
            1 => Self::Unfit,
            _ => Self::Good,
        }
    }

    /// What the names of such versions end with.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Good => "",
            Self::Bad => "-bad",
            Self::Unfit => "-unfit",
        }
    }
}

/// Something that goes wrong, or is done on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// Another version: which no runtime can load, or which passes no check, if so.
    Update {
        app: usize,
        kind: UpdateKind,
    },
    /// Another value of a secret variable.
    NewSecret {
        app: usize,
    },
    Scale {
        app: usize,
        replicas: u32,
    },
    /// The app is deleted and made again.
    Recreate {
        app: usize,
    },
    /// Somebody deletes the app's slices.
    DeleteSlices {
        app: usize,
    },
    /// A pod is deleted: it drains, another takes its place.
    Replace,
    /// A process is killed and started again.
    Crash,
    /// A pod is gone together with its node.
    Vanish,
    /// A stream breaks.
    Cut,
    /// A runtime cannot be reached for a while.
    Partition {
        milliseconds: i64,
    },
    StopOperator {
        operator: usize,
        milliseconds: i64,
    },
    Freeze {
        operator: usize,
        milliseconds: i64,
    },
    CutOff {
        operator: usize,
        milliseconds: i64,
    },
    /// An operator's watches are silent, then list anew.
    Deaf {
        operator: usize,
        milliseconds: i64,
    },
    JumpClock {
        operator: usize,
        milliseconds: i64,
    },
    /// A further runtime.
    Join,
    /// Everything is as it should be, from now on.
    Heal,
    /// Every operator starts again, though nothing has changed.
    RestartOperators,
}

/// A line about an event, for people; nothing for the many that say little.
pub(crate) fn line(at: i64, event: &Event) -> Option<String> {
    match event {
        Event::Check | Event::Recheck { .. } | Event::ToRuntime(_) | Event::ToOperator(_) | Event::Reconcile { .. } => {
            None
        }
        Event::CarryOut { operator, decision, .. } => {
            Some(format!("{at:>7} operator {operator} carries out {}: {}", decision.app, words(&decision.plan)))
        }
        Event::Watch { operator, id, version, .. } => {
            Some(format!("{at:>7} operator {operator} sees {id:?} @{version}"))
        }
        Event::Ended { runtime, job, .. } => {
            Some(format!("{at:>7} {runtime} ends {:?} of {} {}", job.kind, job.app, job.revision))
        }
        other => Some(format!("{at:>7} {other:?}")),
    }
}

/// A plan in a line.
fn words(plan: &Plan) -> String {
    let mut words = Vec::new();
    for (runtime, desired) in &plan.runtimes {
        words.push(match desired {
            Desired::Keep => format!("{runtime} keeps"),
            Desired::Remove => format!("{runtime} removes"),
            Desired::Assign(told) => format!("{runtime} gets {}", revisions(told)),
        });
    }
    for slice in &plan.slices {
        let ready = slice.endpoints.iter().filter(|one| one.ready).map(|one| one.runtime.to_string());
        words.push(format!("{} = [{}]", slice.name, ready.collect::<Vec<_>>().join(" ")));
    }
    words.extend(plan.stale_slices.iter().map(|name| format!("no {name}")));
    if let Some(told) = &plan.memory.assignment {
        words.push(format!("remembers {}", revisions(told)));
    }
    words.extend(plan.memory.withdrawn.iter().map(|(runtime, since)| format!("{runtime} withdrawn at {since}")));
    if let Some(status) = &plan.status {
        let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
        words.push(format!("Ready: {}", ready.map_or("?", |ready| &ready.reason)));
    }
    words.join(", ")
}

fn revisions(told: &Assignment) -> String {
    let ids: Vec<String> = told.revisions.iter().map(|one| one.id.to_string()).collect();
    let hold = if told.hold.is_nothing() { String::new() } else { format!(" holds {:?}", told.hold) };
    format!("[{}] active {}{hold}", ids.join(" "), told.active)
}

/// The pause between two disturbances in calm weather: longer than anything takes to settle.
const CALM_PAUSE: i64 = 40_000;

impl Scenario {
    pub(crate) fn of(rng: &mut fastrand::Rng) -> Self {
        let weather = if rng.bool() { Weather::Calm } else { Weather::Storm };
        let calm_from = match weather {
            Weather::Calm => 15_000 + CALM_PAUSE * rng.i64(2..5),
            Weather::Storm => rng.i64(20_000..60_000),
        };
        Self {
            weather,
            operators: rng.usize(1..3),
            runtimes: rng.usize(2..5),
            apps: rng.usize(1..3),
            calm_from,
            // An operator may still be away for 80 seconds.
            settled_from: calm_from + 130_000,
            end: calm_from + 130_000 + 40_000,
            slowness: if weather == Weather::Calm { rng.i64(5..300) } else { rng.i64(5..3_000) },
            quiet: false,
            zones: rng.u8(..3),
            uneven: rng.bool(),
        }
    }

    pub(crate) fn watch_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        rng.i64(1..=self.slow())
    }

    pub(crate) fn message_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        rng.i64(1..=self.slow() / 4 + 1)
    }

    pub(crate) fn write_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        rng.i64(2..=self.slow() / 4 + 10)
    }

    fn slow(&self) -> i64 {
        if self.quiet { 200 } else { self.slowness }
    }

    /// How long it takes to notice that a stream is gone.
    pub(crate) fn notice_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        if self.weather == Weather::Storm && rng.u8(..) < 50 { rng.i64(1_000..6_000) } else { rng.i64(1..300) }
    }

    pub(crate) fn job_delay(&self, rng: &mut fastrand::Rng, kind: JobKind) -> i64 {
        match (kind, self.weather) {
            (JobKind::Fetch, _) => rng.i64(5..300),
            (JobKind::Prepare, Weather::Calm) => rng.i64(5..800),
            (JobKind::Prepare, Weather::Storm) => rng.i64(5..4_000),
            (JobKind::Check, Weather::Calm) => rng.i64(1..500),
            (JobKind::Check, Weather::Storm) => rng.i64(1..3_000),
            (JobKind::Drain, _) => rng.i64(0..4_000),
        }
    }

    pub(crate) fn fails_fetch(&self, rng: &mut fastrand::Rng, now: i64) -> bool {
        self.weather == Weather::Storm && now < self.calm_from && rng.u8(..) < 40
    }

    /// Whether the answer to a write is lost although the write is done.
    pub(crate) fn loses_answer(&self, rng: &mut fastrand::Rng) -> bool {
        self.weather == Weather::Storm && !self.quiet && rng.u8(..) < 10
    }
}

impl World {
    /// The world as it begins.
    pub(crate) fn set_up(&mut self) {
        for _ in 0..self.scenario.runtimes {
            self.join();
        }
        for app in 0..self.scenario.apps {
            let replicas = self.rng.u32(1..3);
            let object = AppObject {
                uid: format!("uid-{app}-0"),
                generation: 1,
                version: "1.0.0".to_owned(),
                replicas,
                checked: self.rng.bool(),
                rollout: rollout(&mut self.rng),
                secret: format!("secret-of-{app}-0"),
                status: operator_api::SpinAppStatus::default(),
            };
            self.put(&Id::App(key(app)), &Object::App(Box::new(object)));
        }
        for operator in 0..self.operators.len() {
            let skew = self.rng.i64(-2_000..2_000);
            if let Some(it) = self.operators.get_mut(operator) {
                (it.up, it.clock) = (true, skew);
            }
            let delay = self.rng.i64(0..500);
            self.after(delay, Event::Lease(operator));
        }
        self.plan_disturbances();
        let (calm, settled) = (self.scenario.calm_from, self.scenario.settled_from);
        self.after(calm, Event::Disturb(Disturbance::Heal));
        self.after(settled, Event::Disturb(Disturbance::RestartOperators));
        self.after(1_000, Event::Check);
    }

    fn plan_disturbances(&mut self) {
        match self.scenario.weather {
            Weather::Calm => {
                let mut at = 15_000;
                while at < self.scenario.calm_from {
                    let disturbance = self.gentle();
                    self.after(at, Event::Disturb(disturbance));
                    at += CALM_PAUSE;
                }
            }
            Weather::Storm => {
                for _ in 0..self.rng.usize(4..14) {
                    let at = self.rng.i64(2_000..self.scenario.calm_from);
                    let disturbance = self.rough();
                    self.after(at, Event::Disturb(disturbance));
                }
            }
        }
    }

    /// Something that people do on purpose.
    fn gentle(&mut self) -> Disturbance {
        let app = self.rng.usize(..self.scenario.apps);
        let operator = self.rng.usize(..self.scenario.operators);
        match self.rng.u8(..9) {
            0 => Disturbance::Update { app, kind: UpdateKind::Good },
            1 | 2 => Disturbance::Update { app, kind: UpdateKind::any(&mut self.rng) },
            3 => Disturbance::NewSecret { app },
            4 => Disturbance::Scale { app, replicas: self.rng.u32(1..4) },
            5 | 6 => Disturbance::Replace,
            7 => Disturbance::StopOperator { operator, milliseconds: self.rng.i64(100..20_000) },
            _ => Disturbance::Join,
        }
    }

    /// Something that goes wrong.
    fn rough(&mut self) -> Disturbance {
        let app = self.rng.usize(..self.scenario.apps);
        let operator = self.rng.usize(..self.scenario.operators);
        let milliseconds = self.rng.i64(100..20_000);
        match self.rng.u8(..20) {
            0 | 1 => Disturbance::Update { app, kind: UpdateKind::any(&mut self.rng) },
            2 => Disturbance::NewSecret { app },
            3 => Disturbance::Scale { app, replicas: self.rng.u32(0..4) },
            4 => Disturbance::Recreate { app },
            5 => Disturbance::DeleteSlices { app },
            6 | 7 => Disturbance::Replace,
            8 | 9 => Disturbance::Crash,
            10 => Disturbance::Vanish,
            11 => Disturbance::Cut,
            12 | 13 => Disturbance::Partition { milliseconds },
            14 => Disturbance::StopOperator { operator, milliseconds },
            15 => Disturbance::StopOperator { operator, milliseconds: milliseconds * 4 },
            16 => Disturbance::Freeze { operator, milliseconds: milliseconds * 2 },
            17 => Disturbance::CutOff { operator, milliseconds },
            18 => Disturbance::Deaf { operator, milliseconds },
            _ if self.rng.bool() => Disturbance::Join,
            _ => Disturbance::JumpClock { operator, milliseconds: self.rng.i64(-600_000..600_000) },
        }
    }

    pub(crate) fn disturb(&mut self, disturbance: &Disturbance) {
        self.summary.faults += 1;
        self.checks.disturbed(self.now);
        match disturbance.clone() {
            Disturbance::Update { app, kind } => {
                let version = format!("{}.0.0{}", self.rng.u32(2..9), kind.suffix());
                self.change(app, |object| object.version = version);
            }
            Disturbance::NewSecret { app } => {
                let number = self.rng.u32(1..1_000);
                self.change(app, |object| object.secret = format!("secret-of-{app}-{number}"));
            }
            Disturbance::Scale { app, replicas } => self.change(app, |object| object.replicas = replicas),
            Disturbance::Recreate { app } => self.recreate(app),
            Disturbance::DeleteSlices { app } => {
                let slices = self.api.slices(&key(app)).map(|slice| slice.name.clone()).collect::<Vec<_>>();
                for name in slices {
                    self.delete(&Id::Slice(key(app), name));
                }
            }
            Disturbance::Replace => self.replace(),
            Disturbance::Crash => {
                if let Some(name) = self.some_runtime()
                    && let Some(uid) = self.kill(&name)
                {
                    let (sees, boots) = (self.rng.i64(50..1_500), self.rng.i64(200..4_000));
                    self.after(sees, Event::Kubelet { runtime: name.clone(), uid: uid.clone() });
                    self.after(boots, Event::Boot { runtime: name, uid });
                }
            }
            Disturbance::Vanish => {
                if self.machines.len() > 1
                    && let Some(name) = self.some_runtime()
                {
                    self.kill(&name);
                    self.machines.remove(&name);
                    self.delete(&Id::Pod(name));
                    self.join();
                }
            }
            Disturbance::Cut => {
                let open: Vec<u64> = self.sessions.iter().filter(|(_, one)| one.open).map(|(id, _)| *id).collect();
                if let Some(id) = self.rng.choice(open) {
                    self.close(id);
                }
            }
            Disturbance::Partition { milliseconds } => {
                let Some(name) = self.some_runtime() else { return };
                self.partitioned_until.insert(name.clone(), self.now + milliseconds);
                let open = self.sessions.iter().filter(|(_, one)| one.open && one.runtime == name);
                for id in open.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.close(id);
                }
            }
            Disturbance::StopOperator { operator, milliseconds } => self.stop_operator(operator, milliseconds),
            Disturbance::Freeze { operator, milliseconds } => {
                let until = self.now + milliseconds;
                if let Some(it) = self.operators.get_mut(operator) {
                    it.frozen_until = until;
                }
            }
            Disturbance::CutOff { operator, milliseconds } => {
                let until = self.now + milliseconds;
                if let Some(it) = self.operators.get_mut(operator) {
                    it.cut_off_until = until;
                }
                self.deafen(operator, milliseconds);
            }
            Disturbance::Deaf { operator, milliseconds } => self.deafen(operator, milliseconds),
            Disturbance::JumpClock { operator, milliseconds } => {
                if let Some(it) = self.operators.get_mut(operator) {
                    it.clock += milliseconds;
                }
            }
            Disturbance::Join => self.join(),
            Disturbance::Heal => self.heal(),
            Disturbance::RestartOperators => {
                self.checks.rest(&self.api);
                for operator in 0..self.operators.len() {
                    self.stop_operator(operator, 500);
                }
            }
        }
    }

    fn deafen(&mut self, operator: usize, milliseconds: i64) {
        let until = self.now + milliseconds;
        if let Some(deaf) = self.deaf_until.get_mut(operator) {
            *deaf = (*deaf).max(until);
        }
        self.after(milliseconds + 1, Event::Relist(operator));
    }

    fn stop_operator(&mut self, operator: usize, milliseconds: i64) {
        self.end_leading(operator);
        let now = self.now;
        let graceful = self.rng.bool();
        let Some(it) = self.operators.get_mut(operator) else { return };
        // One that is told to stop gives its lease back.
        let held = it.held.take().filter(|_| graceful && it.reaches_api(now));
        if let Some(held) = held
            && let Some((version, record)) = &mut self.api.lease
            && record.term == held.term
        {
            *version += 1;
            *record = operator_core::lease::release(&operator_core::lease::Settings::default(), &held, it.time(now));
        }
        it.process += 1;
        it.listed = false;
        it.cache.clear();
        it.resolved.clear();
        (it.lease, it.led) = (None, 0);
        it.frozen_until = now + milliseconds;
        self.after(milliseconds, Event::Relist(operator));
    }

    /// Faults end here. What is broken is repaired, as somebody would.
    fn heal(&mut self) {
        self.scenario.be_quiet();
        for it in &mut self.operators {
            it.cut_off_until = it.cut_off_until.min(self.now);
        }
        self.partitioned_until.clear();
        for operator in 0..self.operators.len() {
            if let Some(deaf) = self.deaf_until.get_mut(operator) {
                *deaf = 0;
            }
            self.after(500, Event::Relist(operator));
        }
        for app in 0..self.scenario.apps {
            self.change(app, |object| {
                object.replicas = object.replicas.max(1);
                object.version = object.version.replace("-bad", "").replace("-unfit", "");
            });
        }
    }

    fn change(&mut self, app: usize, change: impl FnOnce(&mut AppObject)) {
        let id = Id::App(key(app));
        let Some((_, Object::App(object))) = self.api.objects.get(&id).cloned() else { return };
        let mut changed = object.clone();
        change(&mut changed);
        if *changed != *object {
            changed.generation += 1;
            self.put(&id, &Object::App(changed));
        }
    }

    fn recreate(&mut self, app: usize) {
        let id = Id::App(key(app));
        let Some((_, Object::App(object))) = self.api.objects.get(&id).cloned() else { return };
        self.delete(&id);
        // The garbage collector.
        let owned: Vec<Id> = self
            .api
            .objects
            .keys()
            .filter(|id| matches!(id, Id::Service(of) | Id::Slice(of, _) if *of == key(app)))
            .cloned()
            .collect();
        for id in owned {
            self.delete(&id);
        }
        let uid = format!("uid-{app}-{}", self.rng.u32(1..));
        let status = operator_api::SpinAppStatus::default();
        self.put(&id, &Object::App(Box::new(AppObject { uid, generation: 1, status, ..*object })));
    }

    fn join(&mut self) {
        let number = self.checks.next_machine();
        let name = RuntimeName(format!("runtime-{number}"));
        let uid = format!("pod-{number}");
        let address = std::net::Ipv4Addr::new(10, 0, 0, number).into();
        let pod = Pod::NotReady { since: crate::time(self.now) };
        let machine = Machine {
            name: name.clone(),
            uid: uid.clone(),
            address,
            node: format!("node-{}", self.rng.u8(..3)),
            zone: (self.scenario.zones > 0).then(|| format!("zone-{}", self.rng.u8(..self.scenario.zones))),
            capacity: if self.scenario.uneven { self.rng.u32(20..200) } else { 100 },
            pod,
            process: None,
            life: 0,
            disk: [].into(),
            content: [].into(),
            served: Vec::new(),
        };
        self.put(&Id::Pod(name.clone()), &Object::Pod(machine.object()));
        self.machines.insert(name.clone(), machine);
        let boots = self.rng.i64(100..2_000);
        self.after(boots, Event::Boot { runtime: name, uid });
    }

    /// A rolling restart of one: another first, as the budget for disruptions has it, then this one drains.
    fn replace(&mut self) {
        let Some(name) = self.some_runtime() else { return };
        if self.scenario.weather == Weather::Storm || self.serving_elsewhere(&name) {
            self.join();
            self.drain(&name);
        }
    }

    /// Whether another runtime can take over.
    fn serving_elsewhere(&self, name: &RuntimeName) -> bool {
        self.machines.values().any(|other| other.name != *name && other.pod == Pod::Ready && other.process.is_some())
    }

    /// SIGTERM: the process says so, goes on for a while, and ends.
    fn drain(&mut self, name: &RuntimeName) {
        let Some(machine) = self.machines.get_mut(name) else { return };
        machine.pod = Pod::Terminating;
        let object = machine.object();
        let life = machine.life;
        let session = machine.process.as_mut().and_then(|process| {
            process.draining = true;
            process.session
        });
        self.put(&Id::Pod(name.clone()), &Object::Pod(object));
        if let Some(session) = session {
            self.say(session, control::FromRuntime::Draining);
        }
        // The drain delay, and the requests in flight.
        let ends = 5_000 + self.rng.i64(0..5_000);
        self.after(ends, Event::Exit { runtime: name.clone(), life });
    }

    fn some_runtime(&mut self) -> Option<RuntimeName> {
        let alive = self.machines.values().filter(|machine| machine.process.is_some() && machine.pod == Pod::Ready);
        let alive: Vec<RuntimeName> = alive.map(|machine| machine.name.clone()).collect();
        self.rng.choice(alive)
    }
}

/// How an app's revisions take over.
fn rollout(rng: &mut fastrand::Rng) -> Rollout {
    let strategy = match rng.u8(..4) {
        0 => Strategy::Recreate,
        1 => Strategy::RollingUpdate(Surge::Count(1)),
        2 => Strategy::RollingUpdate(Surge::Percent(50)),
        _ => Strategy::RollingUpdate(Surge::All),
    };
    Rollout { strategy, deadline: DEADLINE }
}

impl Scenario {
    fn be_quiet(&mut self) {
        self.quiet = true;
    }
}

/// The app number `app`.
pub(crate) fn key(app: usize) -> AppKey {
    let names = ["cart", "shop", "mail", "blog"];
    let name = names.get(app).copied().unwrap_or("more");
    match AppKey::new("demo", name) {
        Ok(key) => key,
        Err(error) => unreachable!("{error}"),
    }
}

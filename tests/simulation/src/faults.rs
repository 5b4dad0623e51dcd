//! What happens to the world: decided by the seed alone, before and while it runs.

use control::{AppKey, RuntimeName};
use operator_core::Pod;

use crate::{
    api::{AppObject, Id, Object},
    machine::Machine,
    scenario::{CALM_PAUSE, UpdateKind, Weather, rollout},
    world::{Event, World},
};

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

/// The app number `app`.
pub(crate) fn key(app: usize) -> AppKey {
    let names = ["cart", "shop", "mail", "blog"];
    let name = names.get(app).copied().unwrap_or("more");
    match AppKey::new("demo", name) {
        Ok(key) => key,
        Err(error) => unreachable!("{error}"),
    }
}

//! What happens to the world: what can, and what it does.

mod choice;
mod machines;

use control::AppKey;

use crate::{
    api::{AppObject, Id, Object},
    scenario::UpdateKind,
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

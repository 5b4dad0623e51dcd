//! How a world begins, and what is to happen to it and when: decided by the seed alone.

use super::{Disturbance, key};
use crate::{
    api::{AppObject, Id, Object},
    scenario::{CALM_PAUSE, UpdateKind, Weather, rollout},
    world::{Event, World},
};

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
                    // A process that ends while nobody can take it out of the slices loses requests whatever is decided.
                    if self.rng.bool() && disturbance != Disturbance::Replace {
                        let operator = self.rng.usize(..self.scenario.operators);
                        let (begins, milliseconds) = (at + self.rng.i64(0..3_000), self.rng.i64(100..20_000));
                        self.after(begins, Event::Disturb(Disturbance::CutOff { operator, milliseconds }));
                    }
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
}

//! Runtimes that come and go.

use control::RuntimeName;
use operator_core::Pod;

use crate::{
    api::{Id, Object},
    machine::Machine,
    scenario::Weather,
    world::{Event, World},
};

impl World {
    pub(super) fn join(&mut self) {
        let number = self.checks.next_machine();
        let name = RuntimeName(format!("runtime-{number}"));
        let uid = format!("pod-{number}");
        let address = std::net::Ipv4Addr::new(10, 0, 0, number).into();
        let pod = Pod::NotReady { since: crate::time(self.now) };
        let node = self.rng.u8(..3);
        let machine = Machine {
            name: name.clone(),
            uid: uid.clone(),
            address,
            node: format!("node-{node}"),
            // A node is in one zone.
            zone: node.checked_rem(self.scenario.zones).map(|zone| format!("zone-{zone}")),
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
    pub(super) fn replace(&mut self) {
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

    pub(super) fn some_runtime(&mut self) -> Option<RuntimeName> {
        let alive = self.machines.values().filter(|machine| machine.process.is_some() && machine.pod == Pod::Ready);
        let alive: Vec<RuntimeName> = alive.map(|machine| machine.name.clone()).collect();
        self.rng.choice(alive)
    }
}

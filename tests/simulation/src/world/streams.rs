//! Streams between operators and runtimes: dialled, broken, and what goes over them.

use std::collections::VecDeque;

use control::{FromRuntime, RuntimeName, ToRuntime, Welcome, wire::VERSION};
use operator_core::mailbox::Parcel;

use super::{Event, Session, World};
use crate::{link::LinkState, runtime::Effects};

impl World {
    pub(super) fn dial(&mut self, operator: usize, life: u32, runtime: RuntimeName, uid: String) {
        let event = Event::Dial { operator, life, runtime, uid };
        let Some(Event::Dial { runtime, uid, .. }) = self.awake(operator, event) else { return };
        let Some(it) = self.operators.get(operator).filter(|it| it.life == life) else { return };
        let Some(leading) = &it.leading else { return };
        let Some(link) = leading.links.get(&runtime).filter(|link| link.uid == uid && link.session.is_none()) else {
            return;
        };
        debug_assert!(link.state != LinkState::Connected);
        let term = leading.term;
        let partitioned = self.partitioned_until.get(&runtime).is_some_and(|until| self.now < *until);
        let machine = self.machines.get_mut(&runtime).filter(|machine| machine.uid == uid && !partitioned);
        let fenced = self.rules.fenced;
        let answer = machine.and_then(|machine| {
            let (life, capacity) = (machine.life, machine.capacity);
            let process = machine.process.as_mut()?;
            if fenced && term < process.term {
                return None;
            }
            process.term = process.term.max(term);
            let before = process.session.take();
            let welcome = Welcome {
                version: VERSION,
                runtime: runtime.clone(),
                build: String::new(),
                capacity,
                draining: process.draining,
                inventory: process.inventory(),
            };
            Some((life, before, welcome))
        });
        let Some((runtime_life, before, welcome)) = answer else {
            let retry = self.rng.i64(200..1_500);
            self.after(retry, Event::Dial { operator, life, runtime, uid });
            return;
        };
        if let Some(before) = before {
            self.close(before);
        }
        self.sequence += 1;
        let id = self.sequence;
        let session = Session {
            operator,
            life,
            runtime: runtime.clone(),
            runtime_life,
            open: true,
            term,
            to_runtime: (0, VecDeque::new()),
            to_operator: (0, VecDeque::new()),
        };
        self.sessions.insert(id, session);
        if let Some(process) = self.machines.get_mut(&runtime).and_then(|machine| machine.process.as_mut()) {
            process.session = Some(id);
        }
        if let Some(leading) = self.operators.get_mut(operator).and_then(|it| it.leading.as_mut())
            && let Some(link) = leading.links.get_mut(&runtime)
        {
            link.session = Some(id);
        }
        self.say(id, FromRuntime::Welcome(Box::new(welcome)));
    }

    /// Ends a stream; both sides notice in their own time, and what is under way is lost.
    pub(crate) fn close(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.open) else { return };
        session.open = false;
        let (operator, life, runtime) = (session.operator, session.life, session.runtime.clone());
        let notices = self.scenario.notice_delay(&mut self.rng);
        self.after(notices, Event::Lost { operator, life, runtime, session: id });
    }

    pub(super) fn lost(&mut self, operator: usize, life: u32, runtime: RuntimeName, session: u64) {
        let event = Event::Lost { operator, life, runtime, session };
        let Some(Event::Lost { runtime, .. }) = self.awake(operator, event) else { return };
        let now = self.now;
        let Some(it) = self.operators.get_mut(operator).filter(|it| it.life == life) else { return };
        if it.lose(&runtime, session, now) {
            let uid = it.leading.as_ref().and_then(|leading| leading.links.get(&runtime)).map(|link| link.uid.clone());
            if let Some(uid) = uid {
                let wait = self.rng.i64(100..1_000);
                self.after(wait, Event::Dial { operator, life, runtime, uid });
            }
            self.fleet_changed(operator);
        }
    }

    /// An operator sends what its mailboxes have.
    pub(super) fn pump(&mut self, operator: usize) {
        let mut parcels = Vec::new();
        if let Some(leading) = self.operators.get_mut(operator).and_then(|it| it.leading.as_mut()) {
            for link in leading.links.values_mut().filter(|link| link.state == LinkState::Connected) {
                let Some(session) = link.session else { continue };
                while let Some(parcel) = link.mailbox.take() {
                    parcels.push((session, parcel));
                }
            }
        }
        for (session, parcel) in parcels {
            self.note(|| match &parcel {
                Parcel::Assign(order) => format!("sends to {session}: {}", order.fingerprint()),
                other => format!("sends to {session}: {other:?}"),
            });
            let message = match parcel {
                Parcel::Assign(order) => order.message().clone(),
                Parcel::Remove(app) => ToRuntime::Remove(app),
                Parcel::Synced => ToRuntime::Synced,
            };
            self.check_message(session, &message);
            let delay = self.scenario.message_delay(&mut self.rng);
            let now = self.now;
            let Some(stream) = self.sessions.get_mut(&session).filter(|stream| stream.open) else { continue };
            let at = (now + delay).max(stream.to_runtime.0);
            stream.to_runtime.0 = at;
            stream.to_runtime.1.push_back(message);
            self.after(at - now, Event::ToRuntime(session));
        }
    }

    /// A runtime sends something.
    pub(crate) fn say(&mut self, session: u64, message: FromRuntime) {
        let delay = self.scenario.message_delay(&mut self.rng);
        let now = self.now;
        let Some(stream) = self.sessions.get_mut(&session).filter(|stream| stream.open) else { return };
        let at = (now + delay).max(stream.to_operator.0);
        stream.to_operator.0 = at;
        stream.to_operator.1.push_back(message);
        self.after(at - now, Event::ToOperator(session));
    }

    pub(super) fn deliver_to_operator(&mut self, id: u64) {
        let Some(operator) = self.sessions.get(&id).map(|session| session.operator) else { return };
        if self.awake(operator, Event::ToOperator(id)).is_none() {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.open) else { return };
        let (runtime, life) = (session.runtime.clone(), session.life);
        let Some(message) = session.to_operator.1.pop_front() else { return };
        let Some(it) = self.operators.get_mut(operator).filter(|it| it.life == life) else { return };
        if it.hear(&runtime, id, message) {
            self.fleet_changed(operator);
        } else {
            self.schedule(operator);
        }
    }

    pub(super) fn deliver_to_runtime(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.open) else { return };
        let Some(message) = session.to_runtime.1.pop_front() else { return };
        let (runtime, life, term) = (session.runtime.clone(), session.runtime_life, session.term);
        self.check_obedience(&runtime, term);
        let mut obeyed = 0;
        self.with_process(&runtime, life, |process, _| {
            if process.session != Some(id) {
                return Effects::default();
            }
            match message {
                ToRuntime::Assign(assignment) => {
                    obeyed += 1;
                    Effects { posts: process.assign(*assignment), ..Effects::default() }
                }
                ToRuntime::Remove(app) => process.remove(&app),
                ToRuntime::Hello(_) | ToRuntime::Synced | ToRuntime::Ping(_) => Effects::default(),
            }
        });
        self.summary.assignments += obeyed;
    }
}

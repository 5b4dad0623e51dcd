//! [`World`]: what there is, what happens next, and in which order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use control::{AppKey, FromRuntime, Problem, RuntimeName, ToRuntime, Welcome, wire::VERSION};
use node_runtime_core::converge::Fault;
use operator_core::{
    Pod,
    lease::{self, Decision as LeaseDecision},
    mailbox::Parcel,
};

use crate::{
    Summary,
    api::{Api, Id, Object},
    faults::{Disturbance, Scenario},
    invariants::{Checks, Violation},
    operator::{Decision, LinkState, Operator},
    rules::Rules,
    runtime::{Effects, Job, JobKind, Machine},
};

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    Disturb(Disturbance),
    /// An operator looks at the lease.
    Lease(usize),
    /// A watch says something.
    Watch {
        operator: usize,
        process: u32,
        id: Id,
        version: u64,
        object: Option<Object>,
    },
    /// A watch begins anew: everything is listed.
    Relist(usize),
    Reconcile {
        operator: usize,
        life: u32,
        app: AppKey,
    },
    CarryOut {
        operator: usize,
        life: u32,
        decision: Box<Decision>,
    },
    Resolved {
        operator: usize,
        version: String,
    },
    Dial {
        operator: usize,
        life: u32,
        runtime: RuntimeName,
        uid: String,
    },
    /// The next message of a stream arrives at the runtime.
    ToRuntime(u64),
    /// The next message of a stream arrives at the operator.
    ToOperator(u64),
    /// An operator notices that a stream is gone.
    Lost {
        operator: usize,
        life: u32,
        runtime: RuntimeName,
        session: u64,
    },
    /// Something that a runtime did has ended.
    Ended {
        runtime: RuntimeName,
        life: u32,
        job: Job,
    },
    Recheck {
        runtime: RuntimeName,
        life: u32,
    },
    Boot {
        runtime: RuntimeName,
        uid: String,
    },
    /// A process that drains has ended.
    Exit {
        runtime: RuntimeName,
        life: u32,
    },
    /// The kubelet says how a pod is.
    Kubelet {
        runtime: RuntimeName,
        uid: String,
    },
    Check,
}

/// A stream between an operator and a runtime.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) operator: usize,
    pub(crate) life: u32,
    pub(crate) runtime: RuntimeName,
    pub(crate) runtime_life: u32,
    pub(crate) open: bool,
    pub(crate) term: u64,
    to_runtime: (i64, VecDeque<ToRuntime>),
    to_operator: (i64, VecDeque<FromRuntime>),
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now: i64,
    pub(crate) rng: fastrand::Rng,
    pub(crate) rules: Rules,
    pub(crate) api: Api,
    pub(crate) operators: Vec<Operator>,
    pub(crate) machines: BTreeMap<RuntimeName, Machine>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) scenario: Scenario,
    pub(crate) checks: Checks,
    pub(crate) summary: Summary,
    /// Until when streams cannot be opened.
    pub(crate) partitioned_until: BTreeMap<RuntimeName, i64>,
    /// When the last watch event of a kind reaches an operator.
    watch_at: BTreeMap<(usize, usize), i64>,
    /// Until when an operator's watches are silent.
    pub(crate) deaf_until: Vec<i64>,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    trace: Option<VecDeque<String>>,
}

/// How many lines a replay keeps.
const TRACE: usize = 4_000;

impl World {
    pub(crate) fn new(seed: u64, rules: Rules, traced: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scenario = Scenario::of(&mut rng);
        let operators = (0..scenario.operators).map(|_| Operator::default()).collect();
        let deaf_until = vec![0; scenario.operators];
        let mut world = Self {
            seed,
            now: 0,
            rng,
            rules,
            api: Api::default(),
            operators,
            machines: BTreeMap::new(),
            sessions: BTreeMap::new(),
            checks: Checks::default(),
            summary: Summary::default(),
            partitioned_until: BTreeMap::new(),
            watch_at: BTreeMap::new(),
            deaf_until,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            trace: traced.then(VecDeque::new),
            scenario,
        };
        world.set_up();
        world
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Result<Summary, Box<Violation>> {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            self.now = at;
            let Some(event) = self.events.remove(&number) else { continue };
            if at > self.scenario.end {
                break;
            }
            if let Some(trace) = &mut self.trace {
                let line = crate::faults::line(at, &event);
                if let Some(line) = line {
                    trace.push_back(line);
                }
                if trace.len() > TRACE {
                    trace.pop_front();
                }
            }
            self.summary.events += 1;
            self.happen(event);
            if let Some(what) = self.checks.violated.take() {
                return Err(self.violation(what));
            }
        }
        if let Err(what) = self.check_end() {
            return Err(self.violation(what));
        }
        self.summary.writes = self.api.writes;
        Ok(self.summary)
    }

    fn violation(self, what: String) -> Box<Violation> {
        Box::new(Violation {
            seed: self.seed,
            at: self.now,
            what,
            trace: self.trace.map(Into::into).unwrap_or_default(),
        })
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push_back(format!("{now:>7}      {}", line()));
        }
    }

    pub(crate) fn after(&mut self, milliseconds: i64, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(Reverse((self.now + milliseconds.max(0), self.sequence)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Disturb(disturbance) => self.disturb(&disturbance),
            Event::Lease(operator) => self.look_at_lease(operator),
            Event::Watch { operator, process, id, version, object } => {
                self.hear_watch(operator, process, &id, version, object);
            }
            Event::Relist(operator) => self.relist(operator),
            Event::Reconcile { operator, life, app } => self.reconcile(operator, life, app),
            Event::CarryOut { operator, life, decision } => self.carry_out(operator, life, *decision),
            Event::Resolved { operator, version } => self.resolved(operator, version),
            Event::Dial { operator, life, runtime, uid } => self.dial(operator, life, runtime, uid),
            Event::ToRuntime(session) => self.deliver_to_runtime(session),
            Event::ToOperator(session) => self.deliver_to_operator(session),
            Event::Lost { operator, life, runtime, session } => self.lost(operator, life, runtime, session),
            Event::Ended { runtime, life, job } => self.ended(&runtime, life, &job),
            Event::Recheck { runtime, life } => self.with_process(&runtime, life, |_, _| Effects::default()),
            Event::Boot { runtime, uid } => self.boot(&runtime, &uid),
            Event::Exit { runtime, life } => self.exit(&runtime, life),
            Event::Kubelet { runtime, uid } => self.kubelet(&runtime, &uid),
            Event::Check => {
                self.check();
                let pause = if self.now < self.scenario.calm_from { 200 } else { 1_000 };
                self.after(pause, Event::Check);
            }
        }
    }

    /// Defers what happens to an operator that is frozen; `None` when it is to happen never.
    fn awake(&mut self, operator: usize, event: Event) -> Option<Event> {
        let it = self.operators.get(operator)?;
        if !it.up {
            return None;
        }
        if it.runs(self.now) {
            return Some(event);
        }
        let wait = it.frozen_until - self.now;
        self.after(wait, event);
        None
    }

    // ---- the API server ------------------------------------------------------------------------------------------

    /// Writes an object; every operator hears of it, each in its own time.
    pub(crate) fn put(&mut self, id: &Id, object: &Object) -> Option<u64> {
        let version = self.api.put(self.now, id, object.clone())?;
        self.broadcast(id, version, Some(object));
        Some(version)
    }

    /// Deletes an object.
    pub(crate) fn delete(&mut self, id: &Id) -> Option<u64> {
        let version = self.api.delete(self.now, id)?;
        self.broadcast(id, version, None);
        Some(version)
    }

    fn broadcast(&mut self, id: &Id, version: u64, object: Option<&Object>) {
        for operator in 0..self.operators.len() {
            let delay = self.scenario.watch_delay(&mut self.rng);
            let earliest = self.watch_at.get(&(operator, id.kind())).copied().unwrap_or_default();
            let at = (self.now + delay).max(earliest);
            self.watch_at.insert((operator, id.kind()), at);
            let process = self.operators.get(operator).map_or(0, |it| it.process);
            let event = Event::Watch { operator, process, id: id.clone(), version, object: object.cloned() };
            self.after(at - self.now, event);
        }
    }

    fn hear_watch(&mut self, operator: usize, process: u32, id: &Id, version: u64, object: Option<Object>) {
        // The watch of a process ends with it.
        if self.operators.get(operator).is_none_or(|it| it.process != process) {
            return;
        }
        if self.deaf_until.get(operator).is_some_and(|until| self.now < *until) {
            return;
        }
        let event = Event::Watch { operator, process, id: id.clone(), version, object };
        let Some(Event::Watch { object, .. }) = self.awake(operator, event) else { return };
        // Twice, as a watch that is resumed may say it.
        let again = self.rng.u8(..) < 10;
        let Some(it) = self.operators.get_mut(operator) else { return };
        let news = it.observe(id, version, object.clone());
        if again {
            it.observe(id, version, object);
        }
        if news {
            self.news(operator, id);
        }
    }

    fn news(&mut self, operator: usize, id: &Id) {
        match id.app() {
            Some(app) => {
                let app = app.clone();
                if let Some(leading) = self.operators.get_mut(operator).and_then(|it| it.leading.as_mut()) {
                    leading.dirty.insert(app);
                }
                self.schedule(operator);
            }
            None => self.fleet_changed(operator),
        }
    }

    /// A watch had to begin anew: what was deleted meanwhile is not mentioned, only missing.
    fn relist(&mut self, operator: usize) {
        if self.awake(operator, Event::Relist(operator)).is_none() {
            return;
        }
        let (objects, version) = (self.api.objects.clone(), self.api.version);
        let Some(it) = self.operators.get_mut(operator) else { return };
        (it.cache, it.listed_at) = (objects, version);
        it.listed = true;
        it.look_at_all();
        self.fleet_changed(operator);
    }

    // ---- the operator --------------------------------------------------------------------------------------------

    fn look_at_lease(&mut self, operator: usize) {
        let Some(_) = self.awake(operator, Event::Lease(operator)) else { return };
        let settings = lease::Settings::default();
        let me = format!("operator-{operator}");
        let current = self.api.lease.clone();
        let now = self.now;
        let Some(it) = self.operators.get_mut(operator) else { return };
        let time = it.time(now);
        let reachable = it.reaches_api(now);
        if reachable {
            it.lease = current.as_ref().map(|(_, record)| match it.lease.take() {
                Some(known) if known.record == *record => known,
                _ => lease::Observed { record: record.clone(), since: time },
            });
        }
        let retry = i64::try_from(settings.retry.as_millis()).unwrap_or_default();
        let wait = match lease::decide(&settings, &me, time, it.lease.as_ref(), it.held.as_ref(), it.led) {
            LeaseDecision::Acquire(record) | LeaseDecision::Renew(record) if reachable => {
                let term = record.term;
                self.api.version += 1;
                self.api.lease = Some((self.api.version, record.clone()));
                it.lease = Some(lease::Observed { record, since: time });
                it.held = Some(lease::Held { term, renewed: time });
                it.led = term;
                if it.leading.as_ref().is_none_or(|leading| leading.term != term) {
                    self.end_leading(operator);
                    self.begin_leading(operator, term);
                }
                retry
            }
            LeaseDecision::Acquire(_) | LeaseDecision::Renew(_) => retry / 2,
            LeaseDecision::Wait(span) => i64::try_from(span.as_millis()).unwrap_or(retry).clamp(1, retry),
            LeaseDecision::Lost => {
                it.held = None;
                self.end_leading(operator);
                retry
            }
        };
        self.after(wait, Event::Lease(operator));
    }

    fn begin_leading(&mut self, operator: usize, term: u64) {
        let now = self.now;
        // A process leads only when its caches have been filled.
        let (objects, version) = (self.api.objects.clone(), self.api.version);
        let Some(it) = self.operators.get_mut(operator) else { return };
        if !it.listed {
            (it.cache, it.listed_at) = (objects, version);
            it.listed = true;
        }
        it.begin(term, now);
        let life = it.life;
        let known: Vec<(RuntimeName, String)> = it
            .leading
            .iter()
            .flat_map(|leading| leading.links.iter().map(|(name, link)| (name.clone(), link.uid.clone())))
            .collect();
        // Recovery is what a leader does, so it is counted from here.
        self.checks.disturbed(now);
        self.note(|| format!("operator {operator} leads term {term}"));
        for (runtime, uid) in known {
            let delay = self.rng.i64(1..50);
            self.after(delay, Event::Dial { operator, life, runtime, uid });
        }
        self.schedule(operator);
    }

    /// Stops leading: its streams end.
    pub(crate) fn end_leading(&mut self, operator: usize) {
        let Some(it) = self.operators.get_mut(operator) else { return };
        for session in it.end() {
            self.close(session);
        }
    }

    fn fleet_changed(&mut self, operator: usize) {
        let now = self.now;
        let Some(it) = self.operators.get_mut(operator) else { return };
        let new = it.sync_pods(now);
        it.look_at_all();
        let life = it.life;
        for (runtime, uid) in new {
            self.after(1, Event::Dial { operator, life, runtime, uid });
        }
        self.schedule(operator);
    }

    /// Sends what there is to send, and has what is dirty looked at.
    fn schedule(&mut self, operator: usize) {
        self.pump(operator);
        let Some(it) = self.operators.get_mut(operator) else { return };
        let life = it.life;
        let Some(leading) = &mut it.leading else { return };
        let due: Vec<AppKey> = leading.dirty.difference(&leading.busy).cloned().collect();
        for app in &due {
            leading.dirty.remove(app);
            leading.busy.insert(app.clone());
        }
        for app in due {
            let delay = self.rng.i64(0..20);
            self.after(delay, Event::Reconcile { operator, life, app });
        }
    }

    fn reconcile(&mut self, operator: usize, life: u32, app: AppKey) {
        let event = Event::Reconcile { operator, life, app };
        let Some(Event::Reconcile { app, .. }) = self.awake(operator, event) else { return };
        let (now, rules) = (self.now, self.rules);
        let Some(it) = self.operators.get_mut(operator).filter(|it| it.life == life) else { return };
        let (decision, ask) = it.decide(&app, now, &rules);
        if let Some(version) = ask {
            let delay = self.rng.i64(20..600);
            self.after(delay, Event::Resolved { operator, version });
        }
        match decision {
            Some(decision) => {
                self.check_decision(operator, &decision);
                let delay = self.scenario.write_delay(&mut self.rng);
                self.after(delay, Event::CarryOut { operator, life, decision: Box::new(decision) });
            }
            None => self.done(operator, &app, None),
        }
        self.schedule(operator);
    }

    /// An app has been dealt with, and is to be looked at again after so many milliseconds.
    fn done(&mut self, operator: usize, app: &AppKey, again: Option<i64>) {
        let Some(it) = self.operators.get_mut(operator) else { return };
        let life = it.life;
        let Some(leading) = &mut it.leading else { return };
        leading.busy.remove(app);
        if let Some(wait) = again
            && !leading.dirty.contains(app)
        {
            // In the time until then, other news may come first; being looked at twice does no harm.
            let app = app.clone();
            self.after(wait, Event::Reconcile { operator, life, app });
        }
        self.schedule(operator);
    }

    fn carry_out(&mut self, operator: usize, life: u32, decision: Decision) {
        let event = Event::CarryOut { operator, life, decision: Box::new(decision) };
        let Some(Event::CarryOut { decision, .. }) = self.awake(operator, event) else { return };
        let Some(it) = self.operators.get(operator).filter(|it| it.life == life) else { return };
        let reachable = it.reaches_api(self.now);
        // The write is done, but nobody hears of it.
        let answer_lost = reachable && self.scenario.loses_answer(&mut self.rng);
        let failure = if reachable { self.publish(operator, &decision, answer_lost) } else { Err(()) };
        let failure = failure.err().map(|()| Problem {
            reason: "Unreachable".to_owned(),
            message: "The API server cannot be reached.".to_owned(),
            retrying: true,
        });
        let Some(it) = self.operators.get_mut(operator) else { return };
        let remembered = it.leading.as_mut().and_then(|leading| leading.apps.get_mut(&decision.app));
        let news = remembered.is_some_and(|remembered| {
            let news = remembered.write_failure != failure;
            remembered.write_failure.clone_from(&failure);
            news
        });
        if news && let Some(leading) = &mut it.leading {
            leading.dirty.insert(decision.app.clone());
        }
        let again = if news {
            None
        } else if failure.is_some() || !self.write_status(operator, &decision) {
            Some(self.rng.i64(300..2_000))
        } else {
            decision.plan.recheck.and_then(|after| i64::try_from(after.as_millis()).ok()).map(|after| after + 1)
        };
        self.done(operator, &decision.app, again);
    }

    /// Writes Service and slices, in the plan's order.
    fn publish(&mut self, operator: usize, decision: &Decision, answer_lost: bool) -> Result<(), ()> {
        let owner = decision.uid.clone();
        let app = &decision.app;
        if let Some(service) = decision.plan.service.clone() {
            let object = Object::Service { owner: owner.clone(), service };
            self.write(operator, &Id::Service(app.clone()), Some(object), answer_lost)?;
        }
        for slice in decision.plan.slices.clone() {
            let id = Id::Slice(app.clone(), slice.name.clone());
            self.write(operator, &id, Some(Object::Slice { owner: owner.clone(), slice }), answer_lost)?;
        }
        for name in decision.plan.stale_slices.clone() {
            self.write(operator, &Id::Slice(app.clone(), name), None, answer_lost)?;
        }
        Ok(())
    }

    fn write(&mut self, operator: usize, id: &Id, object: Option<Object>, answer_lost: bool) -> Result<(), ()> {
        self.api.writes += 1;
        // The garbage collector takes what an app that is gone owns.
        let owner = match &object {
            Some(Object::Service { owner, .. } | Object::Slice { owner, .. }) => Some(owner.clone()),
            _ => None,
        };
        let exists = |owner: &String| self.api.apps().any(|(_, app)| app.uid == *owner);
        if owner.as_ref().is_some_and(|owner| !exists(owner)) {
            return Err(());
        }
        let version = match object.clone() {
            Some(object) => self.put(id, &object),
            None => self.delete(id),
        };
        if answer_lost {
            return Err(());
        }
        let version = version.or_else(|| self.api.objects.get(id).map(|(version, _)| *version));
        if let (Some(version), Some(it)) = (version, self.operators.get_mut(operator)) {
            it.observe(id, version, object);
        }
        Ok(())
    }

    /// Whether the status is written, or need not be.
    fn write_status(&mut self, operator: usize, decision: &Decision) -> bool {
        let Some(status) = decision.plan.status.clone() else { return true };
        if !self.operators.get(operator).is_some_and(|it| it.reaches_api(self.now)) {
            return false;
        }
        let id = Id::App(decision.app.clone());
        let Some((_, Object::App(app))) = self.api.objects.get(&id).cloned() else { return true };
        if app.uid != decision.uid {
            return true;
        }
        self.api.writes += 1;
        let object = Object::App(Box::new(crate::api::AppObject { status, ..*app }));
        if let Some(version) = self.put(&id, &object)
            && let Some(it) = self.operators.get_mut(operator)
        {
            it.observe(&id, version, Some(object));
        }
        true
    }

    fn resolved(&mut self, operator: usize, version: String) {
        let Some(Event::Resolved { version, .. }) = self.awake(operator, Event::Resolved { operator, version }) else {
            return;
        };
        let Some(it) = self.operators.get_mut(operator) else { return };
        it.resolved.insert(version, true);
        it.look_at_all();
        self.schedule(operator);
    }

    // ---- streams -------------------------------------------------------------------------------------------------

    fn dial(&mut self, operator: usize, life: u32, runtime: RuntimeName, uid: String) {
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

    fn lost(&mut self, operator: usize, life: u32, runtime: RuntimeName, session: u64) {
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
    fn pump(&mut self, operator: usize) {
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

    fn deliver_to_operator(&mut self, id: u64) {
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

    fn deliver_to_runtime(&mut self, id: u64) {
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

    // ---- runtimes ------------------------------------------------------------------------------------------------

    /// Lets a process do something, and then decide.
    fn with_process(
        &mut self,
        runtime: &RuntimeName,
        life: u32,
        act: impl FnOnce(&mut crate::runtime::Process, i64) -> Effects,
    ) {
        let now = self.now;
        let Some(machine) = self.machines.get_mut(runtime).filter(|machine| machine.life == life) else { return };
        let Some(process) = &mut machine.process else { return };
        let first = act(process, now);
        let then = process.decide(now);
        machine.keep(&first);
        machine.keep(&then);
        self.follow_up(runtime, first);
        self.follow_up(runtime, then);
    }

    fn follow_up(&mut self, runtime: &RuntimeName, effects: Effects) {
        let Some(machine) = self.machines.get(runtime) else { return };
        let life = machine.life;
        let session = machine.process.as_ref().and_then(|process| process.session);
        for job in effects.jobs {
            let delay = self.scenario.job_delay(&mut self.rng, job.kind);
            self.after(delay, Event::Ended { runtime: runtime.clone(), life, job });
        }
        if let Some(at) = effects.recheck {
            let began = self.machines.get(runtime).and_then(|machine| Some(machine.process.as_ref()?.began));
            let wait = began.unwrap_or_default() + at - self.now;
            self.after(wait + 1, Event::Recheck { runtime: runtime.clone(), life });
        }
        for (app, post) in effects.posts {
            if let Some(report) = &post {
                self.checks.reported(runtime, self.machines.get(runtime).map(|machine| machine.uid.as_str()), report);
            }
            if let Some(session) = session {
                let message = match post {
                    Some(report) => FromRuntime::Report(vec![report]),
                    None => FromRuntime::Removed(app),
                };
                self.say(session, message);
            }
        }
    }

    fn ended(&mut self, runtime: &RuntimeName, life: u32, job: &Job) {
        let fault = match job.kind {
            JobKind::Prepare if job.version.contains("bad") => Some(Fault {
                reason: "InvalidWasm".to_owned(),
                message: "It does not compile.".to_owned(),
                detail: None,
                retryable: false,
            }),
            JobKind::Check if job.version.contains("unfit") => Some(Fault {
                reason: "CheckFailed".to_owned(),
                message: "It does not answer as it must.".to_owned(),
                detail: None,
                retryable: true,
            }),
            JobKind::Fetch
                if !self.machines.get(runtime).is_some_and(|machine| machine.content.contains(&job.version))
                    && self.scenario.fails_fetch(&mut self.rng, self.now) =>
            {
                Some(Fault {
                    reason: "Unreachable".to_owned(),
                    message: "The server cannot be reached.".to_owned(),
                    detail: None,
                    retryable: true,
                })
            }
            _ => None,
        };
        if job.kind == JobKind::Fetch
            && fault.is_none()
            && let Some(machine) = self.machines.get_mut(runtime)
        {
            machine.content.insert(job.version.clone());
        }
        self.with_process(runtime, life, |process, now| {
            process.ended(job, fault, now);
            Effects::default()
        });
    }

    /// A pod's process begins.
    fn boot(&mut self, runtime: &RuntimeName, uid: &str) {
        let (now, rules) = (self.now, self.rules);
        let Some(machine) = self.machines.get_mut(runtime).filter(|machine| machine.uid == uid) else { return };
        if machine.process.is_some() || machine.pod == Pod::Terminating {
            return;
        }
        let effects = machine.boot(now, &rules);
        self.follow_up(runtime, effects);
        let delay = self.rng.i64(100..1_000);
        self.after(delay, Event::Kubelet { runtime: runtime.clone(), uid: uid.to_owned() });
    }

    fn kubelet(&mut self, runtime: &RuntimeName, uid: &str) {
        let since = crate::time(self.now);
        let Some(machine) = self.machines.get_mut(runtime).filter(|machine| machine.uid == uid) else { return };
        let state = match (machine.pod, machine.process.is_some()) {
            (Pod::Terminating, _) => Pod::Terminating,
            (_, true) => Pod::Ready,
            (Pod::NotReady { since }, false) => Pod::NotReady { since },
            (Pod::Ready, false) => Pod::NotReady { since },
        };
        machine.pod = state;
        let object = machine.object();
        self.put(&Id::Pod(runtime.clone()), &Object::Pod(object));
    }

    /// A process that was told to stop has drained.
    fn exit(&mut self, runtime: &RuntimeName, life: u32) {
        let Some(machine) = self.machines.get(runtime).filter(|machine| machine.life == life) else { return };
        if let Some(session) = machine.process.as_ref().and_then(|process| process.session) {
            self.close(session);
        }
        self.machines.remove(runtime);
        self.delete(&Id::Pod(runtime.clone()));
    }

    /// A process is gone, whatever it was doing.
    pub(crate) fn kill(&mut self, runtime: &RuntimeName) -> Option<String> {
        let machine = self.machines.get_mut(runtime)?;
        machine.served = machine.serves();
        let process = machine.process.take()?;
        machine.life += 1;
        let uid = machine.uid.clone();
        if let Some(session) = process.session {
            self.close(session);
        }
        Some(uid)
    }
}

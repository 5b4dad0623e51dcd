//! [`World`]: what there is, what happens next, and in which order.

mod operators;
mod runtimes;
mod streams;
mod watches;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use control::{AppKey, FromRuntime, RuntimeName, ToRuntime};

use crate::{
    Summary,
    api::{Api, Id, Object},
    faults::Disturbance,
    invariants::{Checks, Violation},
    machine::Machine,
    operator::{Decision, Operator},
    rules::Rules,
    runtime::{Effects, Job},
    scenario::Scenario,
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
    /// An app is to be looked at again.
    Due {
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

impl Event {
    /// Whether the API server or a runtime may be another after it.
    const fn changes_something(&self) -> bool {
        match self {
            Self::Disturb(_)
            | Self::CarryOut { .. }
            | Self::ToRuntime(_)
            | Self::Ended { .. }
            | Self::Recheck { .. }
            | Self::Boot { .. }
            | Self::Exit { .. }
            | Self::Kubelet { .. }
            | Self::Check => true,
            Self::Lease(_)
            | Self::Watch { .. }
            | Self::Relist(_)
            | Self::Reconcile { .. }
            | Self::Due { .. }
            | Self::Resolved { .. }
            | Self::Dial { .. }
            | Self::ToOperator(_)
            | Self::Lost { .. } => false,
        }
    }
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
                let line = crate::trace::line(at, &event);
                if let Some(line) = line {
                    trace.push_back(line);
                }
                if trace.len() > TRACE {
                    trace.pop_front();
                }
            }
            self.summary.events += 1;
            let changes = event.changes_something();
            self.happen(event);
            if changes {
                self.check_always();
            }
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
            Event::Due { operator, life, app } => self.due(operator, life, app),
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
                self.check_in_time();
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
}

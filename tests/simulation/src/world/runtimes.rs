//! What runtimes do: work, restart, and go.

use control::{FromRuntime, RuntimeName};
use node_runtime_core::converge::Fault;
use operator_core::Pod;

use super::{Event, World};
use crate::{
    api::{Id, Object},
    runtime::{Effects, Job, JobKind},
};

impl World {
    /// Lets a process do something, and then decide.
    pub(super) fn with_process(
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

    pub(super) fn ended(&mut self, runtime: &RuntimeName, life: u32, job: &Job) {
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
    pub(super) fn boot(&mut self, runtime: &RuntimeName, uid: &str) {
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

    pub(super) fn kubelet(&mut self, runtime: &RuntimeName, uid: &str) {
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
    pub(super) fn exit(&mut self, runtime: &RuntimeName, life: u32) {
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

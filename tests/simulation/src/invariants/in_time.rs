//! What holds some time after the last disturbance: looked at now and then.

use operator_core::Pod;

use super::RECOVERY;
use crate::{
    api::AppObject,
    link::LinkState,
    machine::Machine,
    scenario::{DEADLINE, UpdateKind},
    world::World,
};

/// How long after the last disturbance an app that can be loaded must have an endpoint, in milliseconds: a runtime that is
/// gone is waited for first, then others fetch, prepare and check, each slowly and at times again.
const REPLACEMENT: i64 = 60_000;

/// How long a runtime may take after a restart to serve what it served before, in milliseconds: each preparation takes up
/// to four seconds here, one at a time.
const RESTART: i64 = 20_000;

impl World {
    /// Whether everything holds that must hold by now.
    pub(crate) fn check_in_time(&mut self) {
        self.check_recovery();
        self.check_restarts();
        self.check_deadlines();
    }

    /// An app that any healthy runtime serves has an endpoint, and soon one that any could serve.
    fn check_recovery(&mut self) {
        if self.now < self.checks.disturbed + RECOVERY {
            return;
        }
        let Some(leading) = self.leader().and_then(|one| one.leading.as_ref()) else { return };
        let healthy = |machine: &&Machine| {
            let link = leading.links.get(&machine.name);
            machine.pod == Pod::Ready && link.is_some_and(|link| link.state == LinkState::Connected)
        };
        let healthy: Vec<&Machine> = self.machines.values().filter(healthy).collect();
        let replaced = self.now >= self.checks.disturbed + REPLACEMENT && !healthy.is_empty();
        let mut unserved = None;
        for (key, app) in self.api.apps().filter(|(key, app)| app.replicas > 0 && self.api.ready(key).is_empty()) {
            let port = app.status.port.and_then(|port| u16::try_from(port).ok());
            let serves = |machine: &&Machine| port.is_some_and(|port| machine.answers(key, &app.uid, port));
            if let Some(machine) = healthy.iter().find(|machine| serves(machine)) {
                unserved =
                    Some(format!("{key} has no endpoint although {}, which is healthy, serves it", machine.name));
            } else if replaced && can_be_loaded(app) {
                unserved = Some(format!("{key} has no endpoint although {} healthy runtimes could", healthy.len()));
            }
        }
        if let Some(what) = unserved {
            self.checks.fail(|| what);
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
}

/// Whether nothing is wrong with what the app asks for.
fn can_be_loaded(app: &AppObject) -> bool {
    ![UpdateKind::Bad, UpdateKind::Unfit].iter().any(|kind| app.version.contains(kind.suffix()))
}

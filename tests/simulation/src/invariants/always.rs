//! What holds at every moment: looked at after each event that changes something.

use std::collections::BTreeMap;

use control::{AppKey, RevisionId};
use node_runtime_core::converge::Port;
use operator_core::rollout::Strategy;

use crate::{machine::Machine, scenario::Weather, world::World};

/// How long those who route requests may be behind, in milliseconds: less than `operator_core::place::LINGER`.
const ROUTING_LAG: i64 = 3_000;

impl World {
    /// Whether everything holds that must hold now.
    pub(crate) fn check_always(&mut self) {
        self.check_endpoints();
        self.check_ports();
        self.check_requests();
        self.check_routes();
        self.check_alone();
    }

    /// No endpoint without a ready report, and no revision is said to take requests that nobody has said to serve.
    fn check_endpoints(&mut self) {
        let Self { api, checks, .. } = self;
        for (key, app) in api.apps() {
            for slice in api.slices(key) {
                for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                    let said = (endpoint.runtime.clone(), endpoint.uid.clone(), app.uid.clone(), slice.port);
                    if !checks.reports.contains(&said) {
                        checks.fail(|| {
                            format!("{key} has the endpoint {} that never reported to serve it", endpoint.runtime)
                        });
                    }
                }
            }
            if let Some(active) = &app.status.active_revision
                && !checks.served.contains(&(app.uid.clone(), RevisionId(active.clone())))
            {
                checks.fail(|| format!("{key} says that {active} takes requests, which nobody has reported to serve"));
            }
        }
    }

    /// No two apps have the same port, and on no runtime either.
    fn check_ports(&mut self) {
        let Self { api, checks, machines, .. } = self;
        let mut owners: BTreeMap<u16, &AppKey> = BTreeMap::new();
        for (key, app) in api.apps() {
            let own = app.status.port.and_then(|port| u16::try_from(port).ok());
            for port in api.slices(key).map(|slice| slice.port).chain(own) {
                if let Some(other) = owners.insert(port, key)
                    && other != key
                {
                    checks.fail(|| format!("{key} and {other} share port {port}"));
                }
            }
        }
        for machine in machines.values() {
            let mut owners: BTreeMap<u16, &AppKey> = BTreeMap::new();
            for (key, app) in machine.process.iter().flat_map(|process| &process.actual) {
                for (port, _) in app.ports.iter().filter(|(_, port)| **port == Port::Bound) {
                    if let Some(other) = owners.insert(*port, key) {
                        checks.fail(|| format!("{key} and {other} share port {port} of {}", machine.name));
                    }
                }
            }
        }
    }

    /// In calm weather every request is answered, also one that is sent where endpoints were a moment ago.
    fn check_requests(&mut self) {
        if self.scenario.weather != Weather::Calm {
            return;
        }
        let Self { api, checks, machines, now, summary, .. } = self;
        // An app that must not run twice is not served while its revision is replaced.
        for (key, app) in api.apps().filter(|(_, app)| app.rollout.strategy != Strategy::Recreate) {
            let Some(port) = app.status.port.and_then(|port| u16::try_from(port).ok()) else { continue };
            let routed = api.routed(key, *now, ROUTING_LAG);
            if routed.is_empty() {
                continue;
            }
            summary.probes += 1;
            if api.ready(key).is_empty() {
                checks.fail(|| format!("{key} had endpoints and has none: its requests are refused"));
            }
            for (runtime, uid) in routed {
                let answers = |machine: &Machine| machine.uid == uid && machine.answers(key, &app.uid, port);
                if !machines.get(&runtime).is_some_and(answers) {
                    checks.fail(|| format!("a request for {key} is lost: {runtime} does not answer at port {port}"));
                }
            }
        }
    }

    /// No runtime sends requests to a revision whose check has not passed there.
    fn check_routes(&mut self) {
        let Self { machines, checks, .. } = self;
        for machine in machines.values() {
            let Some(process) = &machine.process else { continue };
            if let Some((app, revision)) = process.unchecked() {
                checks.fail(|| format!("{} serves {app} {revision}, which has not passed its check", machine.name));
            }
        }
    }

    /// An app that must not run twice never answers with two revisions at once.
    fn check_alone(&mut self) {
        let Self { api, machines, checks, .. } = self;
        for (key, app) in api.apps().filter(|(_, app)| app.rollout.strategy == Strategy::Recreate) {
            let served = machines.values().filter_map(|machine| Some((machine, machine.serving(key, &app.uid)?)));
            let served: Vec<(&Machine, &RevisionId)> = served.collect();
            if let [(one, first), rest @ ..] = served.as_slice()
                && let Some((other, second)) = rest.iter().find(|(_, revision)| revision != first)
            {
                checks.fail(|| {
                    format!("{key} runs twice: {} answers with {first} and {} with {second}", one.name, other.name)
                });
            }
        }
    }
}

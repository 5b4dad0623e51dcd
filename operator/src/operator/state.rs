//! What an operator tells about itself at its admin port.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::Operator;
use crate::{
    controller::Controller,
    metrics::Levels,
    runtimes::{Link, Runtime},
};

/// What keeps this replica from being ready: followers are ready too.
pub(super) fn readiness(operator: &Operator) -> Result<(), String> {
    if operator.pki.tls().borrow().is_none() {
        return Err("there are no certificates yet".to_owned());
    }
    if let Some(missing) = operator.controller.caches.missing() {
        return Err(missing.to_owned());
    }
    if operator.controller.fleet.is_synced() {
        Ok(())
    } else {
        Err("pods and nodes have not been listed yet".to_owned())
    }
}

pub(super) fn levels_of(controller: &Controller) -> Levels {
    let runtimes = controller.fleet.runtimes();
    let connected = |runtime: &&Arc<_>| connected(runtime);
    Levels {
        apps: controller.caches.apps.len(),
        connected: runtimes.iter().filter(connected).count(),
        runtimes: runtimes.len(),
        queued: controller.queue.depth(),
    }
}

fn connected(runtime: &Runtime) -> bool {
    runtime.read(|said| said.link == Link::Connected)
}

/// The state for people, without secrets.
pub(super) fn describe(operator: &Operator) -> serde_json::Value {
    let runtimes: BTreeMap<String, serde_json::Value> = operator
        .controller
        .fleet
        .runtimes()
        .iter()
        .map(|runtime| {
            let pod = runtime.pod();
            let (held, synced) = (runtime.mailbox().held(), runtime.mailbox().is_synced());
            let state = runtime.read(|said| {
                json!({
                    "addresses": pod.id.ips,
                    "node": pod.id.node,
                    "pod": format!("{:?}", pod.state),
                    "link": format!("{:?}", said.link),
                    "failure": said.failure,
                    "build": said.build,
                    "draining": said.draining,
                    "capacity": said.capacity,
                    "assigned": held,
                    "synced": synced,
                    "reports": said.reports.values().collect::<Vec<_>>(),
                })
            });
            (runtime.name().to_string(), state)
        })
        .collect();
    json!({
        "leading": operator.term(),
        "apps": operator.controller.caches.apps.len(),
        "queued": operator.controller.queue.depth(),
        "runtimes": runtimes,
    })
}

//! What holds in the end, when nothing has gone wrong for long.

use operator_api::ConditionType;
use operator_core::Pod;

use crate::{api::AppObject, machine::Machine, world::World};

impl World {
    /// Whether everything is as it was asked for.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        for (key, app) in self.api.apps() {
            self.check_app(key, app)?;
        }
        let Some(rest) = &self.checks.at_rest else { return Ok(()) };
        for (key, before) in &rest.endpoints {
            if self.api.ready(key) != *before {
                return Err(format!("{key}'s endpoints were {before:?} before a restart that changed nothing"));
            }
        }
        match self.api.writes - rest.writes {
            0 => Ok(()),
            count => Err(format!("a new leader makes {count} writes though nothing has changed")),
        }
    }

    /// An app is served where, and as often, as it was asked for, and says so.
    fn check_app(&self, key: &control::AppKey, app: &AppObject) -> Result<(), String> {
        let machines: Vec<&Machine> = self.machines.values().filter(|machine| machine.pod == Pod::Ready).collect();
        let port = app.status.port.and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| format!("{key} has no port"))?;
        let ready = self.api.ready(key);
        let wanted = usize::try_from(app.replicas).unwrap_or_default().min(machines.len());
        if ready.len() != wanted {
            return Err(format!("{key} has {} endpoints and should have {wanted}", ready.len()));
        }
        for machine in machines {
            let is_endpoint = ready.contains(&(machine.name.clone(), machine.uid.clone()));
            if machine.answers(key, &app.uid, port) != is_endpoint {
                let does = if is_endpoint { "does not serve" } else { "serves" };
                return Err(format!("{} {does} {key} and is an endpoint: {is_endpoint}", machine.name));
            }
            check_served(key, app, machine, is_endpoint)?;
        }
        let condition = |wanted: ConditionType| app.status.conditions.iter().find(|one| one.type_ == wanted.as_str());
        if condition(ConditionType::Ready).is_none_or(|ready| ready.status != "True") {
            return Err(format!("{key} is not Ready: {:?}", condition(ConditionType::Ready)));
        }
        let (observed, generation) = (app.status.observed_generation, app.generation);
        if observed == Some(generation) {
            Ok(())
        } else {
            Err(format!("{key}'s status is about generation {observed:?} of {generation}"))
        }
    }
}

/// A runtime has one revision of an app: the one that was asked for.
fn check_served(key: &control::AppKey, app: &AppObject, machine: &Machine, served: bool) -> Result<(), String> {
    let Some(process) = &machine.process else { return Err(format!("{} is not running", machine.name)) };
    let Some(wanted) = process.desired.get(key) else {
        return if served { Err(format!("{} serves {key} unasked", machine.name)) } else { Ok(()) };
    };
    let [only] = wanted.assignment.revisions.as_slice() else {
        return Err(format!("{} still has {} revisions of {key}", machine.name, wanted.assignment.revisions.len()));
    };
    let secret = only.variables.get("secret").map(|value| value.expose().to_owned());
    if only.application.version != app.version || secret.as_ref() != Some(&app.secret) {
        let has = &only.application.version;
        return Err(format!("{} has version {has} of {key} instead of {}", machine.name, app.version));
    }
    Ok(())
}

//! What operators do: look at the lease, lead, decide, and carry it out.

use control::{AppKey, Problem, RuntimeName};
use operator_core::lease::{self, Decision as LeaseDecision};

use super::{Event, World};
use crate::{
    api::{Id, Object},
    operator::Decision,
};

impl World {
    pub(super) fn look_at_lease(&mut self, operator: usize) {
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

    pub(super) fn fleet_changed(&mut self, operator: usize) {
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
    pub(super) fn schedule(&mut self, operator: usize) {
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

    /// The time has come to look at an app again, unless that is being done.
    pub(super) fn due(&mut self, operator: usize, life: u32, app: AppKey) {
        let Some(it) = self.operators.get_mut(operator).filter(|it| it.life == life) else { return };
        if let Some(leading) = &mut it.leading {
            leading.dirty.insert(app);
            self.schedule(operator);
        }
    }

    pub(super) fn reconcile(&mut self, operator: usize, life: u32, app: AppKey) {
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
            let app = app.clone();
            self.after(wait, Event::Due { operator, life, app });
        }
        self.schedule(operator);
    }

    pub(super) fn carry_out(&mut self, operator: usize, life: u32, decision: Decision) {
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
        let time = it.time(self.now);
        let remembered = it.leading.as_mut().and_then(|leading| leading.apps.get_mut(&decision.app));
        let news = remembered.is_some_and(|remembered| {
            if failure.is_none() {
                remembered.memory.note_published(decision.made, time);
            }
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

    pub(super) fn resolved(&mut self, operator: usize, version: String) {
        let Some(Event::Resolved { version, .. }) = self.awake(operator, Event::Resolved { operator, version }) else {
            return;
        };
        let Some(it) = self.operators.get_mut(operator) else { return };
        it.resolved.insert(version, true);
        it.look_at_all();
        self.schedule(operator);
    }
}

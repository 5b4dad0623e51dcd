//! Carrying out steps.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use control::{AppKey, LoadTimes, RevisionId, RevisionSpec};
use node_runtime_core::converge::{App, Event, Fault, Step};
use tokio_util::sync::CancellationToken;

use super::{
    Draining, Owner, check,
    jobs::{JobEnd, Outcome, Promise, Ready, unfinished},
};
use crate::{
    host::Usage,
    metrics::AppMetrics,
    trigger::{Port, Slot},
};

/// What an app has in this process.
pub(super) struct Live {
    /// Tells an app from an earlier one of its name.
    pub(super) birth: u64,
    slot: Arc<Slot>,
    /// What all its revisions use together.
    usage: Arc<Usage>,
    ready: BTreeMap<RevisionId, Ready>,
    ports: BTreeMap<u16, Port>,
    jobs: BTreeMap<RevisionId, (u64, CancellationToken)>,
    job_count: u64,
    /// How long loading took.
    times: BTreeMap<RevisionId, LoadTimes>,
}

impl Live {
    fn new(birth: u64, metrics: AppMetrics) -> Self {
        Self {
            birth,
            slot: Arc::new(Slot::new(metrics.clone())),
            usage: Arc::new(Usage::new(metrics)),
            ready: BTreeMap::new(),
            ports: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_count: 0,
            times: BTreeMap::new(),
        }
    }

    /// What was asked for when `revision` was made ready.
    pub(super) fn spec(&self, revision: &RevisionId) -> Option<&RevisionSpec> {
        self.ready.get(revision).map(|ready| ready.spec.as_ref())
    }

    /// What was asked for of every revision that is ready, listed or not.
    pub(super) fn specs(&self) -> impl Iterator<Item = &RevisionSpec> {
        self.ready.values().map(|ready| ready.spec.as_ref())
    }

    /// The number of a new job for `revision`, and what calls it off.
    fn begin_job(&mut self, revision: &RevisionId) -> (u64, CancellationToken) {
        self.job_count += 1;
        let job = (self.job_count, CancellationToken::new());
        if let Some((_, old)) = self.jobs.insert(revision.clone(), job.clone()) {
            old.cancel();
        }
        job
    }

    /// How long the steps of each revision took.
    pub(super) const fn times(&self) -> &BTreeMap<RevisionId, LoadTimes> {
        &self.times
    }

    /// Notes how long a step took that came to this.
    fn note_time(&mut self, revision: &RevisionId, outcome: &Outcome, took: Duration) {
        let milliseconds = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let times = self.times.entry(revision.clone()).or_default();
        match outcome {
            Outcome::Fetched(Ok(())) => *times = LoadTimes { fetch_ms: milliseconds, ..LoadTimes::default() },
            Outcome::Prepared(Ok(_)) => times.prepare_ms = milliseconds,
            Outcome::Checked(Ok(())) => times.check_ms = milliseconds,
            Outcome::Fetched(Err(_)) | Outcome::Prepared(Err(_)) | Outcome::Checked(Err(_)) | Outcome::Drained => {}
        }
    }

    /// What the end of a job means; nothing if it was called off or replaced.
    pub(super) fn event(&mut self, end: JobEnd) -> Option<Event> {
        let JobEnd { revision, job, outcome, took, .. } = end;
        if matches!(outcome, Outcome::Drained) {
            return Some(Event::Drained(revision));
        }
        if self.jobs.get(&revision).is_none_or(|(current, _)| *current != job) {
            return None;
        }
        self.jobs.remove(&revision);
        self.note_time(&revision, &outcome, took);
        Some(match outcome {
            Outcome::Fetched(Ok(())) => Event::Fetched(revision),
            Outcome::Fetched(Err(fault)) => Event::FetchFailed(revision, fault),
            Outcome::Prepared(Ok(ready)) => {
                self.ready.insert(revision.clone(), ready);
                Event::Prepared(revision)
            }
            Outcome::Prepared(Err(fault)) => Event::PrepareFailed(revision, fault),
            Outcome::Checked(Ok(())) => Event::Passed(revision),
            Outcome::Checked(Err(fault)) => Event::CheckFailed(revision, fault),
            Outcome::Drained => Event::Drained(revision),
        })
    }
}

impl Owner {
    /// Begins one step.
    pub(super) async fn carry_out(&mut self, key: &AppKey, step: Step) {
        if matches!(step, Step::Forget { .. }) {
            self.actual.remove(key);
            self.live.remove(key);
            self.metrics.forget(key);
            return;
        }
        self.make_records(key);
        let under = self.desired.get(key).map(|wanted| wanted.fingerprint);
        let Some(app) = self.actual.get_mut(key) else { return };
        app.begin(&step, under.unwrap_or(app.under));
        match step {
            Step::Fetch { revision, .. } => self.fetch(key, &revision),
            Step::Prepare { revision, .. } => self.prepare(key, &revision),
            Step::Check { revision, .. } => self.check(key, &revision),
            Step::Stop { .. } => self.stop(key),
            Step::Bind { port, .. } => self.bind(key, port).await,
            Step::Switch { revision, .. } => self.switch(key, &revision),
            Step::Drain { revision, .. } => self.drain(key, revision),
            Step::Unbind { port, .. } => self.unbind(key, port).await,
            Step::Forget { .. } => {}
        }
    }

    fn make_records(&mut self, key: &AppKey) {
        let Some(wanted) = self.desired.get(key) else { return };
        if !self.actual.contains_key(key) {
            self.births += 1;
            let metrics = self.metrics.of_app(&key.to_string());
            self.actual.insert(key.clone(), App::new(wanted));
            self.live.insert(key.clone(), Live::new(self.births, metrics));
        }
    }

    fn spec(&self, key: &AppKey, revision: &RevisionId) -> Option<RevisionSpec> {
        self.desired.get(key)?.assignment.revision(revision).cloned()
    }

    /// A promise to say how the next job of `revision` ended, and what calls that job off.
    fn promise(
        &mut self,
        key: &AppKey,
        revision: &RevisionId,
        otherwise: Outcome,
    ) -> Option<(Promise, CancellationToken)> {
        let live = self.live.get_mut(key)?;
        let (job, called_off) = live.begin_job(revision);
        let (app, birth, revision, took) = (key.clone(), live.birth, revision.clone(), Duration::ZERO);
        let end = JobEnd { app, birth, revision, job, outcome: otherwise, took };
        Some((Promise::new(end, self.ends.clone()), called_off))
    }

    fn fetch(&mut self, key: &AppKey, revision: &RevisionId) {
        let promise = self.promise(key, revision, Outcome::Fetched(Err(unfinished())));
        let (Some((promise, called_off)), Some(spec)) = (promise, self.spec(key, revision)) else { return };
        let (loader, metrics, app) = (Arc::clone(&self.loader), self.metrics.clone(), key.clone());
        promise.run(&self.tasks, "fetch", called_off, async move {
            let began = Instant::now();
            let outcome = loader.fetch(&spec).await;
            metrics.fetched(word(&outcome), began.elapsed());
            log(&app, &spec.id, "fetch", &outcome, began);
            Outcome::Fetched(outcome)
        });
    }

    fn prepare(&mut self, key: &AppKey, revision: &RevisionId) {
        let promise = self.promise(key, revision, Outcome::Prepared(Err(unfinished())));
        let (Some((promise, called_off)), Some(spec)) = (promise, self.spec(key, revision)) else { return };
        let Some(usage) = self.live.get(key).map(|live| Arc::clone(&live.usage)) else { return };
        let (loader, metrics, app) = (Arc::clone(&self.loader), self.metrics.clone(), key.clone());
        promise.run(&self.tasks, "prepare", called_off, async move {
            let began = Instant::now();
            let outcome = loader.build(&app, &spec, usage).await;
            metrics.prepared(word(&outcome), began.elapsed());
            log(&app, &spec.id, "prepare", &outcome, began);
            for warning in outcome.iter().flat_map(|application| application.warnings()) {
                tracing::warn!(%app, revision = %spec.id, %warning, "a route does not do what it says");
            }
            Outcome::Prepared(outcome.map(|application| Ready::new(spec, application)))
        });
    }

    fn check(&mut self, key: &AppKey, revision: &RevisionId) {
        let promise = self.promise(key, revision, Outcome::Checked(Err(unfinished())));
        let (Some((promise, called_off)), Some(live)) = (promise, self.live.get(key)) else { return };
        let Some(ready) = live.ready.get(revision) else { return };
        // What needs no check has passed it.
        let Some(check) = ready.spec.readiness.clone() else { return promise.keep(Outcome::Checked(Ok(()))) };
        let passed = check::pass(Arc::clone(&ready.serving), check, ready.since, Arc::clone(&self.check_places));
        let (metrics, app, revision) = (self.metrics.clone(), key.clone(), revision.clone());
        let stop = self.tasks.stop_token();
        promise.run(&self.tasks, "check", called_off, async move {
            let began = Instant::now();
            // It may take minutes: a process that stops does not wait for it.
            let outcome = stop.run_until_cancelled(Box::pin(passed)).await;
            let Some(outcome) = outcome else { return Outcome::Checked(Err(unfinished())) };
            metrics.checked(word(&outcome), began.elapsed());
            log(&app, &revision, "check", &outcome, began);
            Outcome::Checked(outcome)
        });
    }

    /// New requests go nowhere.
    fn stop(&self, key: &AppKey) {
        if let Some(live) = self.live.get(key) {
            live.slot.clear();
            tracing::info!(app = %key, "new requests go nowhere: the app must not run twice, and its next revision comes");
        }
    }

    async fn bind(&mut self, key: &AppKey, port: u16) {
        let (Some(live), Some(app)) = (self.live.get_mut(key), self.actual.get_mut(key)) else { return };
        let event = match self.trigger.open(port, Arc::clone(&live.slot)).await {
            Ok(open) => {
                live.ports.insert(port, open);
                Event::Bound(port)
            }
            Err(error) => {
                tracing::warn!(app = %key, port, %error, "the app's port cannot be bound");
                Event::BindFailed(port, port_fault(port, &error))
            }
        };
        app.record(event, self.began.elapsed(), &self.settings.backoff);
        self.agenda.now.insert(key.clone());
    }

    fn switch(&mut self, key: &AppKey, revision: &RevisionId) {
        let Some(live) = self.live.get(key) else { return };
        if let Some(ready) = live.ready.get(revision) {
            live.slot.switch(Arc::clone(&ready.serving));
            tracing::info!(app = %key, %revision, "new requests go to this revision");
        }
    }

    fn drain(&mut self, key: &AppKey, revision: RevisionId) {
        let Some(live) = self.live.get_mut(key) else { return };
        if let Some((_, job)) = live.jobs.remove(&revision) {
            job.cancel();
        }
        live.times.remove(&revision);
        let Some(Ready { serving, spec, .. }) = live.ready.remove(&revision) else { return };
        if live.slot.serving().is_some_and(|current| Arc::ptr_eq(&current, &serving)) {
            live.slot.clear();
        }
        let outcome = Outcome::Drained;
        let end = JobEnd { app: key.clone(), birth: live.birth, revision, job: 0, outcome, took: Duration::ZERO };
        let (promise, drained) = (Promise::new(end, self.ends.clone()), serving.drained());
        self.draining.push(Draining { app: key.clone(), spec, drained: drained.clone() });
        drop(serving);
        promise.run(&self.tasks, "drain", CancellationToken::new(), async move {
            drained.cancelled().await;
            Outcome::Drained
        });
    }

    async fn unbind(&mut self, key: &AppKey, port: u16) {
        let Some(open) = self.live.get_mut(key).and_then(|live| live.ports.remove(&port)) else { return };
        open.close().await;
        let (app, within) = (key.clone(), self.settings.drain_timeout);
        self.tasks.spawn_brief("unbind", async move {
            if let Err(error) = open.drain(within).await {
                tracing::warn!(%app, port, %error, "connections of a closed port were cut");
            }
        });
    }
}

fn word<T>(outcome: &Result<T, Fault>) -> &str {
    outcome.as_ref().map_or_else(|fault| fault.reason.as_str(), |_| "ok")
}

fn log<T>(app: &AppKey, revision: &RevisionId, step: &'static str, outcome: &Result<T, Fault>, began: Instant) {
    let elapsed_ms = began.elapsed().as_millis();
    match outcome {
        Ok(_) => tracing::info!(%app, %revision, step, elapsed_ms, "step done"),
        Err(Fault { reason, message, detail, retryable }) => {
            tracing::warn!(%app, %revision, step, elapsed_ms, reason, message, detail, retryable, "step failed");
        }
    }
}

fn port_fault(port: u16, error: &io::Error) -> Fault {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "PortInUse",
        io::ErrorKind::PermissionDenied => "PortForbidden",
        _ => "PortUnavailable",
    };
    let message = format!("cannot listen at port {port}: {error}");
    Fault { reason: reason.to_owned(), message, detail: None, retryable: true }
}

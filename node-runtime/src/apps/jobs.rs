//! Jobs: what takes long and therefore does not run on the task that owns the apps.
//!
//! Promise: each job says exactly once how it ended, also when it is called off or panics, so that the room it took
//! is given back.

use std::{future::Future, sync::Arc, time::Duration};

use control::{AppKey, RevisionId, RevisionSpec};
use daemon::Tasks;
use node_runtime_core::converge::Fault;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{application::HttpApplication, trigger::Serving};

/// How a job ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A fetch.
    Fetched(Result<(), Fault>),
    /// A preparation.
    Prepared(Result<Ready, Fault>),
    /// A check.
    Checked(Result<(), Fault>),
    /// A revision's last request.
    Drained,
}

/// A revision that is compiled and linked.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) serving: Arc<Serving>,
    /// What it was made of.
    pub(super) spec: Arc<RevisionSpec>,
    /// Since when it is.
    pub(super) since: Instant,
}

impl Ready {
    pub(super) fn new(spec: RevisionSpec, application: Arc<HttpApplication>) -> Self {
        let serving = Arc::new(Serving::new(spec.id.clone(), application));
        Self { serving, spec: Arc::new(spec), since: Instant::now() }
    }
}

/// How which job ended.
#[derive(Debug)]
pub(super) struct JobEnd {
    pub(super) app: AppKey,
    pub(super) birth: u64,
    pub(super) revision: RevisionId,
    /// The job's number, unique in its app.
    pub(super) job: u64,
    pub(super) outcome: Outcome,
    /// How long it took.
    pub(super) took: Duration,
}

/// Says how a job ended.
pub(super) struct Promise {
    /// With the outcome of a job that never got to one.
    end: Option<JobEnd>,
    began: Instant,
    ends: mpsc::UnboundedSender<JobEnd>,
}

impl Promise {
    pub(super) fn new(otherwise: JobEnd, ends: mpsc::UnboundedSender<JobEnd>) -> Self {
        Self { end: Some(otherwise), began: Instant::now(), ends }
    }

    /// It ended so.
    pub(super) fn keep(mut self, outcome: Outcome) {
        if let Some(end) = &mut self.end {
            end.outcome = outcome;
        }
    }

    /// Runs `work` as a task; it says how it ended when it does, or when it is called off.
    pub(super) fn run(
        self,
        tasks: &Tasks,
        name: &'static str,
        called_off: CancellationToken,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        tasks.spawn_brief(name, async move {
            if let Some(outcome) = called_off.run_until_cancelled_owned(work).await {
                self.keep(outcome);
            }
        });
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(mut end) = self.end.take() {
            end.took = self.began.elapsed();
            // An error means that the process stops.
            drop(self.ends.send(end));
        }
    }
}

/// What is said of a job that ended without an outcome.
pub(super) fn unfinished() -> Fault {
    Fault {
        reason: "Interrupted".to_owned(),
        message: "the work on this revision ended without a result; the runtime's log says why".to_owned(),
        detail: None,
        retryable: true,
    }
}

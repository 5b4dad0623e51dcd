//! Who leads: leader election on a `coordination.k8s.io` Lease, as [`operator_core::lease`] decides.
//!
//! Promise: [`Elector::run`] polls the leader's work only while the lease is ours, and drops it before
//! anybody else may take the lease: when the deadline after the last renewal passes, also in the middle of
//! a request, or before the lease is given back on exit. The wall clock is read once: time is what has
//! passed since, so a clock that jumps moves no deadline.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, api::PostParams};
use operator_core::lease::{Decision, Held, Observed, Record, Settings, decide, release};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::failure;

/// How long giving the lease back may take on exit.
const RELEASE: Duration = Duration::from_secs(2);

/// How long to wait after a request that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// A clock that starts at the wall clock's time and then never jumps.
#[derive(Debug)]
struct Clock {
    started: Timestamp,
    since: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { started: Timestamp::now(), since: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.started.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}

/// One candidate.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    settings: Settings,
    clock: Clock,
    /// The lease as last seen, with its resource version.
    seen: Option<(Observed, String)>,
    held: Option<Held>,
}

impl Elector {
    /// The candidate `me` for the lease called `name`.
    #[must_use]
    pub fn new(api: Api<Lease>, name: &str, me: String, settings: Settings) -> Self {
        Self { api, name: name.to_owned(), me, settings, clock: Clock::start(), seen: None, held: None }
    }

    /// Leads whenever it can until `stop`: `lead` is given the term, and what it returns is polled while the
    /// lease is ours. Gives the lease back before it returns. Returns what `lead` did, should it end by
    /// itself.
    pub async fn run<T, F: Future<Output = T>>(
        mut self,
        stop: CancellationToken,
        mut lead: impl FnMut(u64) -> F,
    ) -> Option<T> {
        loop {
            let term = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                term = self.acquire() => term,
            };
            tracing::info!(term, identity = self.me, "leading");
            let work = lead(term);
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                () = self.hold() => {
                    tracing::warn!(term, "no longer leading");
                    continue;
                }
                result = work => Some(result),
            };
            self.give_back().await;
            return result;
        }
    }

    /// Waits until the lease is ours; the term.
    async fn acquire(&mut self) -> u64 {
        self.held = None;
        let patience = unsigned(self.settings.deadline);
        loop {
            match timeout(patience, self.look()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = %daemon::chain(&error), "cannot read the lease");
                    sleep(AFTER_FAILURE).await;
                    continue;
                }
                Err(_elapsed) => {
                    tracing::warn!("no answer about the lease");
                    continue;
                }
            }
            match self.decide() {
                Decision::Acquire(record) | Decision::Renew(record) => {
                    match timeout(patience, self.write(&record)).await {
                        Ok(Ok(())) => return record.term,
                        Ok(Err(error)) if failure::is_conflict(&error) => continue,
                        Ok(Err(error)) => tracing::warn!(error = %daemon::chain(&error), "cannot take the lease"),
                        Err(_elapsed) => tracing::warn!("no answer about the lease"),
                    }
                    sleep(AFTER_FAILURE).await;
                }
                Decision::Wait(time) => sleep(unsigned(time)).await,
                Decision::Lost => {}
            }
        }
    }

    /// Renews the lease until it is lost.
    async fn hold(&mut self) {
        loop {
            match self.decide() {
                Decision::Lost => return,
                Decision::Wait(time) => sleep(unsigned(time)).await,
                Decision::Acquire(record) | Decision::Renew(record) => {
                    // Returning in time matters more than an answer.
                    match timeout(self.time_left(), self.write(&record)).await {
                        Ok(Ok(())) | Err(_) => {}
                        Ok(Err(error)) => {
                            tracing::warn!(error = %daemon::chain(&error), "cannot renew the lease yet");
                            if failure::is_conflict(&error) || failure::is_not_found(&error) {
                                // Somebody has written to it; what stands there decides.
                                let _failed_or_late = timeout(self.time_left(), self.look()).await;
                            }
                            sleep(AFTER_FAILURE.min(self.time_left())).await;
                        }
                    }
                }
            }
        }
    }

    fn decide(&self) -> Decision {
        let observed = self.seen.as_ref().map(|(observed, _)| observed);
        decide(&self.settings, &self.me, self.clock.now(), observed, self.held.as_ref())
    }

    /// How long the lease may still be treated as ours.
    fn time_left(&self) -> Duration {
        let age = self.held.map_or(SignedDuration::MAX, |held| self.clock.now().duration_since(held.renewed));
        unsigned(self.settings.deadline.saturating_sub(age))
    }

    /// Reads the lease.
    async fn look(&mut self) -> kube::Result<()> {
        let found = self.api.get_opt(&self.name).await?;
        self.saw(found.as_ref());
        Ok(())
    }

    /// Writes `record` over the lease as last seen.
    async fn write(&mut self, record: &Record) -> kube::Result<()> {
        let started = self.clock.now();
        let params = PostParams::default();
        let version = self.seen.as_ref().map(|(_, version)| version.clone());
        let lease = self.lease(record, version.clone());
        let written = match version {
            None => self.api.create(&params, &lease).await?,
            Some(_) => self.api.replace(&self.name, &params, &lease).await?,
        };
        self.saw(Some(&written));
        self.held = Some(Held { term: record.term, renewed: started });
        Ok(())
    }

    /// Gives the lease back so that another can take it at once.
    async fn give_back(&mut self) {
        let Some(held) = self.held.take() else { return };
        let Some((_, version)) = self.seen.clone() else { return };
        let lease = self.lease(&release(&self.settings, &held, self.clock.now()), Some(version));
        match timeout(RELEASE, self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => tracing::info!(term = held.term, "gave the lease back"),
            Ok(Err(error)) => tracing::warn!(error = %daemon::chain(&error), "could not give the lease back"),
            Err(_elapsed) => tracing::warn!("could not give the lease back in time"),
        }
    }

    /// Remembers the lease as found, and since when it has been like that.
    fn saw(&mut self, found: Option<&Lease>) {
        let now = self.clock.now();
        self.seen = found.map(|lease| {
            let record = record_of(lease);
            let since = match &self.seen {
                Some((old, _)) if old.record == record => old.since,
                _ => now,
            };
            (Observed { record, since }, lease.metadata.resource_version.clone().unwrap_or_default())
        });
    }

    fn lease(&self, record: &Record, version: Option<String>) -> Lease {
        let renewed = record.renewed.map(MicroTime);
        let seconds = record.duration.as_secs().max(1);
        Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), resource_version: version, ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: record.holder.clone(),
                lease_duration_seconds: i32::try_from(seconds).ok(),
                lease_transitions: i32::try_from(record.term).ok(),
                renew_time: renewed,
                ..LeaseSpec::default()
            }),
        }
    }
}

fn record_of(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        term: spec.lease_transitions.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0),
        duration: SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(1))),
    }
}

fn unsigned(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

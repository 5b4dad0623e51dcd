//! Who leads: leader election on a `coordination.k8s.io` Lease, as [`operator_core::lease`] decides.
//!
//! Promise: [`Elector::run`] polls the leader's work only while the lease is ours, and drops it before
//! anybody else may take the lease: when the deadline after the last renewal passes, also in the middle of
//! a request, or before the lease is given back on exit. What is done in the leader's name asks its [`Mandate`]
//! before each write and message, which ends by the clock alone: a process that was stopped for a while does
//! nothing more when it goes on, whichever of its tasks goes on first. The wall clock is read once: time is what
//! has passed since, so a clock that jumps moves no deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, api::PostParams};
use operator_core::lease::{Decision, Held, Observed, Record, Settings, decide, release};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, failure};

/// How long giving the lease back may take on exit.
const RELEASE: Duration = Duration::from_secs(2);

/// How long a leader waits after a request that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// In how many parts the time to renew is divided: a request that is not answered within one is given up, so that
/// a connection that has died costs one part and not the lease.
const ATTEMPTS: u32 = 4;

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

/// The right to write and to command, for as long as the lease is ours. Clones are the same right.
#[derive(Debug, Clone)]
pub struct Mandate {
    term: u64,
    since: Instant,
    /// Milliseconds after `since`.
    until: Arc<AtomicU64>,
}

impl Mandate {
    /// A mandate of `term` that has not begun.
    fn new(term: u64) -> Self {
        Self { term, since: Instant::now(), until: Arc::default() }
    }

    /// A mandate of `term` that lasts until it is revoked.
    #[must_use]
    pub fn unlimited(term: u64) -> Self {
        let mandate = Self::new(term);
        mandate.until.store(u64::MAX, Ordering::Release);
        mandate
    }

    /// The lease's count of transitions.
    #[must_use]
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// Whether the lease is ours, by the clock.
    #[must_use]
    pub fn holds(&self) -> bool {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        passed < self.until.load(Ordering::Acquire)
    }

    /// Nothing more is done in its name.
    pub fn revoke(&self) {
        self.until.store(0, Ordering::Release);
    }

    fn extend(&self, left: Duration) {
        let until = self.since.elapsed().saturating_add(left);
        self.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// The lease as last seen.
#[derive(Debug, Clone)]
struct Seen {
    observed: Observed,
    /// Which object in which state: what is written over it must be written over this.
    version: String,
    uid: String,
}

/// One candidate.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    settings: Settings,
    clock: Clock,
    /// The lease as last seen.
    seen: Option<Seen>,
    held: Option<Held>,
    /// The highest term that was ever ours.
    led: u64,
    mandate: Option<Mandate>,
}

impl Elector {
    /// The candidate `me` for the lease called `name`.
    #[must_use]
    pub fn new(api: Api<Lease>, name: &str, me: String, settings: Settings) -> Self {
        Self {
            api,
            name: name.to_owned(),
            me,
            settings,
            clock: Clock::start(),
            seen: None,
            held: None,
            led: 0,
            mandate: None,
        }
    }

    /// Leads whenever it can until `stop`: `lead` is given the mandate, and what it returns is polled while the
    /// lease is ours. Gives the lease back before it returns. Returns what `lead` did, should it end by
    /// itself.
    pub async fn run<T, F: Future<Output = T>>(
        mut self,
        stop: CancellationToken,
        mut lead: impl FnMut(Mandate) -> F,
    ) -> Option<T> {
        loop {
            let mandate = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                mandate = self.acquire() => mandate,
            };
            let term = mandate.term();
            tracing::info!(term, identity = self.me, "leading");
            let work = lead(mandate.clone());
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                () = self.hold() => {
                    mandate.revoke();
                    tracing::warn!(term, "no longer leading");
                    continue;
                }
                result = work => Some(result),
            };
            mandate.revoke();
            self.give_back().await;
            return result;
        }
    }

    /// Waits until the lease is ours.
    async fn acquire(&mut self) -> Mandate {
        (self.held, self.mandate) = (None, None);
        let patience = self.attempt();
        let mut backoff = Backoff::new(AFTER_FAILURE, unsigned(self.settings.retry).max(AFTER_FAILURE));
        loop {
            match timeout(patience, self.look()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = failure::sentence(&error), "cannot read the lease");
                    sleep(backoff.next_delay()).await;
                    continue;
                }
                Err(_elapsed) => {
                    tracing::warn!("no answer about the lease");
                    sleep(backoff.next_delay()).await;
                    continue;
                }
            }
            match self.decide() {
                Decision::Acquire(record) | Decision::Renew(record) => {
                    match timeout(patience, self.write(&record)).await {
                        Ok(Ok(())) => return self.mandated(record.term),
                        // Somebody was faster, and will be the leader.
                        Ok(Err(error)) if failure::is_conflict(&error) => {}
                        Ok(Err(error)) => {
                            tracing::warn!(error = failure::sentence(&error), "cannot take the lease");
                        }
                        Err(_elapsed) => tracing::warn!("no answer about the lease"),
                    }
                    sleep(backoff.next_delay()).await;
                }
                Decision::Wait(time) => {
                    backoff = Backoff::new(AFTER_FAILURE, unsigned(self.settings.retry).max(AFTER_FAILURE));
                    sleep(unsigned(time)).await;
                }
                Decision::Lost => {}
            }
        }
    }

    /// The right that the lease, which is ours now, gives.
    fn mandated(&mut self, term: u64) -> Mandate {
        let mandate = Mandate::new(term);
        mandate.extend(self.time_left());
        self.mandate = Some(mandate.clone());
        mandate
    }

    /// How long one request may take.
    fn attempt(&self) -> Duration {
        unsigned(self.settings.deadline) / ATTEMPTS
    }

    /// Renews the lease until it is lost.
    async fn hold(&mut self) {
        loop {
            match self.decide() {
                Decision::Lost => return,
                Decision::Wait(time) => sleep(unsigned(time)).await,
                Decision::Acquire(record) | Decision::Renew(record) => {
                    // Returning in time matters more than an answer.
                    match timeout(self.time_left().min(self.attempt()), self.write(&record)).await {
                        Ok(Ok(())) => {}
                        Err(_elapsed) => tracing::warn!("no answer about the lease"),
                        Ok(Err(error)) => {
                            tracing::warn!(error = failure::sentence(&error), "cannot renew the lease yet");
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
        let observed = self.seen.as_ref().map(|seen| &seen.observed);
        decide(&self.settings, &self.me, self.clock.now(), observed, self.held.as_ref(), self.led)
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
        let lease = self.lease(record);
        let written = match self.seen {
            None => self.api.create(&params, &lease).await?,
            Some(_) => self.api.replace(&self.name, &params, &lease).await?,
        };
        self.saw(Some(&written));
        self.held = Some(Held { term: record.term, renewed: started });
        self.led = self.led.max(record.term);
        if let Some(mandate) = self.mandate.as_ref().filter(|mandate| mandate.term == record.term) {
            mandate.extend(self.time_left());
        }
        Ok(())
    }

    /// Gives the lease back so that another can take it at once.
    async fn give_back(&mut self) {
        let Some(held) = self.held.take() else { return };
        if self.seen.is_none() {
            return;
        }
        let lease = self.lease(&release(&self.settings, &held, self.clock.now()));
        match timeout(RELEASE, self.api.replace(&self.name, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => tracing::info!(term = held.term, "gave the lease back"),
            Ok(Err(error)) => tracing::warn!(error = failure::sentence(&error), "could not give the lease back"),
            Err(_elapsed) => tracing::warn!("could not give the lease back in time"),
        }
    }

    /// Remembers the lease as found, and since when it has been like that.
    fn saw(&mut self, found: Option<&Lease>) {
        let now = self.clock.now();
        self.seen = found.map(|lease| {
            let record = record_of(lease);
            let since = match &self.seen {
                Some(old) if old.observed.record == record => old.observed.since,
                _ => now,
            };
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let uid = lease.metadata.uid.clone().unwrap_or_default();
            Seen { observed: Observed { record, since }, version, uid }
        });
    }

    /// The object with `record` that takes the place of the one last seen, and of no other: an API server makes a Lease
    /// that is replaced after it was deleted, unless it is told which one is meant.
    fn lease(&self, record: &Record) -> Lease {
        let renewed = record.renewed.map(MicroTime);
        let seconds = record.duration.as_secs().max(1);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: self.seen.as_ref().map(|seen| seen.version.clone()),
                uid: self.seen.as_ref().map(|seen| seen.uid.clone()).filter(|uid| !uid.is_empty()),
                ..ObjectMeta::default()
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mandate_ends_by_the_clock_alone_and_for_good_when_it_is_revoked() {
        let mandate = Mandate::new(7);
        let kept = mandate.clone();
        assert!(!kept.holds(), "it has not begun");
        mandate.extend(Duration::from_secs(3600));
        assert!(kept.holds());
        mandate.extend(Duration::ZERO);
        assert!(!kept.holds(), "its time is over, whoever has noticed");
        mandate.extend(Duration::from_secs(3600));
        mandate.revoke();
        assert!(!kept.holds());
        assert!(Mandate::unlimited(1).holds());
    }
}

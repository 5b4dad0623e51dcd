//! Freeing content that no app needs any more.
//!
//! Promise: nothing is removed that a listed, serving or draining revision needs, and nothing while it is being
//! fetched: what is under way when a sweep begins is listed, and no fetch begins during one (see [`Owner::room`]).
//! Nothing is removed before an operator has said all that it has to say: what could not be restored would be fetched
//! again.
//!
//! Absent on purpose: waiting. A sweep runs beside everything else; only fetches that are about to begin wait for it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use node_runtime_core::converge::{Room, keep};
use tokio::sync::oneshot;

use super::{Owner, carry::Live};

/// When to sweep.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Whether the operator has once said everything.
    synced: bool,
    /// When the next begins.
    due: Option<Duration>,
    /// Ends with the one under way.
    running: Option<oneshot::Receiver<Infallible>>,
}

impl Sweep {
    /// When there is something to do, if nothing else happens.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due.filter(|_| self.synced && !self.is_running())
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Resolves at the end of the one under way, however it ends.
    pub(super) async fn ended(&mut self) {
        match &mut self.running {
            Some(running) => drop(running.await),
            None => std::future::pending().await,
        }
        self.running = None;
    }
}

impl Owner {
    /// Something may not be needed any more: that is looked at together with what else happens soon.
    pub(super) fn sweep_later(&mut self) {
        let at = self.now() + self.settings.sweep_delay;
        self.sweep.due.get_or_insert(at);
    }

    /// The operator has said everything that differed.
    pub(super) fn synced(&mut self) {
        self.sweep.synced = true;
        self.sweep_later();
    }

    /// How many jobs may begin now: no fetch during a sweep.
    pub(super) const fn open_room(&self) -> Room {
        Room { fetches: if self.sweep.is_running() { 0 } else { self.room.fetches }, ..self.room }
    }

    /// Begins to sweep if it is time.
    pub(super) fn sweep_if_due(&mut self) {
        if self.sweep.due().is_none_or(|at| at > self.now()) {
            return;
        }
        self.draining.retain(|draining| !draining.drained.is_cancelled());
        let listed = self.desired.values().flat_map(|wanted| &wanted.assignment.revisions);
        let ready = self.live.values().flat_map(Live::specs);
        let draining = self.draining.iter().map(|draining| draining.spec.as_ref());
        let needed = keep::needed(listed.chain(ready).chain(draining));
        // Their stores stay.
        let draining = self.draining.iter().map(|draining| &draining.app);
        let apps = self.desired.keys().chain(self.actual.keys()).chain(self.live.keys()).chain(draining);
        let apps = apps.cloned().collect();
        let (end, ended) = oneshot::channel();
        (self.sweep.due, self.sweep.running) = (None, Some(ended));
        let loader = Arc::clone(&self.loader);
        self.tasks.spawn_brief("sweep", async move {
            // Dropped when the sweep has ended, whatever comes.
            let _end = end;
            loader.free_all_but(needed, apps).await;
        });
    }
}

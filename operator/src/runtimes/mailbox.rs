//! The [`Mailbox`] of one runtime, for the task that decides and the task that sends.
//!
//! Promise: setting is immediate and never waits for the runtime, so a slow one delays no other.
//!
//! Absent on purpose: what is told, and when: that is [`operator_core::mailbox`]'s.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use control::{AppKey, Fingerprint};
pub use operator_core::mailbox::{Desired, Order, Parcel};
use tokio::sync::Notify;

/// The mailbox of one runtime.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<operator_core::mailbox::Mailbox>,
    changed: Notify,
}

impl Mailbox {
    /// Sets what the runtime is to do about `app`.
    pub fn set(&self, app: &AppKey, desired: Desired) {
        if self.lock().set(app, desired) {
            self.changed.notify_one();
        }
    }

    /// Nothing is to be told about `app`; what has not been sent yet never is.
    pub fn unset(&self, app: &AppKey) {
        self.lock().unset(app);
    }

    /// A stream opens: the runtime holds `inventory` and was sent so many `words` before.
    pub fn open(&self, inventory: BTreeMap<AppKey, Fingerprint>, words: u64) {
        self.lock().open(inventory, words);
        self.changed.notify_one();
    }

    /// Every app that exists has been set.
    pub fn complete(&self) {
        if self.lock().complete() {
            self.changed.notify_one();
        }
    }

    /// The next thing to tell the runtime, which counts as told.
    pub fn take(&self) -> Option<Parcel> {
        self.lock().take()
    }

    /// Waits until there may be something to tell.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is in it, for as long as this is held.
    pub(super) fn read(&self) -> MutexGuard<'_, operator_core::mailbox::Mailbox> {
        self.lock()
    }

    /// The runtime says that `app` is gone.
    pub fn gone(&self, app: &AppKey) {
        self.lock().gone(app);
    }

    /// The apps that the runtime has been told to hold.
    #[must_use]
    pub fn apps(&self) -> Vec<AppKey> {
        self.lock().apps().cloned().collect()
    }

    /// How many apps the runtime is to hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().held()
    }

    /// Whether the runtime has been told everything that differed when its stream was opened.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.lock().is_synced()
    }

    fn lock(&self) -> MutexGuard<'_, operator_core::mailbox::Mailbox> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

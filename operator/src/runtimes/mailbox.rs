//! What one runtime is to be told: the latest word per app, never a history.
//!
//! Promise: setting is immediate and never waits for the runtime, so a slow one delays no other; however
//! often an app changes while a runtime is slow or away, it is told only the last. An app that has never
//! been set is left as the runtime has it, until [`Mailbox::complete`] says that every app has been.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::{AppKey, Assignment, Fingerprint, ToRuntime};
use tokio::sync::Notify;

/// An assignment with its fingerprint, made once and shared by every runtime that gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    fingerprint: Fingerprint,
    message: ToRuntime,
}

impl Order {
    /// The order to follow `assignment`.
    ///
    /// # Errors
    /// Those of [`Assignment::fingerprint`].
    pub fn new(assignment: Assignment) -> Result<Arc<Self>, serde_json::Error> {
        let fingerprint = assignment.fingerprint()?;
        Ok(Arc::new(Self { fingerprint, message: ToRuntime::Assign(Box::new(assignment)) }))
    }

    /// The digest that tells orders apart.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether this is the order to follow `assignment`.
    #[must_use]
    pub fn is(&self, assignment: &Assignment) -> bool {
        matches!(&self.message, ToRuntime::Assign(mine) if **mine == *assignment)
    }

    /// What is sent.
    #[must_use]
    pub const fn message(&self) -> &ToRuntime {
        &self.message
    }
}

/// What one runtime is to do about one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// Whatever it does now.
    Keep,
    /// This.
    Assign(Arc<Order>),
    /// Forget it.
    Remove,
}

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// A new word about an app.
    Assign(Arc<Order>),
    /// The app is no longer this runtime's.
    Remove(AppKey),
    /// Everything that differed has been said.
    Synced,
}

/// The mailbox of one runtime.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    desired: BTreeMap<AppKey, Desired>,
    /// The apps whose desired state may differ from what the runtime has been told.
    dirty: BTreeSet<AppKey>,
    /// What the runtime has been told, as its inventory and our parcels say.
    told: BTreeMap<AppKey, Fingerprint>,
    /// Whether every app has been set since the stream was opened.
    complete: bool,
    /// Whether the runtime knows that.
    synced: bool,
    /// How many apps it is to hold.
    held: usize,
}

impl Mailbox {
    /// Sets what the runtime is to do about `app`.
    pub fn set(&self, app: &AppKey, desired: Desired) {
        let mut inner = self.lock();
        // An app that is not set is not the same as one that is set to what would be done anyway: it would be
        // removed once everything is set.
        let same = match inner.desired.get(app) {
            Some(known) => *known == desired,
            None => inner.complete && desired == Desired::Remove,
        };
        if same {
            return;
        }
        let before = inner.is_held(app);
        if desired == Desired::Remove && inner.complete {
            // From now on an app without an entry is removed: nothing to remember.
            inner.desired.remove(app);
        } else {
            inner.desired.insert(app.clone(), desired);
        }
        let after = inner.is_held(app);
        inner.held = inner.held.saturating_add(usize::from(after)).saturating_sub(usize::from(before));
        inner.dirty.insert(app.clone());
        drop(inner);
        self.changed.notify_one();
    }

    /// Nothing is to be told about `app`; what has not been sent yet never is.
    pub fn unset(&self, app: &AppKey) {
        let mut inner = self.lock();
        let before = inner.is_held(app);
        inner.desired.remove(app);
        let after = inner.is_held(app);
        inner.held = inner.held.saturating_add(usize::from(after)).saturating_sub(usize::from(before));
    }

    /// A stream opens: the runtime holds `inventory`, and everything must be compared with that. Until
    /// [`Mailbox::complete`], apps that are not set are left alone.
    pub fn open(&self, inventory: BTreeMap<AppKey, Fingerprint>) {
        let mut inner = self.lock();
        inner.told = inventory;
        (inner.complete, inner.synced) = (false, false);
        inner.review();
        drop(inner);
        self.changed.notify_one();
    }

    /// Every app that exists has been set: what is not set now is to be removed.
    pub fn complete(&self) {
        let mut inner = self.lock();
        if !inner.complete {
            inner.complete = true;
            inner.desired.retain(|_, desired| *desired != Desired::Remove);
            inner.review();
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// The next thing to tell the runtime, which counts as told; `None` when it knows everything.
    pub fn next(&self) -> Option<Parcel> {
        let mut inner = self.lock();
        while let Some(app) = inner.dirty.pop_first() {
            match inner.get(&app) {
                Desired::Keep => {}
                Desired::Assign(order) => {
                    let order = Arc::clone(order);
                    if inner.told.insert(app, order.fingerprint) != Some(order.fingerprint) {
                        return Some(Parcel::Assign(order));
                    }
                }
                Desired::Remove => {
                    if inner.told.remove(&app).is_some() {
                        return Some(Parcel::Remove(app));
                    }
                }
            }
        }
        if inner.complete && !inner.synced {
            inner.synced = true;
            return Some(Parcel::Synced);
        }
        None
    }

    /// Waits until there may be something to tell.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the runtime was told last about `app`.
    #[must_use]
    pub fn told(&self, app: &AppKey) -> Option<Fingerprint> {
        self.lock().told.get(app).copied()
    }

    /// How many apps the runtime is to hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// Whether the runtime has been told everything that differed when its stream was opened.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.lock().synced
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What is desired of `app`, set or not.
    fn get(&self, app: &AppKey) -> &Desired {
        self.desired.get(app).unwrap_or(if self.complete { &Desired::Remove } else { &Desired::Keep })
    }

    /// Whether the runtime holds `app` once it has been told everything.
    fn is_held(&self, app: &AppKey) -> bool {
        match self.get(app) {
            Desired::Keep => self.told.contains_key(app),
            Desired::Assign(_) => true,
            Desired::Remove => false,
        }
    }

    /// Compares everything once more.
    fn review(&mut self) {
        self.dirty = self.desired.keys().chain(self.told.keys()).cloned().collect();
        self.held = self.dirty.iter().filter(|app| self.is_held(app)).count();
    }
}

#[cfg(test)]
mod tests {
    use control::RevisionId;

    use super::*;

    fn app(name: &str) -> AppKey {
        AppKey::new("shop", name).unwrap()
    }

    fn order(name: &str, port: u16) -> Arc<Order> {
        let assignment = Assignment {
            app: app(name),
            uid: "u".to_owned(),
            port,
            revisions: Vec::new(),
            active: RevisionId("r".to_owned()),
        };
        Order::new(assignment).unwrap()
    }

    fn inventory(orders: &[&Arc<Order>]) -> BTreeMap<AppKey, Fingerprint> {
        orders
            .iter()
            .map(|order| match order.message() {
                ToRuntime::Assign(assignment) => (assignment.app.clone(), order.fingerprint()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn drain(mailbox: &Mailbox) -> Vec<Parcel> {
        std::iter::from_fn(|| mailbox.next()).collect()
    }

    #[test]
    fn a_runtime_that_already_has_everything_is_told_only_that_it_is_synced() {
        let (mailbox, order) = (Mailbox::default(), order("cart", 10_000));
        mailbox.open(inventory(&[&order]));
        mailbox.set(&app("cart"), Desired::Assign(Arc::clone(&order)));
        mailbox.complete();
        assert_eq!(drain(&mailbox), [Parcel::Synced]);
        assert_eq!(mailbox.held(), 1);
    }

    #[test]
    fn nothing_is_removed_and_nothing_synced_before_every_app_has_been_set() {
        let (mailbox, old) = (Mailbox::default(), order("old", 10_000));
        mailbox.open(inventory(&[&old]));
        assert_eq!(drain(&mailbox), []);
        assert_eq!(mailbox.held(), 1);
        mailbox.complete();
        assert_eq!(drain(&mailbox), [Parcel::Remove(app("old")), Parcel::Synced]);
        assert_eq!(mailbox.held(), 0);
    }

    #[test]
    fn an_app_set_to_keep_survives_completion() {
        let (mailbox, unresolved) = (Mailbox::default(), order("unresolved", 10_000));
        mailbox.open(inventory(&[&unresolved]));
        mailbox.set(&app("unresolved"), Desired::Keep);
        mailbox.complete();
        assert_eq!(drain(&mailbox), [Parcel::Synced]);
        assert_eq!(mailbox.held(), 1);
    }

    #[test]
    fn a_runtime_that_comes_back_is_compared_again_and_gets_only_what_it_lost() {
        let (mailbox, cart, pay) = (Mailbox::default(), order("cart", 10_000), order("pay", 10_001));
        mailbox.open(BTreeMap::new());
        mailbox.set(&app("cart"), Desired::Assign(Arc::clone(&cart)));
        mailbox.set(&app("pay"), Desired::Assign(Arc::clone(&pay)));
        mailbox.complete();
        assert_eq!(drain(&mailbox).len(), 3);
        mailbox.open(inventory(&[&cart]));
        assert_eq!(drain(&mailbox), [Parcel::Assign(pay)]);
        mailbox.complete();
        assert_eq!(drain(&mailbox), [Parcel::Synced]);
    }

    #[test]
    fn of_many_changes_only_the_last_is_told() {
        let mailbox = Mailbox::default();
        for port in 10_000..10_100 {
            mailbox.set(&app("cart"), Desired::Assign(order("cart", port)));
        }
        assert_eq!(drain(&mailbox), [Parcel::Assign(order("cart", 10_099))]);
    }

    #[test]
    fn an_app_set_and_taken_back_before_it_was_told_is_never_mentioned() {
        let mailbox = Mailbox::default();
        mailbox.complete();
        mailbox.set(&app("cart"), Desired::Assign(order("cart", 10_000)));
        assert_eq!(mailbox.held(), 1);
        mailbox.set(&app("cart"), Desired::Remove);
        assert_eq!(mailbox.held(), 0);
        assert_eq!(drain(&mailbox), [Parcel::Synced]);
    }

    #[test]
    fn a_deleted_app_is_removed_at_once_and_leaves_no_entry() {
        let (mailbox, order) = (Mailbox::default(), order("cart", 10_000));
        mailbox.open(inventory(&[&order]));
        mailbox.set(&app("cart"), Desired::Assign(Arc::clone(&order)));
        mailbox.complete();
        drain(&mailbox);
        mailbox.set(&app("cart"), Desired::Remove);
        assert_eq!(drain(&mailbox), [Parcel::Remove(app("cart"))]);
        assert_eq!(mailbox.lock().desired.len(), 0);
        assert_eq!(mailbox.told(&app("cart")), None);
    }
}

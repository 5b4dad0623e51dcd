//! Decides what one runtime is told next: the latest word per app, never a history.
//!
//! Promise: however often an app changes while a runtime is slow or away, it is told only the last. An app that
//! has never been set is left as the runtime has it, until [`Mailbox::complete`] says that every app has been.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control::{AppKey, AppReport, Assignment, Fingerprint, ToRuntime};

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
    desired: BTreeMap<AppKey, Desired>,
    /// The apps whose desired state may differ from what the runtime has been told.
    dirty: BTreeSet<AppKey>,
    /// What the runtime has been told, as its inventory and our parcels say.
    told: BTreeMap<AppKey, Fingerprint>,
    /// How many words it has been sent: [`control::AppReport::word`].
    words: u64,
    /// Per app, the number of the last word that took it away.
    taken_away: BTreeMap<AppKey, u64>,
    /// Whether every app has been set since the stream was opened.
    complete: bool,
    /// Whether the runtime knows that.
    synced: bool,
    /// How many apps it is to hold.
    held: usize,
}

impl Mailbox {
    /// Sets what the runtime is to do about `app`; whether that may be something to tell.
    pub fn set(&mut self, app: &AppKey, desired: Desired) -> bool {
        // An app that is not set is not the same as one that is set to what would be done anyway: it would be
        // removed once everything is set.
        let same = match self.desired.get(app) {
            Some(known) => *known == desired,
            None => self.complete && desired == Desired::Remove,
        };
        if same {
            return false;
        }
        let before = self.is_held(app);
        if desired == Desired::Remove && self.complete {
            // From now on an app without an entry is removed: nothing to remember.
            self.desired.remove(app);
        } else {
            self.desired.insert(app.clone(), desired);
        }
        self.recount(app, before);
        self.dirty.insert(app.clone());
        true
    }

    /// Nothing is to be told about `app`; what has not been sent yet never is.
    pub fn unset(&mut self, app: &AppKey) {
        let before = self.is_held(app);
        self.desired.remove(app);
        self.recount(app, before);
    }

    /// A stream opens: the runtime holds `inventory` and was sent so many `words` before, and everything must be compared
    /// with that. Until [`Mailbox::complete`], apps that are not set are left alone.
    pub fn open(&mut self, inventory: BTreeMap<AppKey, Fingerprint>, words: u64) {
        self.told = inventory;
        self.words = words;
        self.taken_away.clear();
        (self.complete, self.synced) = (false, false);
        self.review();
    }

    /// Every app that exists has been set: what is not set now is to be removed. Whether that is news.
    pub fn complete(&mut self) -> bool {
        if self.complete {
            return false;
        }
        self.complete = true;
        self.desired.retain(|_, desired| *desired != Desired::Remove);
        self.review();
        true
    }

    /// The next thing to tell the runtime, which counts as told; `None` when it knows everything.
    pub fn take(&mut self) -> Option<Parcel> {
        while let Some(app) = self.dirty.pop_first() {
            match self.get(&app) {
                Desired::Keep => {}
                Desired::Assign(order) => {
                    let order = Arc::clone(order);
                    if self.told.insert(app, order.fingerprint) != Some(order.fingerprint) {
                        self.words += 1;
                        return Some(Parcel::Assign(order));
                    }
                }
                Desired::Remove => {
                    if self.told.remove(&app).is_some() {
                        self.words += 1;
                        self.taken_away.insert(app.clone(), self.words);
                        return Some(Parcel::Remove(app));
                    }
                }
            }
        }
        if self.complete && !self.synced {
            self.synced = true;
            return Some(Parcel::Synced);
        }
        None
    }

    /// Whether `report` is about the app as the runtime has it. One from before the app was taken away is not: by the
    /// time it is read the app may be gone, also if it has been given again since.
    #[must_use]
    pub fn believes(&self, report: &AppReport) -> bool {
        let Some(taken_away) = self.taken_away.get(&report.app) else { return true };
        report.word.is_none_or(|word| word > *taken_away)
    }

    /// Whether the runtime was told to forget `app` and has not said yet that it has.
    #[must_use]
    pub fn is_parting(&self, app: &AppKey) -> bool {
        self.taken_away.contains_key(app) && !self.told.contains_key(app)
    }

    /// The runtime says that `app` is gone: nothing older can come any more.
    pub fn gone(&mut self, app: &AppKey) {
        if !self.told.contains_key(app) {
            self.taken_away.remove(app);
        }
    }

    /// What the runtime was told last about `app`.
    #[must_use]
    pub fn told(&self, app: &AppKey) -> Option<Fingerprint> {
        self.told.get(app).copied()
    }

    /// The apps that the runtime has been told to hold.
    pub fn apps(&self) -> impl Iterator<Item = &AppKey> {
        self.told.keys()
    }

    /// How many apps the runtime is to hold.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Whether the runtime has been told everything that differed when its stream was opened.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

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

    /// Counts `app` again, which was held `before`.
    fn recount(&mut self, app: &AppKey, before: bool) {
        let after = self.is_held(app);
        self.held = self.held.saturating_add(usize::from(after)).saturating_sub(usize::from(before));
    }

    /// Compares everything once more.
    fn review(&mut self) {
        self.dirty = self.desired.keys().chain(self.told.keys()).cloned().collect();
        self.held = self.dirty.iter().filter(|app| self.is_held(app)).count();
    }
}

#[cfg(test)]
mod tests {
    use control::{Hold, RevisionId};

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
            hold: Hold::Nothing,
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

    fn drain(mailbox: &mut Mailbox) -> Vec<Parcel> {
        std::iter::from_fn(|| mailbox.take()).collect()
    }

    #[test]
    fn a_runtime_that_already_has_everything_is_told_only_that_it_is_synced() {
        let (mut mailbox, order) = (Mailbox::default(), order("cart", 10_000));
        mailbox.open(inventory(&[&order]), 0);
        mailbox.set(&app("cart"), Desired::Assign(Arc::clone(&order)));
        mailbox.complete();
        assert_eq!(drain(&mut mailbox), [Parcel::Synced]);
        assert_eq!(mailbox.held(), 1);
    }

    #[test]
    fn nothing_is_removed_and_nothing_synced_before_every_app_has_been_set() {
        let (mut mailbox, old) = (Mailbox::default(), order("old", 10_000));
        mailbox.open(inventory(&[&old]), 0);
        assert_eq!(drain(&mut mailbox), []);
        assert_eq!(mailbox.held(), 1);
        mailbox.complete();
        assert_eq!(drain(&mut mailbox), [Parcel::Remove(app("old")), Parcel::Synced]);
        assert_eq!(mailbox.held(), 0);
    }

    #[test]
    fn an_app_set_to_keep_survives_completion() {
        let (mut mailbox, unresolved) = (Mailbox::default(), order("unresolved", 10_000));
        mailbox.open(inventory(&[&unresolved]), 0);
        mailbox.set(&app("unresolved"), Desired::Keep);
        mailbox.complete();
        assert_eq!(drain(&mut mailbox), [Parcel::Synced]);
        assert_eq!(mailbox.held(), 1);
    }

    #[test]
    fn a_runtime_that_comes_back_is_compared_again_and_gets_only_what_it_lost() {
        let (mut mailbox, cart, pay) = (Mailbox::default(), order("cart", 10_000), order("pay", 10_001));
        mailbox.open(BTreeMap::new(), 0);
        mailbox.set(&app("cart"), Desired::Assign(Arc::clone(&cart)));
        mailbox.set(&app("pay"), Desired::Assign(Arc::clone(&pay)));
        mailbox.complete();
        assert_eq!(drain(&mut mailbox).len(), 3);
        mailbox.open(inventory(&[&cart]), 0);
        assert_eq!(drain(&mut mailbox), [Parcel::Assign(pay)]);
        mailbox.complete();
        assert_eq!(drain(&mut mailbox), [Parcel::Synced]);
    }

    #[test]
    fn of_many_changes_only_the_last_is_told() {
        let mut mailbox = Mailbox::default();
        for port in 10_000..10_100 {
            mailbox.set(&app("cart"), Desired::Assign(order("cart", port)));
        }
        assert_eq!(drain(&mut mailbox), [Parcel::Assign(order("cart", 10_099))]);
    }

    #[test]
    fn an_app_set_and_taken_back_before_it_was_told_is_never_mentioned() {
        let mut mailbox = Mailbox::default();
        mailbox.complete();
        mailbox.set(&app("cart"), Desired::Assign(order("cart", 10_000)));
        assert_eq!(mailbox.held(), 1);
        mailbox.set(&app("cart"), Desired::Remove);
        assert_eq!(mailbox.held(), 0);
        assert_eq!(drain(&mut mailbox), [Parcel::Synced]);
    }

    #[test]
    fn a_deleted_app_is_removed_at_once_and_leaves_no_entry() {
        let (mut mailbox, order) = (Mailbox::default(), order("cart", 10_000));
        mailbox.open(inventory(&[&order]), 0);
        mailbox.set(&app("cart"), Desired::Assign(Arc::clone(&order)));
        mailbox.complete();
        drain(&mut mailbox);
        mailbox.set(&app("cart"), Desired::Remove);
        assert_eq!(drain(&mut mailbox), [Parcel::Remove(app("cart"))]);
        assert_eq!(mailbox.desired.len(), 0);
        assert_eq!(mailbox.told(&app("cart")), None);
    }

    #[test]
    fn a_report_from_before_the_app_was_taken_away_is_not_believed_though_the_app_is_given_again() {
        let (mut mailbox, order) = (Mailbox::default(), order("cart", 10_000));
        mailbox.open(inventory(&[&order]), 7);
        let report = |word| AppReport {
            app: app("cart"),
            uid: "u".to_owned(),
            fingerprint: order.fingerprint(),
            word,
            port: 10_000,
            revisions: BTreeMap::new(),
            serving: Some(RevisionId("r".to_owned())),
            problem: None,
            times: BTreeMap::new(),
        };
        mailbox.complete();
        assert!(mailbox.believes(&report(Some(3))), "nothing has been taken away yet");
        drain(&mut mailbox);
        mailbox.set(&app("cart"), Desired::Assign(Arc::clone(&order)));
        drain(&mut mailbox);
        assert!(!mailbox.believes(&report(Some(3))), "it was said before word 8 took the app away");
        assert!(!mailbox.believes(&report(Some(8))));
        assert!(mailbox.believes(&report(Some(9))), "it answers the app's return");
        assert!(mailbox.believes(&report(None)), "a runtime that does not count is believed");
    }
}

//! The Secrets and ConfigMaps that apps refer to, and no others.
//!
//! Promise: reading never waits: what is not known yet is being fetched, and its apps are looked at again
//! when it is. A change is noticed by a watch of metadata alone, so what no app refers to is never read,
//! let alone held. The watch of a kind starts with the first reference to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control::{AppKey, SecretString};
use futures::{FutureExt as _, TryStreamExt as _};
use k8s_openapi::{
    NamespaceResourceScope, Resource as _,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    api_server::Patience,
    backoff::{Backoff, Pauses},
    failure,
    queue::{Queue, Trigger},
};

/// The kind of a referenced object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => Secret::KIND,
            Self::ConfigMap => ConfigMap::KIND,
        }
    }
}

/// A reference to an object in the app's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is known about a referenced object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referenced {
    /// Nothing yet.
    Pending,
    /// It does not exist.
    Missing,
    /// It cannot be read, as the text says.
    Unreadable(String),
    /// What it holds.
    Values(Arc<Values>),
}

/// What an object holds. Variables, passwords and configurations are texts; what is none is known by its key alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values(BTreeMap<String, Option<SecretString>>);

/// Why there is no value at a key; follows the name of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Nothing is there.
    #[error("has no key")]
    Key,
    /// Bytes are there that are no UTF-8.
    #[error("has no text (UTF-8) at the key")]
    Text,
}

impl Values {
    /// The text at `key`.
    ///
    /// # Errors
    /// When there is none.
    pub fn text(&self, key: &str) -> Result<&SecretString, Lack> {
        self.0.get(key).ok_or(Lack::Key)?.as_ref().ok_or(Lack::Text)
    }
}

impl<T: Into<Option<SecretString>>> FromIterator<(String, T)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(values: I) -> Self {
        Self(values.into_iter().map(|(key, value)| (key, value.into())).collect())
    }
}

#[derive(Debug)]
struct Entry {
    state: Referenced,
    /// The resource version that `state` is of; empty when it is of none.
    version: String,
    apps: BTreeSet<AppKey>,
    /// Whether it must be fetched (again).
    wanted: bool,
    /// The fetch that counts, also while it waits to be tried again.
    fetch: u64,
    /// When a fetch that failed is tried again.
    backoff: Backoff,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Reference, Entry>,
    by_app: BTreeMap<AppKey, BTreeSet<Reference>>,
    /// How many fetches there were.
    fetches: u64,
}

/// The referenced objects of all apps.
#[derive(Debug)]
pub struct References {
    inner: Mutex<Inner>,
    wanted: Notify,
    secrets_used: watch::Sender<bool>,
    config_maps_used: watch::Sender<bool>,
    triggers: Arc<Queue>,
    patience: Patience,
}

impl References {
    /// Nothing referenced yet; news go to `triggers`.
    #[must_use]
    pub fn new(triggers: Arc<Queue>, patience: Patience) -> Self {
        Self {
            inner: Mutex::default(),
            wanted: Notify::new(),
            secrets_used: watch::Sender::new(false),
            config_maps_used: watch::Sender::new(false),
            triggers,
            patience,
        }
    }

    /// Sets what `app` refers to, and says what is known of each.
    pub fn look_up(&self, app: &AppKey, references: BTreeSet<Reference>) -> BTreeMap<Reference, Referenced> {
        let mut inner = self.lock();
        inner.forget_others(app, &references);
        let known = references
            .iter()
            .map(|reference| {
                let entry = inner.entries.entry(reference.clone()).or_insert_with(|| {
                    self.wanted.notify_one();
                    self.use_of(reference.kind).send_replace(true);
                    Entry::new()
                });
                entry.apps.insert(app.clone());
                (reference.clone(), entry.state.clone())
            })
            .collect();
        if !references.is_empty() {
            inner.by_app.insert(app.clone(), references);
        }
        known
    }

    /// Nobody but these refers to anything: others may have gone while this operator did not lead, and nobody looked.
    pub fn forget_all_but(&self, apps: &BTreeSet<AppKey>) {
        let mut inner = self.lock();
        let gone: Vec<AppKey> = inner.by_app.keys().filter(|app| !apps.contains(*app)).cloned().collect();
        gone.iter().for_each(|app| inner.forget_others(app, &BTreeSet::new()));
    }

    /// Fetches what is wanted and watches for changes, for as long as it is polled.
    pub async fn run(&self, client: Client) {
        let secrets = async {
            self.used(Kind::Secret).await;
            self.watch::<Secret>(Kind::Secret, &client).await;
        };
        let config_maps = async {
            self.used(Kind::ConfigMap).await;
            self.watch::<ConfigMap>(Kind::ConfigMap, &client).await;
        };
        tokio::join!(self.fetch_wanted(&client), secrets, config_maps);
    }

    /// Whether something of `kind` has ever been referenced.
    const fn use_of(&self, kind: Kind) -> &watch::Sender<bool> {
        match kind {
            Kind::Secret => &self.secrets_used,
            Kind::ConfigMap => &self.config_maps_used,
        }
    }

    /// Waits until something of `kind` is referenced.
    async fn used(&self, kind: Kind) {
        // The sender lives as long as `self`.
        let mut used = self.use_of(kind).subscribe();
        let _never_closed = used.wait_for(|used| *used).await;
    }

    async fn fetch_wanted(&self, client: &Client) {
        let mut fetches = JoinSet::new();
        loop {
            for (reference, number) in self.take_wanted() {
                fetches.spawn(fetch(client.clone(), reference, number, Duration::ZERO));
            }
            tokio::select! {
                () = self.wanted.notified() => {}
                Some(done) = fetches.join_next() => {
                    if let Ok((reference, number, fetched)) = done
                        && let Some(delay) = self.fetched(&reference, number, fetched)
                    {
                        fetches.spawn(fetch(client.clone(), reference, number, delay));
                    }
                }
            }
        }
    }

    fn take_wanted(&self) -> Vec<(Reference, u64)> {
        let mut inner = self.lock();
        let Inner { entries, fetches, .. } = &mut *inner;
        let wanted = entries.iter_mut().filter(|(_, entry)| entry.wanted);
        wanted
            .map(|(reference, entry)| {
                // Whatever was under way before this counts no more.
                *fetches += 1;
                (entry.wanted, entry.fetch) = (false, *fetches);
                (reference.clone(), *fetches)
            })
            .collect()
    }

    /// Takes in what the fetch called `number` brought; how long to wait before trying again if it brought nothing.
    fn fetched(&self, reference: &Reference, number: u64, fetched: Fetched) -> Option<Duration> {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(reference).filter(|entry| entry.fetch == number)?;
        let Fetched { state, version, hurting } = fetched;
        if hurting && matches!(entry.state, Referenced::Values(_) | Referenced::Missing) {
            // The server cannot say; what it said last goes on holding meanwhile.
            return Some(entry.backoff.next_delay());
        }
        entry.version = version;
        if entry.state != state {
            entry.state = state;
            for app in &entry.apps {
                self.triggers.add(Trigger::App(app.clone()));
            }
        }
        if matches!(entry.state, Referenced::Unreadable(_)) {
            Some(entry.backoff.next_delay())
        } else {
            entry.backoff = Backoff::default();
            None
        }
    }

    async fn watch<K>(&self, kind: Kind, client: &Client)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let mut listed: BTreeSet<Reference> = BTreeSet::new();
        let metadata = Api::<PartialObjectMeta<K>>::all(client.clone());
        let events = watcher(metadata, self.patience.watches()).backoff(Pauses::default());
        let mut events = std::pin::pin!(events);
        loop {
            let of = |object: &PartialObjectMeta<K>| {
                let reference =
                    Reference { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
                (reference, object.resource_version().unwrap_or_default())
            };
            match events.try_next().await {
                Ok(Some(Event::Apply(object))) => {
                    let (reference, version) = of(&object);
                    self.changed(&reference, Some(&version));
                }
                Ok(Some(Event::Delete(object))) => self.changed(&of(&object).0, None),
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(object))) => {
                    let (reference, version) = of(&object);
                    self.changed(&reference, Some(&version));
                    if self.lock().entries.contains_key(&reference) {
                        listed.insert(reference);
                    }
                }
                Ok(Some(Event::InitDone)) => self.listed(kind, &std::mem::take(&mut listed)),
                Ok(None) => return,
                Err(error) => tracing::warn!(kind = kind.as_str(), error = failure::of_watch(&error), "a watch failed"),
            }
        }
    }

    /// The object has this version now, or is gone.
    fn changed(&self, reference: &Reference, version: Option<&str>) {
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get_mut(reference)
            && entry.version != version.unwrap_or_default()
        {
            entry.wanted = true;
            self.wanted.notify_one();
        }
    }

    /// Nothing else of this kind exists.
    fn listed(&self, kind: Kind, listed: &BTreeSet<Reference>) {
        let mut inner = self.lock();
        for (reference, entry) in &mut inner.entries {
            if reference.kind == kind && !listed.contains(reference) && entry.state != Referenced::Missing {
                entry.wanted = true;
                self.wanted.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            state: Referenced::Pending,
            version: String::new(),
            apps: BTreeSet::new(),
            wanted: true,
            fetch: 0,
            backoff: Backoff::default(),
        }
    }
}

impl Inner {
    /// Forgets what `app` refers to no longer, and what nobody does.
    fn forget_others(&mut self, app: &AppKey, references: &BTreeSet<Reference>) {
        let old = self.by_app.remove(app).unwrap_or_default();
        for reference in old.difference(references) {
            if let Some(entry) = self.entries.get_mut(reference) {
                entry.apps.remove(app);
                if entry.apps.is_empty() {
                    self.entries.remove(reference);
                }
            }
        }
    }
}

/// What a fetch brought.
#[derive(Debug)]
struct Fetched {
    state: Referenced,
    version: String,
    /// Whether there is no answer because the server has no answer for anybody.
    hurting: bool,
}

async fn fetch(client: Client, reference: Reference, number: u64, delay: Duration) -> (Reference, u64, Fetched) {
    tokio::time::sleep(delay).await;
    let fetched = unless_it_panics(fetch_now(client, &reference)).await;
    (reference, number, fetched)
}

/// What `fetch` brings; a panic, which is logged where it happens, is no answer.
async fn unless_it_panics(fetch: impl Future<Output = Fetched>) -> Fetched {
    AssertUnwindSafe(fetch).catch_unwind().await.unwrap_or_else(|_panic| {
        let why = "the operator failed at reading it, which its log says more about; it tries again".to_owned();
        Fetched { state: Referenced::Unreadable(why), version: String::new(), hurting: true }
    })
}

async fn fetch_now(client: Client, reference: &Reference) -> Fetched {
    let Reference { kind, namespace, name } = reference;
    if !is_name(name) {
        return Fetched { state: Referenced::Missing, version: String::new(), hurting: false };
    }
    let found = match kind {
        Kind::Secret => {
            let object = Api::<Secret>::namespaced(client, namespace).get_opt(name).await;
            object.map(|object| object.map(|object| (object.resource_version(), secret_values(object))))
        }
        Kind::ConfigMap => {
            let object = Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await;
            object.map(|object| object.map(|object| (object.resource_version(), config_map_values(object))))
        }
    };
    match found {
        Ok(Some((version, values))) => {
            let state = Referenced::Values(Arc::new(values));
            Fetched { state, version: version.unwrap_or_default(), hurting: false }
        }
        Ok(None) => Fetched { state: Referenced::Missing, version: String::new(), hurting: false },
        Err(error) => {
            let hurting = failure::status(&error).is_none_or(|code| code == 429 || code >= 500);
            let state = Referenced::Unreadable(failure::sentence(&error));
            Fetched { state, version: String::new(), hurting }
        }
    }
}

/// Whether an object can be called so. What cannot be a name would make another path of the request, perhaps into another
/// namespace: the CRD's rules refuse it, if they are those of this release.
fn is_name(name: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends_well = bytes.first().is_some_and(is_end) && bytes.last().is_some_and(is_end);
    ends_well && bytes.iter().all(|byte| is_end(byte) || matches!(byte, b'-' | b'.'))
}

fn secret_values(secret: Secret) -> Values {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok().map(SecretString::new);
    secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value.0))).collect()
}

fn config_map_values(config_map: ConfigMap) -> Values {
    let texts =
        config_map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, Some(SecretString::new(value))));
    let others = config_map.binary_data.unwrap_or_default().into_keys().map(|key| (key, None));
    texts.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppKey {
        AppKey::new("shop", name).unwrap()
    }

    fn secret(name: &str) -> Reference {
        Reference { kind: Kind::Secret, namespace: "shop".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn what_would_be_another_path_is_no_name() {
        for name in ["db", "db-2.prod", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in
            ["", ".", "..", "../../other/secrets/db", "db/status", "db?watch=true", "db#", "DB", "d b", "db\n", "-db"]
        {
            assert!(!is_name(name), "{name:?}");
        }
    }

    fn values(text: &str) -> Fetched {
        let values = [("key".to_owned(), SecretString::new(text))].into_iter().collect();
        Fetched { state: Referenced::Values(Arc::new(values)), version: text.to_owned(), hurting: false }
    }

    fn no_answer(hurting: bool) -> Fetched {
        Fetched { state: Referenced::Unreadable("no".to_owned()), version: String::new(), hurting }
    }

    /// The one thing that is wanted, as the number of its fetch.
    fn wanted(references: &References) -> u64 {
        let wanted = references.take_wanted();
        assert_eq!(wanted.len(), 1, "{wanted:?}");
        wanted[0].1
    }

    fn references() -> (References, Arc<Queue>) {
        let queue = Arc::new(Queue::default());
        (References::new(Arc::clone(&queue), Patience::default()), queue)
    }

    #[test]
    fn what_is_no_text_is_told_from_what_is_not_there() {
        let bytes = |bytes: &[u8]| k8s_openapi::ByteString(bytes.to_vec());
        let data = BTreeMap::from([("key".to_owned(), bytes(b"text")), ("der".to_owned(), bytes(&[0x30, 0x82, 0xff]))]);
        let secret = secret_values(Secret { data: Some(data.clone()), ..Secret::default() });
        assert_eq!(secret.text("key").map(SecretString::expose), Ok("text"));
        assert_eq!((secret.text("der"), secret.text("none")), (Err(Lack::Text), Err(Lack::Key)));
        let config_map = config_map_values(ConfigMap { binary_data: Some(data), ..ConfigMap::default() });
        assert_eq!((config_map.text("key"), config_map.text("none")), (Err(Lack::Text), Err(Lack::Key)));
    }

    #[test]
    fn a_new_reference_is_fetched_once_and_its_apps_are_looked_at_when_it_is_there() {
        let (references, queue) = references();
        let known = references.look_up(&app("cart"), BTreeSet::from([secret("db")]));
        assert_eq!(known[&secret("db")], Referenced::Pending);
        references.look_up(&app("pay"), BTreeSet::from([secret("db")]));
        let number = wanted(&references);
        assert!(references.take_wanted().is_empty());
        references.fetched(&secret("db"), number, values("1"));
        assert_eq!(queue.depth(), 2);
    }

    #[test]
    fn only_a_change_of_something_referenced_is_fetched() {
        let (references, _queue) = references();
        references.look_up(&app("cart"), BTreeSet::from([secret("db")]));
        let number = wanted(&references);
        references.fetched(&secret("db"), number, values("1"));
        references.changed(&secret("other"), Some("9"));
        references.changed(&secret("db"), Some("1"));
        assert!(references.take_wanted().is_empty());
        references.changed(&secret("db"), Some("2"));
        wanted(&references);
        references.changed(&secret("db"), None);
        wanted(&references);
    }

    #[test]
    fn what_no_app_refers_to_any_more_is_forgotten() {
        let (references, _queue) = references();
        references.look_up(&app("cart"), BTreeSet::from([secret("db")]));
        references.look_up(&app("pay"), BTreeSet::from([secret("db")]));
        references.look_up(&app("cart"), BTreeSet::new());
        assert_eq!(references.lock().entries.len(), 1);
        references.look_up(&app("pay"), BTreeSet::from([secret("key")]));
        assert_eq!(references.lock().entries.keys().collect::<Vec<_>>(), [&secret("key")]);
        references.forget_all_but(&[app("cart")].into());
        let inner = references.lock();
        assert!(inner.entries.is_empty() && inner.by_app.is_empty());
    }

    #[test]
    fn what_is_known_holds_while_the_server_cannot_say_and_a_refusal_is_told() {
        let (references, _queue) = references();
        references.look_up(&app("cart"), BTreeSet::from([secret("db")]));
        let number = wanted(&references);
        assert!(references.fetched(&secret("db"), number, no_answer(true)).is_some(), "it is asked again");
        let known = |references: &References| {
            references.look_up(&app("cart"), BTreeSet::from([secret("db")])).remove(&secret("db")).unwrap()
        };
        assert!(matches!(known(&references), Referenced::Unreadable(_)), "nothing was known");
        references.fetched(&secret("db"), number, values("1"));
        references.changed(&secret("db"), Some("2"));
        let number = wanted(&references);
        assert!(references.fetched(&secret("db"), number, no_answer(true)).is_some());
        assert!(matches!(known(&references), Referenced::Values(_)));
        assert!(references.fetched(&secret("db"), number, no_answer(false)).is_some());
        assert!(matches!(known(&references), Referenced::Unreadable(_)));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_what_was_to_be_read_is_asked_for_again() {
        let (references, queue) = references();
        references.look_up(&app("cart"), BTreeSet::from([secret("db")]));
        let number = wanted(&references);
        let fetched = unless_it_panics(async { panic!("a test") }).await;
        assert!(references.fetched(&secret("db"), number, fetched).is_some(), "it is asked again");
        assert_eq!(queue.depth(), 1);
        let known = references.look_up(&app("cart"), BTreeSet::from([secret("db")]));
        assert!(matches!(&known[&secret("db")], Referenced::Unreadable(why) if why.contains("its log")), "{known:?}");
    }

    #[test]
    fn however_often_something_changes_while_it_cannot_be_read_it_is_asked_for_once_at_a_time() {
        let (references, _queue) = references();
        references.look_up(&app("cart"), BTreeSet::from([secret("db")]));
        let first = wanted(&references);
        assert!(references.fetched(&secret("db"), first, no_answer(false)).is_some());
        references.changed(&secret("db"), Some("2"));
        let second = wanted(&references);
        assert_eq!(references.fetched(&secret("db"), first, no_answer(false)), None, "the second one counts");
        assert!(references.fetched(&secret("db"), second, no_answer(false)).is_some());
    }
}

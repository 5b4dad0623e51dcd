//! What the API server has, as far as it concerns apps: a cache fed by a watch and by our own writes.
//!
//! Promise: what this process has written can be read back at once, so no decision is made twice because
//! a watch is late; the echo of an own write is not news. Objects are held without what nobody reads.
//!
//! Absent on purpose: requests. The cache is told what happened.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use control::AppKey;
use kube::{Resource, runtime::watcher::Event};
use tokio::sync::watch;

/// An object that concerns an app.
pub trait Concerns: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static {
    /// Whether the object's own name says which app it concerns. Otherwise that can change: somebody edits a label.
    const BY_NAME: bool;

    /// The app that must be looked at when the object changes; `None` when there is none.
    fn app(&self) -> Option<AppKey>;

    /// Drops what nobody reads.
    fn trim(&mut self) {
        self.meta_mut().managed_fields = None;
    }
}

/// Objects of one kind by the app that they concern.
#[derive(Debug)]
pub struct Cache<K> {
    inner: RwLock<Inner<K>>,
    synced: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner<K> {
    by_app: HashMap<AppKey, BTreeMap<String, Arc<K>>>,
    /// The app that each object is kept under, by namespace and name, unless its name says that.
    kept_under: HashMap<(String, String), AppKey>,
    /// What a list that is under way has brought so far.
    listed: HashSet<(AppKey, String)>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let inner = Inner { by_app: HashMap::new(), kept_under: HashMap::new(), listed: HashSet::new() };
        Self { inner: RwLock::new(inner), synced: watch::Sender::new(false) }
    }
}

impl<K: Concerns> Cache<K> {
    /// Takes in what the watch says; the apps that have something new.
    pub fn observe(&self, event: Event<K>) -> Vec<AppKey> {
        let mut inner = self.write();
        match event {
            Event::Apply(object) => inner.put(object),
            Event::Delete(object) => inner.delete(&object).into_iter().collect(),
            Event::Init => {
                inner.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                if let (Some(app), Some(name)) = (object.app(), object.meta().name.clone()) {
                    inner.listed.insert((app, name));
                }
                inner.put(object)
            }
            Event::InitDone => {
                let gone = inner.drop_unlisted();
                self.synced.send_replace(true);
                gone
            }
        }
    }

    /// Takes in what the API server returned for an own write.
    pub fn wrote(&self, mut object: K) {
        object.trim();
        self.write().put(object);
    }

    /// Forgets the object of this name and `uid`, of which the API server said that it is gone; not another that has been
    /// made under the name since.
    pub fn forget(&self, app: &AppKey, name: &str, uid: Option<&str>) {
        let mut inner = self.write();
        let known = inner.by_app.get(app).and_then(|objects| objects.get(name));
        if known.is_some_and(|known| known.meta().uid.as_deref() == uid) {
            inner.remove(app, name);
        }
    }

    /// The objects that concern `app`, by name.
    #[must_use]
    pub fn of(&self, app: &AppKey) -> Vec<Arc<K>> {
        self.read().by_app.get(app).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// The object called as the app.
    #[must_use]
    pub fn named(&self, app: &AppKey) -> Option<Arc<K>> {
        self.read().by_app.get(app)?.get(app.name()).cloned()
    }

    /// Every app that some object concerns.
    #[must_use]
    pub fn apps(&self) -> Vec<AppKey> {
        self.read().by_app.keys().cloned().collect()
    }

    /// How many apps some object concerns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().by_app.len()
    }

    /// Whether no object is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything that there was at the start has been read.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until everything that there was at the start has been read.
    pub async fn synced(&self) {
        // The sender lives as long as `self`.
        let mut synced = self.synced.subscribe();
        let _never_closed = synced.wait_for(|synced| *synced).await;
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<K>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<K>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Concerns> Inner<K> {
    /// Keeps `object` unless something newer is known; the apps for which that is news: that which it concerned before, too.
    fn put(&mut self, object: K) -> Vec<AppKey> {
        let (app, Some(name)) = (object.app(), object.meta().name.clone()) else { return Vec::new() };
        let before = self.found_under(&object);
        let known = before.as_ref().or(app.as_ref()).and_then(|app| self.by_app.get(app)?.get(&name));
        if known.is_some_and(|known| !is_older(known.as_ref(), &object)) {
            return Vec::new();
        }
        let left = before.filter(|before| app.as_ref() != Some(before));
        if let Some(left) = &left {
            self.remove(left, &name);
        }
        if let Some(app) = &app {
            if !K::BY_NAME {
                self.kept_under.insert((app.namespace().to_owned(), name.clone()), app.clone());
            }
            self.by_app.entry(app.clone()).or_default().insert(name, Arc::new(object));
        }
        left.into_iter().chain(app).collect()
    }

    /// The app that the object is kept under, whatever it says now.
    fn found_under(&self, object: &K) -> Option<AppKey> {
        if K::BY_NAME {
            return object.app();
        }
        let meta = object.meta();
        self.kept_under.get(&(meta.namespace.clone()?, meta.name.clone()?)).cloned()
    }

    fn delete(&mut self, object: &K) -> Option<AppKey> {
        let app = self.found_under(object)?;
        let name = object.meta().name.as_deref()?;
        let known = self.by_app.get(&app)?.get(name)?;
        // A newer one has been made under the same name since.
        if is_older(object, known.as_ref()) {
            return None;
        }
        self.remove(&app, name);
        Some(app)
    }

    fn remove(&mut self, app: &AppKey, name: &str) {
        if let Some(objects) = self.by_app.get_mut(app) {
            objects.remove(name);
            if !K::BY_NAME {
                self.kept_under.remove(&(app.namespace().to_owned(), name.to_owned()));
            }
            if objects.is_empty() {
                self.by_app.remove(app);
            }
        }
    }

    fn drop_unlisted(&mut self) -> Vec<AppKey> {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<_> = self
            .by_app
            .iter()
            .flat_map(|(app, objects)| objects.keys().map(|name| (app.clone(), name.clone())))
            .filter(|key| !listed.contains(key))
            .collect();
        for (app, name) in &gone {
            self.remove(app, name);
        }
        gone.into_iter().map(|(app, _)| app).collect()
    }
}

/// Whether `this` is an older state than `that`.
///
/// Resource versions of one kind grow (etcd's revisions; guaranteed since Kubernetes 1.35). Should they
/// not be numbers, what comes later is newer unless it is the same.
fn is_older<K: Resource>(this: &K, that: &K) -> bool {
    let version = |object: &K| object.meta().resource_version.clone().unwrap_or_default();
    let (this, that) = (version(this), version(that));
    match (this.parse::<u64>(), that.parse::<u64>()) {
        (Ok(this), Ok(that)) => this < that,
        _ => this != that,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::{core::v1::Service, discovery::v1::EndpointSlice},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };
    use operator_api::names;

    use super::*;

    /// A slice that says that it is of an app's Service, or of none.
    fn slice(name: &str, of: Option<&str>, version: u64) -> EndpointSlice {
        let label = |app: &str| (names::SLICE_SERVICE_LABEL.to_owned(), app.to_owned());
        EndpointSlice {
            metadata: ObjectMeta {
                labels: Some(of.map(label).into_iter().collect()),
                ..service(name, version).metadata
            },
            ..EndpointSlice::default()
        }
    }

    fn service(name: &str, version: u64) -> Service {
        Service {
            metadata: ObjectMeta {
                namespace: Some("shop".to_owned()),
                name: Some(name.to_owned()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..Service::default()
        }
    }

    fn app(name: &str) -> AppKey {
        AppKey::new("shop", name).unwrap()
    }

    fn version_of(cache: &Cache<Service>, name: &str) -> Option<String> {
        cache.named(&app(name))?.metadata.resource_version.clone()
    }

    #[test]
    fn the_echo_of_an_own_write_is_no_news_and_an_older_state_never_comes_back() {
        let cache = Cache::default();
        cache.wrote(service("cart", 7));
        assert_eq!(cache.observe(Event::Apply(service("cart", 7))), []);
        assert_eq!(cache.observe(Event::Apply(service("cart", 5))), []);
        assert_eq!(version_of(&cache, "cart").as_deref(), Some("7"));
        assert_eq!(cache.observe(Event::Apply(service("cart", 9))), [app("cart")]);
    }

    #[test]
    fn a_late_deletion_does_not_remove_what_was_made_since() {
        let cache = Cache::default();
        cache.observe(Event::Apply(service("cart", 5)));
        cache.wrote(service("cart", 9));
        assert_eq!(cache.observe(Event::Delete(service("cart", 8))), []);
        assert_eq!(version_of(&cache, "cart").as_deref(), Some("9"));
        assert_eq!(cache.observe(Event::Delete(service("cart", 10))), [app("cart")]);
        assert!(cache.is_empty());
    }

    #[test]
    fn an_object_that_somebody_makes_another_apps_or_nobodys_is_missed_by_the_one_that_had_it() {
        let cache = Cache::default();
        cache.wrote(slice("cart-ipv4", Some("cart"), 5));
        let moved = cache.observe(Event::Apply(slice("cart-ipv4", Some("pay"), 7)));
        assert_eq!(moved, [app("cart"), app("pay")]);
        assert!(cache.of(&app("cart")).is_empty() && cache.of(&app("pay")).len() == 1);
        assert_eq!(cache.observe(Event::Apply(slice("cart-ipv4", Some("cart"), 5))), [], "that was before");
        assert_eq!(cache.observe(Event::Apply(slice("cart-ipv4", None, 9))), [app("pay")]);
        assert!(cache.is_empty());
        cache.wrote(slice("cart-ipv4", Some("cart"), 11));
        assert_eq!(cache.observe(Event::Delete(slice("cart-ipv4", Some("pay"), 12))), [app("cart")]);
        assert!(cache.is_empty());
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_and_its_app_is_looked_at() {
        let cache = Cache::default();
        cache.observe(Event::Apply(service("cart", 5)));
        cache.observe(Event::Apply(service("pay", 6)));
        assert!(!cache.is_synced());
        cache.observe(Event::Init);
        cache.observe(Event::InitApply(service("pay", 6)));
        assert_eq!(cache.observe(Event::InitDone), [app("cart")]);
        assert!(cache.is_synced());
        assert_eq!(cache.apps(), [app("pay")]);
    }
}

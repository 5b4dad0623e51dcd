//! The API server: objects with versions, and what watches say of them, late.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use control::{AppKey, RuntimeName};
use operator_api::SpinAppStatus;
use operator_core::{
    Pod, lease,
    publish::{Service, Slice},
    rollout::Rollout,
};

/// A `SpinApp`, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AppObject {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// The version of the bundle; `"bad"` in it is one that no runtime can load, `"unfit"` one that passes no check.
    pub(crate) version: String,
    pub(crate) replicas: u32,
    /// Whether it has a check.
    pub(crate) checked: bool,
    /// How its revisions take over.
    pub(crate) rollout: Rollout,
    /// The value of its secret variable.
    pub(crate) secret: String,
    pub(crate) status: SpinAppStatus,
}

/// A runtime's pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodObject {
    pub(crate) uid: String,
    pub(crate) address: IpAddr,
    pub(crate) node: String,
    pub(crate) zone: Option<String>,
    pub(crate) state: Pod,
}

/// Something of the API server that operators watch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    App(Box<AppObject>),
    Service { owner: String, service: Service },
    Slice { owner: String, slice: Slice },
    Pod(PodObject),
}

/// Its kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Id {
    App(AppKey),
    Service(AppKey),
    Slice(AppKey, String),
    Pod(RuntimeName),
}

impl Id {
    /// The kind, as a number: events of one kind arrive in order.
    pub(crate) const fn kind(&self) -> usize {
        match self {
            Self::App(_) => 0,
            Self::Service(_) => 1,
            Self::Slice(..) => 2,
            Self::Pod(_) => 3,
        }
    }

    /// The app that it is about, if it is about one.
    pub(crate) const fn app(&self) -> Option<&AppKey> {
        match self {
            Self::App(app) | Self::Service(app) | Self::Slice(app, _) => Some(app),
            Self::Pod(_) => None,
        }
    }
}

/// Runtimes that are sent requests, with their uids.
pub(crate) type Ready = BTreeSet<(RuntimeName, String)>;

/// Objects with the version of their last change.
pub(crate) type Objects = BTreeMap<Id, (u64, Object)>;

/// The server's store.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) objects: Objects,
    pub(crate) version: u64,
    pub(crate) lease: Option<(u64, lease::Record)>,
    /// Since when an app's ready endpoints were what, for those who route by it.
    pub(crate) published: BTreeMap<AppKey, Vec<(i64, Ready)>>,
    /// How often something was written.
    pub(crate) writes: u64,
}

impl Api {
    /// Writes `object`; its version, or `None` where nothing changes.
    pub(crate) fn put(&mut self, now: i64, id: &Id, object: Object) -> Option<u64> {
        if self.objects.get(id).is_some_and(|(_, known)| *known == object) {
            return None;
        }
        self.version += 1;
        self.objects.insert(id.clone(), (self.version, object));
        self.note(now, id);
        Some(self.version)
    }

    /// Deletes it; the version of that.
    pub(crate) fn delete(&mut self, now: i64, id: &Id) -> Option<u64> {
        self.objects.remove(id)?;
        self.version += 1;
        self.note(now, id);
        Some(self.version)
    }

    /// An app.
    pub(crate) fn app(&self, key: &AppKey) -> Option<&AppObject> {
        match self.objects.get(&Id::App(key.clone())) {
            Some((_, Object::App(app))) => Some(app),
            _ => None,
        }
    }

    /// Every app.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&AppKey, &AppObject)> {
        self.objects.iter().filter_map(|(id, (_, object))| match (id, object) {
            (Id::App(key), Object::App(app)) => Some((key, app.as_ref())),
            _ => None,
        })
    }

    /// The slices of an app that are its own.
    pub(crate) fn slices(&self, key: &AppKey) -> impl Iterator<Item = &Slice> {
        let uid = self.app(key).map(|app| app.uid.clone()).unwrap_or_default();
        self.objects.iter().filter_map(move |(id, (_, object))| match (id, object) {
            (Id::Slice(of, _), Object::Slice { owner, slice }) if of == key && *owner == uid => Some(slice),
            _ => None,
        })
    }

    /// Who is sent an app's requests, by what the API server has.
    pub(crate) fn ready(&self, key: &AppKey) -> Ready {
        let endpoints = self.slices(key).flat_map(|slice| &slice.endpoints);
        endpoints.filter(|one| one.ready).map(|one| (one.runtime.clone(), one.uid.clone())).collect()
    }

    /// Who may still be sent requests by somebody who is `lag` milliseconds behind.
    pub(crate) fn routed(&self, key: &AppKey, now: i64, lag: i64) -> Ready {
        let Some(history) = self.published.get(key) else { return BTreeSet::new() };
        let since = history.iter().rposition(|(at, _)| *at <= now - lag).unwrap_or_default();
        history.iter().skip(since).flat_map(|(_, ready)| ready.iter().cloned()).collect()
    }

    fn note(&mut self, now: i64, id: &Id) {
        let Some(app) = id.app().cloned() else { return };
        let ready = self.ready(&app);
        let history = self.published.entry(app).or_default();
        if history.last().is_none_or(|(_, last)| *last != ready) {
            history.push((now, ready));
        }
        let old = history.iter().rposition(|(at, _)| *at < now - 20_000).unwrap_or_default();
        history.drain(..old);
    }
}

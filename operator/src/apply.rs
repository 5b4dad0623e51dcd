//! Carries out what a plan says about Kubernetes objects.
//!
//! Promise: everything is written by server-side apply under one field manager, owned by the app, and
//! naming the app's uid, so an app that was deleted and made again meanwhile gets nothing that was meant
//! for the other. What was written is in the caches before this returns. Reports of what happened (events)
//! keep nobody waiting. Nothing is written without a [`Mandate`] that holds.

use std::{fmt, sync::Arc};

use control::{AppKey, Problem, clip};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::ControllerRevision,
        core::v1::{ObjectReference, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use operator_api::{Reason, SpinApp, SpinAppStatus, names};
use operator_core::{
    App, EventKind, Plan,
    objects::{Possession, entry_object, has_strange_ports, possession, service_object, slice_object},
    publish::Slice,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    cache::{Cache, Concerns},
    failure,
    kinds::AppObject,
    lease::Mandate,
    metrics::Metrics,
};

/// How many events may wait to be told; more are dropped, as they are a courtesy.
const EVENTS: usize = 1024;

/// The longest note of an event, in bytes (events.k8s.io/v1).
const NOTE: usize = 1024;

/// The API server's objects that belong to apps.
#[derive(Debug, Default)]
pub struct Caches {
    /// The apps.
    pub apps: Cache<AppObject>,
    /// All Services, so that one that is somebody else's is known.
    pub services: Cache<Service>,
    /// Our EndpointSlices.
    pub slices: Cache<EndpointSlice>,
    /// The revisions that one can go back to.
    pub history: Cache<ControllerRevision>,
}

impl Caches {
    /// What has not been read yet, if anything.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        if !self.apps.is_synced() {
            Some("SpinApps have not been listed yet; is their CRD there?")
        } else if !self.services.is_synced() {
            Some("Services have not been listed yet")
        } else if !self.slices.is_synced() {
            Some("EndpointSlices have not been listed yet")
        } else if !self.history.is_synced() {
            Some("ControllerRevisions have not been listed yet")
        } else {
            None
        }
    }

    /// Waits until everything that there was at the start has been read.
    pub async fn synced(&self) {
        tokio::join!(self.apps.synced(), self.services.synced(), self.slices.synced(), self.history.synced());
    }
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another may lead by now.
    #[error("this operator leads no more")]
    Fenced,
    /// The API server did not take it.
    #[error("{}", failure::sentence(.0))]
    Refused(#[from] kube::Error),
}

impl WriteError {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(error) if failure::is_not_found(error))
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(error) if failure::is_conflict(error))
    }

    fn is_namespace_ending(&self) -> bool {
        matches!(self, Self::Refused(error) if failure::is_namespace_ending(error))
    }
}

/// A kind of object that is made for an app.
trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + Serialize + DeserializeOwned
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + Serialize + DeserializeOwned
{
}

/// Something to tell about an object.
#[derive(Debug)]
pub struct News {
    mandate: Mandate,
    about: ObjectReference,
    event: operator_core::Event,
}

/// Writes objects.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    news: mpsc::Sender<News>,
    metrics: Metrics,
    mandate: Mandate,
}

impl fmt::Debug for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applier").finish_non_exhaustive()
    }
}

impl Applier {
    /// Writes with `client`, once it has a mandate. What comes out of the receiver is for [`tell`].
    #[must_use]
    pub fn new(client: Client, metrics: Metrics) -> (Self, mpsc::Receiver<News>) {
        let (news, receiver) = mpsc::channel(EVENTS);
        let mandate = Mandate::unlimited(0);
        mandate.revoke();
        (Self { client, news, metrics, mandate }, receiver)
    }

    /// The same, in the name of `mandate`.
    #[must_use]
    pub fn with(&self, mandate: Mandate) -> Self {
        Self { mandate, ..self.clone() }
    }

    /// Whether it may write.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.mandate.holds()
    }

    /// Writes the Service and the slices, side by side.
    ///
    /// # Errors
    /// The first refusal, for the app's status.
    pub async fn publish(&self, app: &App, plan: &Plan, caches: &Caches) -> Result<(), Problem> {
        let service = async {
            let Some(service) = &plan.service else { return Ok(()) };
            let known = caches.services.named(&app.key);
            let written = self.write_service(app, &service_object(app, service), known.as_deref()).await;
            take(written, "Service", app.key.name(), &caches.services)
        };
        let slices =
            futures::future::join_all(plan.slices.iter().map(async |slice| self.write_slice(app, slice, caches).await));
        let stale = futures::future::join_all(plan.stale_slices.iter().map(async |name| {
            self.delete::<EndpointSlice>(&app.key, name)
                .await
                .map_err(|error| refused("EndpointSlice", name, &error))?;
            caches.slices.deleted(&app.key, name);
            Ok(())
        }));
        let (service, slices, stale) = tokio::join!(service, slices, stale);
        std::iter::once(service).chain(slices).chain(stale).collect()
    }

    /// Writes the Service; ports that somebody has added to the `known` one are taken away first.
    async fn write_service(&self, app: &App, object: &Service, known: Option<&Service>) -> Result<Service, WriteError> {
        if let Some(known) = known.filter(|known| has_strange_ports(known)) {
            let api: Api<Service> = self.api(&app.key);
            let ports = object.spec.as_ref().and_then(|spec| spec.ports.as_ref());
            let patch = json!({ "metadata": { "uid": known.metadata.uid }, "spec": { "ports": ports } });
            let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            self.write("Service", api.patch(app.key.name(), &params, &Patch::Merge(&patch))).await?;
        }
        self.apply(&app.key, app.key.name(), object).await
    }

    /// Writes a slice. One that we do not know of may be somebody else's: the watch sees ours alone.
    async fn write_slice(&self, app: &App, slice: &Slice, caches: &Caches) -> Result<(), Problem> {
        let object = slice_object(app, slice);
        let known = caches.slices.of(&app.key).iter().any(|known| known.metadata.name.as_deref() == Some(&slice.name));
        let written = match known {
            true => self.apply(&app.key, &slice.name, &object).await,
            false => match self.create(&app.key, &object).await {
                Err(error) if error.is_conflict() => return self.claim_slice(app, slice, caches).await,
                other => other,
            },
        };
        take(written, "EndpointSlice", &slice.name, &caches.slices)
    }

    /// Writes over a slice that exists and is not in the cache, if it is ours all the same.
    async fn claim_slice(&self, app: &App, slice: &Slice, caches: &Caches) -> Result<(), Problem> {
        let api: Api<EndpointSlice> = self.api(&app.key);
        let found = api.get(&slice.name).await;
        let found = found.map_err(|error| refused("EndpointSlice", &slice.name, &error.into()))?;
        if possession(app, &found.metadata) == Possession::Foreign {
            return Err(Problem {
                reason: Reason::ServiceConflict.as_str().to_owned(),
                message: format!(
                    "The EndpointSlice {} was not made for this app: rename the app, or delete that EndpointSlice.",
                    slice.name
                ),
                retrying: true,
            });
        }
        let written = self.apply(&app.key, &slice.name, &slice_object(app, slice)).await;
        take(written, "EndpointSlice", &slice.name, &caches.slices)
    }

    /// Whether the API server still has the app. Asked in one list of one, which tells an app that is gone from a kind that
    /// nobody knows any more, and needs no other right than to list.
    ///
    /// # Errors
    /// When it cannot tell.
    pub async fn is_there(&self, app: &App) -> Result<bool, WriteError> {
        let api: Api<SpinApp> = Api::namespaced(self.client.clone(), app.key.namespace());
        let named = ListParams::default().fields(&format!("metadata.name={}", app.key.name()));
        let found = api.list_metadata(&named).await?;
        Ok(found.items.iter().any(|object| object.metadata.uid.as_ref() == Some(&app.uid)))
    }

    /// Writes the status; what the API server has kept of it. A CRD of another release may not know all of it.
    ///
    /// # Errors
    /// When the API server does not take it. That the app is gone is no error.
    pub async fn write_status(
        &self,
        object: &SpinApp,
        status: &SpinAppStatus,
        caches: &Caches,
    ) -> Result<Option<SpinAppStatus>, WriteError> {
        let (Some(namespace), name) = (object.namespace(), object.name_any()) else { return Ok(None) };
        let api: Api<SpinApp> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "apiVersion": SpinApp::api_version(&()),
            "kind": SpinApp::kind(&()),
            "metadata": { "name": name, "uid": object.uid() },
            "status": status,
        });
        match self.write("status", api.patch_status(&name, &params(), &Patch::Apply(&patch))).await {
            Ok(object) => {
                let kept = object.status.clone();
                caches.apps.wrote(AppObject::Readable(Arc::new(object)));
                Ok(kept)
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Remembers and forgets revisions.
    ///
    /// # Errors
    /// The first refusal. Nothing that serves depends on it.
    pub async fn remember(&self, app: &App, plan: &Plan, caches: &Caches) -> Result<(), WriteError> {
        if let Some(record) = &plan.history.write {
            match self.apply(&app.key, &record.entry.name, &entry_object(app, record)).await {
                Err(error) if error.is_namespace_ending() => {}
                written => caches.history.wrote(written?),
            }
        }
        for name in &plan.history.stale {
            self.delete::<ControllerRevision>(&app.key, name).await?;
            caches.history.deleted(&app.key, name);
        }
        Ok(())
    }

    /// Tells people who watch, when there is time.
    pub fn tell(&self, about: &ObjectReference, events: Vec<operator_core::Event>) {
        for event in events {
            if self.news.try_send(News { mandate: self.mandate.clone(), about: about.clone(), event }).is_err() {
                tracing::debug!("too many events, one is dropped");
            }
        }
    }

    fn api<K: Child>(&self, app: &AppKey) -> Api<K> {
        Api::namespaced(self.client.clone(), app.namespace())
    }

    fn check(&self) -> Result<(), WriteError> {
        if self.may_write() { Ok(()) } else { Err(WriteError::Fenced) }
    }

    /// Makes a request that writes, if that may be done, and counts it as one of `what`.
    async fn write<T>(&self, what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
        self.check()?;
        let written = request.await;
        self.metrics.wrote(what, written.is_ok());
        Ok(written?)
    }

    async fn apply<K: Child>(&self, app: &AppKey, name: &str, object: &K) -> Result<K, WriteError> {
        self.write(&K::kind(&()), self.api(app).patch(name, &params(), &Patch::Apply(object))).await
    }

    /// Makes an object that must not exist.
    async fn create<K: Child>(&self, app: &AppKey, object: &K) -> Result<K, WriteError> {
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.write(&K::kind(&()), self.api(app).create(&params, object)).await
    }

    async fn delete<K: Child>(&self, app: &AppKey, name: &str) -> Result<(), WriteError> {
        self.check()?;
        match self.api::<K>(app).delete(name, &DeleteParams::default()).await.map_err(WriteError::from) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn params() -> PatchParams {
    PatchParams::apply(names::FIELD_MANAGER).force()
}

/// Takes in what was written; that a namespace goes is no failure of the app's.
fn take<K: Concerns>(written: Result<K, WriteError>, kind: &str, name: &str, cache: &Cache<K>) -> Result<(), Problem> {
    match written {
        Ok(object) => cache.wrote(object),
        Err(error) if error.is_namespace_ending() => {
            tracing::debug!(kind, name, "not written: the namespace is being deleted");
        }
        Err(error) => return Err(refused(kind, name, &error)),
    }
    Ok(())
}

fn refused(kind: &str, name: &str, error: &WriteError) -> Problem {
    Problem {
        reason: Reason::WriteFailed.as_str().to_owned(),
        message: format!("the {kind} {name} could not be written: {error}"),
        retrying: true,
    }
}

/// Tells the API server what happened, one event at a time, until nobody sends any more.
pub async fn tell(client: Client, pod_name: String, mut news: mpsc::Receiver<News>) {
    let reporter = Reporter { controller: names::REPORTING_CONTROLLER.to_owned(), instance: Some(pod_name) };
    let recorder = Recorder::new(client, reporter);
    while let Some(News { mandate, about, event }) = news.recv().await {
        if !mandate.holds() {
            continue;
        }
        let told = Event {
            type_: match event.kind {
                EventKind::Normal => EventType::Normal,
                EventKind::Warning => EventType::Warning,
            },
            reason: event.reason,
            note: Some(clip(&event.message, NOTE)),
            action: event.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&told, &about).await {
            tracing::debug!(error = %daemon::chain(&error), "an event could not be told");
        }
    }
}

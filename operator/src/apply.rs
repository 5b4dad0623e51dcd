//! Carries out what a plan says about Kubernetes objects.
//!
//! Promise: what is there is written by server-side apply under one field manager, and nothing of somebody else's is, however
//! late a watch is: a child that is not known is made by `create`, and one that is known by its uid. All are owned by the
//! app, whose status names its uid, so an app that was deleted and made again meanwhile gets nothing that was meant
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
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::PartialObjectMeta,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use operator_api::{Reason, SpinApp, SpinAppStatus, names};
use operator_core::{
    App, EventKind, Plan,
    objects::{Possession, corrections, entry_object, possession, service_object, slice_object},
    publish::Slice,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
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

    /// What has been made for `app` and may have to be deleted, as it is known now.
    #[must_use]
    pub fn children(&self, app: &AppKey) -> Children {
        Children { slices: self.slices.of(app), history: self.history.of(app) }
    }
}

/// What had been made for an app when it was looked at: what is to be deleted is these objects, and none that somebody has
/// made under their names since.
#[derive(Debug, Clone, Default)]
pub struct Children {
    /// Its EndpointSlices.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// Its ControllerRevisions.
    pub history: Vec<Arc<ControllerRevision>>,
}

/// The object called `name`.
fn named<'a, K: Resource>(objects: &'a [Arc<K>], name: &str) -> Option<&'a K> {
    objects.iter().find(|object| object.meta().name.as_deref() == Some(name)).map(AsRef::as_ref)
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
    /// There is an object of this name that is somebody else's.
    #[error("The {kind} {name} was not made for this app: rename the app, or delete that {kind}.")]
    Taken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
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

    /// Writes the Service and the slices, side by side; these were `known` when the plan was made.
    ///
    /// # Errors
    /// The first refusal, for the app's status.
    pub async fn publish(&self, app: &App, plan: &Plan, known: &Children, caches: &Caches) -> Result<(), Problem> {
        let service = async {
            let Some(service) = &plan.service else { return Ok(()) };
            let written = self.write_service(app, &service_object(app, service), caches).await;
            take(written, "Service", app.key.name(), &caches.services)
        };
        let slices =
            futures::future::join_all(plan.slices.iter().map(async |slice| self.write_slice(app, slice, caches).await));
        let stale = futures::future::join_all(plan.stale_slices.iter().map(async |name| {
            let deleted = self.delete(&app.key, named(&known.slices, name), &caches.slices).await;
            deleted.map_err(|error| refused("EndpointSlice", name, &error))
        }));
        let (service, slices, stale) = tokio::join!(service, slices, stale);
        std::iter::once(service).chain(slices).chain(stale).collect()
    }

    /// Writes the Service; what applying ours would leave as somebody has made it is put right first.
    async fn write_service(&self, app: &App, object: &Service, caches: &Caches) -> Result<Service, WriteError> {
        let known = caches.services.named(&app.key);
        if let Some((known, spec)) = known.as_deref().and_then(|known| Some((known, corrections(known, object)?))) {
            let patch = json!({ "metadata": { "uid": known.metadata.uid }, "spec": spec });
            self.merge::<Service>(&app.key, app.key.name(), &patch).await?;
        }
        // Only what is applied, and was not made by `create`, goes when it is applied no more.
        let first = object.metadata.annotations.is_some().then(|| {
            let metadata = ObjectMeta { annotations: None, ..object.metadata.clone() };
            Service { metadata, ..object.clone() }
        });
        self.write_child(app, object, first.as_ref(), known.as_deref().map(|known| &known.metadata)).await
    }

    async fn write_slice(&self, app: &App, slice: &Slice, caches: &Caches) -> Result<(), Problem> {
        let known = caches.slices.of(&app.key);
        let known = known.iter().map(|known| &known.metadata).find(|known| known.name.as_ref() == Some(&slice.name));
        let written = self.write_child(app, &slice_object(app, slice), None, known).await;
        take(written, "EndpointSlice", &slice.name, &caches.slices)
    }

    /// Writes a child over the `known` one, or as a new one, and never over somebody else's: a watch may be late, or see ours
    /// alone. A new one begins as `first`, if there is more to it than what `create` may make.
    async fn write_child<K: Child>(
        &self,
        app: &App,
        object: &K,
        first: Option<&K>,
        known: Option<&ObjectMeta>,
    ) -> Result<K, WriteError> {
        let written = match known {
            Some(known) => self.apply_over(app, object, known).await,
            None => match self.create(&app.key, first.unwrap_or(object)).await {
                Ok(made) if first.is_some() => self.apply_over(app, object, made.meta()).await,
                made => made,
            },
        };
        match written {
            // There is one, or another one, of this name.
            Err(error) if error.is_conflict() => match find(&self.api::<K>(&app.key), &object.name_any()).await? {
                Some(found) => self.apply_over(app, object, &found.metadata).await,
                None => Err(error),
            },
            written => written,
        }
    }

    /// Applies a child over the one of this metadata and no other, unless that is somebody else's.
    async fn apply_over<K: Child>(&self, app: &App, object: &K, known: &ObjectMeta) -> Result<K, WriteError> {
        let name = object.name_any();
        let possession = possession(app, known);
        if possession == Possession::Foreign {
            return Err(WriteError::Taken { kind: K::kind(&()).into_owned(), name });
        }
        if possession == Possession::Orphaned {
            // The owner before would stay beside this one: it was not applied, but made.
            let patch = json!({ "metadata": { "uid": known.uid, "ownerReferences": object.owner_references() } });
            self.merge::<K>(&app.key, &name, &patch).await?;
        }
        let mut object = object.clone();
        object.meta_mut().uid.clone_from(&known.uid);
        self.apply(&app.key, &name, &object).await
    }

    /// Whether the API server still has the app.
    ///
    /// # Errors
    /// When it cannot tell.
    pub async fn is_there(&self, app: &App) -> Result<bool, WriteError> {
        let api: Api<SpinApp> = Api::namespaced(self.client.clone(), app.key.namespace());
        Ok(find(&api, app.key.name()).await?.is_some_and(|object| object.metadata.uid.as_ref() == Some(&app.uid)))
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

    /// Remembers and forgets revisions; these were `known` when the plan was made.
    ///
    /// # Errors
    /// The first refusal. Nothing that serves depends on it.
    pub async fn remember(&self, app: &App, plan: &Plan, known: &Children, caches: &Caches) -> Result<(), WriteError> {
        if let Some(record) = &plan.history.write {
            match self.apply(&app.key, &record.entry.name, &entry_object(app, record)).await {
                Err(error) if error.is_namespace_ending() => {}
                written => caches.history.wrote(written?),
            }
        }
        for name in &plan.history.stale {
            self.delete(&app.key, named(&known.history, name), &caches.history).await?;
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

    /// Changes what applying leaves as it is.
    async fn merge<K: Child>(&self, app: &AppKey, name: &str, patch: &Value) -> Result<K, WriteError> {
        let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.write(&K::kind(&()), self.api(app).patch(name, &params, &Patch::Merge(patch))).await
    }

    /// Makes an object that must not exist.
    async fn create<K: Child>(&self, app: &AppKey, object: &K) -> Result<K, WriteError> {
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.write(&K::kind(&()), self.api(app).create(&params, object)).await
    }

    /// Deletes the object that is `known`, in the state that is known. What somebody has made of it since, or under its name,
    /// is looked at when the watch tells of it.
    async fn delete<K: Child + Concerns>(
        &self,
        app: &AppKey,
        known: Option<&K>,
        cache: &Cache<K>,
    ) -> Result<(), WriteError> {
        let Some(known) = known else { return Ok(()) };
        self.check()?;
        let (name, meta) = (known.name_any(), known.meta());
        let as_known = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(as_known), ..DeleteParams::default() };
        match self.api::<K>(app).delete(&name, &params).await.map_err(WriteError::from) {
            Err(error) if error.is_conflict() => {
                tracing::debug!(kind = %K::kind(&()), name, "not deleted: it is another by now");
                return Ok(());
            }
            Err(error) if !error.is_not_found() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        cache.forget(app, &name, meta.uid.as_deref());
        Ok(())
    }
}

/// The object called `name`, if there is one. Asked for in a list of one, which tells an object that is gone from a kind that
/// nobody knows any more, and needs no other right than to list.
async fn find<K>(api: &Api<K>, name: &str) -> kube::Result<Option<PartialObjectMeta<K>>>
where
    K: Clone + fmt::Debug + DeserializeOwned,
{
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    Ok(api.list_metadata(&named).await?.items.into_iter().next())
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
    let (reason, message) = match error {
        WriteError::Taken { .. } => (Reason::ServiceConflict, error.to_string()),
        WriteError::Fenced | WriteError::Refused(_) => {
            (Reason::WriteFailed, format!("the {kind} {name} could not be written: {error}"))
        }
    };
    Problem { reason: reason.as_str().to_owned(), message, retrying: true }
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

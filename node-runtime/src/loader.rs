//! [`Loader`]: a revision's blobs and its executable form.
//!
//! Promise: whatever goes wrong becomes a [`Fault`] that says what, where and whether trying again may help, and holds
//! no secret.
//!
//! Absent on purpose: when to load what; that is decided in the core crate.

mod stores;

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use control::{AppKey, Credentials, Fetch, RevisionSpec, SecretString};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use manifest::{
    Digest, RuntimeConfig,
    runtime_config::{self, Origin},
};
use node_runtime_core::converge::Fault;
use sources::{
    Store,
    bindle::{BindleClient, BindleId, ClientOptions, SourceError},
    http::Trust,
    store::Freed,
};
use url::Url;

use self::stores::AppDirs;
use crate::{
    application::HttpApplication,
    engine::{BuildError, Builder, Engine, RevisionSettings},
    host::Usage,
};

/// How many blobs of one revision are fetched at a time.
const FETCHES_PER_REVISION: usize = 4;
/// How many clients are kept, one per server and credentials.
const CLIENTS: usize = 64;

/// A server's URL, and the user name and password to be there.
type Server = (String, Option<(String, String)>);

/// Fetches and builds revisions.
pub struct Loader {
    engine: Engine,
    store: Store,
    trust: Trust,
    app_dirs: AppDirs,
    clients: Mutex<HashMap<Server, BindleClient>>,
}

impl Loader {
    /// Builds for `engine` from content in `store`; servers are trusted according to `trust`. What apps store is in
    /// `app_dirs`, in a directory for each.
    #[must_use]
    pub fn new(engine: Engine, store: Store, trust: Trust, app_dirs: PathBuf) -> Self {
        Self { engine, store, trust, app_dirs: AppDirs::new(app_dirs), clients: Mutex::default() }
    }

    /// The engine that it builds for.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes sure that all blobs of a revision are in the store.
    ///
    /// # Errors
    /// When one is not, and cannot be fetched.
    pub async fn fetch(&self, spec: &RevisionSpec) -> Result<(), Fault> {
        let Fetch::Bindle { server, id, credentials } = &spec.fetch;
        let id: BindleId = id.parse().map_err(|error| invalid(&error))?;
        let client = self.client(server, credentials.as_ref())?;
        let (client, store, id) = (&client, &self.store, &id);
        stream::iter(spec.application.contents())
            .map(|content| async move { client.fetch(id, &content, store).await })
            .buffer_unordered(FETCHES_PER_REVISION)
            .try_for_each(|_path| std::future::ready(Ok(())))
            .await
            .map_err(|error| source_fault(&error))
    }

    /// Compiles and links a revision whose blobs are in the store. What its app uses counts as `usage`.
    ///
    /// # Errors
    /// When it cannot run.
    pub async fn build(
        &self,
        app: &AppKey,
        spec: &RevisionSpec,
        usage: Arc<Usage>,
    ) -> Result<Arc<HttpApplication>, Fault> {
        let Fetch::Bindle { id, .. } = &spec.fetch;
        let mut runtime_config = runtime_config(app, spec)?;
        let mut limits = spec.limits.clone();
        limits.memory = limits.memory.into_iter().chain(runtime_config.max_instance_memory).min();
        let connections = limits.connections.and_then(|count| usize::try_from(count).ok());
        let total = &mut runtime_config.outbound_networking.max_total_connections;
        *total = total.take().into_iter().chain(connections).min();
        let settings = RevisionSettings {
            app: app.to_string(),
            revision: spec.id.to_string(),
            bundle: Some(id.clone()),
            limits,
            variables: spec.variables.clone(),
            runtime_config: Arc::new(runtime_config),
            state_dir: Some(self.app_dirs.of(app)),
            usage,
            ..RevisionSettings::default()
        };
        let application = Arc::new(spec.application.clone());
        let context = Builder::new(&self.engine, application, &self.store, settings).build().await;
        Ok(HttpApplication::new(context.map_err(|error| build_fault(&error))?))
    }

    /// Frees content and compiled code that is not of `needed`, and what apps that are not among `apps` have stored. What is
    /// being fetched must be among it.
    pub async fn free_all_but(&self, needed: BTreeSet<Digest>, apps: BTreeSet<AppKey>) {
        let (store, engine, app_dirs) = (self.store.clone(), self.engine.clone(), self.app_dirs.clone());
        let free = move || (store.retain(&needed), engine.retain_compiled(&needed), app_dirs.retain(&apps));
        let Ok((content, compiled, stores)) = tokio::task::spawn_blocking(free).await else { return };
        match stores {
            Ok(0) => {}
            Ok(apps) => tracing::info!(apps, "stores of apps that are gone removed"),
            Err(error) => tracing::warn!(%error, "not all stores of apps that are gone could be removed"),
        }
        match content {
            Ok(freed) if freed == Freed::default() => {}
            Ok(freed) => {
                tracing::info!(blobs = freed.blobs, trees = freed.trees, bytes = freed.bytes, "content freed");
            }
            Err(error) => tracing::warn!(error = daemon::chain(&error), "not all content could be freed"),
        }
        match compiled {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "compiled code freed"),
            Err(error) => tracing::warn!(error = daemon::chain(&error), "not all compiled code could be freed"),
        }
    }

    fn client(&self, server: &str, credentials: Option<&Credentials>) -> Result<BindleClient, Fault> {
        let who = credentials.map(|c| (c.username.clone(), c.password.expose().to_owned()));
        let key = (server.to_owned(), who);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let url: Url = server.parse().map_err(|error| invalid(&error))?;
        let options =
            ClientOptions { credentials: credentials.cloned(), trust: self.trust.clone(), ..ClientOptions::default() };
        let client = BindleClient::new(url, options).map_err(|error| source_fault(&error))?;
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("engine", &self.engine).field("store", &self.store).finish_non_exhaustive()
    }
}

/// What the app says, on top of what its pool says. The operator has read both before; a runtime that is older than it may
/// still know less.
fn runtime_config(app: &AppKey, spec: &RevisionSpec) -> Result<RuntimeConfig, Fault> {
    let read = |text: &Option<SecretString>, origin| {
        let text = text.as_ref().map(SecretString::expose).unwrap_or_default();
        let read = runtime_config::parse(text, "runtime-config.toml", origin);
        read.map_err(|error| fault("InvalidRuntimeConfig", &error, false))
    };
    let pool = read(&spec.pool_config, Origin::Pool)?;
    Ok(read(&spec.runtime_config, Origin::App)?.over_pool(&pool, &app.to_string()))
}

fn fault(reason: &str, error: &dyn Error, retryable: bool) -> Fault {
    Fault { reason: reason.to_owned(), message: daemon::chain(error), detail: None, retryable }
}

fn invalid(error: &dyn Error) -> Fault {
    fault("InvalidSource", error, false)
}

fn source_fault(error: &SourceError) -> Fault {
    fault(error.reason(), error, error.is_retryable())
}

/// Content that has vanished is fetched again, a full disk may be cleaned and a Vault be well again; everything else is the application's.
fn build_fault(error: &BuildError) -> Fault {
    let retryable =
        matches!(error, BuildError::Missing { .. } | BuildError::Store { .. } | BuildError::VariableUnknown { .. });
    fault(error.reason(), error, retryable)
}

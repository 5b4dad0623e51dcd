//! [`Builder`]: from an application and its content to an [`ExecutionContext`].

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use control::{Limits, SecretString};
use futures::future::try_join_all;
use manifest::{Application, Component, ComponentId, Content, RuntimeConfig, Target};
use node_runtime_core::outbound::{AllowedHostError, AllowedHosts};
use sources::{Store, StoreError, http::Trust};

use super::{
    Engine, EngineConfig, ExecutionContext, Guest, Mount,
    allowance::{self, Allowance},
    compiler::{Code, CompileError},
    guest::Variant,
    outline::Outline,
};
use crate::{
    application::OwnApplication,
    executor::{Executor, LinkError},
    host::{
        Absent, BUILD_WITHIN, Grants, GuestLog, GuestOutput, HttpPools, LogLabels, Services, SharedNetwork,
        StoreConfigError, Template, TemplateError, TlsError, Usage, Values, ValuesError, check_stores,
    },
};

/// What one revision is given besides its application.
#[derive(Clone, Default)]
pub struct RevisionSettings {
    /// The app, as `namespace/name`: a label of its logs.
    pub app: String,
    /// The revision: a label of its logs.
    pub revision: String,
    /// The Bindle id the application came from: `/.well-known/spin/info` shows it.
    pub bundle: Option<String>,
    /// What its guests may use; the engine's defaults where it says nothing.
    pub limits: Limits,
    /// The values of the application's variables that the app itself is given; they go before all providers.
    pub variables: BTreeMap<String, SecretString>,
    /// What variables providers of type `env` read: the environment of whoever started the process; nothing on a cluster.
    pub environment: BTreeMap<String, SecretString>,
    /// Which servers variables providers believe.
    pub provider_trust: Trust,
    /// Its stores, databases and limits of connections.
    pub runtime_config: Arc<RuntimeConfig>,
    /// Where its stores are kept that name no place of their own; in memory without. The runtime configuration's own
    /// `state_dir` goes first.
    pub state_dir: Option<PathBuf>,
    /// Directories that components see instead of their files, which need not be in the store then. A component that is
    /// not named here sees its files at `/`, and cannot change them.
    pub mounts: BTreeMap<ComponentId, Vec<Mount>>,
    /// Who takes what guests print. Default: the engine, which writes it to standard output through a bounded queue.
    pub log: Option<Arc<dyn GuestLog>>,
    /// What the app uses: the same for all its revisions, so that limits of the app hold for all of them together.
    pub usage: Arc<Usage>,
}

impl fmt::Debug for RevisionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevisionSettings")
            .field("app", &self.app)
            .field("revision", &self.revision)
            .field("bundle", &self.bundle)
            .field("limits", &self.limits)
            .field("variables", &self.variables)
            .field("state_dir", &self.state_dir)
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}

/// Makes an [`ExecutionContext`].
#[derive(Debug)]
pub struct Builder {
    engine: Engine,
    application: Arc<Application>,
    store: Store,
    settings: RevisionSettings,
}

/// What the components of a revision share while it is built.
struct Shared {
    services: Arc<Services>,
    network: Arc<SharedNetwork>,
    pools: Mutex<HttpPools>,
    application: Arc<OwnApplication>,
}

/// Why an application cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Content is not in the store.
    #[error("component `{component}`: its wasm {digest} is not here", digest = .content.digest)]
    Missing {
        /// Whose.
        component: ComponentId,
        /// Which.
        content: Content,
    },
    /// The store failed.
    #[error("component `{component}`: its content cannot be used")]
    Store {
        /// Whose.
        component: ComponentId,
        /// How.
        #[source]
        source: StoreError,
    },
    /// A route names a component that the application does not have.
    #[error("route {route} names component `{component}`, which the application does not have")]
    UnknownComponent {
        /// The route's index.
        route: usize,
        /// The name.
        component: ComponentId,
    },
    /// The application's variables have no values.
    #[error(transparent)]
    Variables(#[from] ValuesError),
    /// A variable that is needed to know the allowed hosts has no value now.
    #[error("component `{component}`: the allowed host `{host}` cannot be known: {problem}")]
    VariableUnknown {
        /// Whose.
        component: ComponentId,
        /// The entry, as it is in the manifest.
        host: String,
        /// Why.
        problem: String,
    },
    /// A template is wrong.
    #[error("component `{component}`: {source}")]
    Template {
        /// Whose.
        component: ComponentId,
        /// How.
        source: TemplateError,
    },
    /// An allowed host is not understood.
    #[error("component `{component}`: {source}")]
    AllowedHosts {
        /// Whose.
        component: ComponentId,
        /// Which.
        source: AllowedHostError,
    },
    /// The runtime configuration names certificates or keys that cannot be used.
    #[error("runtime configuration: {0}")]
    Network(#[from] TlsError),
    /// A store or a database cannot be what the manifest and the runtime configuration say.
    #[error(transparent)]
    Stores(#[from] StoreConfigError),
    /// The wasm is not valid, or does not compile.
    #[error("component `{component}`: {problem}")]
    Compile {
        /// Whose.
        component: ComponentId,
        /// What the compiler says.
        problem: String,
    },
    /// No instance of the guest could ever be made.
    #[error(
        "component `{component}`: its memory begins with {first} bytes, but an instance may have {most}: allow it more (spec.invocationLimits.memory of a SpinApp, --max-instance-memory of spindle up)"
    )]
    Memory {
        /// Whose.
        component: ComponentId,
        /// How much it begins with.
        first: u64,
        /// How much it may have.
        most: u64,
    },
    /// The wasm is valid, but not a guest that the executor can call.
    #[error("component `{component}`: {problem}")]
    Link {
        /// Whose.
        component: ComponentId,
        /// What it exports or imports, and what is expected.
        problem: String,
    },
}

impl BuildError {
    /// One word for conditions, events and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "Missing",
            Self::Store { source, .. } => source.reason(),
            Self::UnknownComponent { .. } => "Invalid",
            Self::Variables(ValuesError::Missing { .. }) => "VariableMissing",
            Self::Variables(_) => "InvalidVariablesProvider",
            Self::VariableUnknown { .. } => "VariablesProviderFailed",
            Self::Template { .. } => "InvalidTemplate",
            Self::AllowedHosts { .. } => "InvalidAllowedHosts",
            Self::Network(_) => "InvalidRuntimeConfig",
            Self::Stores(_) => "InvalidStores",
            Self::Compile { .. } => "InvalidWasm",
            Self::Memory { .. } => "MemoryLimit",
            Self::Link { .. } => "UnsupportedGuest",
        }
    }
}

impl Builder {
    /// A builder of `application`, whose content is in `store`.
    #[must_use]
    pub fn new(engine: &Engine, application: Arc<Application>, store: &Store, settings: RevisionSettings) -> Self {
        Self { engine: engine.clone(), application, store: store.clone(), settings }
    }

    /// Compiles and links every component that a route names, once per executor.
    ///
    /// # Errors
    /// The first problem found; nothing is left behind but compiled code in the cache.
    pub async fn build(self) -> Result<ExecutionContext, BuildError> {
        let network = self.network().await?;
        let variables = Values::of(&self.application, &self.settings, &network.of_application()).await?;
        let shared = self.shared(network)?;
        let mut wanted: Vec<(&ComponentId, &manifest::Executor)> = Vec::new();
        let mut routes = Vec::new();
        for route in &self.application.routes {
            routes.push(match &route.target {
                Target::Component { id, executor } => {
                    let known = wanted.iter().position(|other| *other == (id, executor));
                    Some(known.unwrap_or_else(|| {
                        wanted.push((id, executor));
                        wanted.len() - 1
                    }))
                }
                Target::Static { .. } => None,
            });
        }
        let guests =
            try_join_all(wanted.into_iter().map(|(id, executor)| self.guest(id, executor, &variables, &shared)))
                .await?;
        let routes = routes.into_iter().map(|guest| guests.get(guest?).cloned()).collect();
        Ok(ExecutionContext {
            buffered_body: self.engine.config().buffered_body,
            application: self.application,
            bundle: self.settings.bundle,
            routes,
            services: Arc::clone(&shared.services),
            own: shared.application,
        })
    }

    /// What its components share.
    fn shared(&self, network: Arc<SharedNetwork>) -> Result<Shared, BuildError> {
        let services = Services::new(&self.settings, self.engine.config(), &network.of_application())?;
        let services = Arc::new(services);
        check_stores(&self.application, &services)?;
        Ok(Shared { services, network, pools: Mutex::default(), application: Arc::default() })
    }

    async fn network(&self) -> Result<Arc<SharedNetwork>, BuildError> {
        let (config, engine) = (Arc::clone(&self.settings.runtime_config), self.engine.clone());
        let memory = allowance::instance_limits(&self.settings.limits, &engine, &self.settings.usage).host_memory();
        let make = move || {
            let EngineConfig { blocked_networks, outbound_connections, .. } = engine.config();
            SharedNetwork::new(&config, blocked_networks, *outbound_connections, memory, engine.roots()).map(Arc::new)
        };
        if self.settings.runtime_config.client_tls.is_empty() {
            return Ok(make()?);
        }
        // It reads files.
        let made = tokio::task::spawn_blocking(make).await;
        Ok(made.map_err(|stopped| TlsError::Entry(stopped.to_string()))??)
    }

    /// One component, ready for one executor.
    async fn guest(
        &self,
        id: &ComponentId,
        executor: &manifest::Executor,
        variables: &Values,
        shared: &Shared,
    ) -> Result<Arc<Guest>, BuildError> {
        let component = self
            .application
            .components
            .get(id)
            .ok_or_else(|| BuildError::UnknownComponent { route: self.first_route_of(id), component: id.clone() })?;
        let grants = Arc::new(self.grants(id, component, variables, shared).await?);
        let code = self.compile(id, component, executor).await?;
        let mounts = self.mounts(id, component).await?;
        let config = self.engine.config();
        let mut limits = self.settings.limits.clone();
        limits.memory = limits.memory.or(self.settings.runtime_config.max_instance_memory);
        let most = limits.memory.unwrap_or(config.default_memory);
        if code.first_memory() > most {
            return Err(BuildError::Memory { component: id.clone(), first: code.first_memory(), most });
        }
        let link = |error: LinkError| BuildError::Link { component: id.clone(), problem: error.to_string() };
        let slots = code.slots();
        let executor = match &*code {
            Code::Module(module, rustc) => Executor::of_module(executor, module, *rustc, self.engine.modules()),
            Code::Component(component) => Executor::of_component(executor, component, self.engine.components()),
        };
        Ok(Arc::new(Guest {
            engine: self.engine.clone(),
            id: id.clone(),
            output: Arc::new(self.output(&grants.labels)),
            environment: component.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            mounts,
            grants,
            limits: allowance::instance_limits(&limits, &self.engine, &self.settings.usage),
            allowance: Allowance::new(&limits, config, slots),
            usage: Arc::clone(&self.settings.usage),
            executor: executor.map_err(link)?,
            code,
        }))
    }

    /// What a component's lines are labelled with.
    fn labels(&self, id: &ComponentId) -> LogLabels {
        let (namespace, app) = self.settings.app.split_once('/').unwrap_or(("", &self.settings.app));
        LogLabels {
            namespace: namespace.to_owned(),
            app: app.to_owned(),
            revision: self.settings.revision.clone(),
            component: id.to_string(),
        }
    }

    /// Where the lines of a component go.
    fn output(&self, labels: &Arc<LogLabels>) -> GuestOutput {
        let config = self.engine.config();
        GuestOutput {
            log: self.settings.log.clone().unwrap_or_else(|| Arc::new(self.engine.logs().clone())),
            labels: Arc::clone(labels),
            usage: Arc::clone(&self.settings.usage),
            rate: self.settings.limits.output.unwrap_or(config.default_output),
            longest_line: config.longest_line,
        }
    }

    fn first_route_of(&self, id: &ComponentId) -> usize {
        let names = |target: &Target| matches!(target, Target::Component { id: other, .. } if other == id);
        self.application.routes.iter().position(|route| names(&route.target)).unwrap_or_default()
    }

    /// What the component may use, with its templates filled in as far as they can be now.
    ///
    /// Where it may connect to is settled here, so that every request finds a table.
    async fn grants(
        &self,
        id: &ComponentId,
        component: &Component,
        variables: &Values,
        shared: &Shared,
    ) -> Result<Grants, BuildError> {
        let template = |text: &str| {
            let template = Template::new(text, variables);
            template.map_err(|source| BuildError::Template { component: id.clone(), source })
        };
        let deadline = Instant::now() + BUILD_WITHIN;
        let mut hosts = Vec::with_capacity(component.allowed_outbound_hosts.len());
        for host in &component.allowed_outbound_hosts {
            let filled_in = template(host)?.fill_in(deadline).await;
            let unknown = |problem: Absent| BuildError::VariableUnknown {
                component: id.clone(),
                host: host.clone(),
                problem: problem.to_string(),
            };
            hosts.push(filled_in.map_err(unknown)?.to_string());
        }
        let allowed_hosts =
            AllowedHosts::parse(&hosts).map_err(|source| BuildError::AllowedHosts { component: id.clone(), source })?;
        let variables = component.variables.iter().map(|(name, text)| Ok((name.clone(), template(text)?)));
        let variables = variables.collect::<Result<_, BuildError>>()?;
        let network = shared.network.of_component(id.as_str(), allowed_hosts);
        let reuse = self.settings.runtime_config.outbound_http.connection_pooling;
        let http = shared.pools.lock().unwrap_or_else(PoisonError::into_inner).of(&network, reuse);
        Ok(Grants {
            network,
            http,
            key_value_stores: component.key_value_stores.clone(),
            sqlite_databases: component.sqlite_databases.clone(),
            application: Arc::clone(&shared.application),
            labels: Arc::new(self.labels(id)),
            ai_models: component.ai_models.clone(),
            llm: self.settings.runtime_config.llm_compute.clone(),
            variables,
            buffered_body: self.engine.config().buffered_body,
            services: Arc::clone(&shared.services),
        })
    }

    async fn compile(
        &self,
        id: &ComponentId,
        component: &Component,
        executor: &manifest::Executor,
    ) -> Result<Arc<Code>, BuildError> {
        let content = component.source;
        let path = self.store.get(&content).map_err(|source| BuildError::Store { component: id.clone(), source })?;
        let path = path.ok_or_else(|| BuildError::Missing { component: id.clone(), content })?;
        let variant = match executor {
            manifest::Executor::Spin => Variant::Componentized,
            // Another entry point would not be an export of the component.
            manifest::Executor::Wagi(wagi) if wagi.entrypoint == "_start" => Variant::Program,
            manifest::Executor::Wagi(_) => Variant::AsIs,
        };
        // Apps that bring the same wasm at once compile it once: whoever comes later finds it in the cache.
        let _turn = self.store.turn(&content.digest).await;
        let wanted = executor.clone();
        let expected = move |outline: &Outline| Executor::expect(&wanted, outline);
        let compiled = self.engine.compiler().compile(content, &path, variant, expected).await;
        compiled.map_err(|error: CompileError| match error {
            CompileError::NoGuest(error) => BuildError::Link { component: id.clone(), problem: error.to_string() },
            error => {
                BuildError::Compile { component: id.clone(), problem: format!("{error} (wasm {})", content.digest) }
            }
        })
    }

    /// The directories that the component sees.
    async fn mounts(&self, id: &ComponentId, component: &Component) -> Result<Vec<Mount>, BuildError> {
        if let Some(mounts) = self.settings.mounts.get(id) {
            return Ok(mounts.clone());
        }
        if component.files.is_empty() {
            return Ok(Vec::new());
        }
        let (store, files) = (self.store.clone(), component.files.clone());
        let made = tokio::task::spawn_blocking(move || store.materialise(&files)).await;
        let made = made.map_err(|stopped| BuildError::Link { component: id.clone(), problem: stopped.to_string() })?;
        let mount = |dir| vec![Mount { dir, at: "/".to_owned(), writable: false }];
        made.map(mount).map_err(|source| BuildError::Store { component: id.clone(), source })
    }
}

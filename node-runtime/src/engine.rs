//! The Spin execution context: everything between "here is an application" and "call this guest".
//!
//! Three lifetimes, each with its own type:
//! - process: [`Engine`] (wasmtime, the pool of instance slots, compiled code on disk, the epoch ticker);
//! - app revision: [`ExecutionContext`], made by [`Builder`] (one pre-instantiated guest per component and executor,
//!   with its files, environment, permissions and limits);
//! - request: a fresh store with a [`RuntimeContext`](crate::host::RuntimeContext), gone with the response.
//!
//! Promise: compiling never runs on the serving threads; nothing here is locked while a request is served.
//!
//! Absent on purpose: HTTP (see `application`), and where content comes from (see `sources`).

mod allowance;
mod builder;
mod cache;
mod compile_queue;
mod compiled;
mod compiler;
mod config;
mod context;
mod drafts;
mod guest;
mod meter;
mod outline;
mod ticker;
mod turns;

use std::{collections::BTreeSet, fmt, io, sync::Arc, time::Duration};

use manifest::Digest;
use tokio_util::task::TaskTracker;
use wasmtime::{Linker, component::Linker as ComponentLinker};

pub use builder::{BuildError, Builder, RevisionSettings};
pub use cache::CacheError;
pub use config::EngineConfig;
pub use context::{ExecutionContext, Guest, Mount};
pub(crate) use drafts::Draft;
#[cfg(test)]
pub(crate) use drafts::number as number_drafts;
pub(crate) use meter::{CpuExceeded, go_on, has_computed_for_long, is_overdue};
pub(crate) use outline::Outline;
pub(crate) use ticker::Running;

use crate::host::{Backlog, GuestLogs, MemoryBudget, Roots, RuntimeContext};

/// What lives as long as the process. Cheap to clone; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    config: EngineConfig,
    pooling: bool,
    compiler: compiler::Compiler,
    ticker: ticker::Ticker,
    logs: GuestLogs,
    /// The linear memory of all guests.
    memory: Arc<MemoryBudget>,
    tails: TaskTracker,
    roots: Arc<Roots>,
    modules: Linker<RuntimeContext>,
    components: ComponentLinker<RuntimeContext>,
}

/// Why an [`Engine`] could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Wasmtime refuses the configuration, also without pooling.
    #[error("wasmtime cannot be set up on this machine: {0:#}")]
    Wasmtime(wasmtime::Error),
    /// A thread cannot be started.
    #[error("cannot start the {role} thread")]
    Thread {
        /// What it would do.
        role: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory for compiled code cannot be used.
    #[error("compiled code cannot be kept")]
    Cache(#[from] CacheError),
}

impl EngineError {
    /// One word for logs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Wasmtime(_) => "EngineUnavailable",
            Self::Thread { .. } => "NoThreads",
            Self::Cache(_) => "CacheUnusable",
        }
    }
}

impl Engine {
    /// Sets up wasmtime as `config` says. Where the kernel or the address space does not allow the fast settings, the
    /// next slower ones are used, with a warning.
    ///
    /// # Errors
    /// When no settings work, when a thread cannot be started, or when the directory for compiled code is not this
    /// user's alone.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        // Outgoing TLS needs one; where the process has chosen already, that stays.
        let _chosen = rustls::crypto::ring::default_provider().install_default();
        let (wasmtime, pooling) = config::wasmtime_engine(&config).map_err(EngineError::Wasmtime)?;
        let cache = config.cache_dir.as_deref().map(|dir| cache::Cache::open(dir, &wasmtime)).transpose()?;
        let compiler = compiler::Compiler::new(wasmtime.clone(), cache, config.compile_threads)?;
        let ticker = ticker::Ticker::start(wasmtime.weak(), config.epoch_tick)
            .map_err(|source| EngineError::Thread { role: "epoch", source })?;
        let backlog = Backlog { lines: config.log_queue_lines, bytes: config.log_queue_bytes };
        let logs = GuestLogs::start(backlog, config.log_format, io::stdout())
            .map_err(|source| EngineError::Thread { role: "guest log", source })?;
        let modules = crate::host::module_linker(&wasmtime).map_err(EngineError::Wasmtime)?;
        let components = crate::host::component_linker(&wasmtime).map_err(EngineError::Wasmtime)?;
        Ok(Self {
            inner: Arc::new(Inner {
                wasmtime,
                config,
                pooling,
                compiler,
                ticker,
                logs,
                memory: Arc::default(),
                tails: TaskTracker::new(),
                roots: Arc::default(),
                modules,
                components,
            }),
        })
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// Whether instances come from the pool. False only where it was switched off or could not be set up.
    #[must_use]
    pub fn is_pooling(&self) -> bool {
        self.inner.pooling
    }

    /// Removes compiled code whose wasm is not in `keep`; returns how many files. What runs is not touched.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not be removed.
    pub fn retain_compiled(&self, keep: &BTreeSet<Digest>) -> Result<u64, CacheError> {
        self.inner.compiler.cache().map_or(Ok(0), |cache| cache.retain(keep))
    }

    /// How many instances live now; 0 without pooling.
    #[must_use]
    pub fn live_instances(&self) -> u64 {
        self.inner.wasmtime.pooling_allocator_metrics().map_or(0, |metrics| metrics.core_instances())
    }

    /// The guests that go on after their responses were complete. Close and wait for it before the process ends.
    #[must_use]
    pub fn tails(&self) -> &TaskTracker {
        &self.inner.tails
    }

    /// Waits until everything is written that guests have printed, at most `within`: what is left when the process ends is
    /// lost.
    pub async fn finish_logs(&self, within: Duration) {
        let written = async {
            while !self.inner.logs.is_written() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(within, written).await.is_err() {
            tracing::warn!("lines that guests printed last were not written");
        }
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    /// How many bytes of linear memory live instances have.
    #[must_use]
    pub fn guests_memory(&self) -> usize {
        self.inner.memory.used()
    }

    fn memory(&self) -> &Arc<MemoryBudget> {
        &self.inner.memory
    }

    fn clock(&self) -> &ticker::Clock {
        self.inner.ticker.clock()
    }

    pub(crate) fn running(&self) -> Running {
        self.inner.ticker.running()
    }

    /// The certificate authorities that guests' connections trust by default.
    fn roots(&self) -> &Arc<Roots> {
        &self.inner.roots
    }

    fn compiler(&self) -> &compiler::Compiler {
        &self.inner.compiler
    }

    fn logs(&self) -> &GuestLogs {
        &self.inner.logs
    }

    fn modules(&self) -> &Linker<RuntimeContext> {
        &self.inner.modules
    }

    fn components(&self) -> &ComponentLinker<RuntimeContext> {
        &self.inner.components
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.inner.config)
            .field("pooling", &self.inner.pooling)
            .finish_non_exhaustive()
    }
}

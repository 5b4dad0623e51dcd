//! [`ExecutionContext`]: an application that is ready to be called.

use std::{fmt, path::PathBuf, sync::Arc, time::Instant};

use manifest::{Application, ComponentId};
use wasmtime::Store;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use super::{Engine, allowance::Allowance, compiler::Code, meter};
use crate::{
    application::{Caller, OwnApplication},
    executor::{Executor, RequestError},
    host::{
        Grants, GuestOutput, GuestStream, HostMemory, InstanceLimits, LineStream, LogLabels, RuntimeContext, Services,
        StoreUseError, Usage, configure_sockets,
        limits::{Busy, Pass},
    },
};

/// What lives as long as an app's revision: its guests, linked and pre-instantiated.
#[derive(Debug)]
pub struct ExecutionContext {
    pub(super) application: Arc<Application>,
    pub(super) bundle: Option<String>,
    /// The guest of each route, in the application's order; `None` where no wasm answers.
    pub(super) routes: Vec<Option<Arc<Guest>>>,
    pub(super) buffered_body: usize,
    pub(super) services: Arc<Services>,
    pub(super) own: Arc<OwnApplication>,
}

/// One component with one executor, ready to be instantiated for a request.
pub struct Guest {
    pub(super) engine: Engine,
    pub(super) id: ComponentId,
    /// Where what it prints goes.
    pub(super) output: Arc<GuestOutput>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) mounts: Vec<Mount>,
    pub(super) grants: Arc<Grants>,
    pub(super) limits: InstanceLimits,
    pub(super) allowance: Allowance,
    /// What its app uses.
    pub(super) usage: Arc<Usage>,
    pub(super) executor: Executor,
    /// What the executor runs, held so that other apps find it.
    #[expect(dead_code, reason = "it is there to be held")]
    pub(super) code: Arc<Code>,
}

/// A directory of this machine that a component sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which.
    pub dir: PathBuf,
    /// Where the component sees it: an absolute path.
    pub at: String,
    /// Whether the component may change what is in it.
    pub writable: bool,
}

impl ExecutionContext {
    /// The application it runs.
    #[must_use]
    pub fn application(&self) -> &Arc<Application> {
        &self.application
    }

    /// The Bindle id the application came from, if it did.
    #[must_use]
    pub fn bundle(&self) -> Option<&str> {
        self.bundle.as_deref()
    }

    /// The guest that answers the route with this index.
    #[must_use]
    pub fn guest(&self, route: usize) -> Option<&Arc<Guest>> {
        self.routes.get(route)?.as_ref()
    }

    /// Gives `key` a value in the key-value store `default`, for whoever runs the application.
    ///
    /// # Errors
    /// When the store does not work, or the key or value is too large.
    pub async fn set_key_value(&self, key: &str, value: &[u8]) -> Result<(), StoreUseError> {
        self.services.set_key_value(key, value).await
    }

    /// Runs SQL, also several statements, in the SQLite database `label`, for whoever runs the application.
    ///
    /// # Errors
    /// When there is no such database, when it does not work, or when a statement fails.
    pub async fn execute_sqlite(&self, label: &str, statements: &str) -> Result<(), StoreUseError> {
        self.services.execute_sqlite(label, statements).await
    }

    /// Where its guests find their application.
    pub(crate) fn own(&self) -> &Arc<OwnApplication> {
        &self.own
    }

    /// How large a body may be that must be held in memory, in bytes.
    #[must_use]
    pub fn buffered_body(&self) -> usize {
        self.buffered_body
    }
}

impl Guest {
    /// The component's id.
    #[must_use]
    pub fn id(&self) -> &ComponentId {
        &self.id
    }

    /// The engine it runs on.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whose lines it prints.
    pub(crate) fn labels(&self) -> &LogLabels {
        &self.output.labels
    }

    /// The environment variables of its manifest.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Where the host holds bodies for it.
    pub(crate) fn memory(&self) -> &HostMemory {
        self.grants.network.memory()
    }

    /// When a request that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.allowance.timeout
    }

    /// How large a request's body may be, in bytes.
    pub(crate) fn body_limit(&self) -> Option<u64> {
        self.allowance.body
    }

    /// Waits until a request of this app may run. One that a guest of the app makes (`inner`) may run now or not at all.
    pub(crate) async fn enter(&self, inner: bool) -> Result<Pass, RequestError> {
        let entered = if inner {
            self.usage.enter_inner(self.allowance.inner)
        } else {
            self.usage.enter(&self.allowance.queue).await
        };
        entered.map_err(|busy| match busy {
            Busy::Full => RequestError::Busy,
            Busy::TimedOut => RequestError::QueueTimeout,
        })
    }

    /// Runs a call of this guest with the processor time that a request has.
    pub(crate) async fn metered<F: Future>(&self, call: F) -> F::Output {
        meter::metered(self.engine.clock().clone(), self.allowance.cpu_ticks, call).await
    }

    /// WASI with the component's files and its standard error; environment and standard output are the executor's.
    pub(crate) fn wasi(&self) -> wasmtime::Result<WasiCtxBuilder> {
        let mut wasi = WasiCtx::builder();
        wasi.stderr(self.output(GuestStream::Stderr));
        configure_sockets(&mut wasi, &self.grants);
        for Mount { dir, at, writable } in &self.mounts {
            wasi.preopened_dir(dir, at, if *writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly })?;
        }
        Ok(wasi)
    }

    /// An output that goes to the log.
    pub(crate) fn output(&self, stream: GuestStream) -> LineStream {
        LineStream::new(&self.output, stream)
    }

    /// A fresh store with this guest's limits.
    pub(crate) fn store(&self, mut wasi: WasiCtxBuilder, deadline: Instant, caller: Caller) -> Store<RuntimeContext> {
        RuntimeContext::store(&self.engine, wasi.build_p1(), &self.grants, self.limits.fresh(), deadline, caller)
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("id", &self.id).field("executor", &self.executor).finish_non_exhaustive()
    }
}

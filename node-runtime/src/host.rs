//! What a guest's imports reach: the data of its store, and the linkers that connect it.
//!
//! Promise: a guest sees its own files (to read), its environment, clocks, random numbers, and the hosts it may call;
//! nothing of another guest and nothing of this process. Sockets are closed to it.

mod databases;
pub(crate) mod drafts;
mod grants;
pub(crate) mod guest_memory;
mod handed;
mod handles;
pub(crate) mod http_types;
mod key_value;
pub(crate) mod limits;
mod llm;
mod logs;
mod network;
mod outbound;
mod redis_link;
mod rows;
mod services;
mod sockets;
mod sqlite;
mod stores;
mod tls;
mod variables;

use std::{sync::Arc, time::Instant};

use wasmtime::{Linker, Store, UpdateDeadline, component::Linker as ComponentLinker};
use wasmtime_wasi::{WasiCtxView, WasiView, p1::WasiP1Ctx};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

pub(crate) use databases::ConnectionPools;
pub(crate) use grants::Grants;
use limits::LastAnswer;
pub use limits::Usage;
pub(crate) use limits::{HostMemory, InstanceLimits, MemoryBudget};
pub(crate) use logs::{Backlog, GuestLogs, GuestOutput, LineStream};
pub use logs::{GuestLine, GuestLog, GuestStream, LineFormat, LogLabels};
pub use network::{BlockedNetworkError, BlockedNetworks};
pub(crate) use network::{ConnectionKind, ConnectionPermit, Network, NetworkError, SharedNetwork};
pub(crate) use outbound::{HttpPool, HttpPools, Outbound};
pub(crate) use services::Services;
pub(crate) use sockets::configure as configure_sockets;
pub(crate) use stores::check as check_stores;
pub use stores::{StoreConfigError, StoreUseError};
pub(crate) use tls::Roots;
pub use tls::TlsError;
pub(crate) use variables::{Absent, BUILD_WITHIN, Template, TemplateError, Values, ValuesError, Variables};

use crate::{
    application::Caller,
    engine::{CpuExceeded, Engine, Running, go_on, has_computed_for_long, is_overdue},
};

/// What a store holds: the life of one request.
pub struct RuntimeContext {
    // First, because fields are dropped in order: requests must know that the guest is gone before their bodies end.
    outbound: Outbound,
    wasi: WasiP1Ctx,
    http: WasiHttpCtx,
    buckets: key_value::Opened,
    swaps: key_value::Swaps,
    connections: sqlite::Connections,
    open_connections: databases::OpenConnections,
    responses: outbound::OpenResponses,
    /// Made for the first store or database that the guest opens.
    answer: Option<LastAnswer>,
    limits: InstanceLimits,
    layout: guest_memory::Layout,
    deadline: Instant,
    running: Running,
}

impl std::fmt::Debug for RuntimeContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeContext").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// A guest was still busy when its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest was stopped at its deadline")]
pub struct DeadlineExceeded;

impl RuntimeContext {
    /// A store for one request, limited in memory and time.
    pub(crate) fn store(
        engine: &Engine,
        mut wasi: WasiP1Ctx,
        grants: &Arc<Grants>,
        limits: InstanceLimits,
        deadline: Instant,
        caller: Caller,
    ) -> Store<Self> {
        wasi.ctx().table.set_max_capacity(limits::RESOURCES);
        let handed_over = limits::HANDED_OVER.max(grants.buffered_body.saturating_mul(2));
        let context = Self {
            wasi,
            http: WasiHttpCtx::new(),
            outbound: Outbound::new(grants, deadline, caller),
            buckets: key_value::Opened::default(),
            swaps: key_value::Swaps::default(),
            connections: sqlite::Connections::default(),
            open_connections: databases::OpenConnections::default(),
            responses: outbound::OpenResponses::default(),
            answer: None,
            limits,
            layout: guest_memory::Layout::Canonical,
            deadline,
            running: engine.running(),
        };
        let mut store = Store::new(engine.wasmtime(), context);
        store.limiter(|context| &mut context.limits);
        store.set_max_component_handles(limits::HANDLES);
        store.set_hostcall_fuel(handed_over);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(limits::files::CONCURRENT);
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            if Instant::now() >= store.data().deadline {
                return Err(DeadlineExceeded.into());
            }
            if is_overdue() {
                return Err(CpuExceeded.into());
            }
            let concurrent = store.concurrent_resource_table().map_or(0, |table| table.iter_mut().count());
            let Self { wasi, limits, .. } = store.data_mut();
            limits::files::check(wasi.ctx().table, concurrent, &mut limits.files)?;
            let size = limits::resources::size(wasi.ctx().table, databases::size_of_resource)?;
            limits.resources.becomes(size)?;
            Ok(store.data().pause())
        });
        store
    }

    /// How the guest, which computes, lets others go first. After more than a moment it waits for its turn.
    fn pause(&self) -> UpdateDeadline {
        if !has_computed_for_long(self.running.clock()) {
            return UpdateDeadline::Yield(1);
        }
        let (turns, app) = (self.running.turns().clone(), self.limits.files.app());
        let turn = async move {
            let turn = turns.next(app).await;
            // What is ready by now goes first, also what has just come from the network.
            tokio::task::yield_now().await;
            go_on(turn);
        };
        UpdateDeadline::YieldCustom(1, Box::pin(turn))
    }

    /// How the guest, a core module, reads what its imports return.
    pub(crate) const fn layout(&self) -> guest_memory::Layout {
        self.layout
    }

    /// Says that it reads it in another way than most.
    pub(crate) const fn set_layout(&mut self, layout: guest_memory::Layout) {
        self.layout = layout;
    }

    /// What the guest may use.
    fn grants(&self) -> &Arc<Grants> {
        self.outbound.grants()
    }

    /// What its stores and databases count their answers by, together.
    fn answer(&mut self) -> LastAnswer {
        self.answer.get_or_insert_with(|| LastAnswer::new(self.outbound.grants().network.memory())).clone()
    }

    /// When the guest is stopped: no call of the host goes on beyond it.
    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What it takes to read the guest's variables.
    fn read_variable(&self) -> variables::Read {
        variables::Read { grants: Arc::clone(self.grants()), deadline: self.deadline }
    }
}

impl WasiView for RuntimeContext {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for RuntimeContext {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: self.wasi.ctx().table, ctx: &mut self.http }
    }
}

/// Under which version those of [`INTERFACES`] are found that the host has once for several: the older ones, the one it has.
pub(crate) const NEWEST: &[(&[&str], &str)] = &databases::NEWEST;

/// The interfaces that components find here under exactly these names, beside WASI 0.2 and 0.3: one list per module.
pub(crate) const INTERFACES: &[&[&str]] = &[
    &variables::INTERFACES,
    &outbound::INTERFACES,
    &key_value::INTERFACES,
    &sqlite::INTERFACES,
    &llm::INTERFACES,
    &databases::INTERFACES,
];

/// The linker of core modules: preview 1, preview 0 for modules from before 2020, and what Spin's had in 2022 and 2023.
pub(crate) fn module_linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<RuntimeContext>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |context: &mut RuntimeContext| &mut context.wasi)?;
    wasmtime_wasi::p0::add_to_linker_async(&mut linker, |context: &mut RuntimeContext| &mut context.wasi)?;
    variables::link_modules(&mut linker)?;
    key_value::link_modules(&mut linker)?;
    sqlite::link_modules(&mut linker)?;
    outbound::link_modules(&mut linker)?;
    llm::link_modules(&mut linker)?;
    databases::link_modules(&mut linker)?;
    Ok(linker)
}

/// The linker of components: WASI 0.2 and 0.3 with `wasi:http`, and [`INTERFACES`].
pub(crate) fn component_linker(engine: &wasmtime::Engine) -> wasmtime::Result<ComponentLinker<RuntimeContext>> {
    let mut linker = ComponentLinker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    sockets::link_components(&mut linker)?;
    outbound::link_components(&mut linker)?;
    llm::link_components(&mut linker)?;
    variables::link_components(&mut linker)?;
    key_value::link_components(&mut linker)?;
    sqlite::link_components(&mut linker)?;
    databases::link_components(&mut linker)?;
    Ok(linker)
}

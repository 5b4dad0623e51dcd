//! Outgoing Redis, PostgreSQL, MySQL and MQTT, in every version of their interfaces that Spin's guests import.
//!
//! Promise: what a component's manifest does not allow is refused before anything is resolved. Connections are kept between
//! requests in [`pool`]s of the revision, and nothing of a guest's session is left in them. Connecting and calling end at the
//! request's deadline; an answer that is larger than what the host holds for a guest ends its connection. No error names a
//! password.
//!
//! Absent on purpose: parsing statements; deciding whether to try again.

mod bindings;
mod handed;
mod modules;
mod mqtt;
mod mysql;
mod pool;
mod postgres;
mod rdbms;
mod redis;

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use wasmtime::{
    Linker,
    component::{HasSelf, Linker as ComponentLinker, Resource},
};
use wasmtime_wasi::WasiView;

use self::{
    mqtt::Brokers,
    mysql::MysqlSession,
    pool::Pool,
    postgres::{PostgresBuilder, PostgresSession},
    redis::RedisSession,
};
use super::{Grants, RuntimeContext};

/// The interfaces.
pub(super) const INTERFACES: [&str; 17] = [
    "fermyon:spin/redis@2.0.0",
    "fermyon:spin/postgres@2.0.0",
    "fermyon:spin/mysql@2.0.0",
    "fermyon:spin/mqtt@2.0.0",
    "fermyon:spin/rdbms-types@2.0.0",
    "fermyon:spin/redis",
    "fermyon:spin/redis-types",
    "fermyon:spin/postgres",
    "fermyon:spin/mysql",
    "fermyon:spin/rdbms-types",
    "spin:redis/redis@3.0.0",
    "spin:postgres/postgres@3.0.0",
    "spin:postgres/postgres@4.0.0",
    "spin:postgres/postgres@4.1.0",
    "spin:postgres/postgres@4.2.0",
    "spin:mysql/mysql@3.0.0",
    "spin:mqtt/mqtt@3.0.0",
];

/// Interfaces of which the host has one version that serves its older ones too.
pub(super) const NEWEST: [(&[&str], &str); 1] =
    [(&["spin:postgres/postgres@4.0.0", "spin:postgres/postgres@4.1.0"], "spin:postgres/postgres@4.2.0")];

/// How many connections of one kind an instance may have open: as many as in Spin.
const OPEN: usize = 256;
/// How long an address may be, in bytes. One is kept with its connection.
const ADDRESS: usize = 8 << 10;
/// How long connecting may take, so that a guest can still say that a server is not there.
const CONNECTING: Duration = Duration::from_secs(10);

/// The connections of one revision.
#[derive(Debug)]
pub(crate) struct ConnectionPools {
    redis: Arc<Pool<RedisSession>>,
    postgres: Arc<Pool<PostgresSession>>,
    mysql: Arc<Pool<MysqlSession>>,
    brokers: Brokers,
    answer_limit: usize,
}

impl ConnectionPools {
    /// None yet. An answer that is held for a guest may have `answer_limit` bytes.
    pub(crate) fn new(answer_limit: usize) -> Self {
        Self {
            redis: Arc::default(),
            postgres: Arc::default(),
            mysql: Arc::default(),
            brokers: Brokers::default(),
            answer_limit,
        }
    }
}

/// What one instance has open, of each kind.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenConnections {
    redis: Slots,
    postgres: Slots,
    mysql: Slots,
    mqtt: Slots,
}

/// How many slots are taken.
#[derive(Debug, Clone, Default)]
struct Slots(Arc<AtomicUsize>);

/// The right of an instance to have something open, until it is dropped.
#[derive(Debug)]
struct Slot(Arc<AtomicUsize>);

impl Slots {
    /// None when too much is open.
    fn take(&self) -> Option<Slot> {
        let taken =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < OPEN).then_some(taken + 1));
        taken.is_ok().then(|| Slot(Arc::clone(&self.0)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who asks for a connection: what it may reach, and until when.
#[derive(Debug, Clone)]
struct Asker {
    grants: Arc<Grants>,
    open: OpenConnections,
    deadline: Instant,
}

impl Asker {
    /// When a connection must be there.
    fn until(&self) -> Instant {
        self.deadline.min(Instant::now() + CONNECTING)
    }

    fn pools(&self) -> &ConnectionPools {
        &self.grants.services.connections
    }

    /// How large an answer may be, in bytes.
    fn answer_limit(&self) -> usize {
        self.pools().answer_limit
    }
}

impl RuntimeContext {
    fn asker(&self) -> Asker {
        Asker { grants: Arc::clone(self.grants()), open: self.open_connections.clone(), deadline: self.deadline() }
    }

    /// What a guest names by a handle.
    fn opened<T: Clone + 'static>(&mut self, handle: &Resource<T>) -> wasmtime::Result<T> {
        Ok(WasiView::ctx(self).table.get(handle)?.clone())
    }

    /// Gives a guest a handle.
    fn give<T: Send + 'static>(&mut self, opened: T) -> wasmtime::Result<Resource<T>> {
        Ok(WasiView::ctx(self).table.push(opened)?)
    }

    /// Takes a handle back.
    fn close<T: 'static>(&mut self, handle: Resource<T>) -> wasmtime::Result<()> {
        WasiView::ctx(self).table.delete(handle)?;
        Ok(())
    }
}

/// What a resource of these interfaces takes, as far as the guest decides that.
pub(super) fn size_of_resource(entry: &dyn Any) -> usize {
    entry.downcast_ref::<PostgresBuilder>().map_or(0, PostgresBuilder::size)
}

/// What is wrong with an address that is longer than any.
fn check_length(address: &str) -> Result<(), String> {
    if address.len() > ADDRESS { Err(format!("it has more than {ADDRESS} bytes")) } else { Ok(()) }
}

/// Defines the interfaces for components.
pub(super) fn link_components(linker: &mut ComponentLinker<RuntimeContext>) -> wasmtime::Result<()> {
    bindings::Databases::add_to_linker::<_, HasSelf<RuntimeContext>>(linker, |context| context)
}

/// Defines the imports of core modules.
pub(super) fn link_modules(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    redis::link_modules(linker)?;
    postgres::link_modules(linker)?;
    mysql::link_modules(linker)
}

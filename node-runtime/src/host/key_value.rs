//! Key-value stores of components, and the interfaces by which guests use them.
//!
//! | interface | of |
//! |---|---|
//! | `fermyon:spin/key-value@2.0.0` | Spin's SDKs since 2.0 |
//! | `spin:key-value@3.0.0` | Spin's SDKs that do not block a guest |
//! | `wasi:keyvalue@0.2.0-draft2`: `store`, `batch`, `atomics` | SDKs that are not Spin's |
//! | `fermyon:spin/key-value` | the first components |
//! | core import `key-value` | modules of 2023 |
//!
//! Promise: a component opens only the stores that its manifest names; what a guest reads or writes at once is limited; a
//! store that does not work fails the call, is logged once, and is tried again by the next call.
//!
//! Absent on purpose: transactions, and cursors of `list-keys` (Spin has none either): all keys are listed, or an error says
//! that they are too many.

mod legacy;
mod modules;
mod redis;
mod spin;
mod sqlite;
mod wasi;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use manifest::runtime_config::KeyValueStore;
use sha2::{Digest as _, Sha256};
use wasmtime::{
    Linker,
    component::{ComponentType, Lift, Linker as ComponentLinker, Lower},
};

use super::{
    Network, RuntimeContext,
    handles::Handles,
    limits::LastAnswer,
    sqlite::session::{DatabaseFile, FileLimits, Use},
    stores::{DEFAULT, Health, Places, StoreConfigError},
};
use redis::RedisStore;
use sqlite::SqliteStore;

/// The interfaces of this module that are a component's.
pub(super) const INTERFACES: [&str; 6] =
    [spin::SPIN_2, spin::SPIN_3, wasi::STORE, wasi::BATCH, wasi::ATOMICS, legacy::INTERFACE];

/// How long a key may be, in bytes.
const KEY: usize = 64 << 10;

/// Why a guest does not get what it asked for: the `error` of Spin's interfaces.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower, thiserror::Error)]
#[component(variant)]
pub(super) enum Error {
    /// Too much is open.
    #[component(name = "store-table-full")]
    #[error("too many stores are open")]
    StoreTableFull,
    /// The runtime does not know the store.
    #[component(name = "no-such-store")]
    #[error("there is no such store")]
    NoSuchStore,
    /// The component may not use it.
    #[component(name = "access-denied")]
    #[error("the component's manifest does not name the store")]
    AccessDenied,
    /// Anything else.
    #[component(name = "other")]
    #[error("{0}")]
    Other(String),
}

/// Why a store did not do something, and whose matter that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// What was asked cannot be.
    Refused(String),
    /// The store does not work.
    Broken(String),
}

impl Failure {
    fn message(self) -> String {
        match self {
            Self::Refused(message) | Self::Broken(message) => message,
        }
    }
}

/// A result that would be too large.
fn too_large(limit: usize) -> Failure {
    Failure::Refused(format!("the result has more than {limit} bytes, which is the limit"))
}

/// A key, and its value if there is one.
type Pair = (String, Option<Vec<u8>>);

/// What is behind a label. Nothing that it returns has more bytes than the limit it was made with.
#[async_trait]
pub(super) trait Store: Send + Sync + fmt::Debug {
    /// The value of `key`.
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Failure>;
    /// Gives `key` a value.
    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Failure>;
    /// Forgets `key`, if it is there.
    async fn delete(&self, key: String) -> Result<(), Failure>;
    /// Whether `key` has a value.
    async fn exists(&self, key: String) -> Result<bool, Failure>;
    /// All keys, each once.
    async fn keys(&self) -> Result<Vec<String>, Failure>;
    /// The values of `keys`, in their order.
    async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Pair>, Failure>;
    /// Gives all keys their values.
    async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Failure>;
    /// Forgets all `keys`.
    async fn delete_many(&self, keys: Vec<String>) -> Result<(), Failure>;
    /// Adds to the number that `key` has; it is 0 where there is none. Returns the sum.
    async fn increment(&self, key: String, delta: i64) -> Result<i64, Failure>;
    /// Gives `key` a value if it still has the one with this fingerprint. Returns whether it had.
    async fn swap(&self, key: String, from: Option<Fingerprint>, to: Vec<u8>) -> Result<bool, Failure>;
}

/// What is remembered of a value, to see whether it is still the same.
pub(super) type Fingerprint = [u8; 32];

/// The fingerprint of `value`.
fn fingerprint(value: &[u8]) -> Fingerprint {
    Sha256::digest(value).into()
}

/// The stores of one revision, by label.
#[derive(Debug)]
pub(crate) struct Stores {
    stores: BTreeMap<String, Arc<Labelled>>,
}

/// A store with its label.
#[derive(Debug)]
struct Labelled {
    store: Box<dyn Store>,
    /// How large a value may be, in bytes.
    limit: usize,
    health: Health,
}

/// The stores that an instance has open.
pub(crate) type Opened = Handles<Bucket>;
pub(crate) use wasi::Swaps;

/// An open store.
#[derive(Debug, Clone)]
pub(crate) struct Bucket(Arc<Labelled>, LastAnswer);

/// The table of the runtime configuration.
const TABLE: &str = "key_value_store";
/// The file of stores that name no place of their own, as Spin's.
const FILE: &str = "sqlite_key_value.db";

impl Stores {
    /// Those that `config` names, and `default`, which is always there.
    pub(super) fn new(
        app: &str,
        config: &BTreeMap<String, KeyValueStore>,
        places: &Places,
        network: &Network,
        limits: FileLimits,
    ) -> Result<Self, StoreConfigError> {
        // Labels of one file share its connection.
        let mut files: BTreeMap<Option<PathBuf>, Arc<sqlite::File>> = BTreeMap::new();
        let mut in_file = |label: &str, path: Option<PathBuf>| {
            let file = files.entry(path.clone()).or_insert_with(|| {
                Arc::new(sqlite::File::new(match path {
                    Some(path) => {
                        DatabaseFile::at(path.clone(), places.holds(&path), limits, Use::Host(sqlite::SCHEMA))
                    }
                    None => DatabaseFile::in_memory(limits, Use::Host(sqlite::SCHEMA)),
                }))
            });
            Box::new(SqliteStore::new(label, file))
        };
        let mut stores: BTreeMap<String, Box<dyn Store>> = BTreeMap::new();
        for (label, store) in config {
            let store: Box<dyn Store> = match store {
                KeyValueStore::Spin { path } => in_file(label, path.clone().or_else(|| places.default_path(FILE))),
                KeyValueStore::Redis { url, prefix } => {
                    Box::new(RedisStore::new(label, url, prefix.as_deref(), network.clone(), limits.result)?)
                }
            };
            stores.insert(label.clone(), store);
        }
        stores.entry(DEFAULT.to_owned()).or_insert_with(|| in_file(DEFAULT, places.default_path(FILE)));
        let stores = stores.into_iter().map(|(label, store)| {
            let health = Health::new(app, &label);
            (label, Arc::new(Labelled { store, limit: limits.result, health }))
        });
        Ok(Self { stores: stores.collect() })
    }

    /// Whether `label` is that of a store.
    pub(super) fn has(&self, label: &str) -> bool {
        self.stores.contains_key(label)
    }

    /// The store `label`.
    pub(super) fn open(&self, label: &str, answer: LastAnswer) -> Result<Bucket, Error> {
        self.stores.get(label).map(|store| Bucket(Arc::clone(store), answer)).ok_or(Error::NoSuchStore)
    }
}

impl RuntimeContext {
    /// Opens the store `label` if the guest may.
    fn open_store(&mut self, label: &str) -> Result<u32, Error> {
        if !self.grants().key_value_stores.iter().any(|allowed| allowed == label) {
            return Err(Error::AccessDenied);
        }
        let answer = self.answer();
        let bucket = self.grants().services.key_value.open(label, answer)?;
        self.buckets.insert(bucket).ok_or(Error::StoreTableFull)
    }

    /// The open store `handle`.
    fn bucket(&self, handle: u32) -> Option<Bucket> {
        self.buckets.get(handle).cloned()
    }
}

fn size_of_keys(keys: &[String]) -> usize {
    keys.iter().map(|key| size_of::<String>() + key.len()).sum()
}

impl Bucket {
    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        self.check(&key)?;
        let value = self.noted(self.0.store.get(key).await)?;
        self.hold(value.as_ref().map_or(0, Vec::len))?;
        Ok(value)
    }

    pub(super) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.check(&key)?;
        self.check_value(&value)?;
        self.hold(value.len())?;
        self.noted(self.0.store.set(key, value).await)
    }

    pub(super) async fn delete(&self, key: String) -> Result<(), Error> {
        self.check(&key)?;
        self.noted(self.0.store.delete(key).await)
    }

    pub(super) async fn exists(&self, key: String) -> Result<bool, Error> {
        self.check(&key)?;
        self.noted(self.0.store.exists(key).await)
    }

    pub(super) async fn keys(&self) -> Result<Vec<String>, Error> {
        let keys = self.noted(self.0.store.keys().await)?;
        self.hold(size_of_keys(&keys))?;
        Ok(keys)
    }

    pub(super) async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Pair>, Error> {
        keys.iter().try_for_each(|key| self.check(key))?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.hold(size_of_keys(&keys))?;
        let pairs = self.noted(self.0.store.get_many(keys).await)?;
        let size = |(key, value): &Pair| size_of::<Pair>() + key.len() + value.as_ref().map_or(0, Vec::len);
        self.hold(pairs.iter().map(size).sum())?;
        Ok(pairs)
    }

    pub(super) async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        for (key, value) in &pairs {
            self.check(key)?;
            self.check_value(value)?;
        }
        if pairs.is_empty() {
            return Ok(());
        }
        self.hold(pairs.iter().map(|(key, value)| size_of::<Pair>() + key.len() + value.len()).sum())?;
        self.noted(self.0.store.set_many(pairs).await)
    }

    pub(super) async fn delete_many(&self, keys: Vec<String>) -> Result<(), Error> {
        keys.iter().try_for_each(|key| self.check(key))?;
        if keys.is_empty() {
            return Ok(());
        }
        self.hold(size_of_keys(&keys))?;
        self.noted(self.0.store.delete_many(keys).await)
    }

    pub(super) async fn increment(&self, key: String, delta: i64) -> Result<i64, Error> {
        self.check(&key)?;
        self.noted(self.0.store.increment(key, delta).await)
    }

    pub(super) async fn swap(&self, key: String, from: Option<Fingerprint>, to: Vec<u8>) -> Result<bool, Error> {
        self.check_value(&to)?;
        self.hold(to.len())?;
        self.noted(self.0.store.swap(key, from, to).await)
    }

    fn check(&self, key: &str) -> Result<(), Error> {
        if key.len() <= KEY {
            return Ok(());
        }
        Err(Error::Other(format!("the key has {} bytes: {KEY} is the limit", key.len())))
    }

    /// So many bytes of a question or its answer are held until the next one.
    fn hold(&self, size: usize) -> Result<(), Error> {
        self.1.is(size).map_err(|error| Error::Other(error.to_string()))
    }

    /// What is too large to be read is not written.
    fn check_value(&self, value: &[u8]) -> Result<(), Error> {
        let limit = self.0.limit;
        if value.len() <= limit {
            return Ok(());
        }
        Err(Error::Other(format!("the value has {} bytes: {limit} is the limit", value.len())))
    }

    /// Logs when the store begins to fail, and when it works again.
    fn noted<T>(&self, result: Result<T, Failure>) -> Result<T, Error> {
        match &result {
            Ok(_) => self.0.health.well(|app, label| tracing::info!(app, label, "key-value store works again")),
            Err(Failure::Broken(error)) => self.0.health.ill(error, |app, label, error| {
                tracing::warn!(app, label, %error, "key-value store failed");
            }),
            Err(Failure::Refused(_)) => {}
        }
        result.map_err(|failure| Error::Other(failure.message()))
    }
}

/// Defines the interfaces for components.
pub(super) fn link_components(linker: &mut ComponentLinker<RuntimeContext>) -> wasmtime::Result<()> {
    spin::link(linker)?;
    wasi::link(linker)?;
    legacy::link(linker)
}

/// Defines the import for core modules.
pub(super) fn link_modules(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    modules::link(linker)
}

#[cfg(test)]
mod tests;

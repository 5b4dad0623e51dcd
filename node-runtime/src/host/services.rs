//! [`Services`]: what the components of one revision share: stores, pools of connections, clients.

use manifest::{RuntimeConfig, runtime_config::Directory};

use super::{
    ConnectionPools, Network,
    key_value::Stores,
    limits::LastAnswer,
    sqlite::{Databases, session::FileLimits},
    stores::{DEFAULT, Places, StoreConfigError, StoreUseError},
};
use crate::engine::{EngineConfig, RevisionSettings};

/// Made once when the revision is built, and gone when its last request has ended.
///
/// Nothing is opened or connected here: that is for the first guest that asks, so that a database that is down fails calls
/// and not the revision.
#[derive(Debug)]
pub(crate) struct Services {
    /// Key-value stores.
    pub(crate) key_value: Stores,
    /// SQLite databases.
    pub(crate) sqlite: Databases,
    /// Connections to databases and brokers.
    pub(crate) connections: ConnectionPools,
}

impl Services {
    /// The services that `settings` describe; their servers are where `network` lets them be.
    ///
    /// # Errors
    /// When the runtime configuration names what cannot be.
    pub(crate) fn new(
        settings: &RevisionSettings,
        engine: &EngineConfig,
        network: &Network,
    ) -> Result<Self, StoreConfigError> {
        let (app, config): (_, &RuntimeConfig) = (&settings.app, &settings.runtime_config);
        let places = Places::new(match &config.state_dir {
            Directory::At(path) => Some(path.clone()),
            Directory::None => None,
            Directory::Default => settings.state_dir.clone(),
        });
        let limits = FileLimits {
            result: engine.store_result,
            disk: settings.limits.disk.unwrap_or(engine.store_disk),
            memory: engine.sqlite_memory,
        };
        Ok(Self {
            key_value: Stores::new(app, &config.key_value_stores, &places, network, limits)?,
            sqlite: Databases::new(app, &config.sqlite_databases, &places, network, limits)?,
            connections: ConnectionPools::new(engine.store_result),
        })
    }

    /// Gives `key` a value in the key-value store `default`.
    pub(crate) async fn set_key_value(&self, key: &str, value: &[u8]) -> Result<(), StoreUseError> {
        let set =
            async { self.key_value.open(DEFAULT, LastAnswer::default())?.set(key.to_owned(), value.to_vec()).await };
        set.await.map_err(|error| StoreUseError::KeyValue { key: key.to_owned(), problem: error.to_string() })
    }

    /// Runs SQL in the SQLite database `label`.
    pub(crate) async fn execute_sqlite(&self, label: &str, statements: &str) -> Result<(), StoreUseError> {
        let done = self.sqlite.execute(label, statements.to_owned()).await;
        done.map_err(|error| StoreUseError::Sqlite { label: label.to_owned(), problem: error.to_string() })
    }
}

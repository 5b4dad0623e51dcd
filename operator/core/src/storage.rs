//! What users of several replicas should know about the stores of their app.

use std::collections::BTreeSet;

use control::RevisionSpec;
use manifest::{
    RuntimeConfig,
    runtime_config::{KeyValueStore, SqliteDatabase},
};

use crate::view::{RuntimeConfiguration, View};

/// The label that needs no configuration.
const DEFAULT: &str = "default";

/// One sentence when several runtimes serve the app and each keeps what its components write on its own.
pub(crate) fn hint(view: &View, revision: &RevisionSpec) -> Option<String> {
    if view.app.replicas < 2 {
        return None;
    }
    let config = config(view);
    let components = || revision.application.components.values();
    let stores = components().flat_map(|component| &component.key_value_stores).filter(|label| {
        let store = config.key_value_stores.get(*label);
        store.map_or(*label == DEFAULT, |store| matches!(store, KeyValueStore::Spin { .. }))
    });
    let databases = components().flat_map(|component| &component.sqlite_databases).filter(|label| {
        let database = config.sqlite_databases.get(*label);
        database.map_or(*label == DEFAULT, |database| matches!(database, SqliteDatabase::Spin { .. }))
    });
    let mut local: BTreeSet<String> = stores.map(|label| format!("the key-value store `{label}`")).collect();
    local.extend(databases.map(|label| format!("the SQLite database `{label}`")));
    if local.is_empty() {
        return None;
    }
    let local = local.into_iter().collect::<Vec<_>>().join(" and ");
    Some(format!(
        "Each runtime keeps {local} on its own, so what one writes the others do not see: use a store that they share (spec.runtimeConfig), or one replica."
    ))
}

/// What holds for the app.
fn config(view: &View) -> RuntimeConfig {
    let own = match &view.runtime_config {
        RuntimeConfiguration::Resolved(Some(own)) => (*own.config).clone(),
        RuntimeConfiguration::Resolved(None) | RuntimeConfiguration::Pending | RuntimeConfiguration::Failed(_) => {
            RuntimeConfig::default()
        }
    };
    match &view.pool_config {
        Some(pool) => own.over_pool(&pool.config, &view.app.key.to_string()),
        None => own,
    }
}

//! `[key_value_store.<label>]` and `[sqlite_database.<label>]`.

use std::collections::BTreeMap;

use super::{
    KeyValueStore, Origin, SqliteDatabase,
    read::{Source, Types, check_label, required_secret, required_secret_url, required_url},
};
use crate::reader::Table;

const KEY_VALUE: Types<'_> = Types {
    known: &["spin", "redis"],
    absent: &[
        ("azure_cosmos", "use `redis`, or call the service from the component"),
        ("aws_dynamo", "use `redis`, or call the service from the component"),
    ],
};

const SQLITE: Types<'_> = Types { known: &["spin", "libsql"], absent: &[] };

pub(super) fn read_key_value_stores(root: &Table<'_>, source: Source<'_>) -> BTreeMap<String, KeyValueStore> {
    let mut stores = BTreeMap::new();
    for (label, field) in root.table("key_value_store").iter().flat_map(Table::entries) {
        check_label(&field, label);
        if let Some(store) = field.table().and_then(|table| read_key_value_store(&table, source)) {
            stores.insert(label.to_owned(), store);
        }
    }
    stores
}

fn read_key_value_store(table: &Table<'_>, source: Source<'_>) -> Option<KeyValueStore> {
    let store = match KEY_VALUE.read(table)? {
        "spin" => KeyValueStore::Spin { path: source.path(table, "path") },
        _ => KeyValueStore::Redis { url: required_secret_url(table, "url", &["redis", "rediss"]), prefix: None },
    };
    table.finish();
    Some(store)
}

pub(super) fn read_sqlite_databases(root: &Table<'_>, source: Source<'_>) -> BTreeMap<String, SqliteDatabase> {
    let mut databases = BTreeMap::new();
    for (label, field) in root.table("sqlite_database").iter().flat_map(Table::entries) {
        check_label(&field, label);
        if let Some(database) = field.table().and_then(|table| read_sqlite_database(&table, source)) {
            databases.insert(label.to_owned(), database);
        }
    }
    databases
}

fn read_sqlite_database(table: &Table<'_>, source: Source<'_>) -> Option<SqliteDatabase> {
    let database = match SQLITE.read(table)? {
        "spin" => SqliteDatabase::Spin {
            path: source.path(table, "path"),
            allow_attach_file: read_allow_attach_file(table, source),
        },
        _ => {
            if source.0 == Origin::Pool {
                table.report("would be one database for all apps, who would read each other's rows: give each app its own, in its `runtimeConfig`");
            }
            SqliteDatabase::Libsql {
                url: required_url(table, "url", &["https", "http", "libsql"]),
                token: required_secret(table, "token"),
            }
        }
    };
    table.finish();
    Some(database)
}

fn read_allow_attach_file(table: &Table<'_>, source: Source<'_>) -> bool {
    let Some(field) = table.get("allow_attach_file") else { return false };
    let allow = field.boolean().unwrap_or(false);
    if allow && source.is_of_cluster() {
        field.report("cannot be allowed on a cluster, where the files of other apps are on the same disk: remove it");
    }
    allow
}

//! Stores in SQLite (`type = "spin"`): rows of a table that is the same as Spin's, so that a file of one works with the other.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, named_params};

use super::{Failure, Fingerprint, Pair, Store, fingerprint, too_large};
use crate::host::sqlite::session::{DatabaseFile, Session, SessionError};

/// Spin's table.
pub(super) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS spin_key_value \
    (store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (store, key))";
/// A value that is too large is not read.
const GET: &str = "SELECT CASE WHEN octet_length(value) <= :limit THEN CAST(value AS BLOB) END \
    FROM spin_key_value WHERE store = :store AND key = :key";
const SET: &str = "INSERT INTO spin_key_value (store, key, value) VALUES (:store, :key, :value) \
    ON CONFLICT (store, key) DO UPDATE SET value = excluded.value";
const DELETE: &str = "DELETE FROM spin_key_value WHERE store = :store AND key = :key";
const EXISTS: &str = "SELECT 1 FROM spin_key_value WHERE store = :store AND key = :key";
const KEYS: &str = "SELECT key FROM spin_key_value WHERE store = :store ORDER BY key";

/// How many writes pass before the room on disk is looked at again.
const WRITES: u32 = 64;

/// A file with stores, and its one connection.
#[derive(Debug)]
pub(super) struct File {
    session: Session,
    writes: AtomicU32,
}

/// The keys of one label in a file.
#[derive(Debug)]
pub(super) struct SqliteStore {
    label: Arc<str>,
    file: Arc<File>,
}

impl File {
    pub(super) fn new(file: DatabaseFile) -> Self {
        Self { session: Arc::new(file).session(), writes: AtomicU32::new(0) }
    }
}

impl SqliteStore {
    pub(super) fn new(label: &str, file: &Arc<File>) -> Self {
        Self { label: label.into(), file: Arc::clone(file) }
    }

    /// Runs `work`, which reads, with the label and the size that a result may have.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &str, usize) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, Failure> {
        let label = Arc::clone(&self.label);
        let read =
            move |file: &DatabaseFile, connection: &mut Connection| work(connection, &label, file.limits().result);
        Ok(self.file.session.run(read).await?)
    }

    /// Runs `work`, which writes with one statement.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &str) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, Failure> {
        let look = self.file.writes.fetch_add(1, Ordering::Relaxed).is_multiple_of(WRITES);
        let label = Arc::clone(&self.label);
        let write = move |file: &DatabaseFile, connection: &mut Connection| {
            if look {
                file.limit_size(connection)?;
            }
            file.check_log()?;
            work(connection, &label)
        };
        Ok(self.file.session.run(write).await?)
    }

    /// Runs `work` in a transaction that writes.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &str) -> Result<T, SessionError> + Send + 'static,
    ) -> Result<T, Failure> {
        let change = move |connection: &mut Connection, label: &str| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction, label)?;
            transaction.commit()?;
            Ok(done)
        };
        self.write(change).await
    }
}

impl From<SessionError> for Failure {
    fn from(failed: SessionError) -> Self {
        match failed {
            SessionError::TooLarge(limit) => too_large(limit),
            SessionError::Refused(message) => Self::Refused(message.to_owned()),
            failed if failed.is_full() => Self::Refused("the app's stores have reached their limit of disk".to_owned()),
            failed => Self::Broken(failed.to_string()),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Failure> {
        self.read(move |connection, store, limit| get(connection, store, &key, limit)).await
    }

    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Failure> {
        self.write(move |connection, store| set(connection, store, &key, &value)).await
    }

    async fn delete(&self, key: String) -> Result<(), Failure> {
        self.write(move |connection, store| delete(connection, store, &key)).await
    }

    async fn exists(&self, key: String) -> Result<bool, Failure> {
        self.read(move |connection, store, _| {
            Ok(connection.prepare_cached(EXISTS)?.exists(named_params! { ":store": store, ":key": key })?)
        })
        .await
    }

    async fn keys(&self) -> Result<Vec<String>, Failure> {
        self.read(|connection, store, limit| {
            let mut statement = connection.prepare_cached(KEYS)?;
            let mut rows = statement.query(named_params! { ":store": store })?;
            let (mut keys, mut size) = (Vec::new(), 0_usize);
            while let Some(row) = rows.next()? {
                let key: String = row.get(0)?;
                size = size.saturating_add(size_of::<String>() + key.len());
                if size > limit {
                    return Err(SessionError::TooLarge(limit));
                }
                keys.push(key);
            }
            Ok(keys)
        })
        .await
    }

    async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Pair>, Failure> {
        self.read(move |connection, store, limit| {
            let (mut pairs, mut size) = (Vec::with_capacity(keys.len()), 0_usize);
            for key in keys {
                let value = get(connection, store, &key, limit.saturating_sub(size)).map_err(|error| {
                    if matches!(error, SessionError::TooLarge(_)) { SessionError::TooLarge(limit) } else { error }
                })?;
                size = size.saturating_add(size_of::<Pair>() + key.len() + value.as_ref().map_or(0, Vec::len));
                pairs.push((key, value));
            }
            Ok(pairs)
        })
        .await
    }

    async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
        self.change(move |connection, store| {
            pairs.iter().try_for_each(|(key, value)| set(connection, store, key, value))
        })
        .await
    }

    async fn delete_many(&self, keys: Vec<String>) -> Result<(), Failure> {
        self.change(move |connection, store| keys.iter().try_for_each(|key| delete(connection, store, key))).await
    }

    /// A number is 8 bytes, the least significant first, as Spin has it here.
    async fn increment(&self, key: String, delta: i64) -> Result<i64, Failure> {
        self.change(move |connection, store| {
            let number = match get(connection, store, &key, size_of::<i64>()) {
                Ok(None) => 0,
                Ok(Some(value)) => value.try_into().map(i64::from_le_bytes).map_err(|_| NO_NUMBER)?,
                Err(SessionError::TooLarge(_)) => return Err(NO_NUMBER),
                Err(other) => return Err(other),
            };
            let sum = number.checked_add(delta).ok_or(SessionError::Refused("the sum is out of range"))?;
            set(connection, store, &key, &sum.to_le_bytes())?;
            Ok(sum)
        })
        .await
    }

    async fn swap(&self, key: String, from: Option<Fingerprint>, to: Vec<u8>) -> Result<bool, Failure> {
        self.change(move |connection, store| {
            let current = get(connection, store, &key, usize::MAX)?;
            let same = current.as_deref().map(fingerprint) == from;
            if same {
                set(connection, store, &key, &to)?;
            }
            Ok(same)
        })
        .await
    }
}

/// The value cannot be counted up.
const NO_NUMBER: SessionError =
    SessionError::Refused("the value of the key is no number that `increment` wrote (8 bytes)");

fn get(connection: &Connection, store: &str, key: &str, limit: usize) -> Result<Option<Vec<u8>>, SessionError> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = connection
        .prepare_cached(GET)?
        .query_row(named_params! { ":store": store, ":key": key, ":limit": most }, |row| {
            row.get::<_, Option<Vec<u8>>>(0)
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some(Some(value)) => Ok(Some(value)),
        Some(None) => Err(SessionError::TooLarge(limit)),
    }
}

fn set(connection: &Connection, store: &str, key: &str, value: &[u8]) -> Result<(), SessionError> {
    connection.prepare_cached(SET)?.execute(named_params! { ":store": store, ":key": key, ":value": value })?;
    Ok(())
}

fn delete(connection: &Connection, store: &str, key: &str) -> Result<(), SessionError> {
    connection.prepare_cached(DELETE)?.execute(named_params! { ":store": store, ":key": key })?;
    Ok(())
}

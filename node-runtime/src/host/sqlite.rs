//! SQLite databases of components, and the interfaces by which guests use them.
//!
//! | interface | of |
//! |---|---|
//! | `fermyon:spin/sqlite@2.0.0` | Spin's SDKs since 2.0 |
//! | `spin:sqlite@3.0.0`, `spin:sqlite@3.1.0` | Spin's SDKs since 3.0; 3.1 adds the functions that do not block a guest |
//! | `fermyon:spin/sqlite` | the first components |
//! | core import `sqlite` | modules of 2023 |
//!
//! Promise: a component opens only the databases that its manifest names; each handle is a connection of its own, so that
//! a transaction that is left open ends with its request; results, files and memory are limited.
//!
//! Absent on purpose: streams that are read from the database row by row. A result is complete, and limited, before the
//! guest has its first row: a guest that reads slowly holds no lock.

mod guard;
mod hrana;
mod legacy;
mod libsql;
mod local;
mod modules;
mod resources;
pub(super) mod session;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use manifest::runtime_config::SqliteDatabase;
use wasmtime::{
    Linker,
    component::{ComponentType, Lift, Linker as ComponentLinker, Lower},
};

use super::{
    Network, RuntimeContext,
    handles::Handles,
    limits::LastAnswer,
    stores::{DEFAULT, Health, Places, StoreConfigError, check_label},
};
use libsql::LibsqlDatabase;
use local::LocalDatabase;
use session::{DatabaseFile, FileLimits, Use};

/// The interfaces of this module that are a component's.
pub(super) const INTERFACES: [&str; 4] = [resources::SPIN_2, resources::SPIN_3, resources::SPIN_3_1, legacy::INTERFACE];

/// A value of a column or a parameter.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum Value {
    /// A whole number.
    #[component(name = "integer")]
    Integer(i64),
    /// A number.
    #[component(name = "real")]
    Real(f64),
    /// Text.
    #[component(name = "text")]
    Text(String),
    /// Bytes.
    #[component(name = "blob")]
    Blob(Vec<u8>),
    /// Nothing.
    #[component(name = "null")]
    Null,
}

impl Value {
    /// What it takes of memory, in bytes.
    fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Blob(blob) => blob.len(),
                Self::Integer(_) | Self::Real(_) | Self::Null => 0,
            }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct RowResult {
    /// One for each column.
    #[component(name = "values")]
    pub(super) values: Vec<Value>,
}

/// What a statement returned.
#[derive(Debug, Clone, PartialEq, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct QueryResult {
    /// The names of the columns; none for a statement that returns nothing.
    #[component(name = "columns")]
    pub(super) columns: Vec<String>,
    /// The rows.
    #[component(name = "rows")]
    pub(super) rows: Vec<RowResult>,
}

/// Why a guest does not get what it asked for: the `error` of every version of the interface.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower, thiserror::Error)]
#[component(variant)]
pub(super) enum Error {
    /// The runtime does not know the database.
    #[component(name = "no-such-database")]
    #[error("there is no such database")]
    NoSuchDatabase,
    /// The component may not use it.
    #[component(name = "access-denied")]
    #[error("the component's manifest does not name the database")]
    AccessDenied,
    /// The handle is not open.
    #[component(name = "invalid-connection")]
    #[error("the connection is not open")]
    InvalidConnection,
    /// There is no more room.
    #[component(name = "database-full")]
    #[error("the database is full")]
    DatabaseFull,
    /// Anything else.
    #[component(name = "io")]
    #[error("{0}")]
    Io(String),
}

/// A database that connections can be opened to.
pub(super) trait Database: Send + Sync + fmt::Debug {
    /// A connection. Whether it works is found when it is used.
    fn connect(&self) -> Box<dyn Connection>;
}

/// A connection to a database: transactions belong to it.
#[async_trait]
pub(super) trait Connection: Send + Sync {
    /// Runs one statement; several are an error, and none is run.
    async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<QueryResult, Failure>;
    /// Runs statements that come from whoever runs the application.
    async fn execute_batch(&self, statements: String) -> Result<(), Failure>;
    /// The row id of the last `INSERT` of this connection, or 0.
    async fn last_insert_rowid(&self) -> Result<i64, Failure>;
    /// How many rows the last `INSERT`, `UPDATE` or `DELETE` of this connection changed.
    async fn changes(&self) -> Result<u64, Failure>;
}

/// Why a statement failed, and whose matter that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    error: Error,
    /// Whether the database does not work, rather than the statement.
    broken: bool,
}

impl Failure {
    /// The statement is to blame.
    fn of_statement(message: impl Into<String>) -> Self {
        Self { error: Error::Io(message.into()), broken: false }
    }

    /// The database is to blame.
    fn of_database(message: impl Into<String>) -> Self {
        Self { error: Error::Io(message.into()), broken: true }
    }
}

/// The databases of one revision, by label.
#[derive(Debug)]
pub(crate) struct Databases {
    /// How large a result may be, in bytes.
    result: usize,
    databases: BTreeMap<String, Arc<Labelled>>,
}

/// A database with its label.
#[derive(Debug)]
struct Labelled {
    database: Box<dyn Database>,
    health: Health,
}

/// What a guest has open.
#[derive(Clone)]
pub(super) struct Opened {
    database: Arc<Labelled>,
    connection: Arc<dyn Connection>,
    answer: LastAnswer,
}

/// The connections of one instance.
pub(crate) type Connections = Handles<Opened>;

impl Databases {
    /// Those that `config` names, and `default`, which is always there. Paths are those of [`Places`].
    pub(super) fn new(
        app: &str,
        config: &BTreeMap<String, SqliteDatabase>,
        places: &Places,
        network: &Network,
        limits: FileLimits,
    ) -> Result<Self, StoreConfigError> {
        let local = |path: Option<PathBuf>, attach: bool| -> Box<dyn Database> {
            let used_by = Use::Guest { attach };
            let file = match path {
                Some(path) => DatabaseFile::at(path.clone(), places.holds(&path), limits, used_by),
                None => DatabaseFile::in_memory(limits, used_by),
            };
            Box::new(LocalDatabase::new(file))
        };
        let mut databases: BTreeMap<String, Box<dyn Database>> = BTreeMap::new();
        for (label, database) in config {
            let database: Box<dyn Database> = match database {
                SqliteDatabase::Spin { path, allow_attach_file } => {
                    if path.is_none() {
                        check_label(TABLE, label)?;
                    }
                    local(path.clone().or_else(|| places.default_path(&file_name(label))), *allow_attach_file)
                }
                SqliteDatabase::Libsql { url, token } => {
                    Box::new(LibsqlDatabase::new(label, url, token.clone(), network.clone(), limits.result)?)
                }
            };
            databases.insert(label.clone(), database);
        }
        databases.entry(DEFAULT.to_owned()).or_insert_with(|| local(places.default_path(&file_name(DEFAULT)), false));
        let databases = databases.into_iter().map(|(label, database)| {
            let health = Health::new(app, &label);
            (label, Arc::new(Labelled { database, health }))
        });
        Ok(Self { result: limits.result, databases: databases.collect() })
    }

    /// Whether `label` is that of a database.
    pub(super) fn has(&self, label: &str) -> bool {
        self.databases.contains_key(label)
    }

    /// Runs statements in the database `label`, for whoever runs the application.
    pub(super) async fn execute(&self, label: &str, statements: String) -> Result<(), Error> {
        let database = self.databases.get(label).ok_or(Error::NoSuchDatabase)?;
        database.database.connect().execute_batch(statements).await.map_err(|failure| failure.error)
    }
}

/// The table of the runtime configuration.
const TABLE: &str = "sqlite_database";

/// The name of the file of a database that names no place, as Spin's.
fn file_name(label: &str) -> String {
    if label == DEFAULT { "sqlite_db.db".to_owned() } else { format!("{label}_sqlite_db.db") }
}

impl RuntimeContext {
    /// Opens the database `label` if the guest may.
    fn open_database(&mut self, label: &str) -> Result<u32, Error> {
        let grants = self.grants();
        if !grants.sqlite_databases.iter().any(|allowed| allowed == label) {
            return Err(Error::AccessDenied);
        }
        let database = Arc::clone(grants.services.sqlite.databases.get(label).ok_or(Error::NoSuchDatabase)?);
        let connection = Arc::from(database.database.connect());
        let opened = Opened { database, connection, answer: self.answer() };
        self.connections.insert(opened).ok_or_else(|| Error::Io("too many connections are open".to_owned()))
    }

    /// The open connection `handle`.
    fn database(&self, handle: u32) -> Result<Opened, Error> {
        self.connections.get(handle).cloned().ok_or(Error::InvalidConnection)
    }
}

impl Opened {
    async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<QueryResult, Error> {
        let asked = statement.len() + parameters.iter().map(Value::size).sum::<usize>();
        self.answer.is(asked).map_err(|error| Error::Io(error.to_string()))?;
        let result = self.database.noted(self.connection.execute(statement, parameters).await)?;
        let size: usize = result.rows.iter().flat_map(|row| &row.values).map(Value::size).sum();
        self.answer.is(size).map_err(|error| Error::Io(error.to_string()))?;
        Ok(result)
    }

    async fn last_insert_rowid(&self) -> Result<i64, Error> {
        self.database.noted(self.connection.last_insert_rowid().await)
    }

    async fn changes(&self) -> Result<u64, Error> {
        self.database.noted(self.connection.changes().await)
    }
}

impl Labelled {
    /// Logs when the database begins to fail, and when it works again.
    fn noted<T>(&self, result: Result<T, Failure>) -> Result<T, Error> {
        match &result {
            Ok(_) => self.health.well(|app, label| tracing::info!(app, label, "SQLite database works again")),
            Err(Failure { error, broken: true }) => self.health.ill(error, |app, label, error| {
                tracing::warn!(app, label, %error, "SQLite database failed");
            }),
            Err(Failure { broken: false, .. }) => {}
        }
        result.map_err(|failure| failure.error)
    }
}

/// Defines the interfaces for components.
pub(super) fn link_components(linker: &mut ComponentLinker<RuntimeContext>) -> wasmtime::Result<()> {
    resources::link(linker)?;
    legacy::link(linker)
}

/// Defines the import for core modules.
pub(super) fn link_modules(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    modules::link(linker)
}

#[cfg(test)]
mod tests;

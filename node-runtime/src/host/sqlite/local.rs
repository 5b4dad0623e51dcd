//! Databases in this process: a file, or memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rusqlite::{
    Statement, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    Connection, Database, Error, Failure, QueryResult, RowResult, Value, guard,
    session::{DatabaseFile, Session, SessionError},
};

/// How long a statement waits for the transactions of others.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long between two tries, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A database of this process.
#[derive(Debug)]
pub(super) struct LocalDatabase {
    file: Arc<DatabaseFile>,
}

impl LocalDatabase {
    pub(super) fn new(file: DatabaseFile) -> Self {
        Self { file: Arc::new(file) }
    }
}

impl Database for LocalDatabase {
    fn connect(&self) -> Box<dyn Connection> {
        Box::new(LocalConnection { session: self.file.session() })
    }
}

struct LocalConnection {
    session: Session,
}

#[async_trait]
impl Connection for LocalConnection {
    async fn execute(&self, statement: String, parameters: Vec<Value>) -> Result<QueryResult, Failure> {
        let asked = Arc::new((statement, parameters));
        let (began, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            let asked = Arc::clone(&asked);
            let result = self.session.run(move |file, connection| {
                let (statement, parameters) = asked.as_ref();
                let Some(mut statement) = guard::prepare(connection, statement, file.may_attach())? else {
                    return Ok(QueryResult::default());
                };
                if !statement.readonly() {
                    file.check_log()?;
                }
                query(&mut statement, parameters, file.limits().result)
            });
            match result.await {
                // No thread waits here for a transaction that belongs to somebody else.
                Err(error) if error.is_busy() && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                other => return other.map_err(Failure::from),
            }
        }
    }

    async fn execute_batch(&self, statements: String) -> Result<(), Failure> {
        let run = move |_: &DatabaseFile, connection: &mut rusqlite::Connection| {
            guard::release(connection)?;
            Ok(connection.execute_batch(&statements)?)
        };
        Ok(self.session.run(run).await?)
    }

    async fn last_insert_rowid(&self) -> Result<i64, Failure> {
        Ok(self.session.run(|_, connection| Ok(connection.last_insert_rowid())).await?)
    }

    async fn changes(&self) -> Result<u64, Failure> {
        Ok(self.session.run(|_, connection| Ok(connection.changes())).await?)
    }
}

impl From<SessionError> for Failure {
    fn from(failed: SessionError) -> Self {
        let broken = failed.is_of_the_file();
        let error = if failed.is_full() { Error::DatabaseFull } else { Error::Io(failed.to_string()) };
        Self { error, broken }
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(blob) => ValueRef::Blob(blob),
            Self::Null => ValueRef::Null,
        }))
    }
}

fn query(statement: &mut Statement<'_>, parameters: &[Value], limit: usize) -> Result<QueryResult, SessionError> {
    let columns: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut size: usize = columns.iter().map(String::len).sum();
    let mut found = statement.query(params_from_iter(parameters))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let mut values = Vec::with_capacity(columns.len());
        for column in 0..columns.len() {
            let value = row.get_ref(column)?;
            // Before it is copied.
            size = size.saturating_add(size_of::<Value>() + held(value));
            if size > limit {
                return Err(SessionError::TooLarge(limit));
            }
            values.push(Value::try_from(value).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
            })?);
        }
        size = size.saturating_add(size_of::<RowResult>());
        rows.push(RowResult { values });
    }
    Ok(QueryResult { columns, rows })
}

/// How many bytes a value has beside itself.
const fn held(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
    }
}

impl TryFrom<ValueRef<'_>> for Value {
    type Error = std::str::Utf8Error;

    /// Text that is not UTF-8 is no text for a guest; it can be read as a blob.
    fn try_from(value: ValueRef<'_>) -> Result<Self, Self::Error> {
        Ok(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(std::str::from_utf8(text)?.to_owned()),
            ValueRef::Blob(blob) => Self::Blob(blob.to_vec()),
        })
    }
}

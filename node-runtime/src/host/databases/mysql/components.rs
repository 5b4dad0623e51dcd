//! The interfaces for components: `spin:mysql/mysql@3.0.0` and `fermyon:spin/mysql@2.0.0` with connections,
//! `fermyon:spin/mysql` with an address in every call.

use futures::StreamExt as _;
use wasmtime::component::{Accessor, FutureReader, HasSelf, Resource, StreamReader};

use super::MysqlConnection;
use crate::host::{
    RuntimeContext,
    databases::{
        Asker,
        bindings::{
            fermyon::{spin::mysql as v1, spin2_0_0::mysql as v2},
            spin::mysql::mysql as v3,
        },
        rdbms::{self, into_all},
    },
    rows,
};

type Asked<T, E> = wasmtime::Result<Result<T, E>>;
type Guest<T> = Accessor<T, HasSelf<RuntimeContext>>;

impl v2::Host for RuntimeContext {}

impl v2::HostConnection for RuntimeContext {
    async fn open(&mut self, address: String) -> Asked<Resource<MysqlConnection>, rdbms::Failure> {
        match MysqlConnection::open(&self.asker(), &address).await {
            Ok(connection) => self.give(connection).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    async fn query(
        &mut self,
        handle: Resource<MysqlConnection>,
        statement: String,
        parameters: Vec<rdbms::Parameter>,
    ) -> Asked<rdbms::RowSet, rdbms::Failure> {
        let _held = self.hold(&[&statement, &parameters])?;
        Ok(self.opened(&handle)?.query(&statement, parameters).await)
    }

    async fn execute(
        &mut self,
        handle: Resource<MysqlConnection>,
        statement: String,
        parameters: Vec<rdbms::Parameter>,
    ) -> Asked<(), rdbms::Failure> {
        let _held = self.hold(&[&statement, &parameters])?;
        Ok(self.opened(&handle)?.execute(&statement, parameters).await)
    }

    async fn drop(&mut self, handle: Resource<MysqlConnection>) -> wasmtime::Result<()> {
        self.close(handle)
    }
}

impl Asker {
    /// A connection for one query.
    pub(super) async fn query_mysql(
        &self,
        address: &str,
        statement: &str,
        parameters: Vec<rdbms::Parameter>,
    ) -> Result<rdbms::RowSet, rdbms::Failure> {
        MysqlConnection::open(self, address).await?.query(statement, parameters).await
    }

    /// A connection for one command.
    pub(super) async fn execute_mysql(
        &self,
        address: &str,
        statement: &str,
        parameters: Vec<rdbms::Parameter>,
    ) -> Result<(), rdbms::Failure> {
        MysqlConnection::open(self, address).await?.execute(statement, parameters).await
    }
}

impl v1::Host for RuntimeContext {
    async fn query(
        &mut self,
        address: String,
        statement: String,
        parameters: Vec<v1::ParameterValue>,
    ) -> Asked<v1::RowSet, v1::MysqlError> {
        let parameters: Vec<rdbms::Parameter> = into_all(parameters);
        let _held = self.hold(&[&address, &statement, &parameters])?;
        let rows = self.asker().query_mysql(&address, &statement, parameters).await;
        Ok(rows.map(v1::RowSet::from).map_err(v1::MysqlError::from))
    }

    async fn execute(
        &mut self,
        address: String,
        statement: String,
        parameters: Vec<v1::ParameterValue>,
    ) -> Asked<(), v1::MysqlError> {
        let parameters: Vec<rdbms::Parameter> = into_all(parameters);
        let _held = self.hold(&[&address, &statement, &parameters])?;
        let done = self.asker().execute_mysql(&address, &statement, parameters).await;
        Ok(done.map_err(v1::MysqlError::from))
    }
}

impl v3::Host for RuntimeContext {}

impl v3::HostConnection for RuntimeContext {
    async fn drop(&mut self, handle: Resource<MysqlConnection>) -> wasmtime::Result<()> {
        self.close(handle)
    }
}

/// The columns of an answer, its rows, and how they end.
type Streamed = (Vec<v3::Column>, StreamReader<v3::Row>, FutureReader<Result<(), v3::Error>>);

impl<T> v3::HostConnectionWithStore<T> for HasSelf<RuntimeContext> {
    async fn open(guest: &Guest<T>, address: String) -> Asked<Resource<MysqlConnection>, v3::Error> {
        let asker = guest.with(|mut guest| guest.get().asker());
        match MysqlConnection::open(&asker, &address).await {
            Ok(connection) => guest.with(|mut guest| guest.get().give(connection)).map(Ok),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn query(
        guest: &Guest<T>,
        handle: Resource<MysqlConnection>,
        statement: String,
        parameters: Vec<v3::ParameterValue>,
    ) -> Asked<Streamed, v3::Error> {
        let connection = guest.with(|mut guest| guest.get().opened(&handle))?;
        let parameters: Vec<rdbms::Parameter> = into_all(parameters);
        let _held = guest.with(|mut guest| guest.get().hold(&[&statement, &parameters]))?;
        let (columns, rows) = match connection.start(statement, parameters).await {
            Ok(started) => started,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let rows = rows.map(|row| row.map(into_all).map_err(v3::Error::from));
        let (rows, end) = guest.with(|guest| rows::give(guest, rows.boxed()))?;
        Ok(Ok((into_all(columns), rows, end)))
    }

    async fn execute(
        guest: &Guest<T>,
        handle: Resource<MysqlConnection>,
        statement: String,
        parameters: Vec<v3::ParameterValue>,
    ) -> Asked<(), v3::Error> {
        let connection = guest.with(|mut guest| guest.get().opened(&handle))?;
        let parameters: Vec<rdbms::Parameter> = into_all(parameters);
        let _held = guest.with(|mut guest| guest.get().hold(&[&statement, &parameters]))?;
        Ok(connection.execute(&statement, parameters).await.map_err(v3::Error::from))
    }
}

//! The older interfaces: `spin:postgres/postgres@3.0.0`, `fermyon:spin/postgres@2.0.0`, and `fermyon:spin/postgres` with an
//! address in every call. What they have no value for is `unsupported`.

use wasmtime::component::Resource;

use super::{Column, DataType, Failure, Parameter, PostgresConnection, RowSet, Trust, Value, components::Asked, v4};
use crate::host::{
    RuntimeContext,
    databases::{
        Asker,
        bindings::{
            fermyon::{
                spin::{postgres as v1, rdbms_types as v1_types},
                spin2_0_0::postgres as v2,
            },
            spin::postgres3_0_0::postgres as v3,
        },
        rdbms::{self, into_all},
    },
};

/// The text of an error that has more than that in version 4.
fn text(error: v4::QueryError) -> String {
    match error {
        v4::QueryError::Text(text) => text,
        v4::QueryError::DbError(error) => error.as_text,
    }
}

macro_rules! translate_error {
    ($error:path) => {
        impl From<Failure> for $error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::ConnectionFailed(text) => Self::ConnectionFailed(text),
                    Failure::BadParameter(text) => Self::BadParameter(text),
                    Failure::QueryFailed(error) => Self::QueryFailed(text(error)),
                    Failure::ValueConversionFailed(text) => Self::ValueConversionFailed(text),
                    Failure::Other(text) => Self::Other(text),
                }
            }
        }
    };
}

translate_error!(rdbms::Failure);
translate_error!(v3::Error);

impl From<v3::ParameterValue> for Parameter {
    fn from(parameter: v3::ParameterValue) -> Self {
        match parameter {
            v3::ParameterValue::Boolean(value) => Self::Boolean(value),
            v3::ParameterValue::Int8(value) => Self::Int8(value),
            v3::ParameterValue::Int16(value) => Self::Int16(value),
            v3::ParameterValue::Int32(value) => Self::Int32(value),
            v3::ParameterValue::Int64(value) => Self::Int64(value),
            v3::ParameterValue::Floating32(value) => Self::Floating32(value),
            v3::ParameterValue::Floating64(value) => Self::Floating64(value),
            v3::ParameterValue::Str(value) => Self::Str(value),
            v3::ParameterValue::Binary(value) => Self::Binary(value),
            v3::ParameterValue::Date(value) => Self::Date(value),
            v3::ParameterValue::Time(value) => Self::Time(value),
            v3::ParameterValue::Datetime(value) => Self::Datetime(value),
            v3::ParameterValue::Timestamp(value) => Self::Timestamp(value),
            v3::ParameterValue::DbNull => Self::DbNull,
        }
    }
}

/// What a version has of values and columns: these kinds, and no others.
macro_rules! translate_rows {
    ($value:ty, $data_type:ty, $column:ty, $rows:ty: $($kind:ident)*) => {
        impl From<Value> for $value {
            fn from(value: Value) -> Self {
                match value {
                    $(Value::$kind(value) => Self::$kind(value),)*
                    Value::DbNull => Self::DbNull,
                    _ => Self::Unsupported,
                }
            }
        }

        impl From<Column> for $column {
            fn from(column: Column) -> Self {
                let data_type = match column.data_type {
                    $(DataType::$kind => <$data_type>::$kind,)*
                    _ => <$data_type>::Other,
                };
                Self { name: column.name, data_type }
            }
        }

        impl From<RowSet> for $rows {
            fn from(rows: RowSet) -> Self {
                Self { columns: into_all(rows.columns), rows: rows.rows.into_iter().map(into_all).collect() }
            }
        }
    };
}

translate_rows!(v3::DbValue, v3::DbDataType, v3::Column, v3::RowSet:
    Boolean Int8 Int16 Int32 Int64 Floating32 Floating64 Str Binary Date Time Datetime Timestamp);
translate_rows!(rdbms::Value, rdbms::DataType, rdbms::Column, rdbms::RowSet:
    Boolean Int8 Int16 Int32 Int64 Floating32 Floating64 Str Binary);

impl From<rdbms::Parameter> for Parameter {
    fn from(parameter: rdbms::Parameter) -> Self {
        match parameter {
            rdbms::Parameter::Boolean(value) => Self::Boolean(value),
            rdbms::Parameter::Int8(value) => Self::Int8(value),
            rdbms::Parameter::Int16(value) => Self::Int16(value),
            rdbms::Parameter::Int32(value) => Self::Int32(value),
            rdbms::Parameter::Int64(value) => Self::Int64(value),
            // PostgreSQL has none without a sign. What the statement needs decides whether they fit.
            rdbms::Parameter::Uint8(value) => Self::Int64(value.into()),
            rdbms::Parameter::Uint16(value) => Self::Int64(value.into()),
            rdbms::Parameter::Uint32(value) => Self::Int64(value.into()),
            rdbms::Parameter::Uint64(value) => {
                i64::try_from(value).map_or_else(|_| Self::Decimal(value.to_string()), Self::Int64)
            }
            rdbms::Parameter::Floating32(value) => Self::Floating32(value),
            rdbms::Parameter::Floating64(value) => Self::Floating64(value),
            rdbms::Parameter::Str(value) => Self::Str(value),
            rdbms::Parameter::Binary(value) => Self::Binary(value),
            rdbms::Parameter::DbNull => Self::DbNull,
        }
    }
}

/// The functions of a version that has connections.
macro_rules! with_connections {
    ($interface:ident, $parameter:ty, $rows:ty, $error:ty) => {
        impl $interface::Host for RuntimeContext {}

        impl $interface::HostConnection for RuntimeContext {
            async fn open(&mut self, address: String) -> Asked<Resource<PostgresConnection>, $error> {
                Ok(self.open_postgres(&address, &Trust::Component).await?.map_err(<$error>::from))
            }

            async fn query(
                &mut self,
                handle: Resource<PostgresConnection>,
                statement: String,
                parameters: Vec<$parameter>,
            ) -> Asked<$rows, $error> {
                let parameters: Vec<Parameter> = into_all(parameters);
                let _held = self.hold(&[&statement, &parameters])?;
                let rows = self.opened(&handle)?.query(&statement, &parameters).await;
                Ok(rows.map(<$rows>::from).map_err(<$error>::from))
            }

            async fn execute(
                &mut self,
                handle: Resource<PostgresConnection>,
                statement: String,
                parameters: Vec<$parameter>,
            ) -> Asked<u64, $error> {
                let parameters: Vec<Parameter> = into_all(parameters);
                let _held = self.hold(&[&statement, &parameters])?;
                let changed = self.opened(&handle)?.execute(&statement, &parameters).await;
                Ok(changed.map_err(<$error>::from))
            }

            async fn drop(&mut self, handle: Resource<PostgresConnection>) -> wasmtime::Result<()> {
                self.close(handle)
            }
        }
    };
}

with_connections!(v3, v3::ParameterValue, v3::RowSet, v3::Error);
with_connections!(v2, rdbms::Parameter, rdbms::RowSet, rdbms::Failure);

impl Asker {
    /// A connection for one query.
    pub(super) async fn query_postgres(
        &self,
        address: &str,
        statement: &str,
        parameters: Vec<rdbms::Parameter>,
    ) -> Result<rdbms::RowSet, rdbms::Failure> {
        let connection = PostgresConnection::open(self, address, &Trust::Component).await?;
        Ok(connection.query(statement, &into_all(parameters)).await?.into())
    }

    /// A connection for one command.
    pub(super) async fn execute_postgres(
        &self,
        address: &str,
        statement: &str,
        parameters: Vec<rdbms::Parameter>,
    ) -> Result<u64, rdbms::Failure> {
        let connection = PostgresConnection::open(self, address, &Trust::Component).await?;
        Ok(connection.execute(statement, &into_all(parameters)).await?)
    }
}

impl v1_types::Host for RuntimeContext {}

impl crate::host::databases::bindings::fermyon::spin2_0_0::rdbms_types::Host for RuntimeContext {}

impl v1::Host for RuntimeContext {
    async fn query(
        &mut self,
        address: String,
        statement: String,
        parameters: Vec<v1::ParameterValue>,
    ) -> Asked<v1::RowSet, v1::PgError> {
        let parameters: Vec<rdbms::Parameter> = into_all(parameters);
        let _held = self.hold(&[&address, &statement, &parameters])?;
        let rows = self.asker().query_postgres(&address, &statement, parameters).await;
        Ok(rows.map(v1::RowSet::from).map_err(v1::PgError::from))
    }

    async fn execute(
        &mut self,
        address: String,
        statement: String,
        parameters: Vec<v1::ParameterValue>,
    ) -> Asked<u64, v1::PgError> {
        let parameters: Vec<rdbms::Parameter> = into_all(parameters);
        let _held = self.hold(&[&address, &statement, &parameters])?;
        let changed = self.asker().execute_postgres(&address, &statement, parameters).await;
        Ok(changed.map_err(v1::PgError::from))
    }
}

//! What relational databases share: values, rows and errors as `fermyon:spin/rdbms-types@2.0.0` has them, and the same in
//! other versions.

pub(super) mod lower;

use super::bindings::{
    fermyon::{
        spin::{mysql as v1_mysql, postgres as v1_postgres, rdbms_types as v1},
        spin2_0_0::rdbms_types,
    },
    spin::mysql::mysql as v3_mysql,
};

use crate::host::limits::{Held, HostMemory, NoRoom};

pub(super) use rdbms_types::{
    Column, DbDataType as DataType, DbValue as Value, Error as Failure, ParameterValue as Parameter, Row, RowSet,
};

/// How much memory a value takes beside its text or bytes, rounded up.
const VALUE_SIZE: usize = 64;

/// Counts the memory that an answer takes here.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    most: usize,
    streamed: bool,
    held: Held,
}

impl Room {
    /// For at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { left: most, most, streamed: false, held: Held::default() }
    }

    /// The same, where nothing else counts what is held.
    pub(super) fn within(self, memory: &HostMemory) -> Self {
        Self { held: memory.hold(), ..self }
    }

    /// What is held, as long as it is.
    pub(super) fn into_held(self) -> Held {
        self.held
    }

    /// As much for each row, because rows are given on as they come.
    pub(super) fn for_each_row(self) -> Self {
        Self { streamed: true, ..self }
    }

    /// Adds a row of so many values, whose texts and bytes have `size` bytes.
    pub(super) fn add(&mut self, values: usize, size: usize) -> Result<(), String> {
        if self.streamed {
            self.left = self.most;
            self.held.release();
        }
        self.hold(values.saturating_add(1).saturating_mul(VALUE_SIZE).saturating_add(size))
    }

    /// Adds `bytes` to the last row.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), String> {
        let most = self.most;
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!(
                "the rows need more than the {most} bytes that this runtime holds for a guest: ask for fewer (LIMIT)"
            )
        })?;
        self.held.add(bytes).map_err(|NoRoom| NoRoom.to_string())
    }
}

/// Translates to and from another version's types, which have the same cases.
macro_rules! translate {
    ($other:ident) => {
        impl From<$other::ParameterValue> for Parameter {
            fn from(parameter: $other::ParameterValue) -> Self {
                match parameter {
                    $other::ParameterValue::Boolean(value) => Self::Boolean(value),
                    $other::ParameterValue::Int8(value) => Self::Int8(value),
                    $other::ParameterValue::Int16(value) => Self::Int16(value),
                    $other::ParameterValue::Int32(value) => Self::Int32(value),
                    $other::ParameterValue::Int64(value) => Self::Int64(value),
                    $other::ParameterValue::Uint8(value) => Self::Uint8(value),
                    $other::ParameterValue::Uint16(value) => Self::Uint16(value),
                    $other::ParameterValue::Uint32(value) => Self::Uint32(value),
                    $other::ParameterValue::Uint64(value) => Self::Uint64(value),
                    $other::ParameterValue::Floating32(value) => Self::Floating32(value),
                    $other::ParameterValue::Floating64(value) => Self::Floating64(value),
                    $other::ParameterValue::Str(value) => Self::Str(value),
                    $other::ParameterValue::Binary(value) => Self::Binary(value),
                    $other::ParameterValue::DbNull => Self::DbNull,
                }
            }
        }

        impl From<Value> for $other::DbValue {
            fn from(value: Value) -> Self {
                match value {
                    Value::Boolean(value) => Self::Boolean(value),
                    Value::Int8(value) => Self::Int8(value),
                    Value::Int16(value) => Self::Int16(value),
                    Value::Int32(value) => Self::Int32(value),
                    Value::Int64(value) => Self::Int64(value),
                    Value::Uint8(value) => Self::Uint8(value),
                    Value::Uint16(value) => Self::Uint16(value),
                    Value::Uint32(value) => Self::Uint32(value),
                    Value::Uint64(value) => Self::Uint64(value),
                    Value::Floating32(value) => Self::Floating32(value),
                    Value::Floating64(value) => Self::Floating64(value),
                    Value::Str(value) => Self::Str(value),
                    Value::Binary(value) => Self::Binary(value),
                    Value::DbNull => Self::DbNull,
                    Value::Unsupported => Self::Unsupported,
                }
            }
        }

        impl From<Column> for $other::Column {
            fn from(column: Column) -> Self {
                let data_type = match column.data_type {
                    DataType::Boolean => $other::DbDataType::Boolean,
                    DataType::Int8 => $other::DbDataType::Int8,
                    DataType::Int16 => $other::DbDataType::Int16,
                    DataType::Int32 => $other::DbDataType::Int32,
                    DataType::Int64 => $other::DbDataType::Int64,
                    DataType::Uint8 => $other::DbDataType::Uint8,
                    DataType::Uint16 => $other::DbDataType::Uint16,
                    DataType::Uint32 => $other::DbDataType::Uint32,
                    DataType::Uint64 => $other::DbDataType::Uint64,
                    DataType::Floating32 => $other::DbDataType::Floating32,
                    DataType::Floating64 => $other::DbDataType::Floating64,
                    DataType::Str => $other::DbDataType::Str,
                    DataType::Binary => $other::DbDataType::Binary,
                    DataType::Other => $other::DbDataType::Other,
                };
                Self { name: column.name, data_type }
            }
        }
    };
}

translate!(v1);
translate!(v3_mysql);

impl From<RowSet> for v1::RowSet {
    fn from(rows: RowSet) -> Self {
        Self { columns: into_all(rows.columns), rows: rows.rows.into_iter().map(into_all).collect() }
    }
}

/// Translates errors.
macro_rules! translate_error {
    ($other:path, $rest:ident) => {
        impl From<Failure> for $other {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::ConnectionFailed(text) => Self::ConnectionFailed(text),
                    Failure::BadParameter(text) => Self::BadParameter(text),
                    Failure::QueryFailed(text) => Self::QueryFailed(text),
                    Failure::ValueConversionFailed(text) => Self::ValueConversionFailed(text),
                    Failure::Other(text) => Self::$rest(text),
                }
            }
        }
    };
}

translate_error!(v1_postgres::PgError, OtherError);
translate_error!(v1_mysql::MysqlError, OtherError);
translate_error!(v3_mysql::Error, Other);

/// Translates a list.
pub(super) fn into_all<T, U: From<T>>(all: Vec<T>) -> Vec<U> {
    all.into_iter().map(U::from).collect()
}

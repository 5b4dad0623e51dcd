//! Values of MySQL, as the interfaces have them.
//!
//! Dates, times, decimals and JSON have no value of their own there: they are text, as MySQL writes them. `BIT(1)` is a
//! boolean, a longer `BIT` its bytes.

use mysql_async::{
    Column as ServerColumn, FromValueError, Row as ServerRow, Value as ServerValue,
    consts::{ColumnFlags, ColumnType},
    from_value_opt,
    prelude::FromValue,
};

use crate::host::databases::rdbms::{Column, DataType, Parameter, Room, Row, Value};

/// The number of the character set that means bytes.
const BYTES: u16 = 63;

/// The columns of an answer.
pub(super) fn columns(columns: &[ServerColumn]) -> Vec<Column> {
    let column = |column: &ServerColumn| Column { name: column.name_str().into_owned(), data_type: data_type(column) };
    columns.iter().map(column).collect()
}

fn data_type(column: &ServerColumn) -> DataType {
    let unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
    match (column.column_type(), unsigned) {
        (ColumnType::MYSQL_TYPE_TINY, false) => DataType::Int8,
        (ColumnType::MYSQL_TYPE_TINY, true) => DataType::Uint8,
        (ColumnType::MYSQL_TYPE_SHORT, false) => DataType::Int16,
        (ColumnType::MYSQL_TYPE_SHORT, true) | (ColumnType::MYSQL_TYPE_YEAR, _) => DataType::Uint16,
        (ColumnType::MYSQL_TYPE_INT24 | ColumnType::MYSQL_TYPE_LONG, false) => DataType::Int32,
        (ColumnType::MYSQL_TYPE_INT24 | ColumnType::MYSQL_TYPE_LONG, true) => DataType::Uint32,
        (ColumnType::MYSQL_TYPE_LONGLONG, false) => DataType::Int64,
        (ColumnType::MYSQL_TYPE_LONGLONG, true) => DataType::Uint64,
        (ColumnType::MYSQL_TYPE_FLOAT, _) => DataType::Floating32,
        (ColumnType::MYSQL_TYPE_DOUBLE, _) => DataType::Floating64,
        (ColumnType::MYSQL_TYPE_BIT, _) if column.column_length() == 1 => DataType::Boolean,
        (ColumnType::MYSQL_TYPE_BIT, _) => DataType::Binary,
        (
            ColumnType::MYSQL_TYPE_DECIMAL
            | ColumnType::MYSQL_TYPE_NEWDECIMAL
            | ColumnType::MYSQL_TYPE_DATE
            | ColumnType::MYSQL_TYPE_NEWDATE
            | ColumnType::MYSQL_TYPE_DATETIME
            | ColumnType::MYSQL_TYPE_DATETIME2
            | ColumnType::MYSQL_TYPE_TIMESTAMP
            | ColumnType::MYSQL_TYPE_TIMESTAMP2
            | ColumnType::MYSQL_TYPE_TIME
            | ColumnType::MYSQL_TYPE_TIME2
            | ColumnType::MYSQL_TYPE_JSON
            | ColumnType::MYSQL_TYPE_ENUM
            | ColumnType::MYSQL_TYPE_SET,
            _,
        ) => DataType::Str,
        (
            ColumnType::MYSQL_TYPE_VARCHAR
            | ColumnType::MYSQL_TYPE_VAR_STRING
            | ColumnType::MYSQL_TYPE_STRING
            | ColumnType::MYSQL_TYPE_TINY_BLOB
            | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
            | ColumnType::MYSQL_TYPE_LONG_BLOB
            | ColumnType::MYSQL_TYPE_BLOB,
            _,
        ) => {
            if column.character_set() == BYTES {
                DataType::Binary
            } else {
                DataType::Str
            }
        }
        _ => DataType::Other,
    }
}

/// Why there is no row.
#[derive(Debug)]
pub(super) enum RowError {
    /// There is no room for it.
    TooLarge(String),
    /// A value is none of its type.
    Value(String),
}

/// A row of an answer.
pub(super) fn row(row: ServerRow, room: &mut Room) -> Result<Row, RowError> {
    let columns = row.columns();
    let values = row.unwrap();
    let size = values.iter().map(|value| if let ServerValue::Bytes(bytes) = value { bytes.len() } else { 0 }).sum();
    room.add(values.len(), size).map_err(RowError::TooLarge)?;
    let value = |(column, server): (&ServerColumn, ServerValue)| {
        value(column, server).map_err(|problem| {
            let of = column.column_type();
            RowError::Value(format!("column `{}` of type {of:?}: {problem}", column.name_str()))
        })
    };
    columns.iter().zip(values).map(value).collect()
}

fn value(column: &ServerColumn, value: ServerValue) -> Result<Value, String> {
    if value == ServerValue::NULL {
        return Ok(Value::DbNull);
    }
    Ok(match data_type(column) {
        DataType::Boolean => Value::Boolean(matches!(&value, ServerValue::Bytes(bits) if bits.contains(&1))),
        DataType::Int8 => Value::Int8(number(value)?),
        DataType::Int16 => Value::Int16(number(value)?),
        DataType::Int32 => Value::Int32(number(value)?),
        DataType::Int64 => Value::Int64(number(value)?),
        DataType::Uint8 => Value::Uint8(number(value)?),
        DataType::Uint16 => Value::Uint16(number(value)?),
        DataType::Uint32 => Value::Uint32(number(value)?),
        DataType::Uint64 => Value::Uint64(number(value)?),
        DataType::Floating32 => Value::Floating32(number(value)?),
        DataType::Floating64 => Value::Floating64(number(value)?),
        DataType::Str => Value::Str(text(column, value)?),
        DataType::Binary => match value {
            ServerValue::Bytes(bytes) => Value::Binary(bytes),
            _ => return Err("it is not what its type says".to_owned()),
        },
        DataType::Other => Value::Unsupported,
    })
}

fn number<T: FromValue>(value: ServerValue) -> Result<T, String> {
    from_value_opt(value).map_err(|FromValueError(_)| "it is not what its type says".to_owned())
}

/// Text, and what is written as text.
fn text(column: &ServerColumn, value: ServerValue) -> Result<String, String> {
    let fraction = |micros: u32| match usize::from(column.decimals()) {
        digits @ 1..=6 => format!(".{}", format!("{micros:06}").get(..digits).unwrap_or_default()),
        _ => String::new(),
    };
    Ok(match value {
        ServerValue::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?,
        ServerValue::Date(year, month, day, hour, minute, second, micros) => {
            let date = format!("{year:04}-{month:02}-{day:02}");
            match column.column_type() {
                ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => date,
                _ => format!("{date} {hour:02}:{minute:02}:{second:02}{}", fraction(micros)),
            }
        }
        ServerValue::Time(negative, days, hours, minutes, seconds, micros) => {
            let (sign, hours) = (if negative { "-" } else { "" }, u64::from(days) * 24 + u64::from(hours));
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micros))
        }
        _ => return Err("it is not what its type says".to_owned()),
    })
}

/// A parameter as the server takes it.
pub(super) fn parameter(parameter: Parameter) -> ServerValue {
    match parameter {
        Parameter::Boolean(value) => value.into(),
        Parameter::Int8(value) => value.into(),
        Parameter::Int16(value) => value.into(),
        Parameter::Int32(value) => value.into(),
        Parameter::Int64(value) => value.into(),
        Parameter::Uint8(value) => value.into(),
        Parameter::Uint16(value) => value.into(),
        Parameter::Uint32(value) => value.into(),
        Parameter::Uint64(value) => value.into(),
        Parameter::Floating32(value) => value.into(),
        Parameter::Floating64(value) => value.into(),
        Parameter::Str(text) => text.into(),
        Parameter::Binary(bytes) => bytes.into(),
        Parameter::DbNull => ServerValue::NULL,
    }
}

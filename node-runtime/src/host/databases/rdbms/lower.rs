//! The layouts of the core imports `outbound-pg` and `outbound-mysql`, which share them.
//!
//! `query` and `execute` take the address, the statement and a list of parameters as pointers and lengths, then where the
//! result goes. The result of `query` has a u8 tag at 0; 0 (rows): columns' pointer at 4 and count at 8, rows' pointer at 12
//! and count at 16; 1 (error): u8 kind at 4, the message's pointer at 8 and length at 12. A column is 12 bytes: the name's
//! pointer and length, u8 type at 8. A row is the pointer and count of its values; a value, like a parameter, is 16 bytes: u8
//! tag at 0, payload at 8.

use wasmtime::Caller;

use super::{Column, DataType, Failure, Parameter, Row, RowSet, Value};
use crate::host::{
    RuntimeContext,
    databases::modules::{Arguments, VARIANT, pair, scalar},
    guest_memory::GuestHeap,
};

/// The arguments, in their order.
pub(in super::super) type Asked = (u32, u32, u32, u32, u32, u32, u32);
/// How large the result of `query` is.
pub(in super::super) const QUERY_RESULT: u32 = 20;

type Guest<'a> = Caller<'a, RuntimeContext>;

/// What is asked: the address, the statement, its parameters.
pub(in super::super) fn read(
    arguments: &mut Arguments<'_>,
    asked: &Asked,
) -> wasmtime::Result<(String, String, Vec<Parameter>)> {
    let (address, address_size, statement, statement_size, parameters, count, _) = *asked;
    Ok((
        arguments.text("address", address, address_size)?,
        arguments.text("statement", statement, statement_size)?,
        arguments.elements("parameters", parameters, count, VARIANT, parameter)?,
    ))
}

#[expect(clippy::cast_possible_truncation, reason = "a payload of fewer bytes is in the low ones")]
fn parameter(arguments: &mut Arguments<'_>, at: u32) -> wasmtime::Result<Parameter> {
    const WHAT: &str = "parameter";
    let bits = arguments.long(WHAT, at, 8)?;
    let (start, size) = arguments.payload(WHAT, at)?;
    Ok(match arguments.tag(WHAT, at)? {
        0 => Parameter::Boolean(bits as u8 != 0),
        1 => Parameter::Int8((bits as u8).cast_signed()),
        2 => Parameter::Int16((bits as u16).cast_signed()),
        3 => Parameter::Int32((bits as u32).cast_signed()),
        4 => Parameter::Int64(bits.cast_signed()),
        5 => Parameter::Uint8(bits as u8),
        6 => Parameter::Uint16(bits as u16),
        7 => Parameter::Uint32(bits as u32),
        8 => Parameter::Uint64(bits),
        9 => Parameter::Floating32(f32::from_bits(bits as u32)),
        10 => Parameter::Floating64(f64::from_bits(bits)),
        11 => Parameter::Str(arguments.text(WHAT, start, size)?),
        12 => Parameter::Binary(arguments.bytes(WHAT, start, size)?),
        13 => Parameter::DbNull,
        tag => return Err(wasmtime::format_err!("the guest's parameter has the tag {tag}")),
    })
}

/// Writes the result of `query`.
pub(in super::super) async fn finish_query(
    heap: &GuestHeap,
    mut guest: Guest<'_>,
    result: u32,
    rows: Result<RowSet, Failure>,
) -> wasmtime::Result<()> {
    let words = match rows {
        Ok(RowSet { columns, rows }) => {
            let (columns, column_count) = give_columns(heap, &mut guest, &columns).await?;
            let (rows, row_count) = give_rows(heap, &mut guest, &rows).await?;
            [0, columns, column_count, rows, row_count]
        }
        Err(failure) => {
            let (kind, at, size) = give_failure(heap, &mut guest, &failure).await?;
            [1, kind, at, size, 0]
        }
    };
    heap.write_words(guest, "result", result, &words)
}

/// Gives an error: its kind and its message.
pub(in super::super) async fn give_failure(
    heap: &GuestHeap,
    guest: &mut Guest<'_>,
    failure: &Failure,
) -> wasmtime::Result<(u32, u32, u32)> {
    let (kind, text) = match failure {
        Failure::ConnectionFailed(text) => (1, text),
        Failure::BadParameter(text) => (2, text),
        Failure::QueryFailed(text) => (3, text),
        Failure::ValueConversionFailed(text) => (4, text),
        Failure::Other(text) => (5, text),
    };
    let (at, size) = heap.give(&mut *guest, text.as_bytes(), 1).await?;
    Ok((kind, at, size))
}

async fn give_columns(heap: &GuestHeap, guest: &mut Guest<'_>, columns: &[Column]) -> wasmtime::Result<(u32, u32)> {
    let mut list = Vec::with_capacity(columns.len().saturating_mul(12));
    for column in columns {
        list.extend(pair(heap.give(&mut *guest, column.name.as_bytes(), 1).await?).to_le_bytes());
        list.extend(u32::from(data_type(column.data_type)).to_le_bytes());
    }
    let (at, _) = heap.give(&mut *guest, &list, 4).await?;
    Ok((at, u32::try_from(columns.len())?))
}

const fn data_type(of: DataType) -> u8 {
    match of {
        DataType::Boolean => 0,
        DataType::Int8 => 1,
        DataType::Int16 => 2,
        DataType::Int32 => 3,
        DataType::Int64 => 4,
        DataType::Uint8 => 5,
        DataType::Uint16 => 6,
        DataType::Uint32 => 7,
        DataType::Uint64 => 8,
        DataType::Floating32 => 9,
        DataType::Floating64 => 10,
        DataType::Str => 11,
        DataType::Binary => 12,
        DataType::Other => 13,
    }
}

async fn give_rows(heap: &GuestHeap, guest: &mut Guest<'_>, rows: &[Row]) -> wasmtime::Result<(u32, u32)> {
    let mut list = Vec::with_capacity(rows.len().saturating_mul(8));
    for row in rows {
        let mut values = Vec::with_capacity(row.len().saturating_mul(16));
        for value in row {
            values.extend(give_value(heap, guest, value).await?);
        }
        let (at, _) = heap.give(&mut *guest, &values, 8).await?;
        list.extend(pair((at, u32::try_from(row.len())?)).to_le_bytes());
    }
    let (at, _) = heap.give(&mut *guest, &list, 4).await?;
    Ok((at, u32::try_from(rows.len())?))
}

async fn give_value(heap: &GuestHeap, guest: &mut Guest<'_>, value: &Value) -> wasmtime::Result<[u8; 16]> {
    Ok(match value {
        Value::Boolean(value) => scalar(0, u64::from(*value)),
        Value::Int8(value) => scalar(1, value.cast_unsigned().into()),
        Value::Int16(value) => scalar(2, value.cast_unsigned().into()),
        Value::Int32(value) => scalar(3, value.cast_unsigned().into()),
        Value::Int64(value) => scalar(4, value.cast_unsigned()),
        Value::Uint8(value) => scalar(5, (*value).into()),
        Value::Uint16(value) => scalar(6, (*value).into()),
        Value::Uint32(value) => scalar(7, (*value).into()),
        Value::Uint64(value) => scalar(8, *value),
        Value::Floating32(value) => scalar(9, value.to_bits().into()),
        Value::Floating64(value) => scalar(10, value.to_bits()),
        Value::Str(text) => scalar(11, pair(heap.give(&mut *guest, text.as_bytes(), 1).await?)),
        Value::Binary(bytes) => scalar(12, pair(heap.give(&mut *guest, bytes, 1).await?)),
        Value::DbNull => scalar(13, 0),
        Value::Unsupported => scalar(14, 0),
    })
}

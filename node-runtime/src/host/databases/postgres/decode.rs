//! Values that a server answered, as `spin:postgres@4` has them; older versions have fewer.

use std::error::Error;

use chrono::{Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _};
use tokio_postgres::{
    Column as ServerColumn, Row as ServerRow,
    types::{FromSql, Kind, Type},
};

use super::{Column, DataType, Interval, Row, Value, numeric};
use crate::host::databases::{bindings::spin::postgres4_2_0::postgres::RangeBoundKind, rdbms::Room};

type Decoded<T> = Result<T, Box<dyn Error + Sync + Send>>;
type Bound<T> = Option<(T, RangeBoundKind)>;

/// Microseconds between 1970 and 2000, where PostgreSQL's time begins.
const EPOCH: i64 = 946_684_800_000_000;
const MICROS: i64 = 1_000_000;

/// What a range's first byte says (PostgreSQL, `rangetypes.h`).
const RANGE_EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

/// The columns of an answer.
pub(super) fn columns(columns: &[ServerColumn]) -> Vec<Column> {
    let column =
        |column: &ServerColumn| Column { name: column.name().to_owned(), data_type: data_type(column.type_()) };
    columns.iter().map(column).collect()
}

/// A row of an answer.
///
/// # Errors
/// Which column is not what its type says, or that there is no room for the row.
pub(super) fn row(row: &ServerRow, room: &mut Room) -> Result<Row, RowError> {
    room.add(row.len(), row.raw_size_bytes()).map_err(RowError::TooLarge)?;
    row.columns().iter().enumerate().map(|(index, column)| cell(row, index, column, room)).collect()
}

fn cell(row: &ServerRow, index: usize, column: &ServerColumn, room: &mut Room) -> Result<Value, RowError> {
    let wrong = |error: &(dyn Error + 'static)| {
        let source = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        RowError::Value(format!("column `{}` of type {}: {source}", column.name(), column.type_()))
    };
    let Raw(raw) = row.try_get(index).map_err(|error| wrong(&error))?;
    let Some(raw) = raw else { return Ok(Value::DbNull) };
    let of = plain(column.type_());
    // Before it is there: a few bytes can stand for very many digits.
    let growth = growth(of, raw).map_err(|error| wrong(error.as_ref()))?;
    room.hold(growth).map_err(RowError::TooLarge)?;
    value(of, raw).map_err(|error| wrong(error.as_ref()))
}

/// Why there is no row.
#[derive(Debug)]
pub(super) enum RowError {
    /// There is no room for it.
    TooLarge(String),
    /// A value is none of its type, or cannot be shown.
    Value(String),
}

/// Types that are shown as another one is.
fn plain(of: &Type) -> &Type {
    match of.kind() {
        Kind::Domain(of) => plain(of),
        Kind::Enum(_) => &Type::TEXT,
        _ => match *of {
            Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::XML | Type::UNKNOWN => &Type::TEXT,
            Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY | Type::NAME_ARRAY => &Type::TEXT_ARRAY,
            _ => of,
        },
    }
}

fn data_type(of: &Type) -> DataType {
    match *plain(of) {
        Type::BOOL => DataType::Boolean,
        Type::CHAR => DataType::Int8,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Floating32,
        Type::FLOAT8 => DataType::Floating64,
        Type::TEXT => DataType::Str,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date,
        Type::TIME => DataType::Time,
        Type::TIMESTAMP => DataType::Datetime,
        Type::TIMESTAMPTZ => DataType::Timestamp,
        Type::UUID => DataType::Uuid,
        Type::JSONB => DataType::Jsonb,
        Type::NUMERIC => DataType::Decimal,
        Type::INT4_RANGE => DataType::RangeInt32,
        Type::INT8_RANGE => DataType::RangeInt64,
        Type::NUM_RANGE => DataType::RangeDecimal,
        Type::INT4_ARRAY => DataType::ArrayInt32,
        Type::INT8_ARRAY => DataType::ArrayInt64,
        Type::NUMERIC_ARRAY => DataType::ArrayDecimal,
        Type::TEXT_ARRAY => DataType::ArrayStr,
        Type::INTERVAL => DataType::Interval,
        _ => DataType::Other(of.name().to_owned()),
    }
}

/// What the server sent of a value of any type; none for `NULL`.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Decoded<Self> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Decoded<Self> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// How many bytes a value of several, or of digits, takes at most beside those that were received.
fn growth(of: &Type, raw: &[u8]) -> Decoded<usize> {
    Ok(match *of {
        Type::NUMERIC => numeric::text_size(raw)?,
        Type::NUM_RANGE => {
            let (lower, upper) = range(raw, |raw| Ok(numeric::text_size(raw)?))?;
            [lower, upper].into_iter().flatten().fold(0, |sum, (size, _)| sum.saturating_add(size))
        }
        Type::INT4_ARRAY | Type::INT8_ARRAY | Type::TEXT_ARRAY => elements(raw).saturating_mul(ELEMENT),
        Type::NUMERIC_ARRAY => {
            let mut size = elements(raw).saturating_mul(ELEMENT);
            // Each element has four bytes at least: what has more than that is none.
            if elements(raw) <= raw.len() / 4 {
                let sizes = Vec::<Option<Digits<usize>>>::from_sql(of, raw)?;
                size = sizes.into_iter().flatten().fold(size, |sum, Digits(size)| sum.saturating_add(size));
            }
            size
        }
        _ => 0,
    })
}

/// How many elements an array has by what its head says: dimensions, flags and type, then size and lower bound of the
/// only dimension.
fn elements(raw: &[u8]) -> usize {
    let size = raw.get(12..16).and_then(|size| size.try_into().ok()).map_or(0, i32::from_be_bytes);
    usize::try_from(size).unwrap_or_default()
}

/// What an element of a list takes beside its text or digits, in bytes.
const ELEMENT: usize = size_of::<Option<String>>();

fn value(of: &Type, raw: &[u8]) -> Decoded<Value> {
    Ok(match *of {
        Type::BOOL => Value::Boolean(bool::from_sql(of, raw)?),
        Type::CHAR => Value::Int8(i8::from_sql(of, raw)?),
        Type::INT2 => Value::Int16(i16::from_sql(of, raw)?),
        Type::INT4 => Value::Int32(i32::from_sql(of, raw)?),
        Type::INT8 => Value::Int64(i64::from_sql(of, raw)?),
        Type::FLOAT4 => Value::Floating32(f32::from_sql(of, raw)?),
        Type::FLOAT8 => Value::Floating64(f64::from_sql(of, raw)?),
        Type::TEXT => Value::Str(std::str::from_utf8(raw)?.to_owned()),
        Type::BYTEA => Value::Binary(raw.to_vec()),
        Type::DATE => Value::Date(date(finite_days(raw)?)?),
        Type::TIME => Value::Time(time(NaiveTime::from_sql(of, raw)?)),
        Type::TIMESTAMP => {
            finite(raw)?;
            let moment = NaiveDateTime::from_sql(of, raw)?;
            let ((year, month, day), (hour, minute, second, nano)) = (date(moment.date())?, time(moment.time()));
            Value::Datetime((year, month, day, hour, minute, second, nano))
        }
        Type::TIMESTAMPTZ => {
            let since = finite(raw)?.checked_add(EPOCH).ok_or("it is too far away")?;
            Value::Timestamp(since.div_euclid(MICROS))
        }
        Type::UUID => Value::Uuid(uuid::Uuid::from_slice(raw)?.to_string()),
        // A byte says which version of the form: there is one.
        Type::JSONB => Value::Jsonb(raw.strip_prefix(&[1]).ok_or("its form is not known")?.to_vec()),
        Type::NUMERIC => Value::Decimal(numeric::decode(raw)?),
        Type::INT4_RANGE => Value::RangeInt32(range(raw, |raw| i32::from_sql(&Type::INT4, raw))?),
        Type::INT8_RANGE => Value::RangeInt64(range(raw, |raw| i64::from_sql(&Type::INT8, raw))?),
        Type::NUM_RANGE => Value::RangeDecimal(range(raw, |raw| Ok(numeric::decode(raw)?))?),
        Type::INT4_ARRAY => Value::ArrayInt32(Vec::from_sql(of, raw)?),
        Type::INT8_ARRAY => Value::ArrayInt64(Vec::from_sql(of, raw)?),
        Type::NUMERIC_ARRAY => {
            let all = Vec::<Option<Digits<String>>>::from_sql(of, raw)?;
            Value::ArrayDecimal(all.into_iter().map(|one| one.map(|Digits(digits)| digits)).collect())
        }
        Type::TEXT_ARRAY => Value::ArrayStr(Vec::from_sql(of, raw)?),
        Type::INTERVAL => {
            let (micros, raw) = i64_of(raw)?;
            let (days, raw) = i32_of(raw)?;
            Value::Interval(Interval { micros, days, months: i32_of(raw)?.0 })
        }
        _ => Value::Unsupported(raw.to_vec()),
    })
}

fn i64_of(raw: &[u8]) -> Decoded<(i64, &[u8])> {
    let (first, rest) = raw.split_first_chunk().ok_or("it is too short")?;
    Ok((i64::from_be_bytes(*first), rest))
}

fn i32_of(raw: &[u8]) -> Decoded<(i32, &[u8])> {
    let (first, rest) = raw.split_first_chunk().ok_or("it is too short")?;
    Ok((i32::from_be_bytes(*first), rest))
}

/// Microseconds since 2000. There are two special values, which no interface has.
fn finite(raw: &[u8]) -> Decoded<i64> {
    match i64_of(raw)?.0 {
        i64::MAX | i64::MIN => Err("it is infinite".into()),
        micros => Ok(micros),
    }
}

fn finite_days(raw: &[u8]) -> Decoded<NaiveDate> {
    match i32_of(raw)?.0 {
        i32::MAX | i32::MIN => Err("it is infinite".into()),
        _ => NaiveDate::from_sql(&Type::DATE, raw),
    }
}

fn date(date: NaiveDate) -> Decoded<(i32, u8, u8)> {
    Ok((date.year(), u8::try_from(date.month())?, u8::try_from(date.day())?))
}

fn time(time: NaiveTime) -> (u8, u8, u8, u32) {
    let small = |number: u32| u8::try_from(number).unwrap_or_default();
    (small(time.hour()), small(time.minute()), small(time.second()), time.nanosecond())
}

/// A `NUMERIC` in an array: its digits, or how many bytes they take.
struct Digits<T>(T);

impl<'a> FromSql<'a> for Digits<String> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Decoded<Self> {
        Ok(Self(numeric::decode(raw)?))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::NUMERIC
    }
}

impl<'a> FromSql<'a> for Digits<usize> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Decoded<Self> {
        Ok(Self(numeric::text_size(raw)?))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::NUMERIC
    }
}

/// A range: flags, then each bound that there is with its size. An empty one has no form here but (excluded, excluded) of
/// nothing, so it is an error.
fn range<T>(raw: &[u8], element: impl Fn(&[u8]) -> Decoded<T>) -> Decoded<(Bound<T>, Bound<T>)> {
    let (flags, mut rest) = raw.split_first().ok_or("it is too short")?;
    if flags & RANGE_EMPTY != 0 {
        return Err("an empty range cannot be shown".into());
    }
    let mut bound = |infinite: u8, inclusive: u8| -> Decoded<Bound<T>> {
        if flags & infinite != 0 {
            return Ok(None);
        }
        let (size, after) = i32_of(rest)?;
        let (this, after) = after.split_at_checked(usize::try_from(size)?).ok_or("it is too short")?;
        rest = after;
        let kind = if flags & inclusive != 0 { RangeBoundKind::Inclusive } else { RangeBoundKind::Exclusive };
        Ok(Some((element(this)?, kind)))
    };
    Ok((bound(LOWER_INFINITE, LOWER_INCLUSIVE)?, bound(UPPER_INFINITE, UPPER_INCLUSIVE)?))
}

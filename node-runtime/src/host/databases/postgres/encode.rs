//! Parameters of statements: which types of PostgreSQL each may be given for, and how it is sent.
//!
//! A number is sent as whatever number the statement needs, if it has that value there too. Text is sent as text for
//! every type: the server reads it, and says when it cannot. All else must be of the statement's type.

use std::{error::Error, fmt::Write as _};

use bytes::{BufMut as _, BytesMut};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

use super::Parameter;
use crate::host::databases::bindings::spin::postgres4_2_0::postgres::RangeBoundKind;

/// Microseconds between 1970 and 2000, where PostgreSQL's time begins.
const EPOCH: i64 = 946_684_800_000_000;
const MICROS: i64 = 1_000_000;
/// Up to here, each whole number is a `FLOAT8`.
const EXACT: i64 = 1 << 53;

type Sent = Result<IsNull, Box<dyn Error + Sync + Send>>;

/// A parameter, and whether it fits has been [checked](Encoded::new).
#[derive(Debug)]
pub(super) struct Encoded(Content);

#[derive(Debug)]
enum Content {
    Null,
    Binary(Vec<u8>),
    Text(String),
}

impl Encoded {
    /// `parameter` for a place of the type `of`.
    ///
    /// # Errors
    /// Why it cannot be there.
    pub(super) fn new(parameter: &Parameter, of: &Type) -> Result<Self, String> {
        let of = base(of);
        let encoded = match parameter {
            Parameter::DbNull => Some(Content::Null),
            Parameter::Str(text) => Some(match *of {
                Type::BYTEA => Content::Binary(text.as_bytes().to_vec()),
                _ => Content::Text(text.clone()),
            }),
            Parameter::Boolean(value) => binary(*value, of, &Type::BOOL),
            Parameter::Int8(value) => whole((*value).into(), of),
            Parameter::Int16(value) => whole((*value).into(), of),
            Parameter::Int32(value) => whole((*value).into(), of),
            Parameter::Int64(value) => whole(*value, of),
            Parameter::Floating32(value) => {
                binary(*value, of, &Type::FLOAT4).or_else(|| binary(f64::from(*value), of, &Type::FLOAT8))
            }
            Parameter::Floating64(value) => binary(*value, of, &Type::FLOAT8),
            Parameter::Binary(bytes) => binary(bytes.as_slice(), of, &Type::BYTEA),
            Parameter::Jsonb(bytes) => match *of {
                Type::JSON | Type::JSONB => {
                    let text = String::from_utf8(bytes.clone()).map_err(|_| "its JSON is not UTF-8".to_owned())?;
                    Some(Content::Text(text))
                }
                _ => None,
            },
            Parameter::Decimal(digits) => {
                let number =
                    matches!(*of, Type::NUMERIC | Type::FLOAT8 | Type::FLOAT4 | Type::INT2 | Type::INT4 | Type::INT8);
                number.then(|| Content::Text(digits.clone()))
            }
            Parameter::Uuid(text) => (*of == Type::UUID).then(|| Content::Text(text.clone())),
            other => return encode_moment(other, of).map(Self),
        };
        encoded.map(Self).ok_or_else(|| mismatch(parameter, of))
    }
}

/// Times, and what is made of several values.
fn encode_moment(parameter: &Parameter, of: &Type) -> Result<Content, String> {
    let encoded = match parameter {
        Parameter::Date(value) => binary(date(*value)?, of, &Type::DATE),
        Parameter::Time(value) => binary(time(*value)?, of, &Type::TIME),
        Parameter::Datetime((year, month, day, hour, minute, second, nano)) => {
            let moment = NaiveDateTime::new(date((*year, *month, *day))?, time((*hour, *minute, *second, *nano))?);
            binary(moment, of, &Type::TIMESTAMP).or_else(|| binary(moment.and_utc(), of, &Type::TIMESTAMPTZ))
        }
        Parameter::Timestamp(seconds) => {
            let micros = seconds.checked_mul(MICROS).and_then(|micros| micros.checked_sub(EPOCH));
            let micros = micros.ok_or_else(|| "its time is too far away".to_owned())?;
            (*of == Type::TIMESTAMPTZ).then(|| Content::Binary(micros.to_be_bytes().to_vec()))
        }
        Parameter::Interval(interval) => (*of == Type::INTERVAL).then(|| {
            let mut bytes = interval.micros.to_be_bytes().to_vec();
            bytes.extend(interval.days.to_be_bytes());
            bytes.extend(interval.months.to_be_bytes());
            Content::Binary(bytes)
        }),
        Parameter::RangeInt32(value) => range(value, of, &Type::INT4_RANGE),
        Parameter::RangeInt64(value) => range(value, of, &Type::INT8_RANGE),
        Parameter::RangeDecimal(value) => range(value, of, &Type::NUM_RANGE),
        Parameter::ArrayInt32(values) => array(values, of, &[Type::INT4]),
        Parameter::ArrayInt64(values) => array(values, of, &[Type::INT8]),
        Parameter::ArrayDecimal(values) => array(values, of, &[Type::NUMERIC]),
        Parameter::ArrayStr(values) => array(values, of, &[Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME]),
        _ => None,
    };
    encoded.ok_or_else(|| mismatch(parameter, of))
}

fn mismatch(parameter: &Parameter, of: &Type) -> String {
    let given = match parameter {
        Parameter::Boolean(_) => "a boolean",
        Parameter::Int8(_) | Parameter::Int16(_) | Parameter::Int32(_) | Parameter::Int64(_) => "this whole number",
        Parameter::Floating32(_) | Parameter::Floating64(_) => "a floating-point number",
        Parameter::Str(_) => "a text",
        Parameter::Binary(_) => "bytes",
        Parameter::Date(_) => "a date",
        Parameter::Time(_) => "a time",
        Parameter::Datetime(_) => "a date and time",
        Parameter::Timestamp(_) => "a timestamp",
        Parameter::Uuid(_) => "a UUID",
        Parameter::Jsonb(_) => "JSON",
        Parameter::Decimal(_) => "a decimal",
        Parameter::RangeInt32(_) | Parameter::RangeInt64(_) | Parameter::RangeDecimal(_) => "a range",
        Parameter::ArrayInt32(_) | Parameter::ArrayInt64(_) | Parameter::ArrayDecimal(_) | Parameter::ArrayStr(_) => {
            "an array"
        }
        Parameter::Interval(_) => "an interval",
        Parameter::DbNull => "null",
    };
    format!("{given} cannot be given where the statement needs the type {of}")
}

/// The type under domains.
fn base(of: &Type) -> &Type {
    match of.kind() {
        Kind::Domain(of) => base(of),
        _ => of,
    }
}

fn binary<T: ToSql>(value: T, of: &Type, expected: &Type) -> Option<Content> {
    if of != expected {
        return None;
    }
    let mut bytes = BytesMut::new();
    value.to_sql(of, &mut bytes).ok()?;
    Some(Content::Binary(bytes.to_vec()))
}

fn whole(value: i64, of: &Type) -> Option<Content> {
    match *of {
        Type::CHAR => binary(i8::try_from(value).ok()?, of, of),
        Type::INT2 => binary(i16::try_from(value).ok()?, of, of),
        Type::INT4 => binary(i32::try_from(value).ok()?, of, of),
        Type::INT8 => binary(value, of, of),
        Type::OID => binary(u32::try_from(value).ok()?, of, of),
        Type::NUMERIC => Some(Content::Text(value.to_string())),
        Type::FLOAT8 if (-EXACT..=EXACT).contains(&value) => Some(Content::Text(value.to_string())),
        _ => None,
    }
}

fn date((year, month, day): (i32, u8, u8)) -> Result<NaiveDate, String> {
    let date = NaiveDate::from_ymd_opt(year, month.into(), day.into());
    date.ok_or_else(|| format!("there is no date {year}-{month}-{day}"))
}

fn time((hour, minute, second, nano): (u8, u8, u8, u32)) -> Result<NaiveTime, String> {
    let time = NaiveTime::from_hms_nano_opt(hour.into(), minute.into(), second.into(), nano);
    time.ok_or_else(|| format!("there is no time {hour}:{minute}:{second} and {nano} ns"))
}

type Bound<T> = Option<(T, RangeBoundKind)>;

/// A range as PostgreSQL writes it: `["1","5")`.
fn range<T: ToString>((lower, upper): &(Bound<T>, Bound<T>), of: &Type, expected: &Type) -> Option<Content> {
    if of != expected {
        return None;
    }
    let inclusive =
        |bound: &Bound<T>| bound.as_ref().is_some_and(|(_, kind)| matches!(kind, RangeBoundKind::Inclusive));
    let value = |bound: &Bound<T>| bound.as_ref().map(|(value, _)| quoted(&value.to_string())).unwrap_or_default();
    let (open, close) = (if inclusive(lower) { '[' } else { '(' }, if inclusive(upper) { ']' } else { ')' });
    Some(Content::Text(format!("{open}{},{}{close}", value(lower), value(upper))))
}

/// An array as PostgreSQL writes it: `{"a",NULL}`.
fn array<T: ToString>(values: &[Option<T>], of: &Type, elements: &[Type]) -> Option<Content> {
    let Kind::Array(element) = of.kind() else { return None };
    let of_enum = matches!(element.kind(), Kind::Enum(_)) && elements.contains(&Type::TEXT);
    if !of_enum && !elements.contains(base(element)) {
        return None;
    }
    let values: Vec<String> = values
        .iter()
        .map(|value| value.as_ref().map_or_else(|| "NULL".to_owned(), |value| quoted(&value.to_string())))
        .collect();
    Some(Content::Text(format!("{{{}}}", values.join(","))))
}

fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        // Writing to a string does not fail.
        let _written = text.write_char(character);
    }
    text.push('"');
    text
}

impl ToSql for Encoded {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Sent {
        match &self.0 {
            Content::Null => return Ok(IsNull::Yes),
            Content::Binary(bytes) => out.put_slice(bytes),
            Content::Text(text) => out.put_slice(text.as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.0 {
            Content::Text(_) => Format::Text,
            Content::Null | Content::Binary(_) => Format::Binary,
        }
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(parameter: &Parameter, of: &Type) -> String {
        match Encoded::new(parameter, of).unwrap().0 {
            Content::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    #[test]
    fn numbers_fit_where_they_have_the_same_value() {
        for of in [Type::INT2, Type::INT4, Type::INT8, Type::NUMERIC, Type::FLOAT8, Type::OID, Type::CHAR] {
            assert!(Encoded::new(&Parameter::Int64(7), &of).is_ok(), "{of}");
            assert!(Encoded::new(&Parameter::Int8(7), &of).is_ok(), "{of}");
        }
        assert!(Encoded::new(&Parameter::Int64(1 << 40), &Type::INT4).is_err());
        assert!(Encoded::new(&Parameter::Int64(EXACT + 1), &Type::FLOAT8).is_err());
        assert!(Encoded::new(&Parameter::Floating32(0.5), &Type::FLOAT8).is_ok());
        let problem = Encoded::new(&Parameter::Boolean(true), &Type::UUID).unwrap_err();
        assert_eq!(problem, "a boolean cannot be given where the statement needs the type uuid");
    }

    #[test]
    fn dates_that_are_none_are_refused() {
        assert!(Encoded::new(&Parameter::Date((2024, 2, 29)), &Type::DATE).is_ok());
        for wrong in [(2023, 2, 29), (2024, 13, 1), (2024, 0, 1)] {
            assert!(Encoded::new(&Parameter::Date(wrong), &Type::DATE).is_err());
        }
        assert!(Encoded::new(&Parameter::Time((24, 0, 0, 0)), &Type::TIME).is_err());
        assert!(Encoded::new(&Parameter::Timestamp(i64::MAX), &Type::TIMESTAMPTZ).is_err());
    }

    #[test]
    fn nothing_in_an_array_or_range_ends_its_element() {
        let values = vec![Some("a\"},{\\".to_owned()), None];
        assert_eq!(text(&Parameter::ArrayStr(values), &Type::TEXT_ARRAY), r#"{"a\"},{\\",NULL}"#);
        let bound = |value: &str| Some((value.to_owned(), RangeBoundKind::Inclusive));
        let range = Parameter::RangeDecimal((bound("1\""), None));
        assert_eq!(text(&range, &Type::NUM_RANGE), r#"["1\"",)"#);
    }
}

//! How much memory the parameters take that components give to databases.

use super::{postgres, rdbms, redis};
use crate::host::handed::Handed;

impl Handed for redis::Argument {
    fn size(&self) -> usize {
        match self {
            Self::Int(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Handed for rdbms::Parameter {
    fn size(&self) -> usize {
        match self {
            Self::Str(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

impl Handed for postgres::Parameter {
    fn size(&self) -> usize {
        match self {
            Self::Str(text) | Self::Uuid(text) | Self::Decimal(text) => text.len(),
            Self::Binary(bytes) | Self::Jsonb(bytes) => bytes.len(),
            Self::RangeDecimal((low, high)) => [low, high].into_iter().flatten().map(|(bound, _)| bound.len()).sum(),
            Self::ArrayInt32(all) => size_of_val(all.as_slice()),
            Self::ArrayInt64(all) => size_of_val(all.as_slice()),
            Self::ArrayDecimal(all) | Self::ArrayStr(all) => all.size(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_bytes_count_whatever_they_are_called() {
        let text = || "x".repeat(100);
        let arguments = vec![redis::Argument::Int(1), redis::Argument::Bytes(vec![0; 50])];
        assert_eq!(arguments.size(), 50 + 2 * size_of::<redis::Argument>());
        let parameters = vec![rdbms::Parameter::Str(text()), rdbms::Parameter::Binary(vec![0; 5])];
        assert_eq!(parameters.size(), 105 + 2 * size_of::<rdbms::Parameter>());
        for (parameter, size) in [
            (postgres::Parameter::Int64(1), 0),
            (postgres::Parameter::DbNull, 0),
            (postgres::Parameter::Str(text()), 100),
            (postgres::Parameter::Jsonb(vec![b'1'; 3]), 3),
            (postgres::Parameter::ArrayInt32(vec![Some(1), None]), 2 * size_of::<Option<i32>>()),
            (postgres::Parameter::ArrayStr(vec![Some(text()), None]), 100 + 2 * size_of::<Option<String>>()),
        ] {
            assert_eq!(parameter.size(), size, "{parameter:?}");
        }
    }
}

//! [`Reply`]: what a command answered, as the interfaces show it: one flat list.

use redis::Value;

use super::RedisFailure;

/// One value of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Reply {
    /// Nothing.
    Nil,
    /// A word such as `OK`.
    Status(String),
    /// A number.
    Int(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The values of an answer, depth first. Lists are not marked: who asked knows their shape.
pub(super) fn flat(value: Value) -> Result<Vec<Reply>, RedisFailure> {
    let mut replies = Vec::new();
    append(value, &mut replies)?;
    Ok(replies)
}

/// The parser has bounded how deep values are.
fn append(value: Value, replies: &mut Vec<Reply>) -> Result<(), RedisFailure> {
    match value {
        Value::Nil => replies.push(Reply::Nil),
        Value::Int(number) => replies.push(Reply::Int(number)),
        Value::BulkString(bytes) => replies.push(Reply::Bytes(bytes)),
        Value::SimpleString(text) => replies.push(Reply::Status(text)),
        Value::Okay => replies.push(Reply::Status("OK".to_owned())),
        Value::Array(values) | Value::Set(values) | Value::Push { data: values, .. } => {
            for value in values {
                append(value, replies)?;
            }
        }
        Value::Map(pairs) => {
            for (key, value) in pairs {
                append(key, replies)?;
                append(value, replies)?;
            }
        }
        Value::Attribute { data, .. } => append(*data, replies)?,
        // Protocol 3 has types of their own for what protocol 2 sends as these.
        Value::Double(number) => replies.push(Reply::Bytes(number.to_string().into_bytes())),
        Value::Boolean(is) => replies.push(Reply::Int(i64::from(is))),
        Value::VerbatimString { text, .. } => replies.push(Reply::Bytes(text.into_bytes())),
        Value::BigNumber(digits) => replies.push(Reply::Bytes(digits)),
        Value::ServerError(error) => {
            let detail = error.details().unwrap_or_default();
            return Err(RedisFailure::Other(format!("{} {detail}", error.code())));
        }
        other => return Err(RedisFailure::Other(format!("an answer of a kind that is not known: {other:?}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_answers_become_one_list() {
        let answer = Value::Array(vec![
            Value::Int(1),
            Value::Array(vec![Value::Nil, Value::Okay, Value::BulkString(b"x".to_vec())]),
            Value::Map(vec![(Value::SimpleString("k".to_owned()), Value::Double(0.5))]),
            Value::Set(vec![Value::Boolean(true)]),
        ]);
        let expected = [
            Reply::Int(1),
            Reply::Nil,
            Reply::Status("OK".to_owned()),
            Reply::Bytes(b"x".to_vec()),
            Reply::Status("k".to_owned()),
            Reply::Bytes(b"0.5".to_vec()),
            Reply::Int(1),
        ];
        assert_eq!(flat(answer), Ok(expected.into()));
    }
}

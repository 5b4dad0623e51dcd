//! What is said to a libSQL server: Hrana over HTTP, versions 2 and 3, in JSON (`HRANA_2_SPEC.md` and `HRANA_3_SPEC.md` of
//! libSQL, which agree in all that is used here).

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};

use super::{Error, Failure, QueryResult, RowResult, Value};

/// Servers leave out padding, or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The body of a request: what to do in one stream, in order.
#[derive(Debug, Serialize)]
pub(super) struct Pipeline<'a> {
    /// Which stream; a new one without.
    pub(super) baton: Option<&'a str>,
    pub(super) requests: [Request<'a>; 1],
}

/// One thing to do.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// Run a statement.
    Execute { stmt: Statement<'a> },
    /// Run several statements.
    Sequence { sql: &'a str },
    /// End the stream.
    Close,
}

#[derive(Debug, Serialize)]
pub(super) struct Statement<'a> {
    pub(super) sql: &'a str,
    pub(super) args: Vec<Cell>,
    pub(super) want_rows: bool,
}

/// A value.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Cell {
    Null,
    /// As text, because JSON's numbers have 53 bits.
    Integer {
        value: String,
    },
    Float {
        value: f64,
    },
    Text {
        value: String,
    },
    Blob {
        base64: String,
    },
}

/// The body of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// The stream, if it goes on.
    pub(super) baton: Option<String>,
    /// Where it goes on.
    pub(super) base_url: Option<String>,
    results: Vec<Outcome>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Outcome {
    Ok { response: Response },
    Error { error: ServerError },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Response {
    Execute {
        result: StatementResult,
    },
    #[serde(other)]
    Other,
}

/// What a statement did.
#[derive(Debug, Deserialize)]
pub(super) struct StatementResult {
    cols: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    #[serde(default)]
    pub(super) affected_row_count: u64,
    #[serde(default)]
    last_insert_rowid: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: Option<String>,
}

/// What a server says when it does not do something.
#[derive(Debug, Deserialize)]
pub(super) struct ServerError {
    /// Some servers name this field differently where a request as a whole is refused.
    #[serde(alias = "error")]
    pub(super) message: String,
    #[serde(default)]
    code: Option<String>,
}

impl Cell {
    /// A parameter. SQLite stores what is no number as `NULL`; what is infinite has no form in JSON.
    pub(super) fn of(value: Value) -> Result<Self, Failure> {
        Ok(match value {
            Value::Integer(number) => Self::Integer { value: number.to_string() },
            Value::Real(number) if number.is_nan() => Self::Null,
            Value::Real(number) if number.is_infinite() => {
                return Err(Failure::of_statement("an infinite number cannot be sent to a libSQL server"));
            }
            Value::Real(number) => Self::Float { value: number },
            Value::Text(text) => Self::Text { value: text },
            Value::Blob(blob) => Self::Blob { base64: BASE64.encode(blob) },
            Value::Null => Self::Null,
        })
    }

    fn value(self) -> Result<Value, Failure> {
        let wrong = |what| Failure::of_database(format!("the libSQL server answered with a wrong {what}"));
        Ok(match self {
            Self::Null => Value::Null,
            Self::Integer { value } => Value::Integer(value.parse().map_err(|_| wrong("integer"))?),
            Self::Float { value } => Value::Real(value),
            Self::Text { value } => Value::Text(value),
            Self::Blob { base64 } => Value::Blob(BASE64.decode(base64).map_err(|_| wrong("blob"))?),
        })
    }
}

impl Answer {
    /// What became of the only request.
    pub(super) fn outcome(self) -> Result<Option<StatementResult>, Failure> {
        match self.results.into_iter().next() {
            Some(Outcome::Ok { response: Response::Execute { result } }) => Ok(Some(result)),
            Some(Outcome::Ok { response: Response::Other }) => Ok(None),
            Some(Outcome::Error { error }) => Err(error.failure()),
            None => Err(Failure::of_database("the libSQL server answered nothing")),
        }
    }
}

impl ServerError {
    /// The statement's fault, as far as the server says.
    fn failure(self) -> Failure {
        match self.code.as_deref() {
            Some("SQLITE_FULL") => Failure { error: Error::DatabaseFull, broken: false },
            _ => Failure::of_statement(self.message),
        }
    }
}

impl StatementResult {
    /// The row id of the last `INSERT`, if the server says one.
    pub(super) fn last_insert_rowid(&self) -> Option<i64> {
        self.last_insert_rowid.as_ref()?.parse().ok()
    }

    /// Whether it may have changed something: it has no columns, or it says how many rows it changed.
    pub(super) fn may_have_changed(&self) -> bool {
        self.cols.is_empty() || self.affected_row_count > 0
    }

    /// Columns and rows, if they have at most `limit` bytes.
    pub(super) fn rows(self, limit: usize) -> Result<QueryResult, Failure> {
        let columns: Vec<String> = self.cols.into_iter().map(|column| column.name.unwrap_or_default()).collect();
        let (mut rows, mut size) = (Vec::with_capacity(self.rows.len()), 0_usize);
        for row in self.rows {
            let values: Vec<Value> = row.into_iter().map(Cell::value).collect::<Result<_, _>>()?;
            size = values.iter().fold(size + size_of::<RowResult>(), |size, value| size.saturating_add(value.size()));
            if size > limit {
                return Err(Failure::of_statement(format!(
                    "the result has more than {limit} bytes, which is the limit"
                )));
            }
            if values.len() != columns.len() {
                return Err(Failure::of_database("the libSQL server answered with rows that do not fit its columns"));
            }
            rows.push(RowResult { values });
        }
        Ok(QueryResult { columns, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_there_and_back() {
        let values = [
            Value::Integer(i64::MIN),
            Value::Integer(i64::MAX),
            Value::Real(-0.5),
            Value::Text("a\0é".to_owned()),
            Value::Blob(vec![]),
            Value::Blob(vec![0, 255, 7]),
            Value::Null,
        ];
        for value in values {
            let sent = serde_json::to_string(&Cell::of(value.clone()).unwrap()).unwrap();
            let read: Cell = serde_json::from_str(&sent).unwrap();
            assert_eq!(read.value(), Ok(value), "{sent}");
        }
        assert_eq!(Cell::of(Value::Real(f64::NAN)), Ok(Cell::Null));
        assert!(Cell::of(Value::Real(f64::INFINITY)).is_err());
    }

    #[test]
    fn padded_blobs_are_read_and_wrong_ones_are_errors() {
        let blob = |base64: &str| Cell::Blob { base64: base64.to_owned() }.value();
        assert_eq!(blob("AA=="), Ok(Value::Blob(vec![0])));
        assert_eq!(blob("AA"), Ok(Value::Blob(vec![0])));
        assert!(blob("!").is_err());
        assert!(Cell::Integer { value: "9223372036854775808".to_owned() }.value().is_err());
    }

    #[test]
    fn results_are_limited_and_must_fit_their_columns() {
        let result = |rows: &str| -> StatementResult {
            serde_json::from_str(&format!(
                r#"{{"cols":[{{"name":"a","decltype":"INT"}}],"rows":{rows},"affected_row_count":0}}"#
            ))
            .unwrap()
        };
        let one = r#"[[{"type":"text","value":"abc"}]]"#;
        assert_eq!(result(one).rows(1000).unwrap().rows.len(), 1);
        assert!(result(one).rows(10).is_err());
        assert!(result("[[]]").rows(1000).is_err());
    }
}

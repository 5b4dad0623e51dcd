//! [`Unreadable`]: what can be made out of a message that a newer peer sent.
//!
//! Promise: what it says holds nothing of the message but names, whatever was secret in it, and is short.

use serde_json::Value;

use crate::{
    names::{AppKey, RevisionId},
    report::clip,
};

/// How many revisions are made out: more than an assignment has.
const REVISIONS: usize = 8;

/// The longest name of a revision, in bytes, that is made out.
const NAME: usize = 128;

/// The longest [`Unreadable::why`], in bytes.
const WHY: usize = 256;

/// An [`crate::Assignment`] that says what this build cannot honour, as far as it can be made out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unreadable {
    /// The app.
    pub app: Option<AppKey>,
    /// The uid of the `SpinApp` that it is for.
    pub uid: Option<String>,
    /// The app's port.
    pub port: Option<u16>,
    /// The revisions that it lists.
    pub revisions: Vec<RevisionId>,
    /// Which of them is to take requests.
    pub active: Option<RevisionId>,
    /// What of it cannot be honoured.
    pub why: String,
}

impl Unreadable {
    /// What can be made out of the message `value`, which could not be read because of `error`.
    pub(super) fn of(value: &Value, error: &serde_json::Error) -> Self {
        let text = |field: &Value| field.as_str().map(str::to_owned);
        let revision = |field: &Value| text(field).filter(|id| id.len() <= NAME).map(RevisionId);
        let revisions = value.get("revisions").and_then(Value::as_array).into_iter().flatten();
        Self {
            app: value.get("app").and_then(Value::as_str).and_then(|app| app.parse().ok()),
            uid: value.get("uid").and_then(text).filter(|uid| uid.len() <= NAME),
            port: value.get("port").and_then(Value::as_u64).and_then(|port| port.try_into().ok()),
            revisions: revisions.filter_map(|one| one.get("id").and_then(revision)).take(REVISIONS).collect(),
            active: value.get("active").and_then(revision),
            why: why(&error.to_string()),
        }
    }
}

/// What is wrong, without the value that is: that may be a secret.
fn why(error: &str) -> String {
    let value = ["invalid type: ", "invalid value: ", "invalid length "];
    let names = if value.iter().any(|kind| error.starts_with(kind)) {
        // The value comes first, and may hold this word too.
        error.rsplit_once(", expected ").map_or_else(String::new, |(_, expected)| format!("expected {expected}"))
    } else {
        error.to_owned()
    };
    clip(&names, WHY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Assignment, Heard, ToRuntime, wire::hear};

    fn made_out(value: &Value) -> Unreadable {
        let frame = json!({ "type": "assign", "value": value });
        match hear::<ToRuntime>(frame.to_string().as_bytes()) {
            Ok(Heard::Unreadable(made_out)) => *made_out,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whatever_is_there_is_made_out_and_nothing_is_needed() {
        let all = json!({
            "app": "shop/cart", "uid": "u", "port": 10_000, "active": "v2",
            "revisions": [{ "id": "v1" }, { "id": "v2", "application": 7 }, { "name": "v3" }],
        });
        let ids = ["v1", "v2"].map(|id| RevisionId(id.to_owned()));
        let expected = Unreadable {
            app: AppKey::new("shop", "cart").ok(),
            uid: Some("u".to_owned()),
            port: Some(10_000),
            revisions: ids.to_vec(),
            active: Some(ids[1].clone()),
            why: made_out(&all).why,
        };
        assert_eq!(made_out(&all), expected);
        let nothing = json!({ "app": 7, "uid": [], "port": 70_000, "active": {}, "revisions": "x" });
        assert_eq!(made_out(&nothing), Unreadable { why: made_out(&nothing).why, ..Unreadable::default() });
    }

    #[test]
    fn a_value_that_is_not_understood_is_not_repeated() {
        let values =
            [json!("hunter2"), json!({ "name": ["hunter2, expected "] }), json!(["hunter2"]), json!(4_815_162_342_u64)];
        for secret in values {
            let error = serde_json::from_value::<Assignment>(json!({
                "app": "shop/cart", "uid": "u", "port": 1, "active": "v1",
                "revisions": [{ "id": "v1", "application": secret, "variables": secret, "fetch": secret }],
            }))
            .unwrap_err();
            let why = why(&error.to_string());
            assert!(!why.contains("hunter2") && !why.contains("4815162342"), "{why}");
        }
        let said = serde_json::from_str::<u16>(r#""a, expected b""#).unwrap_err().to_string();
        assert_eq!(why(&said), "expected u16 at line 1 column 15");
        assert!(why(&"ä".repeat(1000)).len() <= WHY);
    }
}

//! Whether a value is what a CRD's schema says, as far as that can be told without an API server.

use serde_json::Value;

/// What is wrong with `value`, which is at `path`.
pub(super) fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return if value.is_u64() || value.is_string() {
            Vec::new()
        } else {
            vec![format!("{path}: no number, no text")]
        };
    }
    let is_type = match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        other => panic!("{path}: the schema has the type {other:?}"),
    };
    if !is_type {
        return vec![format!("{path}: must be of type {}", schema["type"])];
    }
    [members(schema, value, path), entries(schema, value, path), bounds(schema, value, path)].concat()
}

/// The members of an object.
fn members(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return Vec::new() };
    let mut found = Vec::new();
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            found.push(format!("{path}.{name}: is missing"));
        }
    }
    for (name, member) in object {
        let known = schema.get("properties").and_then(|all| all.get(name));
        match known.or_else(|| schema.get("additionalProperties")) {
            Some(schema) => found.extend(problems(schema, member, &format!("{path}.{name}"))),
            None => found.push(format!("{path}.{name}: there is no such field")),
        }
    }
    found
}

/// The entries of a list.
fn entries(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let list = value.as_array().into_iter().flatten().enumerate();
    list.flat_map(|(index, entry)| problems(&schema["items"], entry, &format!("{path}[{index}]"))).collect()
}

/// Lengths and limits.
fn bounds(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let size = match value {
        Value::Array(list) => list.len() as f64,
        Value::String(text) => text.chars().count() as f64,
        Value::Number(number) => number.as_f64().unwrap(),
        _ => return Vec::new(),
    };
    let bound = |keys: &[&str]| keys.iter().find_map(|key| schema.get(*key)?.as_f64());
    let low = bound(&["minimum", "minItems", "minLength"]).is_some_and(|least| size < least);
    let high = bound(&["maximum", "maxItems", "maxLength"]).is_some_and(|most| size > most);
    if low || high { vec![format!("{path}: is out of bounds")] } else { Vec::new() }
}

#[test]
fn what_breaks_the_schema_is_said_and_where() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"], "properties": {
            "a": { "type": "array", "items": { "type": "integer", "maximum": 3 } },
            "b": { "type": "object", "additionalProperties": { "type": "string" } },
            "c": { "x-kubernetes-int-or-string": true },
        }
    });
    let of = |value: Value| problems(&schema, &value, "spec");
    assert!(of(serde_json::json!({ "a": [1, 3], "b": { "x": "y" }, "c": "10%" })).is_empty());
    assert_eq!(of(serde_json::json!({ "d": 1 })), ["spec.a: is missing", "spec.d: there is no such field"]);
    assert_eq!(of(serde_json::json!({ "a": [4] })), ["spec.a[0]: is out of bounds"]);
    assert_eq!(of(serde_json::json!({ "a": [], "b": { "x": 1 } })), ["spec.b.x: must be of type \"string\""]);
    assert_eq!(of(serde_json::json!({ "a": [], "c": false })), ["spec.c: no number, no text"]);
}

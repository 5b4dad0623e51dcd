//! What a spec asks for, put together with what is known of the objects that it refers to.

mod runtime_config;

use std::collections::{BTreeMap, BTreeSet};

use control::{AppKey, Credentials, Problem, SecretString};
use operator_api::{Reason, SpinAppSpec, SpinAppVariable, ValueSource};
use operator_core::{Bundle, Variables};

pub use runtime_config::runtime_config;

use crate::{
    references::{Kind, Lack, Reference, Referenced},
    resolve::Question,
};

/// What is known of referenced objects.
pub type Known = BTreeMap<Reference, Referenced>;

/// Why nothing is asked about a bundle.
#[derive(Debug, Clone, PartialEq)]
pub enum Unasked {
    /// Something that the question needs is being read.
    Pending,
    /// The question cannot be put.
    Failed(Problem),
}

impl From<Unasked> for Bundle {
    fn from(unasked: Unasked) -> Self {
        match unasked {
            Unasked::Pending => Self::Pending,
            Unasked::Failed(problem) => Self::Failed(problem),
        }
    }
}

/// The objects that the spec of `app` refers to.
#[must_use]
pub fn references(app: &AppKey, spec: &SpinAppSpec) -> BTreeSet<Reference> {
    let variables =
        spec.variables.iter().filter_map(|variable| Some(reference_of(app, variable.value_from.as_ref()?)?.0));
    let variables = variables.chain(credentials_reference(app, spec));
    variables.chain(runtime_config::references(app, spec)).collect()
}

/// The values of the variables that the spec sets.
#[must_use]
pub fn variables(app: &AppKey, spec: &SpinAppSpec, known: &Known) -> Variables {
    let mut values = BTreeMap::new();
    let mut pending = false;
    for variable in &spec.variables {
        match value(app, variable, known) {
            Value::Is(value) => {
                values.insert(variable.name.clone(), value);
            }
            Value::None => {}
            Value::Pending => pending = true,
            Value::Failed(problem) => return Variables::Failed(problem),
        }
    }
    if pending { Variables::Pending } else { Variables::Resolved(values) }
}

/// What to ask about the bundle that the spec names.
///
/// # Errors
/// What is to be said instead when there is nothing to ask yet, or nothing that can be asked.
pub fn question(
    app: &AppKey,
    spec: &SpinAppSpec,
    known: &Known,
    default_server: Option<&str>,
) -> Result<Question, Unasked> {
    let Some(bindle) = &spec.source.bindle else {
        return Err(invalid("spec.source names no application: set spec.source.bindle.id"));
    };
    let Some(server) = bindle.server.as_deref().or(default_server) else {
        return Err(invalid(
            "no Bindle server to ask: set spec.source.bindle.server, or give the operator a default (operator.defaultBindleServer of the chart)",
        ));
    };
    let credentials = match credentials_reference(app, spec) {
        None => None,
        Some(reference) => Some(credentials(&reference, known.get(&reference))?),
    };
    // `http://host/v1` and `http://host/v1/` are the same server.
    Ok(Question { server: server.trim_end_matches('/').to_owned(), id: bindle.id.clone(), credentials })
}

fn invalid(message: &str) -> Unasked {
    Unasked::Failed(Problem {
        reason: Reason::InvalidSpec.as_str().to_owned(),
        message: message.to_owned(),
        retrying: false,
    })
}

fn credentials_reference(app: &AppKey, spec: &SpinAppSpec) -> Option<Reference> {
    let name = spec.source.bindle.as_ref()?.credentials_secret.clone()?;
    Some(Reference { kind: Kind::Secret, namespace: app.namespace().to_owned(), name })
}

fn credentials(reference: &Reference, known: Option<&Referenced>) -> Result<Credentials, Unasked> {
    let missing = |what: String| {
        Unasked::Failed(Problem {
            reason: Reason::CredentialsMissing.as_str().to_owned(),
            message: what,
            retrying: true,
        })
    };
    let Reference { namespace, name, .. } = reference;
    match known {
        None | Some(Referenced::Pending) => Err(Unasked::Pending),
        Some(Referenced::Missing) => Err(missing(format!(
            "there is no Secret {name} in namespace {namespace}, which spec.source.bindle.credentialsSecret names"
        ))),
        Some(Referenced::Unreadable(why)) => {
            Err(missing(format!("the Secret {name} in namespace {namespace} cannot be read: {why}")))
        }
        Some(Referenced::Values(values)) => {
            let value = |key: &str| {
                values.text(key).cloned().map_err(|lack| {
                    missing(format!("the Secret {name} in namespace {namespace} {lack} `{key}`: credentials need `username` and `password`"))
                })
            };
            Ok(Credentials { username: value("username")?.expose().to_owned(), password: value("password")? })
        }
    }
}

enum Value {
    Is(SecretString),
    /// It may be left out.
    None,
    Pending,
    Failed(Problem),
}

fn value(app: &AppKey, variable: &SpinAppVariable, known: &Known) -> Value {
    let Some(source) = &variable.value_from else {
        return variable.value.clone().map_or(Value::None, |value| Value::Is(SecretString::new(value)));
    };
    match find(app, source, known) {
        Found::Is(value) => Value::Is(value),
        Found::Optional => Value::None,
        Found::Pending => Value::Pending,
        Found::Missing(what) | Found::Unreadable(what) => Value::Failed(Problem {
            reason: Reason::VariableMissing.as_str().to_owned(),
            message: format!("the variable `{}` has no value: {what}", variable.name),
            retrying: true,
        }),
    }
}

/// What is at a key of a referenced object.
enum Found {
    Is(SecretString),
    /// Nothing, and it may be left out.
    Optional,
    /// It is being read.
    Pending,
    /// Nothing, as the text says.
    Missing(String),
    /// It cannot be read, as the text says.
    Unreadable(String),
}

fn find(app: &AppKey, source: &ValueSource, known: &Known) -> Found {
    let Some((reference, key, optional)) = reference_of(app, source) else { return Found::Optional };
    let Reference { kind, namespace, name } = &reference;
    let place = format!("{} {name} in namespace {namespace}", kind.as_str());
    let missing = |what: String| if optional { Found::Optional } else { Found::Missing(what) };
    match known.get(&reference) {
        None | Some(Referenced::Pending) => Found::Pending,
        Some(Referenced::Missing) => missing(format!("there is no {place}")),
        Some(Referenced::Unreadable(why)) => Found::Unreadable(format!("the {place} cannot be read: {why}")),
        Some(Referenced::Values(values)) => match values.text(key) {
            Ok(value) => Found::Is(value.clone()),
            Err(lack @ Lack::Key) => missing(format!("the {place} {lack} `{key}`")),
            Err(lack @ Lack::Text) => Found::Unreadable(format!("the {place} {lack} `{key}`")),
        },
    }
}

/// Where a value is: object, key, and whether either may be missing.
fn reference_of<'a>(app: &AppKey, source: &'a ValueSource) -> Option<(Reference, &'a str, bool)> {
    let secret = source.secret_key_ref.as_ref().map(|selector| (Kind::Secret, selector));
    let (kind, selector) = secret.or_else(|| source.config_map_key_ref.as_ref().map(|it| (Kind::ConfigMap, it)))?;
    let reference = Reference { kind, namespace: app.namespace().to_owned(), name: selector.name.clone() };
    Some((reference, &selector.key, selector.optional.unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn app() -> AppKey {
        AppKey::new("shop", "cart").unwrap()
    }

    fn spec(json: serde_json::Value) -> SpinAppSpec {
        serde_json::from_value(json).unwrap()
    }

    fn secret(name: &str) -> Reference {
        Reference { kind: Kind::Secret, namespace: "shop".to_owned(), name: name.to_owned() }
    }

    fn values(pairs: &[(&str, &str)]) -> Referenced {
        let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), SecretString::new(*value)));
        Referenced::Values(Arc::new(values.collect()))
    }

    fn with_variable(optional: bool) -> SpinAppSpec {
        spec(serde_json::json!({
            "source": { "bindle": { "id": "a/1.0.0" } },
            "variables": [{ "name": "dsn", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url", "optional": optional } } }],
        }))
    }

    #[test]
    fn a_missing_key_fails_with_the_place_to_look_at_unless_it_is_optional() {
        let known = Known::from([(secret("db"), values(&[("other", "x")]))]);
        let Variables::Failed(problem) = variables(&app(), &with_variable(false), &known) else { panic!("no failure") };
        assert_eq!(
            problem.message,
            "the variable `dsn` has no value: the Secret db in namespace shop has no key `url`"
        );
        assert_eq!(variables(&app(), &with_variable(true), &known), Variables::Resolved(BTreeMap::new()));
    }

    #[test]
    fn a_value_that_is_no_text_is_a_failure_also_where_it_may_be_missing() {
        let bytes = [("url".to_owned(), None::<SecretString>)].into_iter().collect();
        let known = Known::from([(secret("db"), Referenced::Values(Arc::new(bytes)))]);
        let Variables::Failed(problem) = variables(&app(), &with_variable(true), &known) else { panic!("no failure") };
        let expected =
            "the variable `dsn` has no value: the Secret db in namespace shop has no text (UTF-8) at the key `url`";
        assert_eq!(problem.message, expected);
    }

    #[test]
    fn variables_wait_for_what_is_being_read() {
        let spec = with_variable(false);
        assert_eq!(references(&app(), &spec), BTreeSet::from([secret("db")]));
        let known = Known::from([(secret("db"), Referenced::Pending)]);
        assert_eq!(variables(&app(), &spec, &known), Variables::Pending);
        let known = Known::from([(secret("db"), values(&[("url", "pg://")]))]);
        let Variables::Resolved(found) = variables(&app(), &spec, &known) else { panic!("not resolved") };
        assert_eq!(found["dsn"].expose(), "pg://");
    }

    #[test]
    fn a_server_of_the_spec_wins_over_the_default_and_none_is_an_error() {
        let plain = spec(serde_json::json!({ "source": { "bindle": { "id": "a/1.0.0" } } }));
        let own = spec(serde_json::json!({ "source": { "bindle": { "id": "a/1.0.0", "server": "http://own/v1/" } } }));
        let ask = |spec, default| question(&app(), spec, &Known::new(), default);
        assert_eq!(ask(&own, Some("http://default/v1")).unwrap().server, "http://own/v1");
        assert_eq!(ask(&plain, Some("http://default/v1")).unwrap().server, "http://default/v1");
        assert!(matches!(ask(&plain, None), Err(Unasked::Failed(problem)) if problem.reason == "InvalidSpec"));
    }

    #[test]
    fn credentials_without_a_password_are_not_used() {
        let spec = spec(serde_json::json!({
            "source": { "bindle": { "id": "a/1.0.0", "server": "http://own/v1", "credentialsSecret": "login" } },
        }));
        let known = Known::from([(secret("login"), values(&[("username", "u")]))]);
        let Err(Unasked::Failed(problem)) = question(&app(), &spec, &known, None) else { panic!("no failure") };
        assert_eq!(problem.reason, "CredentialsMissing");
        let known = Known::from([(secret("login"), values(&[("username", "u"), ("password", "p")]))]);
        assert_eq!(question(&app(), &spec, &known, None).unwrap().credentials.unwrap().username, "u");
    }
}

//! The runtime configuration that a spec asks for: in a Secret, or field by field.

use std::collections::BTreeSet;

use control::{AppKey, Problem, SecretString};
use manifest::{
    ManifestError,
    runtime_config::{Origin, parse},
};
use operator_api::{ConfigOption, Reason, RuntimeConfig, SpinAppSpec};
use operator_core::{ConfigText, RuntimeConfiguration};

use super::{Found, Known, find, reference_of};
use crate::references::{Kind, Reference, Referenced};

/// The key of the Secret, and what the text is called in problems.
const KEY: &str = "runtime-config.toml";

/// The objects that it refers to.
pub(super) fn references(app: &AppKey, spec: &SpinAppSpec) -> BTreeSet<Reference> {
    let Some(config) = &spec.runtime_config else { return BTreeSet::new() };
    let of_options = options(config).filter_map(|option| Some(reference_of(app, option.value_from.as_ref()?)?.0));
    of_options.chain(secret(app, config)).collect()
}

/// The runtime configuration that the spec asks for, if all of it is there and makes sense.
#[must_use]
pub fn runtime_config(app: &AppKey, spec: &SpinAppSpec, known: &Known) -> RuntimeConfiguration {
    let Some(config) = &spec.runtime_config else { return RuntimeConfiguration::Resolved(None) };
    let found = match secret(app, config) {
        Some(reference) => from_secret(&reference, known),
        None => from_fields(app, config, known),
    };
    match found {
        Ok(Some(config)) => RuntimeConfiguration::Resolved(Some(config)),
        Ok(None) => RuntimeConfiguration::Pending,
        Err(problem) => RuntimeConfiguration::Failed(problem),
    }
}

fn secret(app: &AppKey, config: &RuntimeConfig) -> Option<Reference> {
    let name = config.load_from_secret.clone()?;
    Some(Reference { kind: Kind::Secret, namespace: app.namespace().to_owned(), name })
}

/// All options, wherever they are.
fn options(config: &RuntimeConfig) -> impl Iterator<Item = &ConfigOption> {
    let stores = config.key_value_stores.iter().flat_map(|store| &store.options);
    let databases = config.sqlite_databases.iter().flat_map(|database| &database.options);
    stores.chain(databases).chain(config.llm_compute.iter().flat_map(|compute| &compute.options))
}

fn missing(message: String) -> Problem {
    Problem { reason: Reason::RuntimeConfigMissing.as_str().to_owned(), message, retrying: true }
}

fn from_secret(reference: &Reference, known: &Known) -> Result<Option<ConfigText>, Problem> {
    let Reference { namespace, name, .. } = reference;
    let text = match known.get(reference) {
        None | Some(Referenced::Pending) => return Ok(None),
        Some(Referenced::Missing) => {
            return Err(missing(format!(
                "there is no Secret {name} in namespace {namespace}, which spec.runtimeConfig.loadFromSecret names"
            )));
        }
        Some(Referenced::Unreadable(why)) => {
            return Err(missing(format!("the Secret {name} in namespace {namespace} cannot be read: {why}")));
        }
        Some(Referenced::Values(values)) => values.text(KEY).map_err(|lack| {
            missing(format!(
                "the Secret {name} in namespace {namespace} {lack} `{KEY}`, which spec.runtimeConfig.loadFromSecret needs"
            ))
        })?,
    };
    match parse(text.expose(), KEY, Origin::App) {
        Ok(config) => Ok(Some(ConfigText { text: text.clone(), config: Box::new(config) })),
        Err(error) => Err(invalid(format!("the Secret {name} in namespace {namespace}: {}", one_line(&error)))),
    }
}

fn from_fields(app: &AppKey, config: &RuntimeConfig, known: &Known) -> Result<Option<ConfigText>, Problem> {
    let mut document = toml::Table::new();
    let mut complete = true;
    let mut labelled = |key: &str, entries: Vec<(&str, &str, &[ConfigOption])>| {
        let mut tables = toml::Table::new();
        for (name, kind, options) in entries {
            match table(app, kind, options, known)? {
                Some(table) => drop(tables.insert(name.to_owned(), table.into())),
                None => complete = false,
            }
        }
        if !tables.is_empty() {
            document.insert(key.to_owned(), tables.into());
        }
        Ok(())
    };
    let stores = config.key_value_stores.iter();
    labelled(
        "key_value_store",
        stores.map(|it| (it.name.as_str(), it.kind.as_str(), it.options.as_slice())).collect(),
    )?;
    let databases = config.sqlite_databases.iter();
    labelled(
        "sqlite_database",
        databases.map(|it| (it.name.as_str(), it.kind.as_str(), it.options.as_slice())).collect(),
    )?;
    if let Some(compute) = &config.llm_compute {
        match table(app, &compute.kind, &compute.options, known)? {
            Some(table) => drop(document.insert("llm_compute".to_owned(), table.into())),
            None => complete = false,
        }
    }
    if !complete {
        return Ok(None);
    }
    let text = SecretString::new(document.to_string());
    match parse(text.expose(), KEY, Origin::App) {
        Ok(config) => Ok(Some(ConfigText { text, config: Box::new(config) })),
        Err(error) => Err(invalid(format!("spec.runtimeConfig: {}", fields(&error)))),
    }
}

/// The table of one entry; `None` while an object is being read.
fn table(app: &AppKey, kind: &str, options: &[ConfigOption], known: &Known) -> Result<Option<toml::Table>, Problem> {
    let mut table = toml::Table::new();
    table.insert("type".to_owned(), kind.into());
    for option in options {
        let Some(source) = &option.value_from else {
            table.insert(option.name.clone(), option.value.clone().unwrap_or_default().into());
            continue;
        };
        match find(app, source, known) {
            Found::Is(value) => drop(table.insert(option.name.clone(), value.expose().into())),
            Found::Optional => {}
            Found::Pending => return Ok(None),
            Found::Missing(what) | Found::Unreadable(what) => {
                return Err(missing(format!(
                    "the option `{}` in spec.runtimeConfig has no value: {what}",
                    option.name
                )));
            }
        }
    }
    Ok(Some(table))
}

fn invalid(message: String) -> Problem {
    Problem { reason: Reason::InvalidRuntimeConfig.as_str().to_owned(), message, retrying: false }
}

fn one_line(error: &ManifestError) -> String {
    error.to_string().replace('\n', "; ")
}

/// The problems of a text that nobody wrote, so that its lines mean nothing.
fn fields(error: &ManifestError) -> String {
    let problems = error.problems.iter().map(|problem| format!("{}: {}", problem.place.field, problem.message));
    problems.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use manifest::runtime_config::KeyValueStore;

    use super::*;

    fn app() -> AppKey {
        AppKey::new("shop", "cart").unwrap()
    }

    fn spec(runtime_config: &serde_json::Value) -> SpinAppSpec {
        let source = serde_json::json!({ "bindle": { "id": "a/1.0.0" } });
        serde_json::from_value(serde_json::json!({ "source": source, "runtimeConfig": runtime_config })).unwrap()
    }

    fn known(name: &str, key: &str, value: &str) -> Known {
        let reference = Reference { kind: Kind::Secret, namespace: "shop".to_owned(), name: name.to_owned() };
        let values = [(key.to_owned(), SecretString::new(value))];
        Known::from([(reference, Referenced::Values(Arc::new(values.into_iter().collect())))])
    }

    fn failure(spec: &SpinAppSpec, known: &Known) -> Problem {
        let RuntimeConfiguration::Failed(problem) = runtime_config(&app(), spec, known) else { panic!("no failure") };
        problem
    }

    #[test]
    fn a_secret_that_is_wrong_is_named_with_key_line_and_field_and_not_shown() {
        let spec = spec(&serde_json::json!({ "loadFromSecret": "config" }));
        assert_eq!(references(&app(), &spec).len(), 1);
        assert_eq!(runtime_config(&app(), &spec, &Known::new()), RuntimeConfiguration::Pending);
        let text = "[key_value_store.default]\ntype = \"redis\"\nurl = \"http://hunter2\"\n";
        let problem = failure(&spec, &known("config", "runtime-config.toml", text));
        assert_eq!(problem.reason, "InvalidRuntimeConfig");
        assert_eq!(
            problem.message,
            "the Secret config in namespace shop: runtime-config.toml:3:7: key_value_store.default.url: must begin with one of `redis://` and `rediss://`"
        );
        assert_eq!(failure(&spec, &known("config", "other", text)).reason, "RuntimeConfigMissing");
    }

    #[test]
    fn fields_become_the_file_and_their_secrets_are_read() {
        let spec = spec(&serde_json::json!({ "keyValueStores": [{ "name": "my.cache", "type": "redis", "options": [
            { "name": "url", "valueFrom": { "secretKeyRef": { "name": "cache", "key": "url" } } },
        ]}]}));
        assert_eq!(runtime_config(&app(), &spec, &Known::new()), RuntimeConfiguration::Pending);
        let found = runtime_config(&app(), &spec, &known("cache", "url", "redis://:hunter2@cache\"\\"));
        let RuntimeConfiguration::Failed(problem) = found else { panic!("{found:?}") };
        assert!(problem.message.starts_with("spec.runtimeConfig: key_value_store.\"my.cache\".url: "), "{problem:?}");
        assert!(!problem.message.contains("hunter2"), "{problem:?}");
        let found = runtime_config(&app(), &spec, &known("cache", "url", "redis://:hunter2@cache"));
        let RuntimeConfiguration::Resolved(Some(found)) = found else { panic!("{found:?}") };
        assert!(
            matches!(&found.config.key_value_stores["my.cache"], KeyValueStore::Redis { url, .. } if url.expose() == "redis://:hunter2@cache")
        );
    }

    #[test]
    fn an_option_that_is_missing_or_unknown_is_named() {
        let of = |options| spec(&serde_json::json!({ "llmCompute": { "type": "remote_http", "options": options } }));
        let missing = of(serde_json::json!([
            { "name": "auth_token", "valueFrom": { "secretKeyRef": { "name": "llm", "key": "token" } } },
        ]));
        let problem = failure(&missing, &known("llm", "other", "x"));
        assert!(problem.message.contains("`auth_token`") && problem.message.contains("Secret llm"), "{problem:?}");
        let unknown = of(serde_json::json!([{ "name": "uri", "value": "https://llm" }]));
        let problem = failure(&unknown, &Known::new());
        assert!(problem.message.contains("did you mean `url`?"), "{problem:?}");
    }
}

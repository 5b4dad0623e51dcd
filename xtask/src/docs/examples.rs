//! Examples in the documentation: SpinApps, chart values, manifests, runtime configurations.

use manifest::{
    runtime_config::{self, Origin},
    spin_toml,
};
use serde_json::{Value, json};
use toml::Table;

use super::{
    pages::{Block, Page, files, pages},
    schema,
};
use crate::outputs::root;

/// The code blocks in `language`; some, or nothing would be tried.
fn blocks(language: &str) -> Vec<Block> {
    let blocks: Vec<Block> = pages().iter().flat_map(Page::blocks).filter(|block| block.language == language).collect();
    assert!(!blocks.is_empty(), "no page has a block in {language}");
    blocks
}

/// The documents of a YAML stream.
fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect()
}

fn values() -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(root().join("charts/spindle/values.yaml")).unwrap()).unwrap()
}

/// What is wrong with a SpinApp. A page may show a part of its spec; a source is added to that.
fn problems_of_app(mut app: Value) -> Vec<String> {
    let crd = serde_json::to_value(operator_api::crd()).unwrap();
    let spec = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    let is_whole = app.get("kind").is_some();
    let object = app.as_object_mut().unwrap();
    if is_whole {
        assert_eq!(object["apiVersion"], "spindle.dev/v1alpha1");
        assert!(object["metadata"]["name"].is_string());
    } else {
        let source = json!({ "bindle": { "id": "shop/1.0.0" } });
        object["spec"].as_object_mut().unwrap().entry("source").or_insert(source);
    }
    schema::problems(spec, &object["spec"], "spec")
}

/// The paths of `values` that `known` does not have.
fn unknown_values(values: &Value, known: &Value, path: &str) -> Vec<String> {
    let Some(members) = values.as_object().filter(|_| known.as_object().is_some_and(|known| !known.is_empty())) else {
        return Vec::new();
    };
    let of_member = |(name, value): (&String, &Value)| {
        let path = format!("{path}.{name}");
        known.get(name).map_or_else(|| vec![path.clone()], |known| unknown_values(value, known, &path))
    };
    members.iter().flat_map(of_member).collect()
}

#[test]
fn every_example_in_yaml_is_a_spinapp_or_chart_values_that_would_be_taken() {
    let chart = values();
    for block in blocks("yaml") {
        for document in documents(&block.text) {
            let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
            let problems = if document.get("spec").is_some() {
                problems_of_app(document)
            } else if keys.iter().all(|key| chart.get(key.as_str()).is_some()) {
                unknown_values(&document, &chart, "")
            } else {
                // A part of somebody else's object, such as Argo CD's ConfigMap.
                assert_eq!(keys, ["data"], "{}: what is this an example of?", block.place);
                Vec::new()
            };
            assert_eq!(problems, Vec::<String>::new(), "{}", block.place);
        }
    }
}

#[test]
fn every_spinapp_of_the_examples_would_be_taken() {
    let files: Vec<_> = files(".yaml").into_iter().filter(|file| file.path.starts_with("examples/")).collect();
    assert!(files.len() > 5);
    for file in files {
        for document in documents(&file.text).into_iter().filter(|document| document["kind"] == "SpinApp") {
            assert_eq!(problems_of_app(document), Vec::<String>::new(), "{}", file.path);
        }
    }
}

/// Tables that only a runtime configuration has.
const OF_RUNTIME_CONFIG: [&str; 6] =
    ["key_value_store", "sqlite_database", "variables_provider", "llm_compute", "outbound_networking", "client_tls"];

/// `first`, and what of `rest` has another name.
fn before(first: Table, rest: Table) -> Table {
    let mut all = first;
    for (name, value) in rest {
        all.insert(name, value);
    }
    all
}

/// A manifest of which `part` is a part: with a source for each component, a trigger, and what templates use declared.
fn completed(part: &str) -> String {
    let mut given: Table = toml::from_str(part).unwrap();
    let table = |text: &str| toml::from_str::<Table>(text).unwrap();
    let triggers = given.get("trigger").and_then(|trigger| trigger.get("http")?.as_array()).into_iter().flatten();
    let named = triggers.filter_map(|trigger| trigger.get("component")?.as_str()).map(str::to_owned);
    let mut components: Table = named.map(|id| (id, Table::new().into())).collect();
    if let Some(toml::Value::Table(own)) = given.remove("component") {
        components = before(components, own);
    }
    for (_, component) in &mut components {
        let own = std::mem::take(component.as_table_mut().unwrap());
        *component = before(table("source = 'a.wasm'"), own).into();
    }
    let trigger =
        components.keys().next().map(|id| format!("trigger.http = [{{ route = '/...', component = '{id}' }}]"));
    let mut variables: Table = part
        .split("{{ ")
        .skip(1)
        .filter_map(|rest| Some((rest.split_once(" }}")?.0.to_owned(), table("required = true").into())))
        .collect();
    if let Some(toml::Value::Table(own)) = given.remove("variables") {
        variables = before(variables, own);
    }
    let mut whole =
        before(table("spin_manifest_version = 2\napplication.name = 'shop'"), table(&trigger.unwrap_or_default()));
    whole.insert("variables".to_owned(), variables.into());
    whole.insert("component".to_owned(), components.into());
    toml::to_string(&before(whole, given)).unwrap()
}

#[test]
fn every_example_in_toml_is_a_manifest_or_a_runtime_configuration_that_would_be_read() {
    for block in blocks("toml") {
        // Nobody wants to read a whole digest.
        let text = block.text.replace("sha256:…", &format!("sha256:{}", "0".repeat(64)));
        let table: Table = toml::from_str(&text).unwrap();
        let problems = if table.keys().any(|key| OF_RUNTIME_CONFIG.contains(&key.as_str())) {
            runtime_config::parse(&text, &block.place, Origin::Local(&root())).err()
        } else {
            spin_toml::parse(&completed(&text), &block.place).err()
        };
        assert!(problems.is_none(), "{}", problems.unwrap());
    }
}

//! `kubectl spindle history` and `kubectl spindle rollback`.
//!
//! The operator keeps each revision that has been ready as a ControllerRevision of the app. Going back writes its fields into
//! the spec again; fields of the spec that make no revision (`replicas`, annotations) stay as they are.

use anyhow::{Context as _, bail};
use clap::Args;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use operator_api::{SpinApp, SpinAppSpec, names};
use serde_json::{Map, Value, json};

use super::{
    Place, app, output,
    table::{age, table},
};

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The name of the SpinApp
    #[arg(value_name = "APP", value_parser = app::name)]
    app: String,

    /// The number of the revision, as `kubectl spindle history` shows it [default: the one before the current one; if the
    /// current spec was never ready, the last one that was]
    #[arg(long, value_name = "NUMBER")]
    to_revision: Option<i64>,

    /// Only print the spec that would be written
    #[arg(long)]
    dry_run: bool,
}

/// The app's entries, oldest first.
async fn entries(place: &Place, object: &SpinApp) -> anyhow::Result<Vec<ControllerRevision>> {
    let api: Api<ControllerRevision> = Api::namespaced(place.client.clone(), &place.namespace);
    let ours = format!("{}={},{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY, names::APP_LABEL, object.name_any());
    let mut found =
        api.list(&ListParams::default().labels(&ours)).await.context("cannot read ControllerRevisions")?.items;
    found.retain(|entry| entry.owner_references().iter().any(|owner| Some(&owner.uid) == object.uid().as_ref()));
    found.sort_by_key(|entry| entry.revision);
    Ok(found)
}

pub(super) async fn list(place: &Place, name: &str) -> anyhow::Result<()> {
    let object = app::get(place, name).await?;
    let entries = entries(place, &object).await?;
    if entries.is_empty() {
        output::print(&format!("{name} has no history: no revision of it has been ready yet.\n"))?;
        return Ok(());
    }
    let spec = serde_json::to_value(&object.spec)?;
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let word = |name: &str| entry.annotations().get(name).cloned().unwrap_or_else(|| "-".to_owned());
            let age = app::seconds_since_creation(&entry.metadata).map_or_else(|| "-".to_owned(), age);
            let source = template(entry).and_then(|spec| spec.pointer("/source/bindle/id")).and_then(Value::as_str);
            let current = if template(entry).is_some_and(|template| is_in(template, &spec)) { "*" } else { "" };
            vec![
                entry.revision.to_string(),
                current.to_owned(),
                word(names::VERSION_ANNOTATION),
                source.unwrap_or("-").to_owned(),
                word(names::REVISION_ANNOTATION),
                age,
            ]
        })
        .collect();
    output::print(&table(&["REVISION", "SPEC", "VERSION", "SOURCE", "NAME", "FIRST READY"], &rows))?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(super) async fn run(place: &Place, args: RollbackArgs) -> anyhow::Result<()> {
    let name = args.app.as_str();
    let object = app::get(place, name).await?;
    let entries = entries(place, &object).await?;
    let spec = serde_json::to_value(&object.spec)?;
    let target = choose(&entries, &spec, args.to_revision).with_context(|| format!("{name} stays as it is"))?;
    let Some(template) = template(target) else { bail!("revision {} holds no spec", target.revision) };
    let patch =
        json!({ "metadata": { "resourceVersion": object.resource_version() }, "spec": changes(template, &spec) });
    if args.dry_run {
        println!("{:#}", json!({ "spec": template }));
        return Ok(());
    }
    let api: Api<SpinApp> = Api::namespaced(place.client.clone(), &place.namespace);
    let params = PatchParams { field_manager: Some("kubectl-spindle".to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(&patch))
        .await
        .with_context(|| format!("the spec of {name} cannot be written"))?;
    println!(
        "{name} goes back to revision {} ({}).",
        target.revision,
        target.annotations().get(names::VERSION_ANNOTATION).map_or("no version", String::as_str)
    );
    println!(
        "`kubectl wait --for=condition=Ready spinapp/{name}` waits for it. If a tool such as Argo CD or Flux owns the spec, go back there too, or it will undo this."
    );
    Ok(())
}

/// The spec's part that an entry holds.
fn template(entry: &ControllerRevision) -> Option<&Value> {
    entry.data.as_ref()?.0.get("spec")
}

/// Whether `spec` is of `template`: every field of a revision is the same.
fn is_in(template: &Value, spec: &Value) -> bool {
    changes(template, spec).iter().all(|(name, value)| spec.get(name).unwrap_or(&Value::Null) == value)
}

/// The fields to write, so that `spec` becomes one of `template`: those of the template, and `null` for those of a revision
/// that it lacks.
fn changes(template: &Value, spec: &Value) -> Map<String, Value> {
    let mut changes = Map::new();
    for name in spec.as_object().into_iter().flat_map(Map::keys) {
        if !SpinAppSpec::NOT_OF_A_REVISION.contains(&name.as_str()) {
            changes.insert(name.clone(), Value::Null);
        }
    }
    for (name, value) in template.as_object().into_iter().flatten() {
        // A merge would keep what the old value has and the new one lacks.
        changes.insert(name.clone(), replacing(spec.get(name), value));
    }
    changes
}

/// `new`, with `null` for each key of `old` that it lacks, at every depth: a JSON merge patch that replaces.
fn replacing(old: Option<&Value>, new: &Value) -> Value {
    let (Some(Value::Object(old)), Value::Object(new)) = (old, new) else { return new.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    gone.chain(new.iter().map(|(key, value)| (key.clone(), replacing(old.get(key), value)))).collect()
}

/// The entry to go back to.
fn choose<'a>(
    entries: &'a [ControllerRevision],
    spec: &Value,
    number: Option<i64>,
) -> anyhow::Result<&'a ControllerRevision> {
    let is_current = |entry: &&ControllerRevision| template(entry).is_some_and(|template| is_in(template, spec));
    if let Some(number) = number {
        let Some(found) = entries.iter().find(|entry| entry.revision == number) else {
            let known: Vec<String> = entries.iter().map(|entry| entry.revision.to_string()).collect();
            bail!(
                "there is no revision {number}; there are: {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            );
        };
        if is_current(&found) {
            bail!("revision {number} is what the spec says already");
        }
        return Ok(found);
    }
    match entries.iter().rev().find(|entry| !is_current(entry)) {
        Some(found) => Ok(found),
        None => bail!("there is no other revision that has been ready"),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::runtime::RawExtension;

    use super::*;

    fn entry(number: i64, spec: &Value) -> ControllerRevision {
        ControllerRevision {
            revision: number,
            data: Some(RawExtension(json!({ "spec": spec }))),
            ..ControllerRevision::default()
        }
    }

    fn history() -> Vec<ControllerRevision> {
        vec![
            entry(1, &json!({ "source": { "bindle": { "id": "shop/1.0.0" } } })),
            entry(
                2,
                &json!({ "source": { "bindle": { "id": "shop/2.0.0", "server": "https://b/v1" } }, "variables": [{ "name": "a", "value": "1" }] }),
            ),
        ]
    }

    fn number(spec: &Value, to: Option<i64>) -> Result<i64, String> {
        choose(&history(), spec, to).map(|entry| entry.revision).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_number_it_goes_to_the_last_one_that_was_ready_and_is_not_the_current_one() {
        let current = json!({ "source": { "bindle": { "id": "shop/2.0.0", "server": "https://b/v1" } }, "variables": [{ "name": "a", "value": "1" }], "replicas": 3 });
        assert_eq!(number(&current, None), Ok(1));
        let broken = json!({ "source": { "bindle": { "id": "shop/3.0.0" } }, "replicas": 3 });
        assert_eq!(number(&broken, None), Ok(2));
    }

    #[test]
    fn a_number_that_does_not_exist_or_is_current_is_refused_with_what_there_is() {
        let current = json!({ "source": { "bindle": { "id": "shop/1.0.0" } }, "replicas": 3 });
        assert_eq!(number(&current, Some(7)).unwrap_err(), "there is no revision 7; there are: 1, 2");
        assert_eq!(number(&current, Some(1)).unwrap_err(), "revision 1 is what the spec says already");
    }

    #[test]
    fn what_the_old_revision_lacks_is_taken_away_and_what_makes_no_revision_stays() {
        let spec = json!({ "source": { "bindle": { "id": "shop/2.0.0", "server": "https://b/v1" } }, "variables": [{ "name": "a", "value": "1" }], "replicas": 3 });
        let history = history();
        let changes = changes(template(history.first().unwrap()).unwrap(), &spec);
        assert_eq!(
            Value::Object(changes),
            json!({ "source": { "bindle": { "id": "shop/1.0.0", "server": null } }, "variables": null })
        );
    }
}

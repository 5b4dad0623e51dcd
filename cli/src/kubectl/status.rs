//! `kubectl spindle status`.

use clap::Args;
use kube::ResourceExt as _;
use operator_api::{ConditionType, RolloutStatus, SpinApp};

use super::{
    Place, app, output,
    table::{age, table},
};

/// What is said of each app.
const HEAD: [&str; 8] = ["NAMESPACE", "NAME", "READY", "REPLICAS", "VERSION", "REVISION", "SOURCE", "AGE"];

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The name of the SpinApp [default: all of the namespace]
    #[arg(value_name = "APP", value_parser = app::name)]
    app: Option<String>,

    /// Of every namespace
    #[arg(short = 'A', long, conflicts_with = "app")]
    all_namespaces: bool,
}

pub(super) async fn run(place: &Place, args: StatusArgs) -> anyhow::Result<()> {
    if let Some(name) = &args.app {
        output::print(&one(place, &app::get(place, name).await?).await)?;
        return Ok(());
    }
    let apps = app::list(place, args.all_namespaces).await?;
    if apps.is_empty() {
        let place = if args.all_namespaces { String::new() } else { format!(" in namespace {}", place.namespace) };
        output::print(&format!("No SpinApps found{place}.\n"))?;
        return Ok(());
    }
    output::print(&table(&HEAD, &apps.iter().map(row).collect::<Vec<_>>()))?;
    Ok(())
}

fn row(object: &SpinApp) -> Vec<String> {
    let status = object.status.clone().unwrap_or_default();
    let ready = app::condition(object, ConditionType::Ready).map_or("Unknown", |ready| &ready.status).to_owned();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        object.namespace().unwrap_or_default(),
        object.name_any(),
        ready,
        or_dash(status.summary),
        or_dash(status.version),
        or_dash(status.active_revision),
        app::source(object),
        or_dash(app::seconds_since_creation(&object.metadata).map(age)),
    ]
}

/// Everything about one app.
async fn one(place: &Place, object: &SpinApp) -> String {
    let mut text = table(&HEAD, &[row(object)]);
    let status = object.status.clone().unwrap_or_default();
    let latest = status.latest_revision.filter(|latest| Some(latest) != status.active_revision.as_ref());
    if let Some(latest) = latest {
        text.extend(["\nThe spec asks for revision ", &latest, ", which does not take requests (yet).\n"]);
    }
    if let Some(rollout) = &status.rollout {
        text.extend(["\n", &last_change(rollout), "\n"]);
    }
    let conditions: Vec<Vec<String>> = status
        .conditions
        .into_iter()
        .map(|condition| vec![condition.type_, condition.status, condition.reason, condition.message])
        .collect();
    text.push('\n');
    text.push_str(&table(&["CONDITION", "STATUS", "REASON", "MESSAGE"], &conditions));
    text.push('\n');
    match app::serving(place, &object.name_any()).await {
        Ok(serving) => {
            let row = |one: app::Serving| {
                vec![one.pod, one.port.to_string(), if one.ready { "yes" } else { "no" }.to_owned()]
            };
            let rows: Vec<Vec<String>> = serving.into_iter().map(row).collect();
            text.push_str(&table(&["RUNTIME", "PORT", "TAKES REQUESTS"], &rows));
        }
        Err(error) => text.extend(["Which runtimes serve it cannot be told: ", &output::told(&error), ".\n"]),
    }
    text
}

/// When the last change of revision was, and how long it took.
fn last_change(rollout: &RolloutStatus) -> String {
    let what = rollout.revision.as_deref().map_or_else(|| "the spec".to_owned(), |id| format!("revision {id}"));
    let began = rollout.started_at.0.strftime("%Y-%m-%d %H:%M:%S UTC");
    let Some(timings) = rollout.completed_at.as_ref().and(rollout.timings) else {
        let last = rollout.progressed_at.0.strftime("%H:%M:%S");
        return format!("The change to {what} began at {began}, last got further at {last}, and is not complete.");
    };
    let phases = [
        ("resolve", timings.resolve_milliseconds),
        ("load", timings.load_milliseconds),
        ("check", timings.check_milliseconds),
        ("switch", timings.switch_milliseconds),
        ("publish", timings.publish_milliseconds),
    ];
    let phases = phases.into_iter().filter_map(|(phase, took)| Some(format!("{phase} {} ms", took?)));
    let phases = phases.collect::<Vec<_>>().join(", ");
    let total = timings.total_milliseconds.unwrap_or_default();
    format!("The change to {what} began at {began} and took {total} ms: {phases}.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_change_is_told_with_its_phases_or_how_far_it_is() {
        let mut rollout = json!({
            "revision": "v2", "startedAt": "2026-01-01T10:00:00.000000Z", "progressedAt": "2026-01-01T10:00:01.000000Z",
        });
        let told = |rollout: &serde_json::Value| last_change(&serde_json::from_value(rollout.clone()).unwrap());
        assert_eq!(
            told(&rollout),
            "The change to revision v2 began at 2026-01-01 10:00:00 UTC, last got further at 10:00:01, and is not complete."
        );
        rollout["completedAt"] = "2026-01-01T10:00:02.000000Z".into();
        rollout["timings"] = json!({ "loadMilliseconds": 900, "switchMilliseconds": 7, "totalMilliseconds": 2000 });
        assert_eq!(
            told(&rollout),
            "The change to revision v2 began at 2026-01-01 10:00:00 UTC and took 2000 ms: load 900 ms, switch 7 ms."
        );
    }
}

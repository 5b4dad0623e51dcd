//! `kubectl spindle explain`: conditions, made sentences.

use kube::ResourceExt as _;
use operator_api::{ConditionType, REASONS_OF_RUNTIMES, REASONS_OF_SOURCES, Reason, SpinApp};

use super::{Place, app, output};

pub(super) async fn run(place: &Place, name: &str) -> anyhow::Result<()> {
    let object = app::get(place, name).await?;
    let ready = match app::serving(place, name).await {
        Ok(serving) => serving.iter().filter(|one| one.ready).count(),
        // Who may read the app may not read everything; then it is as the operator said last.
        Err(_) => object.status.as_ref().map_or(0, |status| usize::try_from(status.ready_replicas).unwrap_or_default()),
    };
    output::print(&(sentences(&object, ready).join("\n") + "\n"))?;
    Ok(())
}

/// What there is to say about an app that `endpoints` runtimes serve.
fn sentences(object: &SpinApp, endpoints: usize) -> Vec<String> {
    let name = object.name_any();
    let Some(status) = &object.status else {
        return vec![
            format!("{name} has no status: the operator has not looked at it yet."),
            "If that stays so, no operator runs or it cannot reach the API server: look at its pod with `kubectl get pods -A -l app.kubernetes.io/component=operator`.".to_owned(),
        ];
    };
    let mut said = Vec::new();
    if status.observed_generation != object.metadata.generation {
        said.push(
            "The operator has not looked at the current spec yet; what follows is about an earlier one.".to_owned(),
        );
    }
    let ready = app::condition(object, ConditionType::Ready);
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let is_off = ready.is_some_and(|ready| ready.reason == Reason::ScaledToZero.as_str());
    said.push(if is_off && is_ready {
        format!("{name} is scaled to zero, as its spec asks: no runtime serves it.")
    } else if is_ready {
        format!(
            "{name} is ready: revision {} takes its requests on {} at {}.",
            status.active_revision.as_deref().unwrap_or("?"),
            runtimes(endpoints),
            status.url.as_deref().unwrap_or("?")
        )
    } else {
        format!("{name} is not ready.")
    });
    let is_true = |kind| app::condition(object, kind).is_some_and(|found| found.status == "True");
    if !is_ready && is_true(ConditionType::Available) {
        said.push(format!(
            "Requests are answered all the same: revision {} serves on {}.",
            status.active_revision.as_deref().unwrap_or("?"),
            runtimes(endpoints)
        ));
    }
    for kind in [ConditionType::Resolved, ConditionType::Loaded, ConditionType::RoutesProgrammed] {
        if let Some(found) = app::condition(object, kind).filter(|found| found.status == "False") {
            said.push(format!("{kind}: {}", found.message));
            said.extend(advice(&found.reason));
        }
    }
    if let Some(ready) =
        ready.filter(|ready| !is_ready && said.iter().all(|sentence| !sentence.contains(&ready.message)))
    {
        said.push(ready.message.clone());
        said.extend(advice(&ready.reason));
    }
    said.extend(hints(object));
    let late = app::condition(object, ConditionType::Progressing)
        .filter(|found| found.reason == Reason::ProgressDeadlineExceeded.as_str());
    said.extend(late.map(|found| found.message.clone()));
    if let Some(found) = app::condition(object, ConditionType::Degraded).filter(|found| found.status == "True")
        && said.iter().all(|sentence| !sentence.contains(&found.message))
    {
        said.push(format!("{}: {}", ConditionType::Degraded, found.message));
    }
    if !is_ready && is_true(ConditionType::Available) && !is_true(ConditionType::Progressing) {
        said.push(format!("`kubectl spindle rollback {name}` goes back to the last revision that was ready."));
    }
    said
}

/// What the operator points out though the spec is resolved: what follows the first sentence of that condition.
fn hints(object: &SpinApp) -> Option<String> {
    let resolved = app::condition(object, ConditionType::Resolved).filter(|found| found.status == "True")?;
    resolved.message.split_once(". ").map(|(_, hints)| hints.to_owned())
}

fn runtimes(count: usize) -> String {
    if count == 1 { "1 runtime".to_owned() } else { format!("{count} runtimes") }
}

/// What a reason means and what to do: one of the operator's own, or one that it has passed on.
fn advice(reason: &str) -> Option<String> {
    let own = Reason::ALL.iter().map(|known| (known.as_str(), known.meaning()));
    let passed_on = REASONS_OF_SOURCES.iter().chain(REASONS_OF_RUNTIMES).copied();
    own.chain(passed_on).find(|(known, _)| *known == reason).map(|(_, meaning)| format!("  {meaning}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(status: &serde_json::Value) -> SpinApp {
        serde_json::from_value(json!({
            "apiVersion": "spindle.dev/v1alpha1", "kind": "SpinApp",
            "metadata": { "name": "shop", "namespace": "demo", "generation": 2 },
            "spec": { "source": { "bindle": { "id": "shop/1.0.0" } } },
            "status": status,
        }))
        .unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> serde_json::Value {
        json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" })
    }

    #[test]
    fn a_ready_app_is_said_to_be_ready_and_where() {
        let said = sentences(
            &app(&json!({
                "observedGeneration": 2, "activeRevision": "r1", "url": "http://shop.demo.svc",
                "conditions": [condition("Ready", "True", "Ready", "It serves.")],
            })),
            2,
        );
        assert_eq!(said, ["shop is ready: revision r1 takes its requests on 2 runtimes at http://shop.demo.svc."]);
    }

    #[test]
    fn what_is_pointed_out_of_a_spec_that_is_resolved_is_said() {
        let message = "The spec names content with digest sha256:0. spec.variables sets `x`, which nobody is given.";
        let conditions =
            [condition("Resolved", "True", "Resolved", message), condition("Ready", "True", "Ready", "It.")];
        let said = sentences(&app(&json!({ "observedGeneration": 2, "conditions": conditions })), 2);
        assert_eq!(said[1..], ["spec.variables sets `x`, which nobody is given."]);
    }

    #[test]
    fn a_broken_update_says_what_is_wrong_that_requests_are_answered_and_how_to_go_back() {
        let said = sentences(
            &app(&json!({
                "observedGeneration": 2, "activeRevision": "r1",
                "conditions": [
                    condition("Resolved", "True", "Resolved", "It is known."),
                    condition("Loaded", "False", "InvalidWasm", "component `a`: its wasm is not valid."),
                    condition("Ready", "False", "InvalidWasm", "component `a`: its wasm is not valid."),
                    condition("Available", "True", "Serving", "r1 serves."),
                    condition("Progressing", "False", "Stalled", "Nothing is on its way."),
                ],
            })),
            1,
        );
        assert_eq!(
            said,
            [
                "shop is not ready.",
                "Requests are answered all the same: revision r1 serves on 1 runtime.",
                "Loaded: component `a`: its wasm is not valid.",
                "  A component's wasm is not valid, or does not compile. Build it again, and publish another version.",
                "`kubectl spindle rollback shop` goes back to the last revision that was ready.",
            ]
        );
    }

    #[test]
    fn an_app_that_runs_nowhere_as_asked_and_a_change_that_takes_too_long_say_so() {
        let off = condition("Ready", "True", "ScaledToZero", "No runtime.");
        let said = sentences(&app(&json!({ "observedGeneration": 2, "conditions": [off] })), 0);
        assert_eq!(said, ["shop is scaled to zero, as its spec asks: no runtime serves it."]);
        let conditions = [
            condition("Ready", "False", "CheckFailed", "It answers 503."),
            condition("Available", "True", "Serving", "r1 serves."),
            condition("Progressing", "False", "ProgressDeadlineExceeded", "No further for 600 seconds."),
        ];
        let status = json!({ "observedGeneration": 2, "activeRevision": "r1", "conditions": conditions });
        let said = sentences(&app(&status), 1);
        assert!(said.contains(&"No further for 600 seconds.".to_owned()), "{said:?}");
        assert!(said.last().unwrap().contains("rollback"), "{said:?}");
    }

    #[test]
    fn an_app_that_no_operator_has_seen_says_where_to_look() {
        let said = sentences(&app(&serde_json::Value::Null), 0);
        assert!(said.iter().any(|sentence| sentence.contains("no operator runs")), "{said:?}");
    }
}

//! What the chart makes of values, before any cluster has seen it.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{command, expect};

/// Everything but `bindleServer.enabled` that changes which objects there are.
const EVERYTHING: [&str; 6] = [
    "bindleServer.enabled=true",
    "bindleServer.persistence.enabled=true",
    "networkPolicy.enabled=true",
    "podMonitor.enabled=true",
    "runtime.kind=DaemonSet",
    "operator.replicas=1",
];

/// The objects that `helm template` makes with these values.
async fn objects(values: &[&str]) -> Result<Vec<Value>> {
    let chart = tests::cluster::checkout().join("charts/spindle").display().to_string();
    let mut args = vec!["template", "x", &chart, "--namespace", "tests", "--kube-version", "1.34.4"];
    args.extend(values.iter().flat_map(|value| ["--set", value]));
    let made = command::succeed("helm", &args, "").await?;
    let documents = serde_yaml::Deserializer::from_str(&made).map(|document| {
        use serde::Deserialize as _;
        Ok(Value::deserialize(document)?)
    });
    let objects: Result<Vec<Value>> = documents.collect();
    Ok(objects?.into_iter().filter(|object| !object.is_null()).collect())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The one object of a kind with a name.
fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let found = objects.iter().find(|object| object["kind"] == kind && text(object, "/metadata/name") == name);
    let names = || objects.iter().map(|object| format!("{} {}", text(object, "/kind"), text(object, "/metadata/name")));
    found.with_context(|| format!("no {kind} {name} among {:?}", names().collect::<Vec<_>>()))
}

/// The pods that the objects run, by their container's name.
fn pods(objects: &[Value]) -> Vec<(&str, &Value)> {
    let templates = objects.iter().filter_map(|object| object.pointer("/spec/template"));
    templates.map(|template| (text(template, "/spec/containers/0/name"), template)).collect()
}

#[tokio::test]
async fn every_pod_is_restricted_bounded_and_probed_whatever_the_values_are() -> Result<()> {
    for values in [&[][..], &EVERYTHING, &["bindleServer.enabled=true", "podSecurityContext.runAsUser=null"]] {
        let objects = objects(values).await?;
        let pods = pods(&objects);
        expect(pods.len() == if values.is_empty() { 2 } else { 3 }, || format!("{} pods", pods.len()))?;
        for (name, pod) in pods {
            let (context, container) = (&pod["spec"]["securityContext"], &pod["spec"]["containers"][0]);
            let own = &container["securityContext"];
            let restricted = context["runAsNonRoot"] == true
                && context["seccompProfile"]["type"] == "RuntimeDefault"
                && own["allowPrivilegeEscalation"] == false
                && own["readOnlyRootFilesystem"] == true
                && own["capabilities"]["drop"] == serde_json::json!(["ALL"]);
            expect(restricted, || format!("{name} with {values:?}: {context} {own}"))?;
            let bounded = container["resources"]["requests"]["cpu"].is_string()
                && container["resources"]["requests"]["memory"].is_string()
                && container["resources"]["limits"]["memory"].is_string();
            expect(bounded, || format!("{name}: {}", container["resources"]))?;
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                expect(container[probe].is_object(), || format!("{name} has no {probe}"))?;
            }
            let has_token = pod["spec"]["automountServiceAccountToken"] != false;
            expect(has_token == (name == "operator"), || format!("{name}: a token is mounted: {has_token}"))?;
            let keeps_user = !values.contains(&"podSecurityContext.runAsUser=null");
            expect(context["runAsUser"].is_u64() == keeps_user, || format!("{name}: {context}"))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_asked_for_a_pod_is_in_that_pod() -> Result<()> {
    let asked = |part: &str| {
        [
            "nodeSelector.disk=ssd",
            "tolerations[0].key=dedicated",
            "affinity.nodeAffinity.mark=here",
            "priorityClassName=high",
            "podLabels.team=platform",
            "podAnnotations.note=kept",
            "extraEnv[0].name=MORE,PART.extraEnv[0].value=yes",
            "extraArgs[0]=--more",
            "extraVolumes[0].name=more",
            "extraVolumeMounts[0].name=more,PART.extraVolumeMounts[0].mountPath=/more",
            "resources.limits.cpu=2",
        ]
        .map(|value| format!("{part}.{}", value.replace("PART", part)))
    };
    let mut values: Vec<String> = ["operator", "runtime", "bindleServer"].into_iter().flat_map(asked).collect();
    values.extend(
        ["bindleServer.enabled=true", "imagePullSecrets[0].name=registry", "commonLabels.owner=us"].map(str::to_owned),
    );
    values.extend(["operator", "runtime"].map(|part| format!("{part}.topologySpreadConstraints[0].topologyKey=zone")));
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let objects = objects(&values).await?;
    for (name, pod) in pods(&objects) {
        let container = &pod["spec"]["containers"][0];
        for (found, wanted) in [
            (&pod["spec"]["nodeSelector"]["disk"], "ssd"),
            (&pod["spec"]["tolerations"][0]["key"], "dedicated"),
            (&pod["spec"]["affinity"]["nodeAffinity"]["mark"], "here"),
            (&pod["spec"]["priorityClassName"], "high"),
            (&pod["spec"]["imagePullSecrets"][0]["name"], "registry"),
            (&pod["metadata"]["labels"]["team"], "platform"),
            (&pod["metadata"]["labels"]["owner"], "us"),
            (&pod["metadata"]["annotations"]["note"], "kept"),
            (&container["args"][0], "--more"),
        ] {
            expect(found == wanted, || format!("{name}: {found} instead of {wanted}"))?;
        }
        let has = |list: &Value, name: &str| {
            list.as_array().into_iter().flatten().filter(|item| item["name"] == name).count() == 1
        };
        let all = has(&container["env"], "MORE")
            && has(&container["volumeMounts"], "more")
            && has(&pod["spec"]["volumes"], "more")
            && container["resources"]["limits"]["cpu"] == 2;
        expect(all, || format!("{name}: {pod:#}"))?;
        let spread = &pod["spec"]["topologySpreadConstraints"];
        let spread_right =
            spread.is_null() == (name == "bindle-server") && spread.as_array().is_none_or(|all| all.len() == 1);
        expect(spread_right && (spread.is_null() || spread[0]["topologyKey"] == "zone"), || {
            format!("{name}: {spread}")
        })?;
    }
    Ok(())
}

#[tokio::test]
async fn names_and_images_may_be_others_and_the_operator_finds_its_runtimes_all_the_same() -> Result<()> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let pinned = format!("runtime.image.digest={digest}");
    let values = ["fullnameOverride=edge", "nameOverride=wasm", "image.registry=r.example", "image.tag=v9", &pinned];
    let objects = objects(&values).await?;
    let operator = object(&objects, "Deployment", "edge-operator")?;
    let runtime = object(&objects, "Deployment", "edge-node-runtime")?;
    let image = |of| text(of, "/spec/template/spec/containers/0/image");
    expect(image(operator) == "r.example/spindle/operator:v9", || image(operator).to_owned())?;
    let expected = format!("r.example/spindle/node-runtime@{digest}");
    expect(image(runtime) == expected, || image(runtime).to_owned())?;
    let env = operator.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).context("no env")?;
    let selector = env.iter().find(|one| one["name"] == "SPINDLE_RUNTIME_SELECTOR").context("no selector")?;
    let labels = &runtime["spec"]["template"]["metadata"]["labels"];
    for pair in text(selector, "/value").split(',') {
        let (key, value) = pair.split_once('=').context("no pair")?;
        expect(labels[key] == value, || format!("{pair} is not in {labels}"))?;
    }
    // Without overrides they are what they were in every release: a selector cannot change.
    let usual = self::objects(&[]).await?;
    let usual = object(&usual, "Deployment", "x-spindle-operator")?;
    expect(usual["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "spindle", || usual.to_string())
}

#[tokio::test]
async fn budgets_are_for_what_kubernetes_can_count() -> Result<()> {
    let usual = objects(&["runtime.podDisruptionBudget.maxUnavailable=25%"]).await?;
    let budget = object(&usual, "PodDisruptionBudget", "x-spindle-node-runtime")?;
    expect(budget["spec"]["maxUnavailable"] == "25%", || budget.to_string())?;
    let never_in_the_way = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    expect(never_in_the_way, || format!("a broken pod would keep its node from being drained: {budget}"))?;
    object(&usual, "PodDisruptionBudget", "x-spindle-operator")?;
    let none = objects(&EVERYTHING).await?;
    let budgets = none.iter().filter(|object| object["kind"] == "PodDisruptionBudget").count();
    expect(budgets == 0, || "a budget for a DaemonSet, or for one operator, would only get in the way".to_owned())
}

#[tokio::test]
async fn monitors_and_policies_are_about_ports_that_pods_have() -> Result<()> {
    let objects =
        objects(&[&EVERYTHING[..], &["podMonitor.labels.release=prometheus", "podMonitor.interval=30s"]].concat())
            .await?;
    let monitor = object(&objects, "PodMonitor", "x-spindle")?;
    expect(monitor["metadata"]["labels"]["release"] == "prometheus", || monitor.to_string())?;
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    expect(endpoint["interval"] == "30s" && endpoint.get("scrapeTimeout").is_none(), || endpoint.to_string())?;
    for (name, pod) in pods(&objects).into_iter().filter(|(name, _)| *name != "bindle-server") {
        let ports = pod["spec"]["containers"][0]["ports"].as_array().context("no ports")?;
        expect(ports.iter().any(|port| port["name"] == endpoint["port"]), || format!("{name}: {ports:?}"))?;
        let policy = object(&objects, "NetworkPolicy", &format!("x-spindle-{name}"))?;
        let labels = policy["spec"]["podSelector"]["matchLabels"].as_object().context("no labels")?;
        let selects = labels.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value);
        expect(selects, || format!("{policy} does not select {}", pod["metadata"]["labels"]))?;
        let open: Vec<&Value> = policy["spec"]["ingress"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|rule| rule["ports"].as_array())
            .flatten()
            .collect();
        for port in ports {
            expect(open.iter().any(|one| one["port"] == port["containerPort"]), || {
                format!("{name}: {port} is closed")
            })?;
        }
    }
    Ok(())
}

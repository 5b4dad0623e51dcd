//! What `helm install` leaves on a cluster.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{cluster::SYSTEM, expect};

use crate::world;

#[tokio::test]
async fn helm_install_waits_until_everything_is_ready_and_an_uninstall_would_keep_every_app() -> Result<()> {
    // There is no world unless `helm upgrade --install --wait` has succeeded.
    let world = world().await?;
    let crd = world.cluster.get(&["crd", "spinapps.spindle.dev"]).await?;
    let annotation = crd.pointer("/metadata/annotations/helm.sh~1resource-policy").and_then(Value::as_str);
    expect(annotation == Some("keep"), || {
        "an uninstall would delete every app: the CRD lacks the keep policy".to_owned()
    })
}

#[tokio::test]
async fn installed_pods_are_restricted_and_runtimes_hold_no_kubernetes_credentials() -> Result<()> {
    let world = world().await?;
    // The API server itself judges: a namespace that enforces the restricted standard accepts these pods.
    let labels = [
        "label",
        "namespace",
        SYSTEM,
        "pod-security.kubernetes.io/enforce=restricted",
        "--overwrite",
        "--dry-run=server",
    ];
    let output = tests::command::run("kubectl", &labels, "").await?;
    expect(output.code == 0 && !output.stderr.contains("violate"), || output.stderr.clone())?;

    let pods = world.cluster.get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/component=node-runtime"]).await?;
    let pods = pods.get("items").and_then(Value::as_array).context("no items")?;
    expect(pods.len() >= 2, || format!("{} runtimes", pods.len()))?;
    for pod in pods {
        let spec = pod["spec"].to_string();
        for token in ["serviceAccountToken", "/var/run/secrets/kubernetes.io"] {
            expect(!spec.contains(token), || format!("a runtime has a token: {spec}"))?;
        }
        // Delay, wait and drain, and what is needed to exit.
        expect(pod["spec"]["terminationGracePeriodSeconds"] == 60, || format!("{:#}", pod["spec"]))?;
    }
    for part in ["operator", "node-runtime"] {
        let budget = world.cluster.get(&["-n", SYSTEM, "poddisruptionbudget", &format!("spindle-{part}")]).await?;
        expect(budget["spec"]["maxUnavailable"] == 1, || format!("{:#}", budget["spec"]))?;
    }
    Ok(())
}

#[tokio::test]
async fn values_that_contradict_each_other_are_refused_with_what_to_do() -> Result<()> {
    let chart = tests::cluster::checkout().join("charts/spindle").display().to_string();
    for (values, words) in [
        ("sources.ca=x", "no PEM certificate: set it with --set-file"),
        ("sources.keyring=a,sources.keyringSecret=b", "set sources.keyring or sources.keyringSecret, not both"),
        ("runtime.defaultRuntimeConfig=a,runtime.defaultRuntimeConfigSecret=b", "not both"),
        ("bindleServer.keyring=a,bindleServer.keyringSecret=b", "not both"),
        ("runtime.localPortRange=1024 60999", "begin it above 32767"),
        ("operator.extraVolumes[0].name=tmp", "the name \"tmp\" is taken"),
        ("runtime.extraVolumes[0].name=tls", "the name \"tls\" is taken"),
        ("runtime.kind=StatefulSet", "'/runtime/kind'"),
        ("runtime.replicas=many", "want integer"),
        ("runtime.drainWaitSeconds=-1", "'/runtime/drainWaitSeconds'"),
        ("runtim.replicas=3", "'runtim' not allowed"),
        ("bindleServer.extraVolumes[0].name=data", "the name \"data\" is taken"),
        ("podSecurityContext.runAsNonRoot=false", "'/podSecurityContext/runAsNonRoot'"),
        ("podSecurityContext.runAsUser=0", "'/podSecurityContext/runAsUser'"),
        ("runtime.image.digest=latest", "'/runtime/image/digest'"),
        ("podMonitor.interval=often", "'/podMonitor/interval'"),
        // Templates would fail on what is not there, in words about templates.
        ("operator=null", "missing property 'operator'"),
        ("runtime.limits=null", "'/runtime': missing property 'limits'"),
        (
            r"commonLabels.app\.kubernetes\.io/name=mine",
            "commonLabels: the label app.kubernetes.io/name is the chart's own",
        ),
        (
            r"runtime.podLabels.app\.kubernetes\.io/component=mine",
            "runtime.podLabels: the label app.kubernetes.io/component is",
        ),
    ] {
        let args = ["template", "x", &chart, "--kube-version", "1.34.4", "--set", values];
        let said = tests::command::run("helm", &args, "").await?;
        expect(said.code != 0 && said.stderr.contains(words), || {
            format!("`{values}` gave {} without `{words}`: {}", said.code, said.stderr)
        })?;
    }
    Ok(())
}

#[tokio::test]
async fn files_and_volumes_of_values_arrive_where_they_are_read() -> Result<()> {
    let chart = tests::cluster::checkout().join("charts/spindle").display().to_string();
    let authority = tempfile::NamedTempFile::new()?;
    std::fs::write(authority.path(), "-----BEGIN CERTIFICATE-----\n")?;
    let authority = format!("sources.ca={}", authority.path().display());
    let volumes =
        "extraVolumes[0].name=more,runtime.extraVolumeMounts[0].name=more,runtime.extraVolumeMounts[0].mountPath=/more";
    let volumes = format!("runtime.{volumes},sources.keyringSecret=ring");
    let args = ["template", "x", &chart, "--kube-version", "1.34.4", "--set-file", &authority, "--set", &volumes];
    let made = tests::command::succeed("helm", &args, "").await?;
    // `kubectl` reads the YAML, and the API server judges it.
    let namespace = "e2e-values";
    let world = world().await?;
    world.cluster.namespace(namespace).await?;
    let deployments: Vec<&str> = made.split("\n---\n").filter(|part| part.contains("kind: Deployment")).collect();
    expect(deployments.len() == 2, || format!("{} Deployments", deployments.len()))?;
    for (deployment, wanted) in deployments.iter().zip([
        ["SPINDLE_SOURCE_CA_FILE", "/etc/spindle/source-ca", "/more", "x-spindle-source-ca"],
        ["SPINDLE_BINDLE_CA_FILE", "/etc/spindle/source-keyring", "SPINDLE_BINDLE_KEYRING_FILE", "ring"],
    ]) {
        let args = ["-n", namespace, "apply", "--dry-run=server", "-o", "json", "-f", "-"];
        let deployment = deployment.replace("namespace: default", &format!("namespace: {namespace}"));
        let accepted = tests::command::succeed("kubectl", &args, &deployment).await?;
        let missing = wanted.iter().find(|word| !accepted.contains(*word));
        expect(missing.is_none(), || format!("no {missing:?} in: {accepted}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn generated_crds_are_what_the_chart_installs() -> Result<()> {
    let world = world().await?;
    let file = tests::cluster::checkout().join("crds");
    let diff = tests::command::run("kubectl", &["diff", "-f", &file.display().to_string()], "").await?;
    let schema_lines = diff
        .stdout
        .lines()
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"));
    // Only what Helm itself writes on its objects may differ.
    let ours: Vec<&str> = schema_lines
        .filter(|line| {
            !line.contains("helm")
                && !line.contains("generation")
                && !line.contains("annotations")
                && !line.contains("labels")
                && !line.contains("app.kubernetes.io")
        })
        .collect();
    let _same_cluster = &world.cluster;
    expect(ours.is_empty(), || ours.join("\n"))
}

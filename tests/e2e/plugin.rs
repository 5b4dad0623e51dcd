//! `kubectl spindle`, run as kubectl runs it, and going back to an earlier revision.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    cluster::{setting, spin_app},
    command, expect,
    package::{Package, guest},
    prober::{Prober, client, get},
    until,
};

use crate::{PATIENCE, world};

const NAMESPACE: &str = "e2e-plugin";

/// The plugin, under the name by which kubectl finds it.
struct Plugin {
    dir: tempfile::TempDir,
}

impl Plugin {
    fn install() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::os::unix::fs::symlink(
            PathBuf::from(setting("SPINDLE_BIN")?).join("spindle"),
            dir.path().join("kubectl-spindle"),
        )?;
        Ok(Self { dir })
    }

    async fn run(&self, args: &[&str]) -> Result<String> {
        let path = format!("{}:{}", self.dir.path().display(), setting("PATH")?);
        let path = format!("PATH={path}");
        let mut all = vec![path.as_str(), "kubectl", "spindle", "-n", NAMESPACE];
        all.extend(args);
        command::succeed("env", &all, "").await
    }
}

#[tokio::test]
async fn a_broken_update_is_explained_and_rolled_back_without_a_failed_request() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    cluster.namespace(NAMESPACE).await?;
    let (client, plugin) = (client()?, Plugin::install()?);
    for version in ["1.0.0", "2.0.0"] {
        let id = world.publish("shop", version).await?;
        cluster.apply(&spin_app(NAMESPACE, "shop", &id)).await?;
        until(version, PATIENCE, || async {
            let said = plugin.run(&["history", "shop"]).await?;
            expect(said.contains(version), || said.clone())
        })
        .await?;
    }
    let url = format!("{}/v", cluster.service_url(NAMESPACE, "shop").await?);
    let prober = Prober::start(&url, None, 100)?;

    let broken = Package::new("shop", "3.0.0", &guest("noexport.wasm")?)?;
    world.publisher.publish(cluster, &broken).await?;
    cluster.apply(&spin_app(NAMESPACE, "shop", &broken.id)).await?;
    cluster.wait(NAMESPACE, "shop", "Degraded", "True", PATIENCE).await?;
    let said = plugin.run(&["explain", "shop"]).await?;
    for part in ["shop is not ready", "Requests are answered all the same", "component `main`"] {
        expect(said.contains(part), || format!("no `{part}` in: {said}"))?;
    }

    // The broken one was never ready, so the last one that was is the second.
    plugin.run(&["rollback", "shop"]).await?;
    let app = cluster.wait(NAMESPACE, "shop", "Ready", "True", PATIENCE).await?;
    expect(app.pointer("/status/version") == Some(&Value::from("2.0.0")), || format!("{:#}", app["status"]))?;
    plugin.run(&["rollback", "shop", "--to-revision", "1"]).await?;
    until("version 1 answers again", PATIENCE, || async {
        let (status, body) = get(&client, &url, None).await?;
        expect((status, body.trim()) == (200, "1.0.0"), || format!("{status} {body}"))
    })
    .await?;
    prober.lost_nothing("broken, then rolled back twice").await?;

    let said = plugin.run(&["status", "shop"]).await?;
    expect(said.contains("RoutesProgrammed") && said.contains("1.0.0"), || said.clone())?;
    // None beside the present one is kept when the spec says so.
    let fewer = r#"{"spec": {"revisionHistoryLimit": 0}}"#;
    cluster.kubectl(&["-n", NAMESPACE, "patch", "spinapp", "shop", "--type=merge", "-p", fewer]).await?;
    until("the oldest is forgotten", PATIENCE, || async {
        let kept = cluster.get(&["-n", NAMESPACE, "controllerrevisions", "-l", "spindle.dev/app=shop"]).await?;
        let count = kept["items"].as_array().map_or(0, Vec::len);
        expect(count <= 1, || format!("{count} are kept"))
    })
    .await?;
    let said = plugin.run(&["runtimes"]).await?;
    expect(said.contains("node-runtime"), || said.clone())
}

#[tokio::test]
async fn port_forward_and_logs_reach_an_app_that_kubectl_itself_cannot() -> Result<()> {
    let world = world().await?;
    let cluster = &world.cluster;
    cluster.namespace(NAMESPACE).await?;
    let (client, plugin) = (client()?, Plugin::install()?);
    let id = world.publish("forwarded", "1.0.0").await?;
    cluster.apply(&spin_app(NAMESPACE, "forwarded", &id)).await?;
    cluster.wait(NAMESPACE, "forwarded", "Ready", "True", PATIENCE).await?;

    let binary = plugin.dir.path().join("kubectl-spindle");
    let mut forward = tokio::process::Command::new(binary)
        .args(["-n", NAMESPACE, "port-forward", "forwarded"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = forward.stdout.take().context("no output")?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
    let first = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await??.context("it said nothing")?;
    let url =
        first.split_whitespace().find(|word| word.starts_with("http://")).with_context(|| first.clone())?.to_owned();
    for _ in 0..3 {
        let (status, body) = get(&client, &format!("{url}/v"), None).await?;
        expect((status, body.trim()) == (200, "1.0.0"), || format!("{status} {body}"))?;
    }
    // The guest prints what it is asked to.
    get(&client, &format!("{url}/log?line=seen-by-the-plugin"), None).await?;
    until("the line is in the app's log", PATIENCE, || async {
        let said = plugin.run(&["logs", "forwarded"]).await?;
        expect(said.contains("main: ") && said.contains("seen-by-the-plugin"), || said.clone())
    })
    .await
}

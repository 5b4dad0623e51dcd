//! `make bench`: how long from `apply` to the first 200, beside two peers in the same run.
//!
//! | variant | what is applied |
//! |---|---|
//! | spindle | a SpinApp and an Ingress |
//! | hand-written | the Service, EndpointSlice and Ingress that an operator would write, to a server that already runs: the floor |
//! | pod | a Deployment, Service and Ingress of a static server whose image is on the node: what one pod per app costs |
//!
//! Rounds are interleaved, so that whatever else the machine does hits all alike. Times are milliseconds
//! from just before the first API write until a client that asks every few milliseconds has a 200.
//!
//! Then the first two and the change of an app are measured again with a crowd of others there: `crowd`.
//!
//! `BENCH_PARTS` (`peers crowd`) leaves one of the two out.
//!
//! Absent on purpose: assertions. A number here is printed, never tested.

mod crowd;
mod objects;
mod serve;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use objects::Variant;
use serde_json::Value;
use tests::{
    cluster::{Cluster, setting},
    package, prober,
    publisher::Publisher,
};

const NAMESPACE: &str = "bench";
const PORT: u16 = 18080;
const ROUNDS: usize = 10;

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve::forever(PORT).await;
    }
    let cluster = Cluster::from_environment().await?;
    let publisher = Publisher::new().await?;
    let roomy = ["--set", "runtime.capacity=6000", "--set", "runtime.resources.limits.memory=8Gi"];
    let installed = cluster.install(&publisher.keyring(), &roomy).await?;
    cluster.namespace(NAMESPACE).await?;
    let bundles = publish(&cluster, &publisher).await?;
    let bench = Bench { client: Client::try_default().await?, http: prober::client()?, cluster };
    // What the objects written by hand lead to.
    let _floor = serve::start(PORT).await?;
    let parts = setting("BENCH_PARTS").unwrap_or_else(|_| "peers crowd".to_owned());
    if parts.contains("peers") {
        print(&bench.peers(installed, &bundles).await?);
    }
    if parts.contains("crowd") {
        print(&crowd::measure(&bench, &bundles).await?);
    }
    Ok(())
}

/// Two versions of the hello application: what is applied, and what it is changed to.
async fn publish(cluster: &Cluster, publisher: &Publisher) -> Result<[String; 2]> {
    let wasm = package::guest("http-rust.wasm")?;
    let packages = [package::Package::new("bench", "1.0.0", &wasm)?, package::Package::new("bench", "2.0.0", &wasm)?];
    for package in &packages {
        publisher.publish(cluster, package).await?;
    }
    Ok(packages.map(|package| package.id))
}

#[expect(clippy::print_stdout, reason = "a benchmark's product is what it prints")]
fn print(text: &str) {
    println!("{text}");
}

/// Minimum, median and maximum of each row, in milliseconds.
fn render(table: &[(String, Vec<Duration>)]) -> String {
    let mut text = format!("{:<52} {:>4} {:>8} {:>8} {:>8}\n", "milliseconds", "n", "min", "median", "max");
    for (name, times) in table {
        let mut sorted: Vec<u128> = times.iter().map(Duration::as_millis).collect();
        sorted.sort_unstable();
        // Writing to a string cannot fail.
        let _infallible = match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
            (Some(min), Some(median), Some(max)) => {
                writeln!(text, "{name:<52} {:>4} {min:>8} {median:>8} {max:>8}", sorted.len())
            }
            _ => writeln!(text, "{name}"),
        };
    }
    text
}

struct Bench {
    client: Client,
    http: reqwest::Client,
    cluster: Cluster,
}

impl Bench {
    /// The table of this system and its peers.
    async fn peers(&self, installed: Duration, bundles: &[String; 2]) -> Result<String> {
        let mut table =
            vec![(format!("helm install until all Ready: {} ms (once)", installed.as_millis()), Vec::new())];
        table.extend(
            Variant::ALL
                .iter()
                .flat_map(|v| ["ingress", "ClusterIP"].map(|path| (format!("apply -> 200, {path}, {v}"), Vec::new()))),
        );
        table.push(("change -> new revision, ClusterIP, spindle".to_owned(), Vec::new()));
        for round in 0..ROUNDS {
            for (index, variant) in Variant::ALL.into_iter().enumerate() {
                let (ingress, service) = self.first_answers(variant, &format!("{variant}-{round}"), bundles).await?;
                if let Some((_, times)) = table.get_mut(1 + 2 * index) {
                    times.push(ingress);
                }
                if let Some((_, times)) = table.get_mut(2 + 2 * index) {
                    times.push(service);
                }
            }
            if let Some((_, times)) = table.last_mut() {
                times.push(self.change(&format!("spindle-{round}"), bundles).await?);
            }
            for variant in Variant::ALL {
                self.delete(variant, &format!("{variant}-{round}")).await?;
            }
        }
        Ok(render(&table))
    }

    /// Applies a variant's objects; the times until the first 200 through ingress and ClusterIP.
    async fn first_answers(&self, variant: Variant, name: &str, bundles: &[String; 2]) -> Result<(Duration, Duration)> {
        let objects = variant.objects(name, bundles.first().map_or("", String::as_str), &self.cluster.node_ip, PORT);
        let started = Instant::now();
        for object in &objects {
            self.apply(object).await?;
        }
        let host = format!("{name}.test");
        let through_ingress = self.answered(started, &self.cluster.ingress, Some(&host), None);
        let through_service = async {
            let url = self.service_url(name).await?;
            self.answered(started, &url, None, None).await
        };
        tokio::try_join!(through_ingress, through_service)
    }

    /// Changes a running app to the second bundle; the time until that one answers.
    async fn change(&self, name: &str, bundles: &[String; 2]) -> Result<Duration> {
        let url = self.service_url(name).await?;
        let started = Instant::now();
        self.apply(&objects::spin_app(name, bundles.get(1).map_or("", String::as_str))).await?;
        self.answered(started, &url, None, Some("2.0.0")).await
    }

    /// The time until `url` answers 200 (and `body`).
    async fn answered(&self, started: Instant, url: &str, host: Option<&str>, body: Option<&str>) -> Result<Duration> {
        let url = format!("{url}/v");
        while started.elapsed() < Duration::from_secs(60) {
            let answer = tokio::time::timeout(Duration::from_millis(250), prober::get(&self.http, &url, host)).await;
            if let Ok(Ok((200, seen))) = answer
                && body.is_none_or(|wanted| seen.trim() == wanted)
            {
                return Ok(started.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        bail!("no answer from {url} ({host:?}) within a minute")
    }

    async fn service_url(&self, name: &str) -> Result<String> {
        let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(self.client.clone(), NAMESPACE);
        for _attempt in 0..2_000 {
            if let Some(ip) = services.get_opt(name).await?.and_then(|service| service.spec?.cluster_ip) {
                return Ok(format!("http://{ip}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("no Service {name}")
    }

    fn api(&self, object: &Value) -> Result<(Api<DynamicObject>, String)> {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer}"));
        let (group, version) = text("/apiVersion")?.split_once('/').unwrap_or(("", text("/apiVersion")?));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("/kind")?));
        Ok((Api::namespaced_with(self.client.clone(), NAMESPACE, &resource), text("/metadata/name")?.to_owned()))
    }

    async fn apply(&self, object: &Value) -> Result<()> {
        let (api, name) = self.api(object)?;
        api.patch(&name, &PatchParams::apply("bench").force(), &Patch::Apply(object)).await?;
        Ok(())
    }

    async fn delete(&self, variant: Variant, name: &str) -> Result<()> {
        for object in variant.objects(name, "", &self.cluster.node_ip, PORT) {
            let (api, name) = self.api(&object)?;
            api.delete(&name, &DeleteParams::background()).await?;
        }
        Ok(())
    }
}

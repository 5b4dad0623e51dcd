//! The cluster that `make e2e` started, with Spindle installed on it by Helm.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::{net::TcpSocket, time::timeout};

use crate::{command, expect, until};

/// The namespace that Spindle is installed in.
pub const SYSTEM: &str = "spindle-system";

/// How long kube-proxy may take to write the rules of a Service that there is.
const ROUTED: Duration = Duration::from_secs(60);

/// A real Kubernetes. The process runs in its network namespace, so ClusterIPs and pod IPs answer.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The ingress controller's address inside the namespace: `http://host:port`.
    pub ingress: String,
    /// The node's address.
    pub node_ip: String,
    /// The cluster's name, for `spindle-cluster`.
    pub name: String,
    /// The directory of the components' logs.
    pub logs: PathBuf,
}

/// The root of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// An environment variable that the Makefile sets.
///
/// # Errors
/// When it is unset, saying what to run.
#[expect(clippy::disallowed_methods, reason = "the one place of the harness that reads the environment")]
pub fn setting(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run this through `make e2e` or `make bench`"))
}

impl Cluster {
    /// The cluster named by `SPINDLE_E2E_CLUSTER`.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub async fn from_environment() -> Result<Self> {
        let name = setting("SPINDLE_E2E_CLUSTER")?;
        let status = command::succeed("spindle-cluster", &["status", "--name", &name, "-o", "json"], "").await?;
        let status: Value = serde_json::from_str(&status)?;
        let field = |key: &str| -> Result<String> {
            Ok(status.get(key).and_then(Value::as_str).with_context(|| format!("no {key} in {status}"))?.to_owned())
        };
        Ok(Self {
            ingress: field("inside_ingress_url")?,
            node_ip: field("node_ip")?,
            name,
            logs: field("log_dir")?.into(),
        })
    }

    /// Installs or upgrades Spindle by Helm, with a Bindle server that trusts `keyring`; returns how long it
    /// took until everything was Ready.
    ///
    /// # Errors
    /// When Helm fails.
    pub async fn install(&self, keyring: &Path, extra: &[&str]) -> Result<Duration> {
        let started = Instant::now();
        let chart = checkout().join("charts/spindle");
        let keyring = format!("bindleServer.keyring={}", keyring.display());
        let chart = chart.display().to_string();
        let mut args = vec![
            "upgrade",
            "--install",
            "spindle",
            &chart,
            "--namespace",
            SYSTEM,
            "--create-namespace",
            "--set",
            "bindleServer.enabled=true",
            "--set-file",
            &keyring,
            "--wait",
            "--timeout",
            "90s",
        ];
        args.extend(extra);
        if let Err(error) = command::succeed("helm", &args, "").await {
            let pods = self.kubectl(&["-n", SYSTEM, "describe", "pods"]).await.unwrap_or_default();
            return Err(error.context(format!("after {:?}; the pods:\n{pods}", started.elapsed())));
        }
        Ok(started.elapsed())
    }

    /// `kubectl ARGS`, its standard output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        command::succeed("kubectl", args, "").await
    }

    /// `kubectl ARGS -o json`.
    ///
    /// # Errors
    /// When it fails or does not print JSON.
    pub async fn get(&self, args: &[&str]) -> Result<Value> {
        let args: Vec<&str> = std::iter::once("get").chain(args.iter().copied()).chain(["-o", "json"]).collect();
        Ok(serde_json::from_str(&self.kubectl(&args).await?)?)
    }

    /// `kubectl apply -f -` of some YAML.
    ///
    /// # Errors
    /// When the API server refuses it, with its words.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        command::succeed("kubectl", &["apply", "-f", "-"], yaml).await.map(drop)
    }

    /// What the API server says to YAML that it must refuse.
    ///
    /// # Errors
    /// When it accepts it.
    pub async fn refusal(&self, yaml: &str) -> Result<String> {
        let output = command::run("kubectl", &["apply", "-f", "-"], yaml).await?;
        expect(output.code != 0, || format!("accepted:\n{yaml}"))?;
        Ok(output.stderr)
    }

    /// A namespace for one test, made anew.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait"]).await?;
        self.kubectl(&["create", "namespace", name]).await.map(drop)
    }

    /// Waits until a SpinApp's condition has the wanted status for its newest generation, and returns the app.
    ///
    /// # Errors
    /// When it does not within `deadline`, with the last conditions seen.
    pub async fn wait(
        &self,
        namespace: &str,
        app: &str,
        condition: &str,
        status: &str,
        deadline: Duration,
    ) -> Result<Value> {
        until(&format!("{app}: {condition}={status}"), deadline, || async {
            let object = self.get(&["-n", namespace, "spinapp", app]).await?;
            let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
            let found = self::condition(&object, condition);
            let met = found.is_some_and(|found| {
                found.get("status").and_then(Value::as_str) == Some(status)
                    && found.get("observedGeneration").and_then(Value::as_i64) == generation
            });
            expect(met, || format!("status is {:#}", object.get("status").unwrap_or(&Value::Null)))?;
            Ok(object)
        })
        .await
    }

    /// The ClusterIP of a Service, as the base of a URL, as soon as it leads somewhere.
    ///
    /// # Errors
    /// When there is no such Service, or it leads nowhere.
    pub async fn service_url(&self, namespace: &str, service: &str) -> Result<String> {
        let object = self.get(&["-n", namespace, "service", service]).await?;
        let ip = object.pointer("/spec/clusterIP").and_then(Value::as_str).context("no clusterIP")?;
        let port = object.pointer("/spec/ports/0/port").and_then(Value::as_u64).context("no port")?;
        let address = SocketAddr::new(ip.parse()?, u16::try_from(port)?);
        until(&format!("kube-proxy knows {address}"), ROUTED, || routed(address)).await?;
        Ok(format!("http://{ip}"))
    }
}

/// Whether connections to `address` are sent to endpoints, or refused for want of them.
///
/// One that is made before kube-proxy has written its rules goes to the address itself, where nobody is, and the kernel
/// remembers for two minutes that connections from that port do: another one, made from it by chance, would be lost. So
/// these are made from ports that nobody is given by chance.
async fn routed(address: SocketAddr) -> Result<()> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::UNSPECIFIED, own).into())?;
    match timeout(Duration::from_millis(250), socket.connect(address)).await? {
        Err(error) if error.kind() != ErrorKind::ConnectionRefused => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// One condition of an object.
#[must_use]
pub fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object
        .pointer("/status/conditions")?
        .as_array()?
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(name))
}

/// The YAML of a SpinApp that runs `bundle`.
#[must_use]
pub fn spin_app(namespace: &str, name: &str, bundle: &str) -> String {
    format!(
        "apiVersion: spindle.dev/v1alpha1
kind: SpinApp
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  source: {{ bindle: {{ id: {bundle} }} }}
  replicas: 2
"
    )
}

/// The YAML of an Ingress that leads from host `NAME.test` to the app `name`.
///
/// To be applied when the app is Ready: Contour may miss endpoints that come while it takes in a new Ingress
/// (`docs/decisions/0067-ingress-controllers-that-miss-endpoints.md`).
#[must_use]
pub fn ingress(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  rules:
    - host: {name}.test
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {{ service: {{ name: {name}, port: {{ number: 80 }} }} }}
"
    )
}

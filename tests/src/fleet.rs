//! The installation's own pods, as tests of faults need them: who is sent an app's requests, who leads, and how a
//! process is ended without a word.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{
    cluster::{Cluster, SYSTEM},
    command, expect,
};

/// The label selector of runtimes' pods.
pub const RUNTIMES: &str = "app.kubernetes.io/component=node-runtime";

/// The label selector of operators' pods.
pub const OPERATORS: &str = "app.kubernetes.io/component=operator";

/// One endpoint of an app, as a slice has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The runtime's pod.
    pub pod: String,
    /// Its address.
    pub address: String,
    /// Its node.
    pub node: String,
    /// The node's zone; empty without one.
    pub zone: String,
    /// Whether it is sent new requests.
    pub ready: bool,
    /// Whether it could answer them.
    pub serving: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
}

impl Cluster {
    /// The endpoints of an app, ready or not.
    ///
    /// # Errors
    /// When the slices cannot be read.
    pub async fn endpoints(&self, namespace: &str, app: &str) -> Result<Vec<Endpoint>> {
        let selector = format!("kubernetes.io/service-name={app}");
        let slices = self.get(&["-n", namespace, "endpointslices", "-l", &selector]).await?;
        Ok(items(&slices).iter().flat_map(endpoints_of).collect())
    }

    /// The installation's pods of a label selector that are not on their way out.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Value>> {
        let pods = self.get(&["-n", SYSTEM, "pods", "-l", selector]).await?;
        let stays = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
        Ok(items(&pods).iter().filter(stays).cloned().collect())
    }

    /// The pod that holds the lease of operators; nobody after a release.
    ///
    /// # Errors
    /// When the lease cannot be read.
    pub async fn leader(&self) -> Result<Option<String>> {
        let lease = self.get(&["-n", SYSTEM, "lease", "spindle-operator"]).await?;
        let holder = lease.pointer("/spec/holderIdentity").and_then(Value::as_str);
        Ok(holder.filter(|holder| !holder.is_empty()).map(str::to_owned))
    }

    /// A command of `spindle-cluster` about one component of the cluster, such as `restart-component kube-apiserver`.
    ///
    /// # Errors
    /// When it fails.
    pub async fn component(&self, verb: &str, component: &str) -> Result<()> {
        command::succeed("spindle-cluster", &[verb, "--name", &self.name, component], "").await.map(drop)
    }

    /// The names of the nodes.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn nodes(&self) -> Result<Vec<String>> {
        Ok(items(&self.get(&["nodes"]).await?).iter().map(name_of).collect())
    }

    /// What the installation's containers of a label selector have logged since they were started.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn logs(&self, selector: &str) -> Result<String> {
        self.kubectl(&["-n", SYSTEM, "logs", "-l", selector, "--tail=-1", "--max-log-requests=20"]).await
    }
}

/// The items of a list.
#[must_use]
pub fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// An object's name.
#[must_use]
pub fn name_of(object: &Value) -> String {
    text(object, "/metadata/name")
}

/// How often an installation's pod's container was started again.
#[must_use]
pub fn restarts(pod: &Value) -> u64 {
    pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64).unwrap_or_default()
}

/// Whether a pod is ready.
#[must_use]
pub fn is_ready(pod: &Value) -> bool {
    crate::cluster::condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn endpoints_of(slice: &Value) -> Vec<Endpoint> {
    let endpoints = slice.get("endpoints").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is = |endpoint: &Value, name: &str| endpoint.pointer(name) == Some(&Value::Bool(true));
    let endpoint = |endpoint: &Value| Endpoint {
        pod: text(endpoint, "/targetRef/name"),
        address: text(endpoint, "/addresses/0"),
        node: text(endpoint, "/nodeName"),
        zone: text(endpoint, "/zone"),
        ready: is(endpoint, "/conditions/ready"),
        serving: is(endpoint, "/conditions/serving"),
        terminating: is(endpoint, "/conditions/terminating"),
    };
    endpoints.iter().map(endpoint).collect()
}

/// Ends the process of a pod of the installation with SIGKILL, as the kernel does when memory is out.
///
/// # Errors
/// When there is no such process.
pub async fn kill(pod: &str) -> Result<()> {
    let process = process_of(pod).with_context(|| format!("no process of the pod {pod}"))?;
    let pid = process.file_name().and_then(|pid| pid.to_str()).context("no process id")?.to_owned();
    command::succeed("kill", &["-KILL", &pid], "").await.map(drop)
}

/// The directory in `/proc` of the process of a pod, which has the pod's name in its environment.
fn process_of(pod: &str) -> Option<PathBuf> {
    let mark = format!("POD_NAME={pod}");
    let is_marked = |process: &PathBuf| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path()).find(is_marked)
}

/// Everything that happens to an app's slices while something goes on.
#[derive(Debug)]
pub struct SliceWatch {
    process: Child,
    output: JoinHandle<std::io::Result<Vec<u8>>>,
}

impl SliceWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    #[expect(clippy::disallowed_methods, reason = "the task is owned: `stop` joins it")]
    pub fn start(namespace: &str, app: &str) -> Result<Self> {
        let selector = format!("kubernetes.io/service-name={app}");
        let mut process = Command::new("kubectl")
            .args([
                "-n",
                namespace,
                "get",
                "endpointslices",
                "-l",
                &selector,
                "--watch",
                "--output-watch-events",
                "-o",
                "json",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdout = process.stdout.take().context("no output")?;
        let output = tokio::spawn(async move {
            let mut all = Vec::new();
            stdout.read_to_end(&mut all).await.map(|_| all)
        });
        Ok(Self { process, output })
    }

    /// Ends it: the endpoints of a slice after each change, in order.
    ///
    /// # Errors
    /// When nothing was seen.
    pub async fn stop(mut self) -> Result<Vec<Vec<Endpoint>>> {
        self.process.kill().await?;
        let all = self.output.await??;
        let events = serde_json::Deserializer::from_slice(&all).into_iter::<Value>();
        // The last one may have been cut.
        let seen: Vec<Vec<Endpoint>> = events
            .map_while(std::result::Result::ok)
            .filter_map(|event| Some(endpoints_of(event.get("object")?)))
            .collect();
        expect(!seen.is_empty(), || "the watch of slices saw nothing".to_owned())?;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_conditions_or_zone_is_not_ready() {
        let slice = serde_json::json!({ "endpoints": [{ "addresses": ["10.0.0.1"], "targetRef": { "name": "r1" } }] });
        let found = endpoints_of(&slice);
        assert_eq!((found[0].pod.as_str(), found[0].ready, found[0].zone.as_str()), ("r1", false, ""));
    }

    #[test]
    fn a_process_is_found_by_its_whole_pod_name_and_no_part_of_it() {
        assert_eq!(process_of("no-pod-has-this-name-0"), None);
    }
}

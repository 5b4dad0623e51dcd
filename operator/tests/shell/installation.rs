//! A whole operator, as its process runs it, with runtimes that speak the real protocol and an API server that a test
//! commands.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use clap::Parser as _;
use control::Problem;
use daemon::Tasks;
use futures::future::BoxFuture;
use manifest::{Application, Digest};
use operator::{
    api_server::{ApiServer, Patience},
    config::{Args, Config},
    operator::{Operator, Outside},
    pki::RUNTIME_SECRET,
    resolve::{Answer, Oracle, Question},
    runtimes::Timings,
};
use rustls::ServerConfig;
use serde_json::{Value, json};
use test_services::free_port;
use tokio::runtime::{Builder, Runtime};

use crate::{
    api::{Api, Seen},
    peer::{pod, secret_config},
    simulated::Simulated,
};

pub(crate) const APPS: &str = "/apis/spindle.dev/v1alpha1/namespaces/shop/spinapps";
pub(crate) const SERVICES: &str = "/api/v1/namespaces/shop/services";
pub(crate) const PODS: &str = "/api/v1/namespaces/spindle/pods";

/// What the threads of operators that have their own are called.
pub(crate) const THREADS: &str = "operator";

/// How long a test waits for what must happen: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// For an API server that is on the same machine.
pub(crate) const QUICK: Patience = Patience {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(3),
    silence: Duration::from_secs(2),
    watch: Duration::from_secs(1),
};

/// Every bundle exists, and is an application of its name.
struct Bundles;

impl Oracle for Bundles {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, Problem>> {
        Box::pin(async move {
            let application = json!({ "name": question.id, "routes": [], "components": {} }).to_string();
            let application = Application::from_json(application.as_bytes()).unwrap();
            Ok(Answer { application, digest: Digest::of(question.id.as_bytes()) })
        })
    }
}

/// An installation.
pub(crate) struct Installation {
    pub(crate) api: Arc<Api>,
    pub(crate) runtimes: Vec<Simulated>,
    pub(crate) port: u16,
    tls: Option<Arc<ServerConfig>>,
    patience: Patience,
}

/// One operator of an installation; stops when it is dropped.
pub(crate) struct Replica {
    pub(crate) operator: Operator,
    tasks: Tasks,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

impl Replica {
    /// Stops it as a signal would.
    pub(crate) async fn stop(&self) {
        self.tasks.stop(PATIENCE).await.unwrap();
    }
}

/// An operator on threads of its own.
pub(crate) struct Apart {
    threads: Option<Runtime>,
    pub(crate) replica: Replica,
}

impl Apart {
    /// Stops its only thread, as SIGSTOP would, until what is returned is dropped.
    pub(crate) fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, frozen) = mpsc::channel::<()>();
        let (stops, stopped) = mpsc::channel();
        self.threads.as_ref().unwrap().spawn(async move {
            stops.send(()).unwrap();
            let _thawed = frozen.recv();
        });
        stopped.recv().unwrap();
        thaw
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl Installation {
    /// An API server with nothing but a node, asked with `patience`.
    pub(crate) async fn new(patience: Patience) -> Self {
        let api = Arc::new(Api::start().await);
        let zone = json!({ "topology.kubernetes.io/zone": "z1" });
        api.put("/api/v1/nodes/n1", json!({ "metadata": { "name": "n1", "labels": zone } }));
        Self { api, runtimes: Vec::new(), port: free_port(), tls: None, patience }
    }

    /// With an operator and so many runtimes.
    pub(crate) async fn with_runtimes(count: u8) -> (Self, Replica) {
        let mut installation = Self::new(QUICK).await;
        let operator = installation.operator("operator-0");
        installation.add_runtimes(count).await;
        (installation, operator)
    }

    /// So many more runtimes, all of which an operator that leads has reached before apps are made: one that comes later
    /// takes apps from the others.
    pub(crate) async fn add_runtimes(&mut self, count: u8) {
        for _ in 0..count {
            self.add_runtime().await;
        }
        let compared = || self.runtimes.iter().all(|runtime| runtime.heard().synced > 0).then_some(());
        until("all runtimes to be connected", compared).await;
    }

    /// Starts an operator.
    pub(crate) fn operator(&self, name: &str) -> Replica {
        let port = self.port.to_string();
        let flags = ["--namespace", "spindle", "--pod-name", name, "--control-port", &port];
        let flags =
            flags.iter().chain(&["--default-bindle-server", "http://bindle/v1", "--runtime-selector", "of=spindle"]);
        let config =
            Config::try_from(Args::try_parse_from(std::iter::once(&"operator").chain(flags)).unwrap()).unwrap();
        let api = ApiServer::new(self.api.config(), self.patience).unwrap();
        let outside = Outside { api, oracle: Arc::new(Bundles), timings: Timings::default() };
        let tasks = Tasks::new("operator");
        let operator = Operator::start(&config, &outside, &prometheus::Registry::new(), &tasks).unwrap();
        Replica { operator, tasks }
    }

    /// Starts an operator on so many threads of its own.
    pub(crate) fn apart(&self, name: &str, threads: usize) -> Apart {
        let threads = Builder::new_multi_thread().worker_threads(threads).thread_name(THREADS).enable_all().build();
        let threads = threads.unwrap();
        let replica = {
            let _here = threads.enter();
            self.operator(name)
        };
        Apart { threads: Some(threads), replica }
    }

    /// Waits until nothing has been written about apps, nor any runtime been told anything, for a while.
    pub(crate) async fn at_rest(&self) {
        let so_far = || (self.api.count(Seen::is_write), self.messages());
        let mut before = so_far();
        let mut still = 0;
        while still < 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = so_far();
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
    }

    /// One more runtime, whose pod is ready.
    pub(crate) async fn add_runtime(&mut self) {
        let number = u8::try_from(self.runtimes.len() + 1).unwrap();
        let tls = self.tls().await;
        let runtime = Simulated::start(format!("r{number}"), number, self.port, tls).await;
        let mut object = serde_json::to_value(pod(&runtime.name, "", runtime.peer_address.ip())).unwrap();
        object["metadata"] = json!({ "name": runtime.name, "namespace": "spindle", "labels": { "of": "spindle" } });
        self.api.put(&format!("{PODS}/{}", runtime.name), object);
        self.runtimes.push(runtime);
    }

    /// What runtimes prove with who they are: from the Secret that the operator makes.
    async fn tls(&mut self) -> Arc<ServerConfig> {
        if let Some(tls) = &self.tls {
            return Arc::clone(tls);
        }
        let path = format!("/api/v1/namespaces/spindle/secrets/{RUNTIME_SECRET}");
        let secret = self.until("the runtimes' Secret", |api| api.get(&path)).await;
        let tls = secret_config(&serde_json::from_value(secret).unwrap());
        Arc::clone(self.tls.insert(tls))
    }

    /// Asks the API server, each time something else had its turn, until there is an answer.
    pub(crate) async fn until<T>(&self, what: &str, ask: impl Fn(&Api) -> Option<T>) -> T {
        until(what, || ask(&self.api)).await
    }

    /// Applies an app as a user would.
    pub(crate) fn apply(&self, name: &str, version: &str) {
        self.api.put(&format!("{APPS}/{name}"), app(name, version));
    }

    /// Changes an app's bundle as a user would.
    pub(crate) fn update(&self, name: &str, version: &str) {
        self.api.edit(&format!("{APPS}/{name}"), |app| app["spec"] = spec(version));
    }

    /// The app's condition `Ready` for its newest generation: status and message.
    pub(crate) fn ready(&self, name: &str) -> Option<(String, String)> {
        ready(&self.api.get(&format!("{APPS}/{name}"))?)
    }

    /// Waits until the app's newest generation is ready.
    pub(crate) async fn becomes_ready(&self, name: &str) {
        let path = format!("{APPS}/{name}");
        let ready = || self.ready(name).filter(|(status, _)| status == "True");
        let found = tokio::time::timeout(PATIENCE, until("readiness", ready)).await;
        assert!(found.is_ok(), "{name} should be ready by now: {:#}", self.api.get(&path).unwrap_or_default());
    }

    /// The runtimes that have been given the app.
    pub(crate) fn holders(&self, name: &str) -> Vec<&Simulated> {
        let key = crate::peer::app(name);
        self.runtimes.iter().filter(|runtime| runtime.heard().assigned.contains_key(&key)).collect()
    }

    /// The messages about apps to all runtimes so far.
    pub(crate) fn messages(&self) -> usize {
        self.runtimes.iter().map(Simulated::messages).sum()
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    until_within(PATIENCE * 2, Duration::from_millis(5), what, ask).await
}

/// Asks again after each `pause` until there is an answer, for as long as `patience` lasts.
pub(crate) async fn until_within<T>(patience: Duration, pause: Duration, what: &str, ask: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = ask() {
                return found;
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::time::timeout(patience, found).await.unwrap_or_else(|_| panic!("it should have come by now: {what}"))
}

fn spec(version: &str) -> Value {
    json!({ "source": { "bindle": { "id": format!("shop/{version}") } }, "replicas": 2 })
}

pub(crate) fn app(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "spindle.dev/v1alpha1", "kind": "SpinApp",
        "metadata": { "namespace": "shop", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": spec(version),
    })
}

pub(crate) fn ready(app: &Value) -> Option<(String, String)> {
    let conditions = app["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (ready["observedGeneration"] == app["metadata"]["generation"]).then(|| (text("status"), text("message")))
}

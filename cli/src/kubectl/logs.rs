//! `kubectl spindle logs`: the lines of an app's guests, from every runtime that serves it.
//!
//! Runtimes print guests' lines among their own, as JSON with the fields `namespace`, `app`, `component`, `revision` and
//! `stream`. With `--follow`, runtimes that join are followed too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use serde_json::Value;
use tokio::{sync::mpsc, task::AbortHandle, task::JoinSet};

use super::{Place, app};

/// The container of a runtime's pod.
const CONTAINER: &str = "node-runtime";
/// How often to look for runtimes that joined.
const LOOK: Duration = Duration::from_secs(2);
/// How many lines may wait to be printed.
const AHEAD: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The name of the SpinApp
    #[arg(value_name = "APP")]
    app: String,

    /// Go on printing what comes
    #[arg(short, long)]
    follow: bool,

    /// Only lines of this component
    #[arg(short, long, value_name = "COMPONENT")]
    component: Option<String>,

    /// Only lines that are at most so many seconds old
    #[arg(long, value_name = "SECONDS")]
    since: Option<i64>,

    /// How many of the last lines of each runtime to look at [default: all]
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,

    /// How to print a line
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Runtime, component and text
    Text,
    /// As the runtime prints it
    Json,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what the command is for")]
pub(super) async fn run(place: Place, args: LogsArgs) -> anyhow::Result<()> {
    app::get(&place, &args.app).await?;
    let (sender, mut lines) = mpsc::channel(AHEAD);
    let mut readers = Readers { place: place.clone(), args, sender, running: BTreeMap::new(), tasks: JoinSet::new() };
    if readers.look().await? == 0 && !readers.args.follow {
        eprintln!("No runtime serves {0} now: `kubectl spindle explain {0}` says why.", readers.args.app);
        return Ok(());
    }
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            Some(line) = lines.recv() => println!("{line}"),
            Some(ended) = readers.tasks.join_next() => {
                if let Ok((pod, Err(error))) = ended {
                    eprintln!("{pod}: {error:#}");
                }
                if readers.tasks.is_empty() && !readers.args.follow {
                    break;
                }
            }
            _ = look.tick(), if readers.args.follow => {
                readers.look().await?;
            }
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
        }
    }
    while let Ok(line) = lines.try_recv() {
        println!("{line}");
    }
    Ok(())
}

/// One task per runtime.
struct Readers {
    place: Place,
    args: LogsArgs,
    sender: mpsc::Sender<String>,
    running: BTreeMap<(String, String), AbortHandle>,
    tasks: JoinSet<(String, anyhow::Result<()>)>,
}

impl Readers {
    /// Reads from runtimes that are not read from yet; how many serve the app.
    async fn look(&mut self) -> anyhow::Result<usize> {
        let serving = app::serving(&self.place, &self.args.app).await?;
        let pods: BTreeSet<(String, String)> = serving.into_iter().map(|one| (one.namespace, one.pod)).collect();
        self.running.retain(|_, task| !task.is_finished());
        for pod in &pods {
            if self.running.contains_key(pod) {
                continue;
            }
            let filter = Filter::of(&self.place.namespace, &self.args);
            let api: Api<Pod> = Api::namespaced(self.place.client.clone(), &pod.0);
            let params = LogParams {
                container: Some(CONTAINER.to_owned()),
                follow: self.args.follow,
                since_seconds: self.args.since,
                tail_lines: self.args.tail,
                ..LogParams::default()
            };
            let (name, sender) = (pod.1.clone(), self.sender.clone());
            let task = self.tasks.spawn(async move {
                let result = read(&api, &name, &params, &filter, &sender).await;
                (name, result)
            });
            self.running.insert(pod.clone(), task);
        }
        Ok(pods.len())
    }
}

async fn read(
    api: &Api<Pod>,
    pod: &str,
    params: &LogParams,
    filter: &Filter,
    sender: &mpsc::Sender<String>,
) -> anyhow::Result<()> {
    let mut lines = api.log_stream(pod, params).await.context("cannot read its log")?.lines();
    while let Some(line) = lines.try_next().await.context("its log has broken off")? {
        if let Some(line) = filter.line(pod, &line)
            && sender.send(line).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

/// Which lines, and how they are printed.
#[derive(Debug)]
struct Filter {
    namespace: String,
    app: String,
    component: Option<String>,
    output: Output,
}

impl Filter {
    fn of(namespace: &str, args: &LogsArgs) -> Self {
        Self {
            namespace: namespace.to_owned(),
            app: args.app.clone(),
            component: args.component.clone(),
            output: args.output,
        }
    }

    /// What to print of a runtime's line: nothing unless it is a guest's of the app.
    fn line(&self, pod: &str, line: &str) -> Option<String> {
        let parsed: Value = serde_json::from_str(line).ok()?;
        // Fields are at the top, or below `fields`, depending on the log's format.
        let field = |name: &str| {
            let found = parsed.get(name).or_else(|| parsed.get("fields")?.get(name));
            found.and_then(Value::as_str)
        };
        let component = field("component")?;
        let ours = field("stream").is_some()
            && field("namespace") == Some(&self.namespace)
            && field("app") == Some(&self.app)
            && self.component.as_deref().is_none_or(|wanted| wanted == component);
        if !ours {
            return None;
        }
        match self.output {
            Output::Json => Some(line.to_owned()),
            Output::Text => Some(format!("{pod} {component}: {}", field("message").unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(component: Option<&str>, output: Output) -> Filter {
        Filter { namespace: "demo".to_owned(), app: "shop".to_owned(), component: component.map(str::to_owned), output }
    }

    const LINE: &str = r#"{"timestamp":"t","level":"INFO","fields":{"message":"hello","namespace":"demo","app":"shop","component":"web","revision":"r","stream":"stdout"},"target":"guest"}"#;

    #[test]
    fn only_lines_of_the_apps_guests_are_printed() {
        assert_eq!(filter(None, Output::Text).line("r1", LINE).as_deref(), Some("r1 web: hello"));
        assert_eq!(filter(Some("web"), Output::Json).line("r1", LINE).as_deref(), Some(LINE));
        assert_eq!(filter(Some("api"), Output::Text).line("r1", LINE), None);
        assert_eq!(filter(None, Output::Text).line("r1", &LINE.replace("shop", "cart")), None);
        assert_eq!(filter(None, Output::Text).line("r1", &LINE.replace("demo", "prod")), None);
        assert_eq!(filter(None, Output::Text).line("r1", "no JSON"), None);
        assert_eq!(filter(None, Output::Text).line("r1", r#"{"message":"the runtime's own","app":"shop"}"#), None);
    }
}

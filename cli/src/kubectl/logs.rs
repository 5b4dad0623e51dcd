//! `kubectl spindle logs`: the lines of an app's guests, from every runtime that serves it.
//!
//! Runtimes print guests' lines among their own, as JSON with the fields `namespace`, `app`, `component`, `revision` and
//! `stream`. With `--follow`, runtimes that join are followed too, and one whose log breaks off is taken up where it did.

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
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{Place, app, output};

/// The container of a runtime's pod.
const CONTAINER: &str = "node-runtime";
/// How often to look for runtimes that joined.
const LOOK: Duration = Duration::from_secs(2);
/// How many lines may wait to be printed.
const AHEAD: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The name of the SpinApp
    #[arg(value_name = "APP", value_parser = app::name)]
    app: String,

    /// Go on printing what comes
    #[arg(short, long)]
    follow: bool,

    /// Only lines of this component
    #[arg(short, long, value_name = "COMPONENT")]
    component: Option<String>,

    /// Only lines that are at most this old: `30s`, `5m`, `1h30m`; a number alone is seconds
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    since: Option<i64>,

    /// How many of the last lines of each runtime to look at, of all its apps; -1 is all [default: all]
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
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

/// Seconds from a duration as `kubectl logs --since` has it.
fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no duration: write one such as 30s, 5m or 1h30m");
    let (mut sum, mut number) = (0_i64, String::new());
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let count: i64 = std::mem::take(&mut number).parse().map_err(|_| wrong())?;
        sum = count.checked_mul(unit).and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
    }
    match number.as_str() {
        "" => (!text.is_empty()).then_some(sum).ok_or_else(wrong),
        // Only where it stands alone is it clear what it counts.
        number if number == text => number.parse().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

#[expect(clippy::print_stderr, reason = "what the command is for")]
pub(super) async fn run(place: Place, args: LogsArgs) -> anyhow::Result<()> {
    app::get(&place, &args.app).await?;
    let (sender, mut lines) = mpsc::channel(AHEAD);
    let mut readers = Readers { place: place.clone(), args, sender, logs: BTreeMap::new(), tasks: JoinSet::new() };
    if readers.look().await? == 0 && !readers.args.follow {
        eprintln!("No runtime serves {0} now: `kubectl spindle explain {0}` says why.", readers.args.app);
        return Ok(());
    }
    let (mut look, mut lost) = (tokio::time::interval(LOOK), false);
    loop {
        tokio::select! {
            Some(line) = lines.recv() => if !output::print(&line)? {
                return Ok(());
            },
            Some(ended) = readers.tasks.join_next() => {
                if let Ok(ended) = ended
                    && let Some(problem) = readers.note(ended)
                {
                    eprintln!("{problem}");
                }
                if readers.tasks.is_empty() && !readers.args.follow {
                    break;
                }
            }
            _ = look.tick(), if readers.args.follow => {
                let looked = readers.look().await;
                if let Err(error) = looked.as_ref().map_err(output::told)
                    && !lost
                {
                    eprintln!("error: {error}; trying again");
                }
                lost = looked.is_err();
            }
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
        }
    }
    while let Ok(line) = lines.try_recv() {
        if !output::print(&line)? {
            break;
        }
    }
    Ok(())
}

/// A runtime's pod: namespace and name.
type PodKey = (String, String);

/// How a runtime's log stands.
#[derive(Debug, Default)]
struct Log {
    /// Whether it is being read.
    open: bool,
    /// Until when it was read before.
    read_until: Option<Instant>,
    /// Whether it could not be read the last time, which was said.
    unreadable: bool,
}

/// How a reader ended.
struct Ended {
    pod: PodKey,
    /// Whether there was a log to read.
    began: bool,
    result: anyhow::Result<()>,
}

/// One task per runtime.
struct Readers {
    place: Place,
    args: LogsArgs,
    sender: mpsc::Sender<String>,
    logs: BTreeMap<PodKey, Log>,
    tasks: JoinSet<Ended>,
}

impl Readers {
    /// Reads from runtimes that are not read from yet; how many serve the app.
    async fn look(&mut self) -> anyhow::Result<usize> {
        let serving = app::serving(&self.place, &self.args.app).await?;
        let pods: BTreeSet<PodKey> = serving.into_iter().map(|one| (one.namespace, one.pod)).collect();
        for pod in &pods {
            let log = self.logs.entry(pod.clone()).or_default();
            if std::mem::replace(&mut log.open, true) {
                continue;
            }
            let params = params(&self.args, log);
            let filter = Filter::of(&self.place.namespace, &self.args);
            let api: Api<Pod> = Api::namespaced(self.place.client.clone(), &pod.0);
            let (pod, sender) = (pod.clone(), self.sender.clone());
            self.tasks.spawn(async move {
                let mut began = false;
                let result = read(&api, &pod.1, &params, &filter, &sender, &mut began).await;
                Ended { pod, began, result }
            });
        }
        Ok(pods.len())
    }

    /// Notes how a reader ended; what to say of it, once as long as it stays so.
    fn note(&mut self, ended: Ended) -> Option<String> {
        let name = ended.pod.1.clone();
        let log = self.logs.entry(ended.pod).or_default();
        log.open = false;
        if ended.began {
            log.read_until = Some(Instant::now());
        }
        let was_said = std::mem::replace(&mut log.unreadable, !ended.began) && !ended.began;
        let problem = ended.result.err().filter(|_| !was_said)?;
        Some(format!("{name}: {}", output::told(&problem)))
    }
}

/// What to ask for of a log: all that is wanted, or what has come since it broke off.
fn params(args: &LogsArgs, log: &Log) -> LogParams {
    let (since_seconds, tail_lines) = match log.read_until {
        // Counted by the node's clock, in whole seconds: a line may come twice, and none is missed.
        Some(ended) => (i64::try_from(ended.elapsed().as_secs() + 1).ok(), None),
        None => (args.since, args.tail.filter(|lines| *lines >= 0)),
    };
    let container = Some(CONTAINER.to_owned());
    LogParams { container, follow: args.follow, since_seconds, tail_lines, ..LogParams::default() }
}

/// Reads a log to its end; `began` says whether there was one.
async fn read(
    api: &Api<Pod>,
    pod: &str,
    params: &LogParams,
    filter: &Filter,
    sender: &mpsc::Sender<String>,
    began: &mut bool,
) -> anyhow::Result<()> {
    let mut lines = api.log_stream(pod, params).await.context("cannot read its log")?.lines();
    *began = true;
    while let Some(line) = lines.try_next().await.context("its log has broken off")? {
        if let Some(line) = filter.line(pod, &line)
            && sender.send(line + "\n").await.is_err()
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
        let field = |name: &str| parsed.get(name).and_then(Value::as_str);
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

    const LINE: &str = r#"{"timestamp":"t","level":"INFO","namespace":"demo","app":"shop","component":"web","revision":"r","stream":"stdout","message":"hello"}"#;

    fn args(more: &[&str]) -> LogsArgs {
        let command = LogsArgs::augment_args(clap::Command::new("logs").no_binary_name(true));
        let found = command.try_get_matches_from(["shop"].iter().chain(more)).unwrap();
        clap::FromArgMatches::from_arg_matches(&found).unwrap()
    }

    #[test]
    fn durations_are_those_of_kubectl_and_a_number_alone_is_seconds() {
        for (text, expected) in [("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5_400)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for wrong in ["", "m", "-5", "1h30", "1d", "99999999999999999999", "9999999999999999h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_that_broke_off_is_not_read_from_its_beginning_again() {
        let mut log = Log::default();
        let all = params(&args(&["--tail", "-1"]), &log);
        assert_eq!((all.since_seconds, all.tail_lines), (None, None));
        let some = params(&args(&["--tail", "7", "--since", "1m", "-f"]), &log);
        assert_eq!((some.follow, some.since_seconds, some.tail_lines), (true, Some(60), Some(7)));
        log.read_until = Some(Instant::now());
        let rest = params(&args(&["--tail", "7", "--since", "1h", "-f"]), &log);
        assert!(rest.tail_lines.is_none() && rest.since_seconds.is_some_and(|seconds| seconds < 60), "{rest:?}");
    }

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

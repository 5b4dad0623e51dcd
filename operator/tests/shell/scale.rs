//! Many apps on a hundred runtimes: what one change costs, in writes to the API server and in messages to runtimes.
//!
//! `SPINDLE_SCALE_APPS` sets how many apps (the default is for a test; `tests/bench.sh operator` takes 5,000), and what
//! it took is printed; times are never asserted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use crate::{
    api::{Api, Seen},
    installation::{APPS, Installation, PODS, THREADS, app, ready, until_within},
    simulated::Simulated,
};
use serde_json::Value;

const RUNTIMES: u8 = 100;
const REPLICAS: usize = 2;

fn apps() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the size of a measurement")]
    let set = std::env::var("SPINDLE_SCALE_APPS").ok();
    set.map_or(300, |count| count.parse().unwrap())
}

fn name(number: usize) -> String {
    format!("app-{number:05}")
}

/// The processor time that the operator's threads have taken so far.
fn processor_time() -> Duration {
    let mut ticks = 0;
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        if head.ends_with(THREADS) {
            let fields: Vec<&str> = tail.split_whitespace().collect();
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    // The kernel counts hundredths of a second for everybody.
    Duration::from_millis(ticks * 10)
}

/// Waits until the operator computes next to nothing: looking at every app once more writes nothing, but would be counted with
/// what comes next. An operator that never rests is measured as it is.
async fn idle() {
    let started = Instant::now();
    let mut before = processor_time();
    while started.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = processor_time();
        if now.saturating_sub(before) <= Duration::from_millis(30) {
            return;
        }
        before = now;
    }
}

/// What one phase took.
struct Phase<'a> {
    installation: &'a Installation,
    messages: usize,
    started: Instant,
    processor: Duration,
}

impl<'a> Phase<'a> {
    async fn begin(installation: &'a Installation) -> Self {
        idle().await;
        installation.api.take_seen();
        let messages = installation.messages();
        Self { installation, messages, started: Instant::now(), processor: processor_time() }
    }

    /// How many messages runtimes have got so far.
    fn messages(&self) -> usize {
        self.installation.messages() - self.messages
    }

    /// The writes about each app, and how many messages runtimes got.
    fn end(self, what: &str) -> (BTreeMap<String, usize>, usize) {
        let messages = self.messages();
        let mut writes = BTreeMap::new();
        for seen in self.installation.api.take_seen().into_iter().filter(Seen::is_write) {
            let about = seen.path.find("app-").map_or("events", |at| &seen.path[at..at + 9]);
            *writes.entry(about.to_owned()).or_default() += 1;
        }
        let count: usize = writes.values().sum();
        let processor = processor_time().saturating_sub(self.processor);
        println!(
            "{what:<46} {:>8.1?} {processor:>10.1?} cpu {count:>7} writes {messages:>7} messages",
            self.started.elapsed()
        );
        (writes, messages)
    }
}

async fn until(what: &str, ask: impl Fn() -> bool) {
    let patience = Duration::from_secs(100) + Duration::from_millis(100) * u32::try_from(apps()).unwrap();
    // Asking about every app takes a while.
    until_within(patience, Duration::from_millis(50), what, || ask().then_some(())).await;
}

fn all_ready(api: &Api) -> bool {
    let is_ready = |app: &Value| ready(app).is_some_and(|(status, _)| status == "True");
    (0..apps()).rev().all(|number| api.get(&format!("{APPS}/{}", name(number))).as_ref().is_some_and(is_ready))
}

fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_costs_a_few_writes_and_messages_however_many_apps_and_runtimes_there_are() {
    let mut installation = Installation::new(operator::api_server::Patience::default()).await;
    let first = installation.apart("operator-0", 2);
    for _ in 0..RUNTIMES {
        installation.add_runtime().await;
    }
    until("all runtimes to be connected", || installation.runtimes.iter().all(|runtime| runtime.heard().synced > 0))
        .await;
    println!("{} apps, {RUNTIMES} runtimes; API server, runtimes and operator together have {}", apps(), resident());

    let phase = Phase::begin(&installation).await;
    for number in 0..apps() {
        installation.api.put(&format!("{APPS}/{}", name(number)), app(&name(number), "1.0.0"));
    }
    until("all apps to be ready", || all_ready(&installation.api)).await;
    installation.at_rest().await;
    let (writes, messages) = phase.end("all apps made");
    assert_eq!(messages, apps() * REPLICAS);
    let most = writes.iter().filter(|(about, _)| *about != "events").map(|(_, count)| *count).max();
    assert!(most <= Some(9), "{most:?} writes about one app");
    println!("now they have {}", resident());

    first.replica.stop().await;
    drop(first);
    let phase = Phase::begin(&installation).await;
    let streams = installation.runtimes[0].heard().synced;
    let _second = installation.apart("operator-1", 2);
    let compared = |runtime: &Simulated| runtime.heard().synced > streams;
    until("all runtimes to be compared", || installation.runtimes.iter().all(compared)).await;
    installation.at_rest().await;
    let (writes, messages) = phase.end("another operator took over");
    assert_eq!((writes, messages), (BTreeMap::new(), 0), "all was right");

    let phase = Phase::begin(&installation).await;
    installation.update(&name(7), "2.0.0");
    installation.becomes_ready(&name(7)).await;
    until("the old revision to be forgotten", || phase.messages() >= 3 * REPLICAS).await;
    installation.at_rest().await;
    let (writes, messages) = phase.end("one app changed");
    assert_eq!(messages, 3 * REPLICAS, "prepare, switch, forget the old one");
    let about: BTreeSet<&str> = writes.keys().map(String::as_str).collect();
    assert!(about.is_subset(&BTreeSet::from([name(7).as_str(), "events"])), "{about:?}");
    assert!(writes.values().sum::<usize>() <= 12, "{writes:?}");

    let held: BTreeSet<String> =
        installation.runtimes[0].heard().assigned.keys().map(|app| app.name().to_owned()).collect();
    let share = apps() * REPLICAS / usize::from(RUNTIMES);
    assert!(held.len() < 3 * share + 10, "{} apps where {share} are expected", held.len());
    let phase = Phase::begin(&installation).await;
    installation.api.delete(&format!("{PODS}/{}", installation.runtimes[0].name));
    let elsewhere = |name: &String| {
        let slice = installation.api.all_about("endpointslices", name);
        slice.iter().all(|slice| {
            !slice.to_string().contains("\"r1\"") && slice["endpoints"].as_array().unwrap().len() == REPLICAS
        })
    };
    until("its apps to be served elsewhere", || phase.messages() >= held.len() && held.iter().all(elsewhere)).await;
    installation.at_rest().await;
    let (writes, messages) = phase.end("one runtime left");
    assert_eq!(messages, held.len(), "each of its apps goes to one other runtime");
    let touched: BTreeSet<String> = writes.keys().filter(|about| *about != "events").cloned().collect();
    assert!(touched.is_subset(&held), "{touched:?}");
    assert!(writes.values().sum::<usize>() <= 8 * held.len(), "{writes:?}");
}

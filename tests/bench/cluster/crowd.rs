//! What the apps that are there already cost those that come and change: the same measurements with more and more of
//! them, beside the same objects written by hand (what Kubernetes and the ingress take by themselves), and the operator's
//! memory and processor time. Each measurement begins when the machine has little else to do.
//!
//! `BENCH_APPS` (`1 1000 5000`) says how many are there, `BENCH_CROWD_ROUNDS` (20) how often each is measured.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::ListParams;
use serde_json::Value;
use tests::cluster::{SYSTEM, setting};

use crate::{Bench, objects, objects::Variant};

/// How many requests to the API server are under way while the crowd is made.
const MAKERS: usize = 16;

/// How much of all processors' time may be spent on other things when a measurement begins: kube-proxy and the ingress work for
/// seconds after a change when there are many Services, and would be measured with the next one.
const IDLE: f64 = 0.2;

/// For how long it must be so little, and for how long that is waited for.
const IDLE_FOR: Duration = Duration::from_millis(500);
const IDLE_WITHIN: Duration = Duration::from_secs(15);

/// How long the crowd may take to be ready, for each thousand.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measurements with so many apps there.
struct Row {
    apps: usize,
    columns: [(&'static str, Vec<Duration>); 5],
    made: Duration,
    operators: Vec<Usage>,
}

/// One operator's process.
struct Usage {
    resident_kib: u64,
    /// Since its start.
    processor: Duration,
    /// Of one processor, while apps came and changed.
    share: f64,
}

/// How many apps are to be there, one measurement after the other.
fn sizes() -> Result<Vec<usize>> {
    let sizes = setting("BENCH_APPS").unwrap_or_else(|_| "1 1000 5000".to_owned());
    sizes.split_whitespace().map(|size| size.parse().with_context(|| format!("BENCH_APPS: {size}"))).collect()
}

/// The table.
pub(crate) async fn measure(bench: &Bench, bundles: &[String; 2]) -> Result<String> {
    let rounds: usize = setting("BENCH_CROWD_ROUNDS").map_or(Ok(20), |rounds| rounds.parse())?;
    let (mut rows, mut there) = (Vec::new(), 0);
    for apps in sizes()? {
        // The one that is measured is one of them.
        let started = Instant::now();
        grow(bench, there, apps.saturating_sub(1), bundles).await?;
        there = apps.saturating_sub(1).max(there);
        ready(bench, there).await?;
        let made = started.elapsed();
        rows.push(row(bench, apps, rounds, made, bundles).await?);
    }
    Ok(render(&rows))
}

/// Makes the apps from number `from` to number `to`.
async fn grow(bench: &Bench, from: usize, to: usize, bundles: &[String; 2]) -> Result<()> {
    let bundle = bundles.first().context("no bundle")?;
    stream::iter(from..to)
        .map(|number| async move {
            let mut app = objects::spin_app(&format!("crowd-{number}"), bundle);
            if let Some(replicas) = app.pointer_mut("/spec/replicas") {
                *replicas = 1.into();
            }
            bench.apply(&app).await
        })
        .buffer_unordered(MAKERS)
        .try_collect()
        .await
}

/// Waits until `count` apps of the crowd are ready.
async fn ready(bench: &Bench, count: usize) -> Result<()> {
    let thousands = u32::try_from(count / 1000 + 1)?;
    let started = Instant::now();
    let (apps, _) = bench.api(&objects::spin_app("any", ""))?;
    while started.elapsed() < PATIENCE * thousands {
        let list = apps.list(&ListParams::default()).await?;
        let is_ready = |status: &Value| {
            let conditions = status.pointer("/conditions").and_then(Value::as_array).into_iter().flatten();
            let mut ready = conditions.filter(|condition| condition.pointer("/type").is_some_and(|it| it == "Ready"));
            ready.any(|condition| condition.pointer("/status").is_some_and(|it| it == "True"))
        };
        let found = list.items.iter().filter(|app| app.data.get("status").is_some_and(is_ready)).count();
        if found >= count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    bail!("not all of {count} apps are ready after {:?}", started.elapsed())
}

async fn row(bench: &Bench, apps: usize, rounds: usize, made: Duration, bundles: &[String; 2]) -> Result<Row> {
    let names = [
        "apply -> 200, ingress",
        "  hand-written objects",
        "apply -> 200, ClusterIP",
        "  hand-written objects",
        "change -> new revision",
    ];
    let mut columns = names.map(|name| (name, Vec::new()));
    let (before, started) = (operators(bench).await?, Instant::now());
    for round in 0..rounds {
        let name = format!("of-{apps}-{round}");
        idle().await?;
        let (ingress, service) = bench.first_answers(Variant::Spindle, &name, bundles).await?;
        idle().await?;
        let change = bench.change(&name, bundles).await?;
        idle().await?;
        let by_hand = format!("{name}-by-hand");
        let (peer_ingress, peer_service) = bench.first_answers(Variant::HandWritten, &by_hand, bundles).await?;
        for ((_, times), time) in columns.iter_mut().zip([ingress, peer_ingress, service, peer_service, change]) {
            times.push(time);
        }
        bench.delete(Variant::Spindle, &name).await?;
        bench.delete(Variant::HandWritten, &by_hand).await?;
    }
    let elapsed = started.elapsed();
    let usage = |(was, is): (Process, Process)| Usage {
        resident_kib: is.resident_kib,
        processor: is.processor,
        share: is.processor.saturating_sub(was.processor).as_secs_f64() / elapsed.as_secs_f64(),
    };
    let operators = before.into_iter().zip(operators(bench).await?).map(usage).collect();
    Ok(Row { apps, columns, made, operators })
}

/// Waits until the machine has little to do. One that never rests is measured as it is.
async fn idle() -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < IDLE_WITHIN {
        let before = spent()?;
        tokio::time::sleep(IDLE_FOR).await;
        let (busy, all) = spent()?;
        let (busy, all) = (busy.saturating_sub(before.0), all.saturating_sub(before.1));
        if Duration::from_millis(busy).as_secs_f64() <= IDLE * Duration::from_millis(all).as_secs_f64() {
            return Ok(());
        }
    }
    Ok(())
}

/// What all processors have done since the start, in the kernel's ticks: work, and work and rest together.
fn spent() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let first =
        stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat is not as expected")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in these.
    let ticks = first.split_whitespace().take(8).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let all: u64 = ticks.iter().sum();
    let rest: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - rest, all))
}

/// What the kernel counts of a process.
struct Process {
    resident_kib: u64,
    processor: Duration,
}

/// The operators' processes, found by the pods whose control groups they are in.
async fn operators(bench: &Bench) -> Result<Vec<Process>> {
    let pods = bench.cluster.get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/component=operator"]).await?;
    let uids = pods.pointer("/items").and_then(Value::as_array).into_iter().flatten();
    let uids: Vec<&str> = uids.filter_map(|pod| pod.pointer("/metadata/uid").and_then(Value::as_str)).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let group = read("cgroup");
        if read("comm").trim() == "operator" && uids.iter().any(|uid| group.contains(uid)) {
            found.push(process(&read("status"), &read("stat")).context("/proc is not as expected")?);
        }
    }
    if found.is_empty() { bail!("no operator's process was found") } else { Ok(found) }
}

fn process(status: &str, stat: &str) -> Option<Process> {
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let (_, fields) = stat.rsplit_once(')')?;
    // The 14th and 15th field of the whole line: hundredths of a second in user mode and in the kernel.
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>().ok()?;
    Some(Process {
        resident_kib: resident.split_whitespace().next()?.parse().ok()?,
        processor: Duration::from_millis(ticks * 10),
    })
}

/// The time that so many of a hundred took at most.
fn percentile(times: &[Duration], percent: usize) -> u128 {
    let mut sorted: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    sorted.sort_unstable();
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

fn render(rows: &[Row]) -> String {
    let mut text =
        format!("{:<26} {:>6} {:>4} {:>8} {:>8} {:>8}\n", "milliseconds", "apps", "n", "p50", "p99", "ratio");
    let columns = rows.first().map_or(0, |row| row.columns.len());
    // Writing to a string cannot fail.
    for column in 0..columns {
        let base = rows.first().and_then(|row| row.columns.get(column)).map(|(_, times)| percentile(times, 50));
        for row in rows {
            let Some((name, times)) = row.columns.get(column) else { continue };
            let (p50, p99) = (percentile(times, 50), percentile(times, 99));
            let ratio = ratio(p50, base.unwrap_or_default());
            let _infallible =
                writeln!(text, "{name:<26} {:>6} {:>4} {p50:>8} {p99:>8} {ratio:>8.2}", row.apps, times.len());
        }
    }
    text.push_str(
        "\noperators, each with its memory, its processor time so far, and its share of one processor while measured\n",
    );
    for row in rows {
        let _infallible = write!(text, "{:>6} apps, the others made and Ready in {:>6.1?}:", row.apps, row.made);
        for Usage { resident_kib, processor, share } in &row.operators {
            let _infallible = write!(text, "  {} MiB {processor:.1?} {:.0} %", resident_kib / 1024, share * 100.0);
        }
        text.push('\n');
    }
    text
}

fn ratio(this: u128, that: u128) -> f64 {
    Duration::from_millis(u64::try_from(this).unwrap_or(u64::MAX)).as_secs_f64()
        / Duration::from_millis(u64::try_from(that.max(1)).unwrap_or(u64::MAX)).as_secs_f64()
}

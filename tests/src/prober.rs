//! Constant traffic, open loop: a request leaves at its time whether or not earlier ones have been
//! answered, and every failure is kept.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

/// One request and what came back.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was due, from the start of the traffic.
    pub at: Duration,
    /// How long from then until the whole answer was there.
    pub took: Duration,
    /// The status and body, or why there is none.
    pub outcome: std::result::Result<(u16, String), String>,
}

impl Sample {
    /// Whether it is not a 200.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        !matches!(&self.outcome, Ok((200, _)))
    }

    /// The body of a 200, without the white space around it.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        self.outcome.as_ref().ok().filter(|(status, _)| *status == 200).map(|(_, body)| body.trim())
    }
}

/// How a prober's requests share connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// As most callers have them: kept and used again.
    Kept,
    /// One for each request, so that each is a choice of endpoint.
    New,
}

/// Traffic under way.
#[derive(Debug)]
pub struct Prober {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Sample>>,
}

/// A client as callers have them: keep-alive, no retries, ten seconds of patience.
///
/// # Errors
/// When the TLS library cannot be set up.
pub fn client() -> Result<reqwest::Client> {
    client_with(Connections::Kept)
}

fn client_with(connections: Connections) -> Result<reqwest::Client> {
    // Already installed by an earlier client: that is fine.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).retry(reqwest::retry::never());
    let builder = match connections {
        Connections::Kept => builder,
        Connections::New => builder.pool_max_idle_per_host(0),
    };
    Ok(builder.build()?)
}

/// One GET of `url`, asking for `host` if given: status and body.
///
/// # Errors
/// When there is no whole answer.
pub async fn get(client: &reqwest::Client, url: &str, host: Option<&str>) -> Result<(u16, String)> {
    let mut request = client.get(url);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

impl Prober {
    /// Starts `rate` requests per second to `url`, over connections that are kept.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn start(url: &str, host: Option<&str>, rate: u32) -> Result<Self> {
        Self::start_over(Connections::Kept, url, host, rate)
    }

    /// Starts `rate` requests per second to `url`.
    ///
    /// # Errors
    /// When no client can be made.
    #[expect(clippy::disallowed_methods, reason = "the task is owned: `stop` joins it")]
    pub fn start_over(connections: Connections, url: &str, host: Option<&str>, rate: u32) -> Result<Self> {
        let (client, url, host) = (client_with(connections)?, url.to_owned(), host.map(str::to_owned));
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (started, mut requests, mut samples) = (Instant::now(), JoinSet::new(), Vec::new());
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    due = ticks.tick() => {
                        let (client, url, host) = (client.clone(), url.clone(), host.clone());
                        requests.spawn(async move {
                            let outcome = get(&client, &url, host.as_deref()).await.map_err(|error| format!("{error:#}"));
                            Sample { at: due.saturating_duration_since(started), took: due.elapsed(), outcome }
                        });
                    }
                    Some(Ok(sample)) = requests.join_next() => samples.push(sample),
                }
            }
            while let Some(done) = requests.join_next().await {
                samples.extend(done);
            }
            samples.sort_by_key(|sample| sample.at);
            samples
        });
        Ok(Self { stop, task })
    }

    /// Ends the traffic, waits for the answers under way, and returns every sample in order of departure.
    ///
    /// # Errors
    /// When the traffic's task has ended by itself.
    pub async fn stop(self) -> Result<Vec<Sample>> {
        if self.stop.send(()).is_err() {
            bail!("the prober ended by itself");
        }
        self.task.await.context("the prober ended by itself")
    }

    /// The same, where nobody may notice anything; tells what `scenario` cost.
    ///
    /// # Errors
    /// When a request failed: how many, the first and the last of them.
    pub async fn lost_nothing(self, scenario: &str) -> Result<Vec<Sample>> {
        let samples = self.stop().await?;
        report(&format!("{scenario}: {}", Summary::of(&samples)));
        let failed = failures(&samples);
        if let (Some(first), Some(last)) = (failed.first(), failed.last()) {
            bail!(
                "{scenario} cost {} of {} requests; the first: {first:?}, the last: {last:?}",
                failed.len(),
                samples.len()
            );
        }
        Ok(samples)
    }
}

/// Shows a number to whoever runs the tests.
#[expect(clippy::print_stderr, reason = "the numbers are what the tests are run for")]
pub fn report(line: &str) {
    eprintln!("  {line}");
}

/// The samples that are not a 200.
#[must_use]
pub fn failures(samples: &[Sample]) -> Vec<&Sample> {
    samples.iter().filter(|sample| sample.is_failure()).collect()
}

/// What a prober saw, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How many requests left.
    pub requests: usize,
    /// How many of them failed.
    pub failed: usize,
    /// How long half of the answers took at most.
    pub p50: Duration,
    /// How long 99 of 100 took at most.
    pub p99: Duration,
    /// How long the slowest took.
    pub max: Duration,
}

impl Summary {
    /// Counts `samples`; times are those of answers, failures included.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let mut took: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
        took.sort();
        let quantile = |percent: usize| {
            let index = (took.len() * percent).div_ceil(100).saturating_sub(1);
            took.get(index).copied().unwrap_or_default()
        };
        Self {
            requests: samples.len(),
            failed: failures(samples).len(),
            p50: quantile(50),
            p99: quantile(99),
            max: quantile(100),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let Self { requests, failed, p50, p99, max } = self;
        write!(
            f,
            "{requests} requests, {failed} failed, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            ms(*p50),
            ms(*p99),
            ms(*max)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64, status: u16) -> Sample {
        Sample {
            at: Duration::from_millis(millis),
            took: Duration::from_millis(millis),
            outcome: Ok((status, " ok\n".to_owned())),
        }
    }

    #[test]
    fn a_summary_counts_what_is_not_a_200_and_finds_the_slowest() {
        let mut samples: Vec<Sample> = (1..=200).map(|millis| sample(millis, 200)).collect();
        samples.push(sample(7, 503));
        samples.push(Sample { outcome: Err("refused".to_owned()), ..sample(900, 200) });
        let summary = Summary::of(&samples);
        assert_eq!((summary.requests, summary.failed), (202, 2));
        assert_eq!((summary.p50, summary.max), (Duration::from_millis(100), Duration::from_millis(900)));
        assert!(summary.p99 >= Duration::from_millis(198) && summary.p99 < summary.max, "{summary}");
    }

    #[test]
    fn the_summary_of_nothing_is_nothing() {
        assert_eq!(Summary::of(&[]).max, Duration::ZERO);
    }
}

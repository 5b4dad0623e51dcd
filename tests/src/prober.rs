//! Constant traffic, open loop: a request leaves at its time whether or not earlier ones have been
//! answered, and every failure is kept.

use std::time::Duration;

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
    // Already installed by an earlier client: that is fine.
    let _already = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).retry(reqwest::retry::never()).build()?)
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
    /// Starts `rate` requests per second to `url`.
    ///
    /// # Errors
    /// When no client can be made.
    #[expect(clippy::disallowed_methods, reason = "the task is owned: `stop` joins it")]
    pub fn start(url: &str, host: Option<&str>, rate: u32) -> Result<Self> {
        let (client, url, host) = (client()?, url.to_owned(), host.map(str::to_owned));
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
}

/// The samples that are not a 200.
#[must_use]
pub fn failures(samples: &[Sample]) -> Vec<&Sample> {
    samples.iter().filter(|sample| !matches!(&sample.outcome, Ok((200, _)))).collect()
}

//! The harness: a cluster to ask things of, a publisher, and a prober that counts every failure.
//!
//! Promise: what it reports is what a user would see. It talks to the cluster by `kubectl`, publishes
//! with `spindle bindle push`, and calls apps over HTTP, from inside the cluster's network namespace.
//!
//! Absent on purpose: sleeps instead of conditions ([`until`] polls one, with a deadline), and anything
//! that reaches into the product's process.

pub mod cluster;
pub mod command;
pub mod fleet;
pub mod liar;
pub mod package;
pub mod prober;
pub mod publisher;
pub mod traffic;

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};

/// Polls `condition` every few milliseconds until it gives a value.
///
/// # Errors
/// After `deadline`, with the last reason that the condition gave for not being met.
pub async fn until<T, F>(what: &str, deadline: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(10);
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("not within {deadline:?}: {what}"));
            }
            Err(_not_yet) => sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// `Ok` when `met`, else an error that says what was seen.
///
/// # Errors
/// When not `met`.
pub fn expect(met: bool, seen: impl FnOnce() -> String) -> Result<()> {
    if !met {
        bail!("{}", seen());
    }
    Ok(())
}

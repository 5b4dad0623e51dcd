//! Keeping a stream to one runtime: dialled again and again, with growing pauses, and at once when there is reason to.

use std::{net::SocketAddr, sync::Arc};

use rustls::ClientConfig;
use tokio::sync::watch;

use super::{
    dial::{Timings, dial},
    runtime::{Link, Runtime},
    session::{self, Speaker},
};
use crate::backoff::Backoff;

/// What a runtime is dialled with.
#[derive(Debug)]
pub struct Caller {
    /// Who we are.
    pub speaker: Speaker,
    /// The port of every runtime.
    pub port: u16,
    /// The TLS configuration, replaced when certificates are.
    pub tls: watch::Receiver<Option<Arc<ClientConfig>>>,
    /// How long to wait for what.
    pub timings: Timings,
}

/// Keeps a stream to `runtime` for as long as it is polled.
pub async fn keep_talking(runtime: Arc<Runtime>, caller: Arc<Caller>) {
    let mut pod = runtime.watch_pod();
    let mut tls = caller.tls.clone();
    let fresh = || Backoff::new(caller.timings.redial_first, caller.timings.redial_limit);
    let mut backoff = fresh();
    loop {
        let address = pod.borrow_and_update().address(caller.port);
        let Some(address) = address else {
            if pod.changed().await.is_err() {
                return;
            }
            continue;
        };
        let Some(config) = tls.borrow_and_update().clone() else {
            if tls.changed().await.is_err() {
                return;
            }
            continue;
        };
        match talk(&runtime, address, config, &caller).await {
            Ended::AfterWelcome => backoff = fresh(),
            Ended::BeforeWelcome => {}
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            // Readiness, an address, new certificates: reasons to try at once.
            _changed = pod.changed() => backoff = fresh(),
            _changed = tls.changed() => {}
        }
    }
}

/// How far a conversation came.
enum Ended {
    BeforeWelcome,
    AfterWelcome,
}

/// One attempt: dial, and talk for as long as it goes.
async fn talk(runtime: &Runtime, address: SocketAddr, tls: Arc<ClientConfig>, caller: &Caller) -> Ended {
    let (reason, message) = match dial(address, tls, &caller.timings).await {
        Err(error) => (error.reason(), daemon::chain(&error)),
        Ok(dialled) => {
            let error = session::run(runtime, dialled, &caller.speaker, &caller.timings).await;
            (error.reason(), daemon::chain(&error))
        }
    };
    let (connected, known) = runtime.read(|said| {
        let known = said.failure.as_ref().is_some_and(|(known, _)| *known == reason);
        (said.link == Link::Connected, known)
    });
    if connected {
        tracing::info!(runtime = %runtime.name(), reason, error = message, "lost the stream to a runtime");
    } else if !known {
        // Only the first of equal failures: a runtime that starts is dialled many times.
        tracing::info!(runtime = %runtime.name(), %address, reason, error = message, "cannot reach a runtime yet");
    }
    runtime.lost(reason, message);
    if connected { Ended::AfterWelcome } else { Ended::BeforeWelcome }
}

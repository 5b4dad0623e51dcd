//! One control stream: an operator's words in, this runtime's out.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use control::{FromRuntime, Heard, Hello, ToRuntime, Welcome, wire};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};

use super::{
    Shared,
    fence::Command,
    frames::{FrameError, Frames},
};
use crate::apps::News;

/// How long the operator may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// How many frames may wait to be sent; reports are merged meanwhile.
const FRAMES_AHEAD: usize = 4;
/// How many apps one report frame is about.
const REPORT_BATCH: usize = 256;

/// The response's body.
pub(super) type Body = Channel<Bytes>;

/// A stream.
pub(super) struct Stream {
    shared: Arc<Shared>,
    peer: SocketAddr,
    out: Sender<Bytes>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the operator closed the stream")]
    Closed,
    #[error("another stream took over")]
    Superseded,
    #[error("the process stops")]
    Stopping,
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, peer: SocketAddr) -> (Self, Body) {
        let (out, body) = Channel::new(FRAMES_AHEAD);
        (Self { shared, peer, out }, body)
    }

    /// Runs until either side ends it.
    pub(super) async fn run(mut self, body: Incoming) {
        let shared = Arc::clone(&self.shared);
        let stop = shared.tasks.stop_token();
        let frames = Frames::new(body);
        let end = tokio::select! {
            Err(end) = self.converse(&shared, frames) => end,
            () = stop.cancelled() => End::Stopping,
        };
        let refusal = match &end {
            End::Refused(why) => Some(why.clone()),
            End::Superseded => Some(end.to_string()),
            _ => None,
        };
        if let Some(why) = refusal {
            shared.metrics.control_refused.inc();
            // An error means that nobody listens.
            let last_word = FromRuntime::Refused(why);
            drop(tokio::time::timeout(HELLO, self.send(&last_word)).await);
        }
        tracing::info!(peer = %self.peer, reason = daemon::chain(&end), "control stream ended");
    }

    async fn converse(&mut self, shared: &Shared, mut frames: Frames) -> Result<std::convert::Infallible, End> {
        let (hello, version) = self.hear_hello(&mut frames).await?;
        let command = shared
            .fence
            .enter(hello.term)
            .map_err(|term| End::Refused(format!("term {} is over: this runtime has met term {term}", hello.term)))?;
        let _connected = Connected::new(shared);
        let mut draining = shared.draining.clone();
        let is_draining = *draining.borrow_and_update();
        // Nobody else can say anything now: this stream commands. What an earlier one has said is part of the inventory.
        shared.apps.settled().await;
        let (seen, mut inventory) = shared.apps.board().inventory();
        inventory.rollouts = shared.apps.board().rollouts();
        let words = shared.apps.words();
        inventory.words = words;
        inventory.reports = inventory.reports.into_iter().map(|report| report.for_version(version)).collect();
        let settings = &shared.settings;
        let welcome = Welcome {
            version,
            runtime: settings.runtime.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            capacity: settings.capacity,
            draining: is_draining,
            inventory,
        };
        self.send(&FromRuntime::Welcome(Box::new(welcome))).await?;
        tracing::info!(peer = %self.peer, operator = hello.operator, term = hello.term, "control stream began");
        let (pongs, pings) = mpsc::channel(FRAMES_AHEAD);
        tokio::select! {
            end = listen(shared, &command, &mut frames, &pongs, words) => end,
            end = self.tell(shared, version, seen, pings, draining) => end,
            () = command.lost() => Err(End::Superseded),
        }
    }

    /// The operator's introduction, and the version of the protocol that both sides speak.
    async fn hear_hello(&self, frames: &mut Frames) -> Result<(Hello, u32), End> {
        let hello = match tokio::time::timeout(HELLO, frames.next()).await {
            Ok(Ok(Some(Heard::Message(ToRuntime::Hello(hello))))) => hello,
            Ok(Ok(Some(_))) => return Err(End::Refused("the first frame must be a hello".to_owned())),
            Ok(Ok(None)) => return Err(End::Closed),
            Ok(Err(error)) => return Err(End::Refused(daemon::chain(&error))),
            Err(_) => return Err(End::Refused("no hello came in time".to_owned())),
        };
        let (lowest, highest) = hello.versions;
        let version = wire::agree(lowest, highest).ok_or_else(|| {
            End::Refused(format!(
                "no common protocol version: the operator speaks {lowest} to {highest}, this runtime {} to {}: upgrade the older of the two",
                wire::LOWEST_VERSION,
                wire::VERSION
            ))
        })?;
        Ok((hello, version))
    }

    async fn send(&mut self, message: &FromRuntime) -> Result<(), End> {
        let frame = wire::frame(message).map_err(FrameError::from)?;
        self.out.send_data(frame).await.map_err(|_| End::Closed)
    }

    /// Tells what changes, the latest of each app; waits while the operator does not read.
    async fn tell(
        &mut self,
        shared: &Shared,
        version: u32,
        mut seen: u64,
        mut pings: mpsc::Receiver<u64>,
        mut draining: watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, End> {
        let board = shared.apps.board();
        let mut changes = board.subscribe();
        loop {
            changes.mark_unchanged();
            loop {
                let (now_seen, news) = board.since(seen, REPORT_BATCH);
                if now_seen == seen {
                    break;
                }
                seen = now_seen;
                self.send_news(news, version).await?;
            }
            tokio::select! {
                Ok(()) = changes.changed() => {}
                Some(ping) = pings.recv() => self.send(&FromRuntime::Pong(ping)).await?,
                Ok(()) = draining.changed() => {
                    if *draining.borrow_and_update() {
                        self.send(&FromRuntime::Draining).await?;
                    }
                }
                else => return Err(End::Stopping),
            }
        }
    }

    async fn send_news(&mut self, news: Vec<(control::AppKey, News)>, version: u32) -> Result<(), End> {
        let mut reports = Vec::with_capacity(news.len());
        for (app, news) in news {
            match news {
                News::Report(report) | News::Unreadable(report) => reports.push(report.for_version(version)),
                News::Removed => self.send(&FromRuntime::Removed(app)).await?,
            }
        }
        if reports.is_empty() { Ok(()) } else { self.send(&FromRuntime::Report(reports)).await }
    }
}

/// Does what the operator says, as long as it commands. There were so many `words` before this stream's first.
async fn listen(
    shared: &Shared,
    command: &Command<'_>,
    frames: &mut Frames,
    pongs: &mpsc::Sender<u64>,
    words: u64,
) -> Result<std::convert::Infallible, End> {
    loop {
        let message = match frames.next().await?.ok_or(End::Closed)? {
            Heard::Message(message) => message,
            Heard::Unknown { kind } => {
                tracing::debug!(kind, "the operator says what this runtime does not know");
                continue;
            }
            Heard::Unreadable(unreadable) => {
                // It counts as a word all the same. What runs of the app goes on.
                tracing::error!(
                    app = unreadable.app.as_ref().map(ToString::to_string),
                    error = unreadable.why,
                    "an assignment says what this runtime cannot honour: upgrade it"
                );
                let turn = shared.apps.turn().await.ok_or(End::Stopping)?;
                if command.while_held(|| turn.pass_over(unreadable)) {
                    continue;
                }
                return Err(End::Superseded);
            }
        };
        if let ToRuntime::Ping(number) = message {
            // A full queue is that of an operator which does not read; it will ask again.
            let _sent = pongs.try_send(number);
            continue;
        }
        let turn = shared.apps.turn().await.ok_or(End::Stopping)?;
        let obeyed = command.while_held(|| match message {
            ToRuntime::Assign(assignment) => turn.assign(assignment),
            ToRuntime::Remove(app) => turn.remove(app),
            ToRuntime::Synced => {
                tracing::info!("the operator has sent everything that differed");
                turn.synced(words);
            }
            ToRuntime::Hello(_) | ToRuntime::Ping(_) => {}
        });
        if !obeyed {
            return Err(End::Superseded);
        }
    }
}

/// The gauge that says whether an operator is there.
struct Connected<'a>(&'a Shared);

impl<'a> Connected<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.metrics.control_connected.inc();
        Self(shared)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.metrics.control_connected.dec();
    }
}

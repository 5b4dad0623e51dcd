//! One stream with one runtime, from introduction to end.
//!
//! Promise: reading and writing never wait for each other, so a runtime that reads slowly still gets its
//! reports through; a session that has ended leaves nothing behind but what the runtime has said.

use bytes::Bytes;
use control::{
    FromRuntime, Hello, Problem, ToRuntime, Welcome, clip,
    wire::{LOWEST_VERSION, VERSION, frame},
};
use http::StatusCode;
use http_body_util::channel::Channel;
use hyper::client::conn::http2::SendRequest;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{
    dial::{Dialled, Outgoing, Timings, request},
    frames::{FrameError, FrameReader},
    mailbox::{Mailbox, Parcel},
    runtime::Runtime,
};
use crate::lease::Mandate;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection is gone.
    #[error("the connection is gone")]
    Disconnected(#[source] Option<hyper::Error>),
    /// The runtime answers with something else than a stream.
    #[error("the runtime answered {0}")]
    NoStream(StatusCode),
    /// The runtime refuses this operator.
    #[error("the runtime refuses the stream: {0}")]
    Refused(String),
    /// The peer is the runtime of another pod.
    #[error("the runtime of pod {expected} calls itself {found}")]
    WrongName {
        /// The pod that was dialled.
        expected: String,
        /// What answered.
        found: String,
    },
    /// The runtime speaks no version that we do.
    #[error(
        "the runtime speaks version {0} of the protocol, this operator {LOWEST_VERSION} to {VERSION}: upgrade the older of the two"
    )]
    WrongVersion(u32),
    /// The runtime speaks out of turn.
    #[error("the runtime did not introduce itself first")]
    OutOfTurn,
    /// The runtime has said nothing for too long.
    #[error("the runtime has said nothing for {0:?}")]
    Silent(std::time::Duration),
    /// The stream broke or is not of our protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Another operator may lead by now.
    #[error("this operator leads no more")]
    Fenced,
    /// One of our own messages can't be sent, which no retry would change.
    #[error("a message cannot be sent")]
    Unsendable(#[from] control::WireError),
    /// The request can't be made.
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
}

impl SessionError {
    /// The error in one word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Disconnected(_) | Self::Frame(FrameError::Broken(_) | FrameError::Ended) => "Disconnected",
            Self::NoStream(_) | Self::OutOfTurn | Self::Frame(FrameError::Protocol(_)) => "NotARuntime",
            Self::Refused(_) => "Refused",
            Self::WrongName { .. } => "WrongName",
            Self::WrongVersion(_) => "WrongVersion",
            Self::Silent(_) => "Silent",
            Self::Fenced => "Fenced",
            Self::Unsendable(_) | Self::Request(_) => "Unsendable",
        }
    }
}

/// Who is speaking: the same for every session of one leader.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// Our pod.
    pub operator: String,
    /// Our right to speak.
    pub mandate: Mandate,
}

impl Speaker {
    fn check(&self) -> Result<(), SessionError> {
        if self.mandate.holds() { Ok(()) } else { Err(SessionError::Fenced) }
    }
}

/// Holds one session until it ends.
pub async fn run(runtime: &Runtime, dialled: Dialled, speaker: &Speaker, timings: &Timings) -> SessionError {
    // The connection ends when nobody can make requests any more.
    let Dialled { mut requests, connection } = dialled;
    let conversation = async {
        let introduction = timeout(timings.hello, introduce(runtime, &mut requests, speaker)).await;
        let (welcome, outgoing, incoming) = introduction.map_err(|_elapsed| SessionError::Silent(timings.hello))??;
        runtime.welcomed(welcome);
        converse(runtime, outgoing, incoming, speaker, timings).await
    };
    tokio::select! {
        // The conversation first: what the runtime said last is worth more than that it hung up.
        biased;
        result = conversation => match result { Ok(never) => match never {}, Err(error) => error },
        result = connection => SessionError::Disconnected(result.err()),
    }
}

/// Opens the stream: both sides say who they are.
async fn introduce(
    runtime: &Runtime,
    requests: &mut SendRequest<Channel<Bytes>>,
    speaker: &Speaker,
) -> Result<(Welcome, Outgoing, FrameReader), SessionError> {
    let (mut outgoing, request) = request()?;
    speaker.check()?;
    send(&mut outgoing, &hello(speaker)).await?;
    let response = requests.send_request(request).await.map_err(|error| SessionError::Disconnected(Some(error)))?;
    if response.status() != StatusCode::OK {
        return Err(SessionError::NoStream(response.status()));
    }
    let mut incoming = FrameReader::new(response.into_body());
    match incoming.next().await? {
        FromRuntime::Welcome(welcome) => Ok((check(*welcome, runtime)?, outgoing, incoming)),
        FromRuntime::Refused(why) => Err(SessionError::Refused(clip(&why, Problem::MESSAGE))),
        _ => Err(SessionError::OutOfTurn),
    }
}

/// A session goes on until something ends it.
enum Never {}

async fn converse(
    runtime: &Runtime,
    mut outgoing: Outgoing,
    mut incoming: FrameReader,
    speaker: &Speaker,
    timings: &Timings,
) -> Result<Never, SessionError> {
    tokio::select! {
        result = write(runtime.mailbox(), &mut outgoing, speaker, timings) => result,
        result = read(runtime, &mut incoming, timings) => result,
    }
}

/// Whether the peer is who was dialled and can be talked to.
fn check(welcome: Welcome, runtime: &Runtime) -> Result<Welcome, SessionError> {
    if !(LOWEST_VERSION..=VERSION).contains(&welcome.version) {
        return Err(SessionError::WrongVersion(welcome.version));
    }
    if welcome.runtime != *runtime.name() {
        return Err(SessionError::WrongName { expected: runtime.name().to_string(), found: welcome.runtime.0 });
    }
    Ok(welcome)
}

/// Tells the runtime what it does not know yet, as soon as it is known here.
async fn write(
    mailbox: &Mailbox,
    outgoing: &mut Outgoing,
    speaker: &Speaker,
    timings: &Timings,
) -> Result<Never, SessionError> {
    let mut pings = interval_at(Instant::now() + timings.ping, timings.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0;
    loop {
        while let Some(parcel) = mailbox.take() {
            speaker.check()?;
            send_parcel(outgoing, &parcel).await?;
        }
        tokio::select! {
            () = mailbox.changed() => {}
            _tick = pings.tick() => {
                count += 1;
                send(outgoing, &ToRuntime::Ping(count)).await?;
            }
        }
    }
}

async fn send_parcel(outgoing: &mut Outgoing, parcel: &Parcel) -> Result<(), SessionError> {
    match parcel {
        Parcel::Assign(order) => match send(outgoing, order.message()).await {
            Err(SessionError::Unsendable(error)) => {
                // Ending the stream would only bring the same message back.
                tracing::error!(error = &error as &dyn std::error::Error, "an assignment cannot be sent");
                Ok(())
            }
            other => other,
        },
        Parcel::Remove(app) => send(outgoing, &ToRuntime::Remove(app.clone())).await,
        Parcel::Synced => send(outgoing, &ToRuntime::Synced).await,
    }
}

/// Takes in what the runtime says.
async fn read(runtime: &Runtime, incoming: &mut FrameReader, timings: &Timings) -> Result<Never, SessionError> {
    loop {
        let message = timeout(timings.silence, incoming.next())
            .await
            .map_err(|_elapsed| SessionError::Silent(timings.silence))??;
        match message {
            FromRuntime::Report(reports) => runtime.reported(reports),
            FromRuntime::Removed(app) => runtime.removed(&app),
            FromRuntime::Draining => runtime.draining(),
            FromRuntime::Pong(_) => {}
            FromRuntime::Refused(why) => return Err(SessionError::Refused(clip(&why, Problem::MESSAGE))),
            FromRuntime::Welcome(_) => return Err(SessionError::OutOfTurn),
        }
    }
}

fn hello(speaker: &Speaker) -> ToRuntime {
    ToRuntime::Hello(Hello {
        versions: (LOWEST_VERSION, VERSION),
        operator: speaker.operator.clone(),
        term: speaker.mandate.term(),
    })
}

async fn send(outgoing: &mut Outgoing, message: &ToRuntime) -> Result<(), SessionError> {
    outgoing.send_data(frame(message)?).await.map_err(|_closed| SessionError::Disconnected(None))
}

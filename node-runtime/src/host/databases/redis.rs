//! Redis: what guests can ask of it, the same in all versions of the interface.
//!
//! Promise: a command that changes the connection itself (its database, user, transaction, subscriptions) is seen only by the
//! guest that gave it: such a connection is closed when the guest is done with it. All others stay clean without another
//! round trip.

mod components;
mod legacy;
mod reply;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};

use super::{
    Asker, Slot, check_length,
    pool::{AfterUse, Call, Key, Lease, LeaseError, Session},
};
use crate::host::{
    network::ConnectionKind,
    redis_link::{RedisLink, RedisLinkError, RedisServer},
};

pub(super) use legacy::link_modules;
pub(super) use reply::Reply;

/// The commands that change what later ones of the same connection mean. Redis has these in its groups `connection`,
/// `transactions` and `pubsub`, and some for replicas.
const OF_CONNECTION: [&str; 24] = [
    "ASKING",
    "AUTH",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "RESET",
    "SELECT",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WATCH",
];

/// What went wrong, as the interfaces tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RedisFailure {
    /// The address is none, or not permitted.
    InvalidAddress,
    /// The instance has too many connections.
    TooManyConnections,
    /// A value is not of the type that the command needs.
    Type,
    /// Anything else.
    Other(String),
}

/// A parameter of a command.
#[derive(Debug)]
pub(super) enum Argument {
    /// A number.
    Int(i64),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A connection that a guest has opened.
#[expect(unreachable_pub, reason = "the generated code exports it")]
#[derive(Debug, Clone)]
pub struct RedisConnection {
    lease: Arc<Lease<RedisSession>>,
    _slot: Arc<Slot>,
}

/// One connection to a server.
pub(super) struct RedisSession {
    link: RedisLink,
    /// A command has changed the connection.
    changed: AtomicBool,
}

impl Session for RedisSession {
    const KIND: ConnectionKind = ConnectionKind::Redis;

    fn is_open(&self) -> bool {
        self.link.is_open()
    }

    fn after_use(&self) -> AfterUse {
        if self.changed.load(Ordering::Relaxed) { AfterUse::Close } else { AfterUse::Keep }
    }

    fn rest(&self) {
        self.link.budget.release();
    }
}

impl fmt::Debug for RedisSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSession").finish_non_exhaustive()
    }
}

impl RedisConnection {
    /// Opens a connection to the server at `address`: `redis://[user:password@]host[:port][/database]`, or `rediss://` for
    /// TLS.
    pub(super) async fn open(asker: &Asker, address: &str) -> Result<Self, RedisFailure> {
        check_length(address).map_err(|_| RedisFailure::InvalidAddress)?;
        let server = RedisServer::parse(address).ok_or(RedisFailure::InvalidAddress)?;
        let network = &asker.grants.network;
        if !network.permits(server.scheme(), &server.host, Some(server.port)) {
            return Err(RedisFailure::InvalidAddress);
        }
        let slot = asker.open.redis.take().ok_or(RedisFailure::TooManyConnections)?;
        let until = asker.until();
        // How long an answer may take is the request's matter.
        let connect = async {
            let link = server.connect(network, asker.answer_limit(), None, until).await?;
            Ok::<_, RedisLinkError>(RedisSession { link, changed: AtomicBool::new(false) })
        };
        let lease = asker.pools().redis.lease(network, Key::new(address, network), until, connect).await;
        let lease = lease.map_err(|error| {
            RedisFailure::Other(match error {
                LeaseError::Network(error) => error.to_string(),
                LeaseError::Connect(error) => error.to_string(),
                LeaseError::Timeout => RedisLinkError::Timeout(server.host).to_string(),
            })
        })?;
        Ok(Self { lease: Arc::new(lease), _slot: Arc::new(slot) })
    }

    /// Sends `payload` to whoever listens on `channel`.
    pub(super) async fn publish(&self, channel: String, payload: Vec<u8>) -> Result<(), RedisFailure> {
        self.ask(::redis::cmd("PUBLISH").arg(channel).arg(payload)).await
    }

    /// The value of `key`.
    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, RedisFailure> {
        self.ask(::redis::cmd("GET").arg(key)).await
    }

    /// Sets the value of `key`.
    pub(super) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), RedisFailure> {
        self.ask(::redis::cmd("SET").arg(key).arg(value)).await
    }

    /// Adds one to the number at `key`.
    pub(super) async fn incr(&self, key: String) -> Result<i64, RedisFailure> {
        self.ask(::redis::cmd("INCR").arg(key)).await
    }

    /// Removes `keys`. Returns how many there were.
    pub(super) async fn del(&self, keys: Vec<String>) -> Result<u32, RedisFailure> {
        self.ask_about(::redis::cmd("DEL"), keys).await
    }

    /// Adds `values` to the set at `key`. Returns how many are new.
    pub(super) async fn sadd(&self, key: String, values: Vec<String>) -> Result<u32, RedisFailure> {
        self.ask_about(::redis::cmd("SADD").arg(key).take(), values).await
    }

    /// The members of the set at `key`.
    pub(super) async fn smembers(&self, key: String) -> Result<Vec<String>, RedisFailure> {
        self.ask(::redis::cmd("SMEMBERS").arg(key)).await
    }

    /// Removes `values` from the set at `key`. Returns how many there were.
    pub(super) async fn srem(&self, key: String, values: Vec<String>) -> Result<u32, RedisFailure> {
        self.ask_about(::redis::cmd("SREM").arg(key).take(), values).await
    }

    /// Any command.
    pub(super) async fn execute(&self, command: &str, arguments: Vec<Argument>) -> Result<Vec<Reply>, RedisFailure> {
        let mut asked = Cmd::new();
        asked.arg(command);
        for argument in arguments {
            match argument {
                Argument::Int(number) => asked.arg(number),
                Argument::Bytes(bytes) => asked.arg(bytes),
            };
        }
        if is_of_connection(command) {
            let call = self.lease.call().ok_or_else(closed)?;
            call.changed.store(true, Ordering::Relaxed);
            call.finish();
        }
        let value: ::redis::Value = self.ask(&asked).await?;
        reply::flat(value)
    }

    /// A command about many things. About none, there is nothing to ask.
    async fn ask_about(&self, mut command: Cmd, things: Vec<String>) -> Result<u32, RedisFailure> {
        if things.is_empty() {
            return Ok(0);
        }
        self.ask(command.arg(things)).await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisFailure> {
        let call = self.lease.call().ok_or_else(closed)?;
        call.link.budget.renew();
        let mut connection = call.link.connection.clone();
        match command.query_async(&mut connection).await {
            Ok(value) => {
                call.finish();
                Ok(value)
            }
            Err(error) => Err(failure(&error, call)),
        }
    }
}

fn closed() -> RedisFailure {
    RedisFailure::Other("the connection is closed".to_owned())
}

/// Whether what follows `command` on its connection may mean something else.
fn is_of_connection(command: &str) -> bool {
    let command = command.trim().to_ascii_uppercase();
    OF_CONNECTION.binary_search(&command.as_str()).is_ok()
}

/// What the guest is told.
fn failure(error: &RedisError, call: Call<RedisSession>) -> RedisFailure {
    let excess = call.link.budget.excess();
    // Who gets an answer, even if it is none, knows where the next one begins.
    if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType) {
        call.finish();
    }
    let text = error.to_string();
    let of_type = match error.kind() {
        ErrorKind::UnexpectedReturnType => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            ["is not an integer", "would overflow", "not a valid float"].iter().any(|words| text.contains(words))
        }
        _ => error.code() == Some("WRONGTYPE"),
    };
    match excess {
        _ if of_type => RedisFailure::Type,
        Some(excess) => RedisFailure::Other(excess),
        None => RedisFailure::Other(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_change_the_connection_are_known_in_any_case() {
        assert!(OF_CONNECTION.is_sorted());
        assert!(is_of_connection("select") && is_of_connection(" MULTI "));
        assert!(!is_of_connection("GET") && !is_of_connection(""));
    }
}

//! Stores on a Redis server (`type = "redis"`): the store is the database that the URL names.
//!
//! Keys are stored as they are, as Spin does: whoever has the URL, another app or Redis client, sees the same keys, and two
//! labels with one URL are one store. Only where a cluster's runtimes give one server to all apps, each app has a prefix.
//!
//! Promise: one connection per store, made when it is first needed, and made again when it breaks, and a few more while
//! guests swap values; every wait ends.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use manifest::runtime_config::Secret;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::sync::{Mutex, Semaphore};

use super::{Failure, Fingerprint, KEY, Pair, Store, TABLE, fingerprint, too_large};
use crate::host::{
    Network,
    redis_link::{RedisLink, RedisServer},
    stores::StoreConfigError,
};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long to wait for an answer.
const ANSWER: Duration = Duration::from_secs(15);
/// How many connections there are at a time beside the one that is shared.
const SWAPS: usize = 32;
/// How many keys are asked for at a time.
const SCAN: usize = 1000;
/// What an answer may have beside values, in bytes: at least [`SCAN`] keys of the largest size.
const ROOM: usize = 2 * SCAN * KEY;

/// A database of a Redis server.
pub(super) struct RedisStore {
    server: RedisServer,
    /// Where it may be, and whom to trust.
    network: Network,
    /// Shared by all that is asked at the same time.
    link: Mutex<Option<Arc<RedisLink>>>,
    /// How many answers are waited for.
    asked: AtomicU64,
    /// The right to have a connection of its own.
    swaps: Semaphore,
    /// Goes before every key.
    prefix: String,
    /// How large a result may be, in bytes.
    limit: usize,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl RedisStore {
    /// The store at `url`, of the keys that begin with `prefix`.
    pub(super) fn new(
        label: &str,
        url: &Secret,
        prefix: Option<&str>,
        network: Network,
        limit: usize,
    ) -> Result<Self, StoreConfigError> {
        let server = RedisServer::parse(url.expose()).ok_or_else(|| StoreConfigError::Url {
            table: TABLE,
            label: label.to_owned(),
            problem: "`url` is no URL of a Redis server, such as redis://host:6379/0".to_owned(),
        })?;
        let prefix = prefix.unwrap_or_default().to_owned();
        let (link, asked, swaps) = (Mutex::default(), AtomicU64::new(0), Semaphore::new(SWAPS));
        Ok(Self { server, network, link, asked, swaps, prefix, limit })
    }

    /// A connection of its own.
    async fn connect(&self) -> Result<RedisLink, Failure> {
        let until = Instant::now() + CONNECT;
        // Beside the values: keys that are asked for, and what the server says around all that.
        let most = self.limit.saturating_mul(2).saturating_add(ROOM);
        let link = self.server.connect(&self.network, most, Some(ANSWER), until).await;
        link.map_err(|error| Failure::Broken(format!("Redis: {error}")))
    }

    /// The connection that is shared, made if it is not there; and whether it was.
    async fn link(&self) -> Result<(Arc<RedisLink>, bool), Failure> {
        let mut shared = self.link.lock().await;
        if let Some(link) = shared.as_ref().filter(|link| link.is_open()) {
            return Ok((Arc::clone(link), true));
        }
        let link = shared.insert(Arc::new(self.connect().await?));
        Ok((Arc::clone(link), false))
    }

    /// Asks over the shared connection. One that broke while nobody used it is made again, once, if `again` says that
    /// asking twice does no harm.
    async fn ask<T: FromRedisValue>(&self, asked: Asked<'_>, again: bool) -> Result<T, Failure> {
        let (link, is_old) = self.link().await?;
        let error = match self.ask_over(&link, asked).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !(error.is_unrecoverable_error() || error.is_timeout()) {
            return Err(failure(&error));
        }
        let excess = link.budget.excess();
        self.link.lock().await.take_if(|shared| Arc::ptr_eq(shared, &link));
        if let Some(excess) = excess {
            return Err(Failure::Broken(format!("Redis: {excess}")));
        }
        if !(again && is_old && error.is_connection_dropped()) {
            return Err(failure(&error));
        }
        let (link, _) = self.link().await?;
        self.ask_over(&link, asked).await.map_err(|error| failure(&error))
    }

    async fn ask_over<T: FromRedisValue>(&self, link: &RedisLink, asked: Asked<'_>) -> RedisResult<T> {
        let waiting = Waiting::new(&self.asked);
        link.budget.renew_for(waiting.0.load(Ordering::Relaxed));
        asked.over(&mut link.connection.clone()).await
    }

    /// The key as the server has it.
    fn full(&self, key: &str) -> String {
        [self.prefix.as_str(), key].concat()
    }

    fn all(&self, keys: &[String]) -> Vec<String> {
        keys.iter().map(|key| self.full(key)).collect()
    }

    /// The value of `key` if it has at most `limit` bytes. Looks at both in one step, so that no answer is larger.
    async fn get_limited(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>, Failure> {
        let key = &self.full(key);
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("EXISTS").arg(key).cmd("GETRANGE").arg(key).arg(0).arg(limit);
        let (exists, value): (bool, Vec<u8>) = self.ask(Asked::Pipe(&pipe), true).await?;
        if value.len() > limit { Err(too_large(self.limit)) } else { Ok(exists.then_some(value)) }
    }
}

/// What is asked at once.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Command(&'a redis::Cmd),
    Pipe(&'a redis::Pipeline),
}

impl Asked<'_> {
    async fn over<T: FromRedisValue>(self, connection: &mut MultiplexedConnection) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipe(pipe) => pipe.query_async(connection).await,
        }
    }
}

/// One more answer that is waited for.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(asked: &'a AtomicU64) -> Self {
        asked.fetch_add(1, Ordering::Relaxed);
        Self(asked)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A pattern of Redis that is `text` and nothing else.
fn literal(text: &str) -> String {
    let special = |c| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Whose matter an error is. Its text holds no password: it is what the server says, or what the system says.
fn failure(error: &RedisError) -> Failure {
    let message = format!("Redis: {error}");
    match error.kind() {
        // The server works, and says what is wrong with the command.
        ErrorKind::Server(_) if error.code().is_some_and(|code| matches!(code, "WRONGTYPE" | "ERR")) => {
            Failure::Refused(message)
        }
        _ => Failure::Broken(message),
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Failure> {
        self.get_limited(&key, self.limit).await
    }

    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Failure> {
        self.ask(Asked::Command(redis::cmd("SET").arg(self.full(&key)).arg(value)), true).await
    }

    async fn delete(&self, key: String) -> Result<(), Failure> {
        self.ask(Asked::Command(redis::cmd("DEL").arg(self.full(&key))), true).await
    }

    async fn exists(&self, key: String) -> Result<bool, Failure> {
        self.ask(Asked::Command(redis::cmd("EXISTS").arg(self.full(&key))), true).await
    }

    /// Asks for some at a time: `KEYS` would stop the server for everybody.
    async fn keys(&self) -> Result<Vec<String>, Failure> {
        let (mut keys, mut size, mut cursor) = (BTreeSet::new(), 0_usize, 0_u64);
        let pattern = format!("{}*", literal(&self.prefix));
        loop {
            let (next, some): (u64, Vec<Vec<u8>>) = self
                .ask(
                    Asked::Command(redis::cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN)),
                    true,
                )
                .await?;
            for key in some {
                // Keys that are no text are not ours: no guest can name them.
                let Some(key) = key.strip_prefix(self.prefix.as_bytes()) else { continue };
                let Ok(key) = String::from_utf8(key.to_vec()) else { continue };
                let held = size_of::<String>() + key.len();
                // The server may name a key more than once.
                if keys.insert(key) {
                    size = size.saturating_add(held);
                }
                if size > self.limit {
                    return Err(too_large(self.limit));
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(keys.into_iter().collect());
            }
        }
    }

    async fn get_many(&self, keys: Vec<String>) -> Result<Vec<Pair>, Failure> {
        let mut sizes = redis::pipe();
        for key in &keys {
            sizes.cmd("STRLEN").arg(self.full(key));
        }
        let sizes: Vec<usize> = self.ask(Asked::Pipe(&sizes), true).await?;
        let held = keys.iter().map(|key| size_of::<Pair>() + key.len()).chain(sizes);
        if held.fold(0_usize, usize::saturating_add) > self.limit {
            return Err(too_large(self.limit));
        }
        let values: Vec<Option<Vec<u8>>> =
            self.ask(Asked::Command(redis::cmd("MGET").arg(self.all(&keys))), true).await?;
        Ok(keys.into_iter().zip(values).collect())
    }

    async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Failure> {
        let mut command = redis::cmd("MSET");
        for (key, value) in pairs {
            command.arg(self.full(&key)).arg(value);
        }
        self.ask(Asked::Command(&command), true).await
    }

    async fn delete_many(&self, keys: Vec<String>) -> Result<(), Failure> {
        self.ask(Asked::Command(redis::cmd("DEL").arg(self.all(&keys))), true).await
    }

    /// A number is decimal text here, which Redis itself counts up.
    async fn increment(&self, key: String, delta: i64) -> Result<i64, Failure> {
        self.ask(Asked::Command(redis::cmd("INCRBY").arg(self.full(&key)).arg(delta)), false).await
    }

    /// In a transaction, which belongs to a connection: so this has one of its own.
    async fn swap(&self, key: String, from: Option<Fingerprint>, to: Vec<u8>) -> Result<bool, Failure> {
        let key = self.full(&key);
        let turn = tokio::time::timeout(ANSWER, self.swaps.acquire()).await;
        let _turn = turn.map_err(|_| Failure::Broken("Redis: no connection became free in time".to_owned()))?;
        let link = self.connect().await?;
        let mut connection = link.connection.clone();
        redis::cmd("WATCH").arg(&key).exec_async(&mut connection).await.map_err(|error| failure(&error))?;
        link.budget.renew();
        let size: usize =
            redis::cmd("STRLEN").arg(&key).query_async(&mut connection).await.map_err(|error| failure(&error))?;
        if size > self.limit {
            return Err(too_large(self.limit));
        }
        let current: Option<Vec<u8>> =
            redis::cmd("GET").arg(&key).query_async(&mut connection).await.map_err(|error| failure(&error))?;
        if current.as_deref().map(fingerprint) != from {
            return Ok(false);
        }
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("SET").arg(&key).arg(to).ignore();
        // Nothing where somebody else has changed the value since.
        let done: Option<()> = pipe.query_async(&mut connection).await.map_err(|error| failure(&error))?;
        Ok(done.is_some())
    }
}

//! [`Connections`]: how many connections the guests of one application have open.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use manifest::RuntimeConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::NetworkError;

/// What a connection is for; each kind may have a limit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionKind {
    /// Outgoing HTTP.
    Http,
    /// Redis.
    Redis,
    /// `PostgreSQL`.
    Postgres,
    /// MySQL.
    Mysql,
    /// MQTT.
    Mqtt,
    /// `wasi:sockets`.
    Socket,
}

const KINDS: usize = 6;

impl ConnectionKind {
    /// Its name in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::Mqtt => "MQTT",
            Self::Socket => "socket",
        }
    }
}

/// The connections of one application, counted: of each kind, and together.
pub(crate) struct Connections {
    total: Limit,
    kinds: [Option<Limit>; KINDS],
    shortage: RwLock<Vec<Box<dyn Fn() + Send + Sync>>>,
    waiting: AtomicUsize,
}

#[derive(Debug, Clone)]
struct Limit {
    most: usize,
    free: Arc<Semaphore>,
}

/// The right to have one connection. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    _total: OwnedSemaphorePermit,
    _kind: Option<OwnedSemaphorePermit>,
}

impl Limit {
    fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { most, free: Arc::new(Semaphore::new(most)) }
    }

    fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    async fn acquire(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        // Without this, a limit of 0 would make every caller wait for nothing.
        if self.most == 0 {
            return None;
        }
        tokio::time::timeout_at(until.into(), Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()
    }
}

impl Connections {
    /// The limits of `config`; `most` connections of all kinds together where it says nothing about that.
    pub(crate) fn new(config: &RuntimeConfig, most: usize) -> Self {
        let limit = |most: Option<usize>| most.map(Limit::new);
        Self {
            total: Limit::new(config.outbound_networking.max_total_connections.unwrap_or(most)),
            kinds: [
                limit(config.outbound_http.max_connections),
                limit(config.outbound_redis_connections),
                limit(config.outbound_pg_connections),
                limit(config.outbound_mysql_connections),
                limit(config.outbound_mqtt_connections),
                limit(config.outbound_networking.max_socket_connections),
            ],
            shortage: RwLock::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Calls `callback` whenever somebody must wait for a connection: time to close idle ones. It must not block.
    pub(crate) fn on_shortage(&self, callback: impl Fn() + Send + Sync + 'static) {
        self.shortage.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(callback));
    }

    /// Whether somebody waits for a connection: no time to keep idle ones.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The right to open one connection now.
    ///
    /// # Errors
    /// [`NetworkError::Limit`] when there are as many as are allowed.
    pub(crate) fn try_permit(&self, kind: ConnectionKind) -> Result<ConnectionPermit, NetworkError> {
        let own = self.kind(kind);
        let of_kind = match own {
            None => None,
            Some(limit) => Some(limit.try_acquire().ok_or(NetworkError::Limit { kind, most: limit.most })?),
        };
        let total = self.total.try_acquire().ok_or(NetworkError::Limit { kind, most: self.total.most })?;
        Ok(ConnectionPermit { _total: total, _kind: of_kind })
    }

    /// The right to open one connection, waited for until then.
    ///
    /// # Errors
    /// [`NetworkError::Limit`] when none became free.
    pub(crate) async fn permit(&self, kind: ConnectionKind, until: Instant) -> Result<ConnectionPermit, NetworkError> {
        if let Ok(permit) = self.try_permit(kind) {
            return Ok(permit);
        }
        let _waiting = Waiting::new(&self.waiting);
        for callback in self.shortage.read().unwrap_or_else(PoisonError::into_inner).iter() {
            callback();
        }
        // Its own limit first: whoever waits for that does not keep others from connecting.
        let of_kind = match self.kind(kind) {
            None => None,
            Some(limit) => {
                let permit = limit.acquire(until).await;
                Some(permit.ok_or(NetworkError::Limit { kind, most: limit.most })?)
            }
        };
        let total = self.total.acquire(until).await;
        let total = total.ok_or(NetworkError::Limit { kind, most: self.total.most })?;
        Ok(ConnectionPermit { _total: total, _kind: of_kind })
    }

    fn kind(&self, kind: ConnectionKind) -> Option<&Limit> {
        self.kinds.get(kind as usize).and_then(Option::as_ref)
    }
}

/// Somebody who waits, counted as long as this lives.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(crate) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("total", &self.total).field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn config(http: Option<usize>, total: Option<usize>) -> RuntimeConfig {
        let mut config = RuntimeConfig::default();
        config.outbound_http.max_connections = http;
        config.outbound_networking.max_total_connections = total;
        config
    }

    #[tokio::test]
    async fn each_kind_has_its_limit_and_all_together_have_one() {
        let connections = Connections::new(&config(Some(1), Some(2)), 100);
        let http = connections.permit(ConnectionKind::Http, soon()).await.unwrap();
        let error = connections.permit(ConnectionKind::Http, soon()).await.unwrap_err();
        assert_eq!(error.to_string(), "no HTTP connection became free in time: at most 1 may be open");
        let redis = connections.permit(ConnectionKind::Redis, soon()).await.unwrap();
        let error = connections.permit(ConnectionKind::Mqtt, soon()).await.unwrap_err();
        assert!(error.to_string().ends_with("at most 2 may be open"), "{error}");
        drop(http);
        connections.permit(ConnectionKind::Http, soon()).await.unwrap();
        drop(redis);
    }

    #[tokio::test]
    async fn without_a_configuration_the_default_limit_holds_and_none_at_all_refuses_at_once() {
        let connections = Connections::new(&RuntimeConfig::default(), 1);
        let _one = connections.try_permit(ConnectionKind::Postgres).unwrap();
        assert!(connections.try_permit(ConnectionKind::Mysql).is_err());
        let none = Connections::new(&config(Some(0), None), 1);
        let far = Instant::now() + Duration::from_secs(3600);
        assert!(none.permit(ConnectionKind::Http, far).await.is_err());
    }

    #[tokio::test]
    async fn who_must_wait_has_idle_connections_closed() {
        let connections = Arc::new(Connections::new(&RuntimeConfig::default(), 1));
        let idle = std::sync::Mutex::new(Some(connections.try_permit(ConnectionKind::Http).unwrap()));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        connections.on_shortage(move || {
            count.fetch_add(1, Ordering::Relaxed);
            idle.lock().unwrap().take();
        });
        let far = Instant::now() + Duration::from_secs(60);
        connections.permit(ConnectionKind::Redis, far).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(!connections.is_short());
    }
}

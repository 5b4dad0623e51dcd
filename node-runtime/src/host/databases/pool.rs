//! [`Pool`]: connections to servers, kept between requests.
//!
//! Promise: a connection belongs to one guest at a time, from `open` until that is dropped. Before another guest has it, its
//! session is put back to how it was; one that cannot be, or on which a call was broken off, is closed instead. Idle ones are
//! closed after [`IDLE`], when there are more than [`MOST_IDLE`], and when somebody waits for the right to connect.
//!
//! Guests of one revision share a pool, so a connection is found by the address with its user and password, and by the TLS
//! identity of the component that opened it.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    ops::Deref,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::Notify, task::JoinSet};

use crate::host::{
    network::{ConnectionKind, ConnectionPermit, Network, NetworkError, Waiting},
    tls::TlsIdentity,
};

/// How long a connection is kept that nobody uses: less than the minutes after which servers and firewalls forget one.
const IDLE: Duration = Duration::from_secs(60);
/// How many connections of one kind a revision keeps that nobody uses, to all servers together.
const MOST_IDLE: usize = 128;
/// How long a server may take to reset a session, or to be told that a call is over.
const CLEANING: Duration = Duration::from_secs(5);

/// A connection to a server, as a pool sees it.
pub(super) trait Session: Send + Sync + Sized + 'static {
    /// Counts against the limit of this kind.
    const KIND: ConnectionKind;

    /// Whether the server may still be there, as far as this side knows.
    fn is_open(&self) -> bool;

    /// What is left of the guest that used it.
    fn after_use(&self) -> AfterUse;

    /// Puts the session back to how it was; false when that is not possible.
    fn reset(&mut self) -> impl Future<Output = bool> + Send {
        std::future::ready(true)
    }

    /// Asks the server whether it is there, where nothing else tells.
    fn check(&mut self, _idle: Duration) -> impl Future<Output = bool> + Send {
        std::future::ready(true)
    }

    /// No guest has it: nothing of what it answered is held any more.
    fn rest(&self) {}

    /// Gives up a session in the middle of a call.
    fn abandon(self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What to do with a session that a guest is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterUse {
    /// Nothing of the guest is left in it.
    Keep,
    /// The server must clean it.
    Reset,
    /// It cannot be cleaned.
    Close,
}

/// To whom a connection leads, as whom.
#[derive(Clone)]
pub(super) struct Key {
    address: Arc<str>,
    identity: Arc<TlsIdentity>,
}

impl Key {
    /// The server at `address` (with user and password), called by a component with `network`.
    pub(super) fn new(address: &str, network: &Network) -> Self {
        Self { address: address.into(), identity: Arc::clone(network.identity()) }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && Arc::ptr_eq(&self.identity, &other.identity)
    }
}

/// Connections of one kind.
pub(super) struct Pool<S> {
    idle: Mutex<VecDeque<Idle<S>>>,
    /// Somebody put a connection back, or closed one.
    changed: Notify,
    waiting: AtomicUsize,
    watched: Once,
    tasks: Mutex<JoinSet<()>>,
}

struct Idle<S> {
    key: Key,
    session: S,
    since: Instant,
    _permit: ConnectionPermit,
}

/// A connection that a guest has. Dropped, it goes back to the pool or is closed.
pub(super) struct Lease<S: Session> {
    /// Some until it is dropped.
    held: Option<Held<S>>,
    spoiled: AtomicBool,
}

struct Held<S> {
    session: Arc<S>,
    key: Key,
    permit: ConnectionPermit,
    pool: Weak<Pool<S>>,
    network: Network,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum LeaseError<E> {
    /// Nobody may have another one, or it took too long.
    Network(NetworkError),
    /// Connecting failed.
    Connect(E),
    /// The server took the connection, and then too long.
    Timeout,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            watched: Once::new(),
            tasks: Mutex::default(),
        }
    }
}

impl<S: Session> Pool<S> {
    /// A connection to `key`: one that was kept, or what `connect` makes, until then.
    pub(super) async fn lease<E>(
        self: &Arc<Self>,
        network: &Network,
        key: Key,
        until: Instant,
        connect: impl Future<Output = Result<S, E>>,
    ) -> Result<Lease<S>, LeaseError<E>> {
        self.watch(network);
        let held = |session, permit| Held {
            session: Arc::new(session),
            key: key.clone(),
            permit,
            pool: Arc::downgrade(self),
            network: network.clone(),
        };
        let permit = loop {
            while let Some(mut idle) = self.take(&key) {
                let age = idle.since.elapsed();
                let fine = tokio::time::timeout_at(until.into(), idle.session.check(age)).await;
                if fine.unwrap_or(false) {
                    return Ok(Lease::new(held(idle.session, idle._permit)));
                }
            }
            match self.permit(network, until).await.map_err(LeaseError::Network)? {
                Some(permit) => break permit,
                None => continue,
            }
        };
        let session = tokio::time::timeout_at(until.into(), connect).await.map_err(|_| LeaseError::Timeout)?;
        Ok(Lease::new(held(session.map_err(LeaseError::Connect)?, permit)))
    }

    /// The right to open another connection; none when one came back meanwhile, which may be the right one.
    async fn permit(&self, network: &Network, until: Instant) -> Result<Option<ConnectionPermit>, NetworkError> {
        let mut changed = pin!(self.changed.notified());
        changed.as_mut().enable();
        if let Ok(permit) = network.connections().try_permit(S::KIND) {
            return Ok(Some(permit));
        }
        if self.close_oldest() {
            return Ok(None);
        }
        let _waiting = Waiting::new(&self.waiting);
        tokio::select! {
            permit = network.permit(S::KIND, until) => permit.map(Some),
            () = changed => Ok(None),
        }
    }

    /// Takes the newest connection to `key` that is open.
    fn take(&self, key: &Key) -> Option<Idle<S>> {
        let mut idle = self.idle();
        idle.retain(|idle| idle.session.is_open());
        let found = idle.iter().rposition(|idle| idle.key == *key)?;
        idle.remove(found)
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle<S>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection.
    fn put(&self, key: Key, session: S, permit: ConnectionPermit, network: &Network) {
        // Somebody of another kind waits: the right to connect is worth more there.
        if self.waiting.load(Ordering::Relaxed) == 0 && network.connections().is_short() {
            return;
        }
        let closed = {
            let mut idle = self.idle();
            idle.push_back(Idle { key, session, since: Instant::now(), _permit: permit });
            if idle.len() > MOST_IDLE { idle.pop_front() } else { None }
        };
        drop(closed);
        self.changed.notify_one();
    }

    fn close_oldest(&self) -> bool {
        let oldest = self.idle().pop_front();
        oldest.is_some()
    }

    /// Has idle connections closed: in time, and when others need theirs. Done once, when there is a runtime to do it.
    fn watch(self: &Arc<Self>, network: &Network) {
        self.watched.call_once(|| {
            let pool = Arc::downgrade(self);
            network.connections().on_shortage(move || {
                if let Some(pool) = pool.upgrade() {
                    pool.close_oldest();
                }
            });
            let pool = Arc::downgrade(self);
            self.run(async move {
                loop {
                    tokio::time::sleep(IDLE / 4).await;
                    let Some(pool) = pool.upgrade() else { return };
                    let kept = |idle: &Idle<S>| idle.since.elapsed() < IDLE && idle.session.is_open();
                    pool.idle().retain(kept);
                }
            });
        });
    }

    /// Runs something that this pool owns. Where nothing runs any more, it is dropped.
    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &runtime);
    }
}

impl<S: Session> Lease<S> {
    fn new(held: Held<S>) -> Self {
        Self { held: Some(held), spoiled: AtomicBool::new(false) }
    }

    /// The session, for one call. Unless that is [finished](Call::finish), the connection is not used again.
    pub(super) fn call(self: &Arc<Self>) -> Option<Call<S>> {
        let session = Arc::clone(&self.held.as_ref()?.session);
        Some(Call { session, lease: Arc::clone(self), finished: false })
    }

    /// Has the connection closed after use, whatever else.
    pub(super) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }
}

/// A call on a connection, which is not given back before.
pub(super) struct Call<S: Session> {
    // Before the lease, which takes the session back when it is dropped.
    session: Arc<S>,
    lease: Arc<Lease<S>>,
    finished: bool,
}

impl<S: Session> Call<S> {
    /// The server has answered all of it.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl<S: Session> Deref for Call<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.session
    }
}

impl<S: Session> Drop for Call<S> {
    fn drop(&mut self) {
        if !self.finished {
            self.lease.spoil();
        }
    }
}

impl<S: Session> Drop for Lease<S> {
    fn drop(&mut self) {
        let Some(Held { session, key, permit, pool, network }) = self.held.take() else { return };
        // No call has it, because a call has the lease.
        let Some(mut session) = Arc::into_inner(session) else { return };
        session.rest();
        // The revision is gone, and its connections with it.
        let Some(pool) = pool.upgrade() else { return };
        if *self.spoiled.get_mut() {
            pool.run(async move {
                // Counted until it is closed.
                let _permit = permit;
                let _late = tokio::time::timeout(CLEANING, session.abandon()).await;
            });
            return;
        }
        match session.after_use() {
            AfterUse::Keep if session.is_open() => pool.put(key, session, permit, &network),
            AfterUse::Keep | AfterUse::Close => {}
            AfterUse::Reset => {
                let owner = Arc::downgrade(&pool);
                pool.run(async move {
                    let clean = tokio::time::timeout(CLEANING, session.reset()).await.unwrap_or(false);
                    if clean && let Some(pool) = owner.upgrade() {
                        pool.put(key, session, permit, &network);
                    }
                });
            }
        }
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<S: Session> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("spoiled", &self.spoiled).finish_non_exhaustive()
    }
}

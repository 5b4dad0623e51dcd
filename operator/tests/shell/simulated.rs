//! A runtime that takes every assignment and at once says that it serves it: real TLS, real HTTP/2, the real frames,
//! and no guests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::{AppKey, AppReport, Assignment, FromRuntime, Inventory, RevisionState, ToRuntime};
use rustls::ServerConfig;
use tokio::task::JoinSet;

use crate::peer::{Conversation, Peer, welcome};

/// A runtime.
pub(crate) struct Simulated {
    pub(crate) name: String,
    pub(crate) peer_address: std::net::SocketAddr,
    state: Arc<Mutex<Heard>>,
    _task: JoinSet<()>,
}

/// What it has been told.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) assigned: BTreeMap<AppKey, Assignment>,
    words: u64,
    /// How often it was told to take or to change an app.
    pub(crate) assigns: usize,
    pub(crate) removes: usize,
    pub(crate) streams: usize,
    /// How often everything that differed had been said.
    pub(crate) synced: usize,
}

impl Simulated {
    /// The runtime `name` at 127.0.0.`host`.
    pub(crate) async fn start(name: String, host: u8, port: u16, tls: Arc<ServerConfig>) -> Self {
        let mut peer = Peer::start(host, port, tls).await;
        let state = Arc::new(Mutex::new(Heard::default()));
        let (mut task, peer_address) = (JoinSet::new(), peer.address);
        let (shared, called) = (Arc::clone(&state), name.clone());
        task.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Some(conversation) = peer.next().await {
                conversations.spawn(converse(Arc::clone(&shared), called.clone(), conversation));
            }
        });
        Self { name, peer_address, state, _task: task }
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.state)
    }

    /// The messages about apps so far.
    pub(crate) fn messages(&self) -> usize {
        let heard = self.heard();
        heard.assigns + heard.removes
    }
}

fn lock(state: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(state: Arc<Mutex<Heard>>, name: String, mut conversation: Conversation) {
    let Some(ToRuntime::Hello(_)) = conversation.read().await else { return };
    let inventory = lock(&state).inventory();
    conversation.say(&FromRuntime::Welcome(Box::new(welcome(&name, inventory)))).await;
    while let Some(message) = conversation.read().await {
        let answer = lock(&state).hear(message);
        if let Some(answer) = answer
            && conversation.try_say(&answer).await.is_none()
        {
            return;
        }
    }
}

impl Heard {
    fn inventory(&mut self) -> Inventory {
        self.streams += 1;
        let fingerprint = |(app, assignment): (&AppKey, &Assignment)| (app.clone(), assignment.fingerprint().unwrap());
        Inventory {
            assigned: self.assigned.iter().map(fingerprint).collect(),
            reports: self.assigned.values().map(|assignment| self.report(assignment)).collect(),
            words: self.words,
            rollouts: Vec::new(),
        }
    }

    fn hear(&mut self, message: ToRuntime) -> Option<FromRuntime> {
        match message {
            ToRuntime::Assign(assignment) => {
                (self.words, self.assigns) = (self.words + 1, self.assigns + 1);
                let report = self.report(&assignment);
                self.assigned.insert(assignment.app.clone(), *assignment);
                Some(FromRuntime::Report(vec![report]))
            }
            ToRuntime::Remove(app) => {
                (self.words, self.removes) = (self.words + 1, self.removes + 1);
                self.assigned.remove(&app);
                Some(FromRuntime::Removed(app))
            }
            ToRuntime::Ping(number) => Some(FromRuntime::Pong(number)),
            ToRuntime::Synced => {
                self.synced += 1;
                None
            }
            ToRuntime::Hello(_) => None,
        }
    }

    fn report(&self, assignment: &Assignment) -> AppReport {
        AppReport {
            app: assignment.app.clone(),
            uid: assignment.uid.clone(),
            fingerprint: assignment.fingerprint().unwrap(),
            word: Some(self.words),
            port: assignment.port,
            revisions: assignment
                .revisions
                .iter()
                .map(|revision| (revision.id.clone(), RevisionState::Ready))
                .collect(),
            serving: Some(assignment.active.clone()),
            problem: None,
            times: BTreeMap::new(),
        }
    }
}

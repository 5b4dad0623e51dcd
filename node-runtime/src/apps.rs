//! [`Apps`]: carries out what [`node_runtime_core::converge`] decides.
//!
//! One task owns the state of all apps. It is told things ([`Apps::assign`], [`Apps::remove`]), hears how jobs end,
//! decides, and begins the next steps; fetching, building and checking run as jobs of their own, bounded in number. What is true
//! afterwards is posted on the [`Board`].
//!
//! Absent on purpose: decisions. An `if` about revisions belongs into the core crate.

mod board;
mod carry;
mod check;
mod jobs;
mod keeper;
mod sweep;
mod unread;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use control::{AppKey, AppReport, Assignment, Fingerprint, RevisionId, RevisionSpec, Unreadable};
use daemon::Tasks;
use node_runtime_core::converge::{self, App, Backoff, Room, Wanted, converge_app, keep};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use board::{Board, News};

use crate::{
    apps::{
        carry::Live,
        jobs::{JobEnd, Outcome},
        keeper::Keeper,
        sweep::Sweep,
        unread::Unread,
    },
    disk::Disk,
    loader::Loader,
    metrics::Metrics,
    trigger::Trigger,
};

/// How many things may be said before whoever says them waits.
const BACKLOG: usize = 256;
/// How many of them are taken in before deciding.
const BATCH: usize = 512;

/// What apps need of their process.
#[derive(Debug)]
pub struct AppsSettings {
    /// How many fetches and preparations run at a time.
    pub room: Room,
    /// How long to wait before trying again.
    pub backoff: Backoff,
    /// How long connections of an app that was removed may finish.
    pub drain_timeout: Duration,
    /// How long content stays after it was last needed: it may come back.
    pub sweep_delay: Duration,
}

/// Something that the runtime is told.
#[derive(Debug)]
enum Told {
    Assign(Box<Assignment>, u64),
    /// What was kept on disk.
    Restore(Vec<Assignment>),
    Remove(AppKey),
    /// A word that cannot be read, and its number.
    Unreadable(Box<Unreadable>, u64),
    /// Everything has been said, in words after that of this number.
    Synced(u64),
    /// To be answered when everything said before has been decided about.
    Settle(oneshot::Sender<()>),
}

/// The handle of the task that owns the apps. Clones are handles of the same task.
#[derive(Debug, Clone)]
pub struct Apps {
    told: mpsc::Sender<Told>,
    board: Arc<Board>,
    words: Arc<AtomicU64>,
}

/// A place in the queue of things said, so that whoever has it can speak at once.
#[derive(Debug)]
pub struct Turn<'a> {
    permit: mpsc::Permit<'a, Told>,
    words: &'a AtomicU64,
}

impl Turn<'_> {
    /// This is now the whole truth about one app.
    pub fn assign(self, assignment: Box<Assignment>) {
        let word = self.next_word();
        self.permit.send(Told::Assign(assignment, word));
    }

    /// The app is no longer this runtime's.
    pub fn remove(self, app: AppKey) {
        self.next_word();
        self.permit.send(Told::Remove(app));
    }

    /// A word that cannot be read: what there is of its app goes on, and the operator is told.
    pub fn pass_over(self, unreadable: Box<Unreadable>) {
        let word = self.next_word();
        self.permit.send(Told::Unreadable(unreadable, word));
    }

    /// Everything that is not as the operator wants it has been said, in words after the one of this number.
    pub fn synced(self, after: u64) {
        self.permit.send(Told::Synced(after));
    }

    /// The number of the next word: `control::AppReport::word`.
    fn next_word(&self) -> u64 {
        self.words.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Apps {
    /// Starts the task, and its jobs, below `tasks`.
    #[must_use]
    pub fn start(
        tasks: &Tasks,
        loader: Arc<Loader>,
        trigger: Trigger,
        disk: Disk,
        metrics: Metrics,
        settings: AppsSettings,
    ) -> Self {
        let (told, hears) = mpsc::channel(BACKLOG);
        let (ends, ended) = mpsc::unbounded_channel();
        let board = Arc::new(Board::default());
        let keeper = Keeper::start(tasks, disk);
        let owner = Owner {
            tasks: tasks.clone(),
            board: Arc::clone(&board),
            loader,
            trigger,
            keeper,
            metrics,
            room: settings.room,
            settings,
            began: Instant::now(),
            ends,
            desired: BTreeMap::new(),
            actual: BTreeMap::new(),
            live: BTreeMap::new(),
            draining: Vec::new(),
            kept: BTreeMap::new(),
            sweep: Sweep::default(),
            check_places: Arc::new(Semaphore::new(check::AT_A_TIME)),
            agenda: Agenda::default(),
            settling: Vec::new(),
            births: 0,
            words: BTreeMap::new(),
            unread: BTreeMap::new(),
        };
        let stopping = tasks.stop_token();
        tasks.spawn("apps", async move {
            stopping.run_until_cancelled_owned(owner.run(hears, ended)).await;
            Ok::<(), Infallible>(())
        });
        Self { told, board, words: Arc::default() }
    }

    /// What is true of each app.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Waits until something can be said; `None` when the process stops.
    pub async fn turn(&self) -> Option<Turn<'_>> {
        let permit = self.told.reserve().await.ok()?;
        Some(Turn { permit, words: &self.words })
    }

    /// How many words about apps have been taken so far. What is taken after this has higher numbers.
    #[must_use]
    pub fn words(&self) -> u64 {
        self.words.load(Ordering::Relaxed)
    }

    /// Runs what was kept on disk. Nobody may say anything before: it would be taken for older than what was kept.
    pub async fn restore(&self, assignments: Vec<Assignment>) {
        // An error means that the process stops.
        drop(self.told.send(Told::Restore(assignments)).await);
        self.settled().await;
    }

    /// Waits until everything that has been said so far is on the board.
    pub async fn settled(&self) {
        let (answer, answered) = oneshot::channel();
        // Errors mean that the process stops.
        drop(self.told.send(Told::Settle(answer)).await);
        drop(answered.await);
    }
}

/// Which apps to decide about, and when.
#[derive(Debug, Default)]
struct Agenda {
    now: BTreeSet<AppKey>,
    /// When there is room again.
    waiting: BTreeSet<AppKey>,
    later: BTreeMap<AppKey, Duration>,
}

/// A revision with requests in flight.
struct Draining {
    app: AppKey,
    spec: Arc<RevisionSpec>,
    /// Cancelled after the last of them.
    drained: CancellationToken,
}

/// The owner of all apps' state.
struct Owner {
    tasks: Tasks,
    board: Arc<Board>,
    loader: Arc<Loader>,
    trigger: Trigger,
    keeper: Keeper,
    metrics: Metrics,
    settings: AppsSettings,
    room: Room,
    began: Instant,
    ends: mpsc::UnboundedSender<JobEnd>,
    desired: BTreeMap<AppKey, Wanted>,
    actual: BTreeMap<AppKey, App>,
    live: BTreeMap<AppKey, Live>,
    /// Revisions with requests in flight, also of apps that are forgotten: until the token is cancelled.
    draining: Vec<Draining>,
    /// What is on disk: the assignment, and the unlisted revision kept with it.
    kept: BTreeMap<AppKey, (Fingerprint, Option<RevisionId>)>,
    sweep: Sweep,
    /// Room for requests of checks.
    check_places: Arc<Semaphore>,
    agenda: Agenda,
    /// Who waits for everything to be decided about.
    settling: Vec<oneshot::Sender<()>>,
    births: u64,
    /// The number of the last word about each app that is desired, or that could not be read.
    words: BTreeMap<AppKey, u64>,
    /// The last word about each app of which that could not be read.
    unread: BTreeMap<AppKey, Unread>,
}

impl Owner {
    async fn run(mut self, mut told: mpsc::Receiver<Told>, mut ended: mpsc::UnboundedReceiver<JobEnd>) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                Some(end) = ended.recv() => self.hear(end),
                Some(said) = told.recv() => self.take(said),
                () = self.sweep.ended(), if self.sweep.is_running() => self.resume_waiting(),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            }
            while let Ok(end) = ended.try_recv() {
                self.hear(end);
            }
            for _ in 0..BATCH {
                let Ok(said) = told.try_recv() else { break };
                self.take(said);
            }
            self.recheck();
            self.decide().await;
            for answer in self.settling.drain(..) {
                // An error means that nobody waits any more.
                let _nobody_waits = answer.send(());
            }
            self.sweep_if_due();
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long until there is something to do although nothing was heard.
    fn next_wake(&self) -> Option<Duration> {
        let next = self.agenda.later.values().copied().chain(self.sweep.due()).min()?;
        Some(next.saturating_sub(self.now()))
    }

    /// There is room again.
    fn resume_waiting(&mut self) {
        self.agenda.now.append(&mut self.agenda.waiting);
    }

    fn recheck(&mut self) {
        let now = self.now();
        self.agenda.now.extend(self.agenda.later.extract_if(.., |_, at| *at <= now).map(|(app, _)| app));
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Assign(assignment, word) => self.assign(*assignment, Some(word)),
            Told::Restore(all) => all.into_iter().for_each(|assignment| self.assign(assignment, None)),
            Told::Unreadable(unreadable, word) => self.pass_over(*unreadable, word),
            Told::Synced(after) => {
                self.forget_unread(after);
                self.synced();
            }
            Told::Settle(answer) => self.settling.push(answer),
            Told::Remove(app) => {
                self.unread.remove(&app);
                self.words.remove(&app);
                if self.desired.contains_key(&app) || self.actual.contains_key(&app) {
                    self.remove(app);
                } else {
                    self.board.post(&app, News::Removed, true);
                }
            }
        }
    }

    /// Nothing of the app is wanted any more.
    fn remove(&mut self, app: AppKey) {
        tracing::info!(%app, "app removed");
        self.desired.remove(&app);
        self.kept.remove(&app);
        self.board.leave(&app);
        self.board.set_rollout(&app, None);
        self.keeper.keep(&app, None);
        self.sweep_later();
        self.agenda.now.insert(app);
    }

    /// Takes in an assignment: the operator's word of this number, or one from disk.
    fn assign(&mut self, assignment: Assignment, word: Option<u64>) {
        let app = assignment.app.clone();
        self.words.insert(app.clone(), word.unwrap_or_default());
        self.unread.remove(&app);
        let fingerprint = match assignment.fingerprint() {
            Ok(fingerprint) => fingerprint,
            Err(error) => return tracing::error!(%app, %error, "an assignment has no fingerprint"),
        };
        let assignment = Arc::new(assignment);
        let wanted = Wanted { assignment: Arc::clone(&assignment), fingerprint };
        if self.desired.get(&app) == Some(&wanted) {
            // Said twice: answered twice.
            self.post(&app, true);
            return;
        }
        tracing::info!(%app, revision = %assignment.active, port = assignment.port, "app assigned");
        self.desired.insert(app.clone(), wanted);
        if word.is_none() {
            self.kept.insert(app.clone(), (fingerprint, None));
            self.board.set_rollout(&app, Some(assignment));
        }
        self.sweep_later();
        self.agenda.now.insert(app);
    }

    /// Notes how a job ended; one of an app that was forgotten since is of no interest.
    fn hear(&mut self, end: JobEnd) {
        match end.outcome {
            Outcome::Fetched(_) => self.room.fetches += 1,
            Outcome::Prepared(_) => self.room.preparations += 1,
            Outcome::Checked(_) => {}
            Outcome::Drained => self.sweep_later(),
        }
        self.resume_waiting();
        let (now, key) = (self.now(), end.app.clone());
        let current = self.live.get_mut(&key).filter(|live| live.birth == end.birth);
        if let (Some(live), Some(app)) = (current, self.actual.get_mut(&key))
            && let Some(event) = live.event(end)
        {
            app.record(event, now, &self.settings.backoff);
            self.agenda.now.insert(key);
        }
    }

    async fn decide(&mut self) {
        while let Some(key) = self.agenda.now.pop_first() {
            let (wanted, actual) = (self.desired.get(&key), self.actual.get(&key));
            let (open, mut room) = (self.open_room(), self.open_room());
            let next = converge_app(&key, wanted, actual, self.now(), &mut room);
            self.room.fetches -= open.fetches - room.fetches;
            self.room.preparations -= open.preparations - room.preparations;
            if next.waiting {
                self.agenda.waiting.insert(key.clone());
            }
            match next.recheck {
                Some(at) => drop(self.agenda.later.insert(key.clone(), at)),
                None => drop(self.agenda.later.remove(&key)),
            }
            for step in next.steps {
                self.carry_out(&key, step).await;
            }
            self.keep(&key);
            self.post(&key, false);
        }
    }

    /// Has on disk, and on the board, what a restart must bring back.
    fn keep(&mut self, key: &AppKey) {
        let Some(wanted) = self.desired.get(key) else { return };
        let unlisted = keep::unlisted(wanted, self.actual.get(key));
        let entry = (wanted.fingerprint, unlisted.cloned());
        if self.kept.get(key) == Some(&entry) {
            return;
        }
        let spec = unlisted.and_then(|revision| self.live.get(key)?.spec(revision));
        let kept = match keep::kept(&wanted.assignment, spec) {
            Cow::Borrowed(_) => Arc::clone(&wanted.assignment),
            Cow::Owned(more) => Arc::new(more),
        };
        self.board.set_rollout(key, Some(Arc::clone(&kept)));
        self.keeper.keep(key, Some(kept));
        self.kept.insert(key.clone(), entry);
    }

    fn post(&self, key: &AppKey, anew: bool) {
        let has = self.desired.get(key).map(|wanted| {
            let times = self.live.get(key).map(|live| live.times().clone()).unwrap_or_default();
            AppReport { times, ..converge::report(wanted, self.actual.get(key)) }
        });
        let word = self.words.get(key).copied();
        let numbered = |report| Box::new(AppReport { word, ..report });
        match (self.unread.get(key), has) {
            (None, None) if self.actual.contains_key(key) => {}
            (None, None) => self.board.post(key, News::Removed, false),
            (None, Some(has)) => self.board.post(key, News::Report(numbered(has)), anew),
            (Some(unread), None) => {
                self.board.post(key, News::Unreadable(numbered(unread.report(key, None))), anew);
            }
            (Some(unread), has) => self.board.post(key, News::Report(numbered(unread.report(key, has))), anew),
        }
    }
}

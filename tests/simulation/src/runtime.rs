//! The process of a runtime, as long as it runs.
//!
//! Does what `node-runtime/src/{apps,control}` do around the same deciders: records what it was told, carries steps out,
//! keeps on disk what a restart must bring back, and posts what has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use control::{AppKey, AppReport, Assignment, Inventory, RevisionId, RevisionSpec};
use node_runtime_core::converge::{App, Backoff, Event, Fault, Room, Step, Wanted, keep, report};

use crate::rules::Rules;

/// The process of a runtime.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) desired: BTreeMap<AppKey, Wanted>,
    pub(crate) actual: BTreeMap<AppKey, App>,
    ready: BTreeMap<(AppKey, RevisionId), RevisionSpec>,
    /// What has passed its check here.
    passed: BTreeSet<(AppKey, RevisionId)>,
    births: BTreeMap<AppKey, u64>,
    born: u64,
    jobs: BTreeMap<(AppKey, RevisionId), u64>,
    job: u64,
    running: Running,
    posts: BTreeMap<AppKey, Option<AppReport>>,
    rollouts: BTreeMap<AppKey, Assignment>,
    /// How many words about apps it was sent, and the last one about each.
    pub(crate) words: u64,
    word: BTreeMap<AppKey, u64>,
    /// The highest term met.
    pub(crate) term: u64,
    /// The stream that commands.
    pub(crate) session: Option<u64>,
    pub(crate) draining: bool,
    /// When it began, in true milliseconds.
    pub(crate) began: i64,
    rules: Rules,
}

/// How many jobs run.
#[derive(Debug, Default, Clone, Copy)]
struct Running {
    fetches: usize,
    preparations: usize,
}

/// How many jobs may run at a time.
const ROOM: Room = Room { fetches: 2, preparations: 1 };

/// Something that a runtime does meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) app: AppKey,
    pub(crate) birth: u64,
    pub(crate) revision: RevisionId,
    pub(crate) number: u64,
    pub(crate) kind: JobKind,
    /// The version of the application that the revision has.
    pub(crate) version: String,
}

/// What a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobKind {
    Fetch,
    Prepare,
    Check,
    Drain,
}

/// What came of deciding: jobs to start, posts to send, when to decide again.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) jobs: Vec<Job>,
    /// An app's new report; `None` when it is gone.
    pub(crate) posts: Vec<(AppKey, Option<AppReport>)>,
    /// After so many milliseconds of the process's life.
    pub(crate) recheck: Option<i64>,
    /// Ports that were asked for and cannot be had this time are decided by the caller.
    pub(crate) kept: Vec<(AppKey, Option<Assignment>)>,
}

impl Process {
    /// A process that begins with what was `kept` on disk.
    pub(crate) fn begin<'a>(now: i64, rules: &Rules, kept: impl Iterator<Item = &'a Assignment>) -> Self {
        let mut process = Self { began: now, rules: *rules, ..Self::default() };
        kept.for_each(|assignment| process.restore(assignment.clone()));
        process
    }

    /// An app that this process serves with a revision that has a check which has not passed here.
    pub(crate) fn unchecked(&self) -> Option<(&AppKey, &RevisionId)> {
        self.actual.iter().find_map(|(key, app)| {
            let id = app.serving.as_ref()?;
            let gated = self.ready.get(&(key.clone(), id.clone()))?.readiness.is_some();
            (gated && !self.passed.contains(&(key.clone(), id.clone()))).then_some((key, id))
        })
    }

    fn restore(&mut self, assignment: Assignment) {
        let Ok(fingerprint) = assignment.fingerprint() else { return };
        self.note_rollout(&assignment);
        let app = assignment.app.clone();
        self.desired.insert(app, Wanted { assignment: Arc::new(assignment), fingerprint });
    }

    fn note_rollout(&mut self, kept: &Assignment) {
        if keep::is_rollout(kept) {
            self.rollouts.insert(kept.app.clone(), kept.clone());
        } else {
            self.rollouts.remove(&kept.app);
        }
    }

    /// This is now the whole truth about one app.
    pub(crate) fn assign(&mut self, assignment: Assignment) -> Vec<(AppKey, Option<AppReport>)> {
        let Ok(fingerprint) = assignment.fingerprint() else { return Vec::new() };
        let app = assignment.app.clone();
        self.words += 1;
        self.word.insert(app.clone(), self.words);
        let wanted = Wanted { assignment: Arc::new(assignment), fingerprint };
        if self.desired.get(&app) == Some(&wanted) {
            let again = AppReport { word: Some(self.words), ..report(&wanted, self.actual.get(&app)) };
            return vec![(app, Some(again))];
        }
        self.desired.insert(app, wanted);
        Vec::new()
    }

    /// The app is no longer this runtime's.
    pub(crate) fn remove(&mut self, app: &AppKey) -> Effects {
        let mut effects = Effects::default();
        self.words += 1;
        self.word.remove(app);
        if self.desired.remove(app).is_none() && !self.actual.contains_key(app) {
            effects.posts.push((app.clone(), None));
            return effects;
        }
        self.rollouts.remove(app);
        effects.kept.push((app.clone(), None));
        effects
    }

    /// What it holds, for an operator that has just connected.
    pub(crate) fn inventory(&self) -> Inventory {
        let held = self.posts.iter().filter(|(app, _)| self.desired.contains_key(*app));
        let reports: Vec<AppReport> = held.filter_map(|(_, post)| post.clone()).collect();
        Inventory {
            assigned: reports.iter().map(|report| (report.app.clone(), report.fingerprint)).collect(),
            reports,
            words: self.words,
            rollouts: self.rollouts.values().cloned().collect(),
        }
    }

    /// Decides until there is nothing left to decide.
    pub(crate) fn decide(&mut self, now: i64) -> Effects {
        let mut effects = Effects::default();
        let keys: Vec<AppKey> = self.desired.keys().chain(self.actual.keys()).cloned().collect();
        for key in keys {
            // Binding succeeds at once, which is news.
            for _ in 0..4 {
                if !self.decide_about(&key, now, &mut effects) {
                    break;
                }
            }
            self.keep(&key, &mut effects);
            self.post(&key, &mut effects);
        }
        effects
    }

    /// Whether something happened at once, so that there is more to decide.
    fn decide_about(&mut self, key: &AppKey, now: i64, effects: &mut Effects) -> bool {
        let alive = Duration::from_millis(u64::try_from(now - self.began).unwrap_or_default());
        let mut room = Room {
            fetches: ROOM.fetches.saturating_sub(self.running.fetches),
            preparations: ROOM.preparations.saturating_sub(self.running.preparations),
        };
        let next = (self.rules.converge)(key, self.desired.get(key), self.actual.get(key), alive, &mut room);
        let recheck = next.recheck.and_then(|at| i64::try_from(at.as_millis()).ok());
        effects.recheck = effects.recheck.into_iter().chain(recheck).min();
        let mut more = false;
        for step in next.steps {
            more |= self.carry_out(key, &step, alive, effects);
        }
        more
    }

    fn carry_out(&mut self, key: &AppKey, step: &Step, alive: Duration, effects: &mut Effects) -> bool {
        if matches!(step, Step::Forget { .. }) {
            self.actual.remove(key);
            self.births.remove(key);
            self.ready.retain(|(app, _), _| app != key);
            self.passed.retain(|(app, _)| app != key);
            self.jobs.retain(|(app, _), _| app != key);
            return self.desired.contains_key(key);
        }
        if let Some(wanted) = self.desired.get(key)
            && !self.actual.contains_key(key)
        {
            self.born += 1;
            self.births.insert(key.clone(), self.born);
            self.actual.insert(key.clone(), App::new(wanted));
        }
        let under = self.desired.get(key).map(|wanted| wanted.fingerprint);
        let Some(app) = self.actual.get_mut(key) else { return false };
        app.begin(step, under.unwrap_or(app.under));
        match step {
            Step::Fetch { revision, .. } => self.start(key, revision, JobKind::Fetch, effects),
            Step::Prepare { revision, .. } => self.start(key, revision, JobKind::Prepare, effects),
            Step::Check { revision, .. } if !self.rules.checks => {
                app.record(Event::Passed(revision.clone()), alive, &Backoff::default());
                return true;
            }
            Step::Check { revision, .. } => self.start(key, revision, JobKind::Check, effects),
            Step::Bind { port, .. } => {
                app.record(Event::Bound(*port), alive, &Backoff::default());
                return true;
            }
            Step::Drain { revision, .. } => {
                self.jobs.remove(&(key.clone(), revision.clone()));
                self.passed.remove(&(key.clone(), revision.clone()));
                if let Some(spec) = self.ready.remove(&(key.clone(), revision.clone())) {
                    effects.jobs.push(Job {
                        app: key.clone(),
                        birth: self.births.get(key).copied().unwrap_or_default(),
                        revision: revision.clone(),
                        number: 0,
                        kind: JobKind::Drain,
                        version: spec.application.version,
                    });
                }
            }
            Step::Switch { .. } | Step::Stop { .. } | Step::Unbind { .. } | Step::Forget { .. } => {}
        }
        false
    }

    fn start(&mut self, key: &AppKey, revision: &RevisionId, kind: JobKind, effects: &mut Effects) {
        let Some(spec) = self.desired.get(key).and_then(|wanted| wanted.assignment.revision(revision)) else { return };
        self.job += 1;
        let version = spec.application.version.clone();
        self.jobs.insert((key.clone(), revision.clone()), self.job);
        match kind {
            JobKind::Fetch => self.running.fetches += 1,
            JobKind::Prepare => self.running.preparations += 1,
            JobKind::Check | JobKind::Drain => {}
        }
        let birth = self.births.get(key).copied().unwrap_or_default();
        effects.jobs.push(Job { app: key.clone(), birth, revision: revision.clone(), number: self.job, kind, version });
    }

    /// A job has ended.
    pub(crate) fn ended(&mut self, job: &Job, fault: Option<Fault>, now: i64) {
        match job.kind {
            JobKind::Fetch => self.running.fetches = self.running.fetches.saturating_sub(1),
            JobKind::Prepare => self.running.preparations = self.running.preparations.saturating_sub(1),
            JobKind::Check | JobKind::Drain => {}
        }
        if self.births.get(&job.app) != Some(&job.birth) {
            return;
        }
        let id = (job.app.clone(), job.revision.clone());
        if job.kind != JobKind::Drain && self.jobs.get(&id) != Some(&job.number) {
            return;
        }
        let revision = job.revision.clone();
        let event = match (job.kind, fault) {
            (JobKind::Drain, _) => Event::Drained(revision),
            (JobKind::Fetch, None) => Event::Fetched(revision),
            (JobKind::Fetch, Some(fault)) => Event::FetchFailed(revision, fault),
            (JobKind::Prepare, Some(fault)) => Event::PrepareFailed(revision, fault),
            (JobKind::Check, Some(fault)) => Event::CheckFailed(revision, fault),
            (JobKind::Check, None) => {
                self.passed.insert(id.clone());
                Event::Passed(revision)
            }
            (JobKind::Prepare, None) => {
                let spec = self.desired.get(&job.app).and_then(|wanted| wanted.assignment.revision(&revision));
                if let Some(spec) = spec {
                    self.ready.insert(id.clone(), spec.clone());
                }
                Event::Prepared(revision)
            }
        };
        if job.kind != JobKind::Drain {
            self.jobs.remove(&id);
        }
        let alive = Duration::from_millis(u64::try_from(now - self.began).unwrap_or_default());
        if let Some(app) = self.actual.get_mut(&job.app) {
            app.record(event, alive, &Backoff::default());
        }
    }

    fn keep(&mut self, key: &AppKey, effects: &mut Effects) {
        let Some(wanted) = self.desired.get(key) else { return };
        let unlisted = keep::unlisted(wanted, self.actual.get(key));
        let spec = unlisted.and_then(|revision| self.ready.get(&(key.clone(), revision.clone())));
        let kept = keep::kept(&wanted.assignment, spec).into_owned();
        self.note_rollout(&kept);
        effects.kept.push((key.clone(), Some(kept)));
    }

    fn post(&mut self, key: &AppKey, effects: &mut Effects) {
        let post = match self.desired.get(key) {
            Some(wanted) => {
                let word = Some(self.word.get(key).copied().unwrap_or_default());
                Some(AppReport { word, ..report(wanted, self.actual.get(key)) })
            }
            None if self.actual.contains_key(key) => return,
            None => None,
        };
        if self.posts.get(key) == Some(&post) {
            return;
        }
        match &post {
            Some(_) => drop(self.posts.insert(key.clone(), post.clone())),
            None => drop(self.posts.remove(key)),
        }
        effects.posts.push((key.clone(), post));
    }
}

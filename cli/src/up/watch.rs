//! `--watch`: runs what changed, without losing a request.
//!
//! Promise: whatever changes, the application that is served is one that was complete: a new revision is made beside the old
//! one, and takes its place with one pointer swap. One that cannot be made is told, and the old one goes on. No change is
//! missed: directories are watched before they are read.

mod interest;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use daemon::Tasks;
use node_runtime::{host::GuestLog, trigger::Slot};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::AccessKind};
use tokio::{sync::Notify, time::Instant};

use self::interest::{Change, Interest};
use super::{
    announce, build, console,
    project::Project,
    revision::{Inputs, Revision, Revisions},
};

/// How long nothing must change before what changed is read: programs write files in many steps.
const QUIET: Duration = Duration::from_millis(150);
/// How long to wait for that at most.
const BUSY: Duration = Duration::from_secs(3);

/// What `--watch` works on.
pub(super) struct Watch {
    pub(super) eyes: Eyes,
    pub(super) tasks: Tasks,
    pub(super) revisions: Arc<Revisions>,
    pub(super) slot: Arc<Slot>,
    pub(super) log: Arc<dyn GuestLog>,
    pub(super) base_url: String,
    /// What is served.
    pub(super) current: Inputs,
    pub(super) served: Revision,
}

impl Watch {
    /// Watches until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let change = self.eyes.next_change().await;
            if let Err(error) = self.follow(&change).await {
                console::complain(&error);
                console::say("What was served before is still served.");
            }
        }
    }

    /// Runs what there is now, if it differs from what is served.
    async fn follow(&mut self, change: &Change) -> anyhow::Result<()> {
        let began = Instant::now();
        // A directory that was made anew is another one, also if the manifest is wrong.
        self.eyes.look()?;
        let project = self.revisions.project()?.context("--watch needs an application in a directory")?;
        self.eyes.turn_to(interest_of(&self.revisions, &project))?;
        let args = &self.revisions.args;
        if args.build && (change.manifest || !change.built.is_empty()) {
            let wanted = |id: &_| change.manifest || change.built.contains(id);
            build::build(&project, wanted).await?;
        }
        let inputs = self.revisions.gather().await?;
        if inputs == self.current {
            return Ok(());
        }
        let revision = self.revisions.make(&inputs, Arc::clone(&self.log)).await?;
        self.slot.switch(Arc::clone(&revision.serving));
        console::say(&format!("Changed: the new version is served after {} ms", began.elapsed().as_millis()));
        self.tell_routes(&revision);
        self.current = inputs;
        retire(std::mem::replace(&mut self.served, revision), &self.tasks);
        Ok(())
    }

    fn tell_routes(&self, revision: &Revision) {
        let new = revision.serving.application();
        for warning in new.warnings() {
            tracing::warn!("{warning}");
        }
        let routes = announce::routes(new, &self.base_url);
        if routes != announce::routes(self.served.serving.application(), &self.base_url) {
            console::say(routes.trim_end());
        }
    }
}

/// Lets a revision finish its requests, and removes its files then.
fn retire(revision: Revision, tasks: &Tasks) {
    let Revision { serving, copies } = revision;
    let drained = serving.drained();
    drop(serving);
    let Some(copies) = copies else { return };
    tasks.spawn_brief("removal of files", async move {
        drained.cancelled().await;
        if let Err(error) = tokio::fs::remove_dir_all(&copies).await {
            tracing::warn!(%error, path = %copies.display(), "files of the last version are left until the end");
        }
    });
}

/// What the operating system tells about directories.
pub(super) struct Eyes {
    watcher: RecommendedWatcher,
    watched: BTreeMap<PathBuf, RecursiveMode>,
    shared: Arc<Shared>,
}

/// What the watcher's thread and the task share.
struct Shared {
    seen: Mutex<Seen>,
    changed: Notify,
}

struct Seen {
    interest: Interest,
    change: Change,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &Event) {
        let mut seen = self.seen();
        let Seen { interest, change } = &mut *seen;
        // After an overflow, events are missing.
        if if event.need_rescan() { interest.everything(change) } else { interest.note(&event.paths, change) } {
            self.changed.notify_one();
        }
    }
}

impl Eyes {
    /// Watches what decides about the application of `revisions`, from now on.
    ///
    /// # Errors
    /// When its directories cannot be watched.
    pub(super) fn open(revisions: &Revisions, project: &Project) -> anyhow::Result<Self> {
        let interest = interest_of(revisions, project);
        if revisions.args.build {
            tell_blind_spots(project);
        }
        let seen = Mutex::new(Seen { interest, change: Change::default() });
        let shared = Arc::new(Shared { seen, changed: Notify::new() });
        let noting = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) if is_change(&event) => noting.note(&event),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "watching is disturbed"),
        });
        let watcher = watcher.context("--watch: the operating system does not tell about changes")?;
        let mut eyes = Self { watcher, watched: BTreeMap::new(), shared };
        eyes.look()?;
        Ok(eyes)
    }

    /// Watches the directories of `interest` instead of those of the last one.
    fn turn_to(&mut self, interest: Interest) -> anyhow::Result<()> {
        self.shared.seen().interest = interest;
        self.look()
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let wanted = self.shared.seen().interest.directories();
        for (path, _) in self.watched.iter().filter(|(path, mode)| wanted.get(*path) != Some(mode)) {
            // It is gone, or its mode changes.
            let _gone = self.watcher.unwatch(path);
        }
        for (path, mode) in &wanted {
            // Also what is watched already: a directory of this name may be another one by now.
            let watched = self.watcher.watch(path, *mode);
            watched.with_context(|| {
                format!(
                    "--watch: cannot watch {} (Linux limits how much is watched: fs.inotify.max_user_watches)",
                    path.display()
                )
            })?;
        }
        self.watched = wanted;
        Ok(())
    }

    /// Waits for something to change, and for it to become quiet then.
    async fn next_change(&self) -> Change {
        let changed = &self.shared.changed;
        changed.notified().await;
        let busy = Instant::now() + BUSY;
        loop {
            let quiet = Instant::now() + QUIET;
            if tokio::time::timeout_at(quiet.min(busy), changed.notified()).await.is_err() {
                return std::mem::take(&mut self.shared.seen().change);
            }
        }
    }
}

/// Tells which components are built of what nobody watches.
fn tell_blind_spots(project: &Project) {
    for (id, component) in &project.manifest.components {
        if component.build.as_ref().is_some_and(|build| build.watch.is_empty()) {
            console::say(&format!(
                "Component {id} has no build.watch in the manifest: changes of its sources are not seen"
            ));
        }
    }
}

fn interest_of(revisions: &Revisions, project: &Project) -> Interest {
    let args = &revisions.args;
    Interest::of(project, args.build, !args.files.are_direct(), revisions.named_files(), revisions.written())
}

/// Whether something was written, made, moved or removed: reading tells events too.
fn is_change(event: &Event) -> bool {
    !matches!(event.kind, EventKind::Access(kind) if !matches!(kind, AccessKind::Close(notify::event::AccessMode::Write)))
}

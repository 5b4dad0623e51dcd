//! `--watch`: runs what changed, without losing a request.
//!
//! Promise: whatever changes, the application that is served is one that was complete: a new revision is made beside the old
//! one, and takes its place with one pointer swap. One that cannot be made is told, and the old one goes on; where there is
//! none yet, a change is waited for. No change is missed: directories are watched before they are read, and what could not be
//! built is built with what changes next.

mod interest;
mod rewritten;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use daemon::Tasks;
use manifest::{ComponentId, Manifest};
use node_runtime::{host::GuestLog, trigger::Slot};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::AccessKind};
use tokio::{sync::Notify, time::Instant};

use self::{
    interest::{Change, Interest},
    rewritten::Rewritten,
};
use super::{
    First, announce, build, console,
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
    /// Watches until the tasks stop.
    pub(super) fn start(self) {
        let tasks = self.tasks.clone();
        let stopping = tasks.stop_token();
        tasks.spawn("watch", async move {
            stopping.run_until_cancelled(self.run()).await;
            Ok::<(), Infallible>(())
        });
    }

    async fn run(mut self) {
        loop {
            let change = self.eyes.next_change().await;
            if let Err(error) = self.follow(change).await {
                console::complain(&error);
                console::say("What was served before is still served.");
            }
        }
    }

    /// Runs what there is now, if it differs from what is served.
    async fn follow(&mut self, change: Change) -> anyhow::Result<()> {
        let began = Instant::now();
        let inputs = self.eyes.gather(&self.revisions, change).await?;
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
    rewritten: Rewritten,
    /// The manifest by which components were built last.
    built: Option<Manifest>,
    /// What could not be built, or whose turn did not come.
    unbuilt: BTreeSet<ComponentId>,
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
        let mut eyes = Self {
            watcher,
            watched: BTreeMap::new(),
            shared,
            rewritten: Rewritten::default(),
            built: None,
            unbuilt: BTreeSet::new(),
        };
        eyes.look()?;
        Ok(eyes)
    }

    /// The first version that can run. One that cannot is told, and made again when something changes, as by `spin watch`.
    pub(super) async fn first(&mut self, revisions: &Revisions) -> First {
        let mut change = Change { manifest: true, ..Change::default() };
        loop {
            let first = async { First::of(revisions, self.gather(revisions, change).await?).await };
            match first.await {
                Ok(first) => return first,
                Err(error) => console::complain(&error),
            }
            console::say("Waiting for a change.");
            change = self.next_change().await;
        }
    }

    /// Reads what there is now; with `--build`, once what has changed is built.
    async fn gather(&mut self, revisions: &Revisions, change: Change) -> anyhow::Result<Inputs> {
        // A directory that was made anew is another one, also if the manifest is wrong.
        self.look()?;
        let project = revisions.project()?.context("--watch needs an application in a directory")?;
        self.turn_to(interest_of(revisions, &project))?;
        if revisions.args.build {
            self.build(&project, change).await?;
        }
        revisions.gather().await
    }

    /// Builds what has changed, and what could not be built before; everything when the manifest is another one.
    async fn build(&mut self, project: &Project, change: Change) -> anyhow::Result<()> {
        let mut wanted: BTreeSet<ComponentId> = change.built.into_keys().collect();
        if change.manifest && self.built.as_ref() != Some(&project.manifest) {
            wanted.extend(project.manifest.components.keys().cloned());
        }
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.append(&mut self.unbuilt);
        let built = build::build(project, |id| wanted.contains(id)).await;
        match built {
            Ok(()) => self.built = Some(project.manifest.clone()),
            Err(_) => self.unbuilt = wanted,
        }
        built
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
    async fn next_change(&mut self) -> Change {
        let is_echo = !self.shared.seen().change.built.is_empty();
        let changed = &self.shared.changed;
        changed.notified().await;
        let busy = Instant::now() + BUSY;
        loop {
            let quiet = Instant::now() + QUIET;
            if tokio::time::timeout_at(quiet.min(busy), changed.notified()).await.is_err() {
                break;
            }
        }
        let mut change = std::mem::take(&mut self.shared.seen().change);
        self.rewritten.sift(&mut change);
        if let Some(wait) = self.rewritten.pace(&change, is_echo) {
            tell_echo(&change, wait);
            tokio::time::sleep(wait).await;
        }
        change
    }
}

/// Tells that builds are the reason for each other.
fn tell_echo(change: &Change, wait: Duration) {
    for (id, paths) in &change.built {
        let path = paths.first().map(|path| format!(": {}", path.display())).unwrap_or_default();
        console::say(&format!(
            "Component {id} is built again in {} s, for what changed while it was built: build.watch seems to name what \
             the build itself writes{path}",
            wait.as_secs()
        ));
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

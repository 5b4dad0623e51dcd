//! [`Keeper`]: has on disk what a restart must bring back, and makes nobody wait for the disk.
//!
//! Promise: of each app the latest is written, in the end, however slow the disk is: what is newer takes the place of what
//! waits, so there is never more of it than there are apps. What cannot be written is tried again for as long as it is the
//! latest. What was said before the apps' task ends is written before the process does, or cannot be.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use control::{AppKey, Assignment};
use daemon::Tasks;
use tokio::sync::mpsc;

use crate::disk::{Disk, DiskError};

/// The pause before what failed is tried again, the first time; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is to be on disk of an app; nothing of one that is gone.
type Kept = Option<Arc<Assignment>>;

/// The handle of the task that writes.
#[derive(Debug)]
pub(super) struct Keeper(mpsc::UnboundedSender<(AppKey, Kept)>);

impl Keeper {
    pub(super) fn start(tasks: &Tasks, disk: Disk) -> Self {
        // Never long: the task takes in what is said also while it writes.
        let (sender, changes) = mpsc::unbounded_channel();
        tasks.spawn("disk", async move {
            write_all(disk, changes, PAUSE).await;
            Ok::<(), Infallible>(())
        });
        Self(sender)
    }

    pub(super) fn keep(&self, app: &AppKey, kept: Kept) {
        // An error means that the process stops.
        drop(self.0.send((app.clone(), kept)));
    }
}

/// Writes until nobody has anything to say any more, and all of that is written that can be.
async fn write_all(disk: Disk, mut changes: mpsc::UnboundedReceiver<(AppKey, Kept)>, first_pause: Duration) {
    let mut waiting = Waiting::default();
    let mut pause = first_pause;
    loop {
        while let Ok(change) = changes.try_recv() {
            waiting.note(change);
        }
        let Some((app, kept)) = waiting.due.pop_first() else {
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => waiting.note(change),
                    None => return,
                },
                () = tokio::time::sleep(pause), if !waiting.failed.is_empty() => waiting.retry(),
            }
            continue;
        };
        let mut writing = tokio::task::spawn_blocking({
            let (disk, app, kept) = (disk.clone(), app.clone(), kept.clone());
            move || write(&disk, &app, kept.as_deref())
        });
        let written = loop {
            tokio::select! {
                written = &mut writing => break written.unwrap_or(Ok(())),
                Some(change) = changes.recv() => waiting.note(change),
            }
        };
        match written {
            Ok(()) => pause = first_pause,
            Err(error) => {
                let error = daemon::chain(&error);
                tracing::error!(%app, error, "an assignment is not kept: until it is, a restart would lose it");
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                waiting.has_failed(app, kept);
            }
        }
    }
}

fn write(disk: &Disk, app: &AppKey, kept: Option<&Assignment>) -> Result<(), DiskError> {
    match kept {
        Some(assignment) => disk.keep(assignment),
        None => disk.forget(app),
    }
}

/// What is not written yet, the latest of each app: no app is in both.
#[derive(Debug, Default)]
struct Waiting {
    due: BTreeMap<AppKey, Kept>,
    /// Until the next try.
    failed: BTreeMap<AppKey, Kept>,
}

impl Waiting {
    fn note(&mut self, (app, kept): (AppKey, Kept)) {
        self.failed.remove(&app);
        self.due.insert(app, kept);
    }

    fn has_failed(&mut self, app: AppKey, kept: Kept) {
        if !self.due.contains_key(&app) {
            self.failed.insert(app, kept);
        }
    }

    fn retry(&mut self) {
        self.due.append(&mut self.failed);
    }
}

#[cfg(test)]
mod tests {
    use control::{Hold, RevisionId};
    use tokio::task::JoinSet;

    use super::*;

    fn app(namespace: &str) -> AppKey {
        AppKey::new(namespace, "cart").unwrap()
    }

    fn kept(app: &AppKey, port: u16) -> (AppKey, Kept) {
        let assignment = Assignment {
            app: app.clone(),
            uid: "uid".to_owned(),
            port,
            revisions: Vec::new(),
            active: RevisionId("v1".to_owned()),
            hold: Hold::Nothing,
        };
        (app.clone(), Some(Arc::new(assignment)))
    }

    #[test]
    fn of_what_waits_for_the_disk_there_is_the_latest_of_each_app_only() {
        let (mut waiting, app) = (Waiting::default(), app("shop"));
        for port in 0..100 {
            waiting.note(kept(&app, port));
        }
        assert_eq!(waiting.due, [kept(&app, 99)].into());
        let (failed, earlier) = waiting.due.pop_first().unwrap();
        waiting.note((app.clone(), None));
        waiting.has_failed(failed, earlier);
        assert!(waiting.failed.is_empty(), "something newer is to be written");
        let (failed, latest) = waiting.due.pop_first().unwrap();
        waiting.has_failed(failed, latest);
        waiting.retry();
        assert_eq!(waiting.due, [(app, None)].into());
    }

    async fn eventually(what: impl Fn() -> bool) {
        let happened = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), happened).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_written_when_it_can_and_the_rest_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(&dir.path().join("data"), &dir.path().join("secrets")).unwrap();
        let file = |app: &AppKey| dir.path().join("data/assignments").join(app.namespace()).join("cart.json");
        let (shop, zoo) = (app("shop"), app("zoo"));
        // A file where the directory of the namespace should be.
        let obstacle = dir.path().join("data/assignments/shop");
        std::fs::write(&obstacle, "").unwrap();
        let (sender, changes) = mpsc::unbounded_channel();
        for app in [&shop, &zoo] {
            sender.send(kept(app, 10_000)).unwrap();
        }
        let mut writer = JoinSet::new();
        writer.spawn(write_all(disk, changes, Duration::from_millis(1)));
        // The first has been tried by then.
        eventually(|| file(&zoo).exists()).await;
        std::fs::remove_file(&obstacle).unwrap();
        eventually(|| file(&shop).exists()).await;
        sender.send((shop.clone(), None)).unwrap();
        drop(sender);
        writer.join_next().await.unwrap().unwrap();
        assert!(!file(&shop).exists() && file(&zoo).exists());
    }
}

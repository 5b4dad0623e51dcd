//! [`Tasks`]: the owner of every task.
//!
//! Absent on purpose: return values. A task that has something to say sends it over a channel.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task returned although nothing had told it to stop.
    #[error("task `{0}` ended although nothing had told it to")]
    Ended(&'static str),
    /// A task failed.
    #[error("task `{name}` failed")]
    Failed {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A task panicked; the message is in the log.
    #[error("task `{0}` panicked")]
    Panicked(&'static str),
}

/// What had to be aborted.
#[derive(Debug, thiserror::Error)]
#[error("still running after {waited:?} and aborted: {}", describe(.tasks))]
pub struct StillRunning {
    /// How long they were given.
    pub waited: Duration,
    /// Each task's name and how many of that name there were.
    pub tasks: BTreeMap<&'static str, usize>,
}

fn describe(tasks: &BTreeMap<&'static str, usize>) -> String {
    tasks.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", ")
}

/// A group of tasks that stop together. Clones are handles of the same group.
///
/// Groups form a tree: stopping one stops those below it and waits for their tasks too, while a
/// failure anywhere is seen at the top.
#[derive(Clone)]
pub struct Tasks {
    group: Arc<Group>,
}

struct Group {
    name: &'static str,
    parent: Option<Arc<Self>>,
    /// Tells tasks to finish.
    stop: CancellationToken,
    /// Ends those that did not.
    abort: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<BTreeMap<&'static str, usize>>,
    failure: Arc<watch::Sender<Option<Arc<TaskError>>>>,
}

impl Group {
    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ancestry(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |group| group.parent.as_deref())
    }

    fn fail(&self, error: TaskError) {
        // The first failure is the cause; later ones are often its consequences.
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(Arc::new(error));
            }
            is_first
        });
    }
}

impl Tasks {
    /// The process's first group.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let failure = Arc::new(watch::channel(None).0);
        Self { group: Arc::new(Group::new(name, None, CancellationToken::new(), CancellationToken::new(), failure)) }
    }

    /// A group below this one.
    #[must_use]
    pub fn group(&self, name: &'static str) -> Self {
        let parent = &self.group;
        let (stop, abort) = (parent.stop.child_token(), parent.abort.child_token());
        let failure = Arc::clone(&parent.failure);
        Self { group: Arc::new(Group::new(name, Some(Arc::clone(parent)), stop, abort, failure)) }
    }

    /// Starts a task that must run until [`Tasks::stopping`]: when it returns earlier, fails or panics,
    /// the process ends with that as its error.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let group = Arc::clone(&self.group);
        let vital = Presence::enter(&self.group, name, true);
        self.run(vital, async move {
            match task.await {
                Err(error) => group.fail(TaskError::Failed { name, source: error.into() }),
                Ok(()) if !group.stop.is_cancelled() => group.fail(TaskError::Ended(name)),
                Ok(()) => {}
            }
        });
    }

    /// Starts a task that may end by itself, such as a connection. A panic in it is logged by the panic
    /// hook and ends it alone.
    pub fn spawn_brief<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run(Presence::enter(&self.group, name, false), task);
    }

    fn run(&self, presence: Presence, task: impl Future<Output = ()> + Send + 'static) {
        let abort = self.group.abort.clone();
        #[expect(clippy::disallowed_methods, reason = "the one place that makes tasks, and owns them")]
        drop(tokio::spawn(async move {
            let _presence = presence;
            abort.run_until_cancelled_owned(task).await;
        }));
    }

    /// Resolves when the group is told to stop.
    pub async fn stopping(&self) {
        self.group.stop.cancelled().await;
    }

    /// The token that is cancelled when the group is told to stop.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.group.stop.clone()
    }

    /// Resolves with the first failure of any task of the process.
    pub async fn failed(&self) -> Arc<TaskError> {
        let mut failure = self.group.failure.subscribe();
        loop {
            if let Some(error) = failure.borrow_and_update().as_ref() {
                return Arc::clone(error);
            }
            // The sender lives in `self`, so a change is the only way out.
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many tasks run, those of groups below included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.group.tracker.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the group to stop and waits until all its tasks have ended.
    ///
    /// # Errors
    /// When some had to be aborted because they did not end `within` that time.
    pub async fn stop(&self, within: Duration) -> Result<(), StillRunning> {
        self.group.stop.cancel();
        self.group.tracker.close();
        if tokio::time::timeout(within, self.group.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let tasks = self.group.running().clone();
        self.group.abort.cancel();
        self.group.tracker.wait().await;
        Err(StillRunning { waited: within, tasks })
    }
}

impl Group {
    fn new(
        name: &'static str,
        parent: Option<Arc<Self>>,
        stop: CancellationToken,
        abort: CancellationToken,
        failure: Arc<watch::Sender<Option<Arc<TaskError>>>>,
    ) -> Self {
        Self { name, parent, stop, abort, tracker: TaskTracker::new(), running: Mutex::default(), failure }
    }
}

/// One running task, counted in its group and all groups above.
struct Presence {
    group: Arc<Group>,
    name: &'static str,
    vital: bool,
    _tokens: Vec<TaskTrackerToken>,
}

impl Presence {
    fn enter(group: &Arc<Group>, name: &'static str, vital: bool) -> Self {
        let mut tokens = Vec::with_capacity(3);
        for each in group.ancestry() {
            *each.running().entry(name).or_default() += 1;
            tokens.push(each.tracker.token());
        }
        Self { group: Arc::clone(group), name, vital, _tokens: tokens }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.vital && std::thread::panicking() {
            self.group.fail(TaskError::Panicked(self.name));
        }
        for each in self.group.ancestry() {
            let mut running = each.running();
            if let Some(count) = running.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    running.remove(self.name);
                }
            }
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("name", &self.group.name).field("running", &*self.group.running()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_task_that_fails_is_the_process_error() {
        let tasks = Tasks::new("test");
        tasks.group("below").spawn("disk", async { Err(io::Error::other("full")) });
        let error = tasks.failed().await;
        assert_eq!(crate::chain(error.as_ref()), "task `disk` failed: full");
    }

    #[tokio::test]
    async fn a_task_that_ends_before_it_was_told_to_is_a_failure() {
        let tasks = Tasks::new("test");
        tasks.spawn("watch", async { Ok::<_, io::Error>(()) });
        assert_eq!(tasks.failed().await.to_string(), "task `watch` ended although nothing had told it to");
    }

    #[tokio::test]
    async fn a_panic_in_a_vital_task_is_a_failure_and_in_a_brief_one_is_not() {
        let tasks = Tasks::new("test");
        tasks.spawn_brief("connection", async { panic!("brief") });
        tasks.spawn("watch", async {
            if true {
                panic!("vital");
            }
            Ok::<_, io::Error>(())
        });
        assert_eq!(tasks.failed().await.to_string(), "task `watch` panicked");
    }

    #[tokio::test]
    async fn stopping_a_group_waits_for_the_tasks_below_it_and_leaves_others_alone() {
        let tasks = Tasks::new("test");
        let (traffic, other) = (tasks.group("traffic"), tasks.group("other"));
        let port = traffic.group("port");
        let stopping = port.stop_token();
        let (done, finished) = tokio::sync::oneshot::channel();
        port.spawn_brief("connection", async move {
            stopping.cancelled().await;
            done.send(()).unwrap();
        });
        traffic.stop(SOON).await.unwrap();
        finished.await.unwrap();
        assert!(!other.stop_token().is_cancelled());
    }

    #[tokio::test]
    async fn what_does_not_stop_in_time_is_named_and_aborted() {
        let tasks = Tasks::new("test");
        tasks.group("below").spawn_brief("stuck", std::future::pending());
        let error = tasks.stop(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "still running after 1ms and aborted: stuck (1)");
        assert!(tasks.is_empty());
    }
}

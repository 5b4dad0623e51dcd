//! [`DatabaseFile`] and [`Session`]: SQLite in this process, for the key-value stores of the host and the databases of guests.
//!
//! Promise: SQLite runs off the serving threads, at most [`DatabaseFile::at_once`] statements per file at a time; a
//! statement whose request has ended is interrupted; what an app's files take on disk, and what SQLite takes of memory,
//! is limited. Everything that belongs to a file stays beside it: temporary tables and sorts are in memory.
//!
//! Absent on purpose: SQL. Whoever has a session says what to run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{OwnedMutexGuard, Semaphore, oneshot};

use super::guard;

/// How many steps of SQLite's virtual machine may pass before it is looked whether anybody still waits.
const STEPS: i32 = 1000;
/// The stack of a thread that runs guests' SQL, in bytes. Only what is used of it takes memory.
const STACK: usize = 16 << 20;
/// How large a write-ahead log stays on disk that is not needed, in bytes.
const LOG_KEPT: u64 = 4 << 20;

/// What a file may cost. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) struct FileLimits {
    /// One result, as the guest gets it.
    pub(in crate::host) result: usize,
    /// All files of the app in its state directory; or this file alone, where it is elsewhere or in memory.
    pub(in crate::host) disk: u64,
    /// What SQLite may have of memory in this whole process.
    pub(in crate::host) memory: u64,
}

/// Where a database is.
#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// In memory, under a name that is a URI; it is there as long as a connection is.
    Memory(String, Mutex<Option<Connection>>),
}

/// Whose SQL a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host) enum Use {
    /// The host's own, with this schema.
    Host(&'static str),
    /// A guest's: everything that reaches outside of the file, or lifts a limit, is refused.
    Guest {
        /// Whether it may `ATTACH` other files all the same: whoever runs the application says so.
        attach: bool,
    },
}

/// A database in a file or in memory, that sessions can be opened of.
#[derive(Debug)]
pub(in crate::host) struct DatabaseFile {
    place: Place,
    /// The app's state directory, where the file is in it.
    state_dir: Option<PathBuf>,
    limits: FileLimits,
    used_by: Use,
    running: Arc<Semaphore>,
}

/// One connection, opened when it is first used.
#[derive(Debug)]
pub(in crate::host) struct Session {
    file: Arc<DatabaseFile>,
    connection: Arc<tokio::sync::Mutex<Option<Connection>>>,
}

/// Why SQLite did not do something.
#[derive(Debug, thiserror::Error)]
pub(in crate::host) enum SessionError {
    /// The directory of the file cannot be made.
    #[error("the directory of the database cannot be made: {0}")]
    Directory(io::ErrorKind),
    /// The limit of disk is reached.
    #[error("the app's stores have reached their limit of disk ({0} bytes)")]
    Full(u64),
    /// A result is too large.
    #[error("the result has more than {0} bytes, which is the limit")]
    TooLarge(usize),
    /// It cannot be done to what is there.
    #[error("{0}")]
    Refused(&'static str),
    /// What SQLite says.
    #[error("{}", text(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// There is no thread for it.
    #[error("no thread can be started: {0}")]
    Thread(io::ErrorKind),
    /// The process ends, or the work panicked.
    #[error("the work was stopped")]
    Stopped,
}

/// What SQLite says, without the path of the file: that is nothing for guests.
fn text(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => "unable to open the database file".to_owned(),
        _ => error.to_string(),
    }
}

impl SessionError {
    /// Whether another connection is writing.
    pub(in crate::host) fn is_busy(&self) -> bool {
        let Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) = self else { return false };
        matches!(error.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            && error.extended_code != rusqlite::ffi::SQLITE_BUSY_SNAPSHOT
    }

    /// Whether there is no room for more.
    pub(in crate::host) fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Directory(_) | Self::TooLarge(_) | Self::Refused(_) | Self::Thread(_) | Self::Stopped => false,
        }
    }

    /// Whether it is the store that does not work, rather than what was asked of it.
    pub(in crate::host) fn is_of_the_file(&self) -> bool {
        match self {
            Self::Directory(_) => true,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::CannotOpen
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::ReadOnly
                        | ErrorCode::PermissionDenied
                        | ErrorCode::FileLockingProtocolFailed
                )
            ),
            Self::Full(_) | Self::TooLarge(_) | Self::Refused(_) | Self::Thread(_) | Self::Stopped => false,
        }
    }
}

impl DatabaseFile {
    /// The database at `path`, which is made where it is not there. `state_dir` is the app's, if the file is in it.
    pub(in crate::host) fn at(path: PathBuf, state_dir: Option<PathBuf>, limits: FileLimits, used_by: Use) -> Self {
        Self::new(Place::File(path), state_dir, limits, used_by)
    }

    /// An empty database in memory, gone with this value.
    pub(in crate::host) fn in_memory(limits: FileLimits, used_by: Use) -> Self {
        // SQLite's `memdb` shares what has the same absolute name, and locks it like a file.
        let name = format!("file:/spindle-{}?vfs=memdb", uuid::Uuid::new_v4());
        Self::new(Place::Memory(name, Mutex::default()), None, limits, used_by)
    }

    fn new(place: Place, state_dir: Option<PathBuf>, limits: FileLimits, used_by: Use) -> Self {
        let at_once = Self::at_once(used_by);
        Self { place, state_dir, limits, used_by, running: Arc::new(Semaphore::new(at_once)) }
    }

    /// How many statements run at a time.
    const fn at_once(used_by: Use) -> usize {
        match used_by {
            Use::Host(_) => 1,
            Use::Guest { .. } => 4,
        }
    }

    /// Whether SQL may `ATTACH` other files.
    pub(in crate::host) const fn may_attach(&self) -> bool {
        matches!(self.used_by, Use::Guest { attach: true })
    }

    /// Its limits.
    pub(in crate::host) const fn limits(&self) -> &FileLimits {
        &self.limits
    }

    /// Where it is, for logs.
    pub(in crate::host) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Memory(..) => None,
        }
    }

    /// A session with a connection of its own.
    pub(in crate::host) fn session(self: &Arc<Self>) -> Session {
        Session { file: Arc::clone(self), connection: Arc::default() }
    }

    fn open(&self) -> Result<Connection, SessionError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = match &self.place {
            Place::File(path) => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(|error| SessionError::Directory(error.kind()))?;
                }
                let connection = Connection::open_with_flags(path, flags)?;
                keep_log(&connection)?;
                connection
            }
            Place::Memory(name, keeper) => {
                let open = || Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_URI);
                let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
                if keeper.is_none() {
                    *keeper = Some(open()?);
                }
                open()?
            }
        };
        self.set_up(&connection)?;
        Ok(connection)
    }

    fn set_up(&self, connection: &Connection) -> Result<(), SessionError> {
        // One limit for the process, which SQLite only ever lowers.
        connection.pragma_update(None, "hard_heap_limit", i64::try_from(self.limits.memory).unwrap_or(i64::MAX))?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        match self.used_by {
            // Only another revision of the same app, or a person, has this file open too.
            Use::Host(_) => {
                connection.busy_timeout(Duration::from_secs(5))?;
                connection.pragma_update(None, "cache_size", -256)?;
            }
            // A thread does not wait for a guest's transaction: whoever runs statements tries again.
            Use::Guest { .. } => connection.busy_timeout(Duration::ZERO)?,
        }
        self.limit_size(connection)?;
        match self.used_by {
            Use::Host(schema) => connection.execute_batch(schema)?,
            Use::Guest { .. } => guard::confine(connection, self.limits.result)?,
        }
        Ok(())
    }

    /// Leaves this file the room that the app's other files do not take. To be called now and then, by the host.
    pub(in crate::host) fn limit_size(&self, connection: &Connection) -> Result<(), SessionError> {
        let page: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let mut taken = self.taken_beside();
        if taken.log > self.log_limit() / 2 {
            // A reader may be in the way; then the log stays as it is.
            let _busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            taken = self.taken_beside();
        }
        let room = self.limits.disk.saturating_sub(taken.others) / u64::from(page.max(1));
        let room = u32::try_from(room).unwrap_or(u32::MAX - 1).max(1);
        connection.query_row(&format!("PRAGMA max_page_count = {room}"), [], |_| Ok(()))?;
        Ok(())
    }

    /// Refuses to write while the write-ahead log is too large: readers that never end keep it from being emptied.
    pub(in crate::host) fn check_log(&self) -> Result<(), SessionError> {
        if self.log_size() > self.log_limit() { Err(SessionError::Full(self.limits.disk)) } else { Ok(()) }
    }

    /// How large the log may become.
    fn log_limit(&self) -> u64 {
        LOG_KEPT.max(self.limits.disk / 2)
    }

    fn log_size(&self) -> u64 {
        let log = self.path().map(|path| {
            let mut log = path.as_os_str().to_owned();
            log.push("-wal");
            PathBuf::from(log)
        });
        log.and_then(|log| fs::metadata(log).ok()).map_or(0, |file| file.len())
    }

    fn taken_beside(&self) -> Taken {
        let log = self.log_size();
        let (Some(path), Some(state_dir)) = (self.path(), &self.state_dir) else { return Taken { others: 0, log } };
        let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = fs::read_dir(state_dir).into_iter().flatten().flatten();
        let others = files.filter(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            !matches!(name.strip_prefix(own.as_str()), Some("" | "-wal" | "-shm" | "-journal"))
        });
        let sizes = others.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len());
        Taken { others: sizes.sum(), log }
    }
}

/// What is on disk besides a database itself, in bytes.
#[derive(Debug)]
struct Taken {
    /// By the app's other files.
    others: u64,
    /// By its write-ahead log.
    log: u64,
}

/// Switches to a write-ahead log, with which readers and a writer do not wait for each other. A file that can only be
/// read stays as it is.
fn keep_log(connection: &Connection) -> Result<(), SessionError> {
    let set = |connection: &Connection| {
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.query_row(&format!("PRAGMA journal_size_limit = {LOG_KEPT}"), [], |_| Ok(()))
    };
    match set(connection) {
        Err(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
                && connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).is_ok() =>
        {
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Tells running work, when it is dropped, that nobody waits any more.
#[derive(Debug, Default)]
struct Awaited(Arc<AtomicBool>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Session {
    /// Runs `work` on a thread that may wait. When this future is dropped, what runs is interrupted.
    ///
    /// # Errors
    /// What `work` says, or why there is no connection.
    pub(in crate::host) async fn run<T, W>(&self, work: W) -> Result<T, SessionError>
    where
        T: Send + 'static,
        W: FnOnce(&DatabaseFile, &mut Connection) -> Result<T, SessionError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection).lock_owned().await;
        let turn = Arc::clone(&self.file.running).acquire_owned().await.map_err(|_| SessionError::Stopped)?;
        let (file, awaited) = (Arc::clone(&self.file), Awaited::default());
        let given_up = Arc::clone(&awaited.0);
        let job = move || {
            let _turn = turn;
            run(&file, connection, &given_up, work)
        };
        match self.file.used_by {
            Use::Host(_) => tokio::task::spawn_blocking(job).await.unwrap_or(Err(SessionError::Stopped)),
            Use::Guest { .. } => on_large_stack(job).await,
        }
    }
}

/// Runs `job` on a thread of its own, with a stack for what guests' SQL makes SQLite's compiler do.
async fn on_large_stack<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, SessionError> + Send + 'static,
) -> Result<T, SessionError> {
    let (sender, done) = oneshot::channel();
    let thread = thread::Builder::new().name("sqlite".to_owned()).stack_size(STACK);
    // Whoever waited may be gone.
    thread.spawn(move || drop(sender.send(job()))).map_err(|error| SessionError::Thread(error.kind()))?;
    done.await.unwrap_or(Err(SessionError::Stopped))
}

/// Opens `file`. While another revision of the app makes it, SQLite says that it is busy without waiting for its timeout.
fn open_patiently(file: &DatabaseFile) -> Result<Connection, SessionError> {
    let began = Instant::now();
    loop {
        match file.open() {
            Err(error) if error.is_busy() && matches!(file.used_by, Use::Host(_)) && began.elapsed() < OPENING => {
                thread::sleep(OPENING_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// How long the host waits for a file that another revision is just making.
const OPENING: Duration = Duration::from_secs(5);
/// How long it waits between looks.
const OPENING_PAUSE: Duration = Duration::from_millis(10);

fn run<T>(
    file: &DatabaseFile,
    mut connection: OwnedMutexGuard<Option<Connection>>,
    given_up: &Arc<AtomicBool>,
    work: impl FnOnce(&DatabaseFile, &mut Connection) -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    if given_up.load(Ordering::Relaxed) {
        return Err(SessionError::Stopped);
    }
    let opened = match connection.take() {
        Some(opened) => opened,
        None => open_patiently(file)?,
    };
    let opened = connection.insert(opened);
    let given_up = Arc::clone(given_up);
    opened.progress_handler(STEPS, Some(move || given_up.load(Ordering::Relaxed)))?;
    let result = work(file, opened);
    opened.progress_handler(STEPS, None::<fn() -> bool>)?;
    if result.as_ref().is_err_and(SessionError::is_of_the_file) {
        // Whatever is wrong with it, the next one looks anew.
        *connection = None;
    }
    result
}

impl Drop for Session {
    /// Closing writes: not on the serving threads.
    fn drop(&mut self) {
        let Ok(mut connection) = Arc::clone(&self.connection).try_lock_owned() else { return };
        if let (Some(connection), Ok(runtime)) = (connection.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(connection));
        }
    }
}

//! [`Store`]: immutable bytes on disk, found by what they are.
//!
//! Promise: a blob that [`Store::get`] returns had the digest and the size of its address when it was
//! written, and was written as a whole: content is hashed on its way to a temporary file, synced,
//! and only then renamed into place. Whatever fails or is cancelled half-way leaves no trace. The same content
//! may be inserted by any number of tasks and processes at once.
//!
//! Layout below the root: `blobs/sha256/<hex>`, `trees/<hex>/` (see [`tree`]), `tmp/<session>/`.
//!
//! Everything but the streaming functions does blocking file I/O: from async code, call it through
//! `tokio::task::spawn_blocking` unless it is [`Store::get`], which only looks.
//!
//! Absent on purpose: knowledge of where content comes from, and an index (the file system is one).

pub mod tree;
mod usage;
mod writer;

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use manifest::{Content, Digest};
use tempfile::{NamedTempFile, TempDir};

pub use usage::Blob;
pub use writer::BlobWriter;

/// How many bytes are read at a time.
const CHUNK: usize = 128 * 1024;

/// A directory of content-addressed blobs. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Where this process writes what is not finished; removed with the last clone.
    session: TempDir,
    /// Held locked as long as the session lives, so that others can tell it from a dead one.
    _alive: File,
    turns: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// What [`Store::retain`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// How many blobs.
    pub blobs: u64,
    /// How many trees.
    pub trees: u64,
    /// How many bytes the blobs had.
    pub bytes: u64,
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk below the store is full, or a quota is used up.
    #[error("no space left in the store at {}: free some, or give the store a larger volume", .path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not those that were announced.
    #[error(
        "expected {} with {} bytes, got {} with {} bytes",
        .expected.digest, .expected.size, .actual.digest, .actual.size
    )]
    Mismatch {
        /// What was asked for.
        expected: Box<Content>,
        /// What came.
        actual: Box<Content>,
    },
    /// More bytes than announced; reading stopped there.
    #[error("{} has {} bytes, but more came", .expected.digest, .expected.size)]
    TooLong {
        /// What was asked for.
        expected: Content,
    },
    /// A tree needs a blob that is not there.
    #[error("{digest} is not in the store: `{path}` needs it")]
    Missing {
        /// Which blob.
        digest: Digest,
        /// The file of the tree that it is the content of.
        path: String,
    },
    /// A file's path is not relative and clean, or it is both a file and a directory.
    #[error("`{path}` cannot be a file of a component: {problem}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The stream that the content came from failed.
    #[error("the content ended early")]
    Interrupted(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// One word for conditions, events and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "DiskFull",
            Self::Io { .. } => "StoreFailed",
            Self::Mismatch { .. } | Self::TooLong { .. } => "Corrupt",
            Self::Missing { .. } => "Missing",
            Self::Path { .. } => "Invalid",
            Self::Interrupted(_) => "Interrupted",
        }
    }

    /// `actual` came instead of `expected`.
    pub(crate) fn mismatch(expected: Content, actual: Content) -> Self {
        Self::Mismatch { expected: Box::new(expected), actual: Box::new(actual) }
    }

    /// For `map_err`: an I/O error while doing `action` to `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Io { action, path, source },
        }
    }
}

impl Store {
    /// Opens the store at `root`, making it if there is none. What processes that died left unfinished is removed.
    ///
    /// # Errors
    /// When the directories cannot be made or written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let unfinished = root.join("tmp");
        for dir in [&root.join("blobs/sha256"), &root.join("trees"), &unfinished] {
            fs::create_dir_all(dir).map_err(StoreError::io("make the directory", dir))?;
        }
        // Nobody may take a session that is just being made for a dead one.
        let gate_path = unfinished.join(".gate");
        let gate = File::create(&gate_path).map_err(StoreError::io("make", &gate_path))?;
        gate.lock().map_err(StoreError::io("lock", &gate_path))?;
        remove_dead_sessions(&unfinished)?;
        let session = tempfile::Builder::new()
            .prefix("session-")
            .tempdir_in(&unfinished)
            .map_err(StoreError::io("make a directory in", &unfinished))?;
        let alive_path = session.path().join(".alive");
        let alive = File::create(&alive_path).map_err(StoreError::io("make", &alive_path))?;
        alive.lock().map_err(StoreError::io("lock", &alive_path))?;
        Ok(Self { inner: Arc::new(Inner { root, session, _alive: alive, turns: Mutex::default() }) })
    }

    /// The directory the store is in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The file that holds `content`, if it is here. Only presence and size are checked: the rest was when it was
    /// written ([`Store::verify`] checks again).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, content: &Content) -> Result<Option<PathBuf>, StoreError> {
        let path = self.blob_path(&content.digest);
        match fs::metadata(&path) {
            Ok(found) if found.is_file() && found.len() == content.size => Ok(Some(path)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    /// The bytes of `content`, checked against its digest while they are read; `None` if it is not here. Bytes that
    /// turn out to be damaged are dropped from the store and count as not here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(&self, content: &Content) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(path) = self.get(content)? else { return Ok(None) };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        if Digest::of(&bytes) == content.digest {
            return Ok(Some(bytes));
        }
        self.forget(&content.digest)?;
        Ok(None)
    }

    /// Whether `content` is here and undamaged. Damaged content is dropped, with the trees that show it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn verify(&self, content: &Content) -> Result<bool, StoreError> {
        let Some(path) = self.get(content)? else { return Ok(false) };
        let found = File::open(&path).and_then(|file| hash_while_copying(file, &mut io::sink()));
        if found.map_err(StoreError::io("read", &path))? == *content {
            return Ok(true);
        }
        self.forget(&content.digest)?;
        Ok(false)
    }

    /// Adds `bytes`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn insert_bytes(&self, bytes: &[u8]) -> Result<Content, StoreError> {
        let content = Content { digest: Digest::of(bytes), size: bytes.len() as u64 };
        if self.get(&content)?.is_none() {
            let mut file = self.temporary()?;
            file.write_all(bytes).map_err(StoreError::io("write", file.path()))?;
            self.keep(file, &content.digest)?;
        }
        Ok(content)
    }

    /// Adds the content of the file at `path`, hashed while it is copied: a file that changes meanwhile is stored
    /// under the address of what was read.
    ///
    /// # Errors
    /// When it cannot be read or the copy cannot be written.
    pub fn insert_file(&self, path: &Path) -> Result<Content, StoreError> {
        let source = File::open(path).map_err(StoreError::io("read", path))?;
        let mut file = self.temporary()?;
        let content = hash_while_copying(source, &mut file).map_err(StoreError::io("copy", path))?;
        if self.get(&content)?.is_none() {
            self.keep(file, &content.digest)?;
        }
        Ok(content)
    }

    /// Adds `content` from a stream, which is dropped as soon as it yields more than `content.size`.
    ///
    /// # Errors
    /// When the stream fails, when it yields something else than `content`, or when that cannot be written.
    pub async fn insert_stream<S, E>(&self, content: &Content, stream: S) -> Result<PathBuf, StoreError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut writer = self.writer(content).await?;
        let mut stream = std::pin::pin!(stream);
        while let Some(chunk) = stream.next().await {
            writer.write(&chunk.map_err(|error| StoreError::Interrupted(error.into()))?).await?;
        }
        writer.finish().await
    }

    /// Waits until no other task of this process holds the turn for `digest`, so that many who want the same content
    /// fetch it once: take the turn, look again with [`Store::get`], and only then fetch.
    pub async fn turn(&self, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.inner.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let existing = turns.get(digest).and_then(Weak::upgrade);
            existing.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(*digest, Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// Removes every blob that is not in `keep`, and every tree that shows one. The caller must keep what is in use or
    /// just being fetched.
    ///
    /// # Errors
    /// When something cannot be removed; what could be removed before that is.
    pub fn retain(&self, keep: &BTreeSet<Digest>) -> Result<Freed, StoreError> {
        let mut freed = Freed { trees: self.retain_trees(|digest| keep.contains(digest))?, ..Freed::default() };
        let dir = self.blobs();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let entry = entry.map_err(StoreError::io("list", &dir))?;
            let digest = entry.file_name().to_str().and_then(|hex| hex.parse::<Digest>().ok());
            if digest.is_none_or(|digest| keep.contains(&digest)) {
                continue;
            }
            freed.bytes += entry.metadata().map_or(0, |found| found.len());
            freed.blobs += 1;
            remove_file(&entry.path())?;
        }
        Ok(freed)
    }

    fn blobs(&self) -> PathBuf {
        self.inner.root.join("blobs/sha256")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Drops a damaged blob and whatever shares its bytes.
    fn forget(&self, digest: &Digest) -> Result<(), StoreError> {
        tracing::warn!(%digest, "dropped a damaged blob");
        self.retain_trees(|shown| shown != digest)?;
        remove_file(&self.blob_path(digest))
    }

    /// A file that is removed unless it is kept.
    fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let dir = self.inner.session.path();
        NamedTempFile::new_in(dir).map_err(StoreError::io("make a file in", dir))
    }

    /// Makes a finished temporary file the blob `digest`.
    fn keep(&self, file: NamedTempFile, digest: &Digest) -> Result<PathBuf, StoreError> {
        let path = self.blob_path(digest);
        make_read_only(file.as_file()).map_err(StoreError::io("protect", file.path()))?;
        file.as_file().sync_all().map_err(StoreError::io("sync", file.path()))?;
        file.persist(&path).map_err(|error| StoreError::io("write", &path)(error.error))?;
        // The rename itself must survive a power failure too.
        let dir = self.blobs();
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", &dir))?;
        Ok(path)
    }
}

/// Removes the sessions whose process is gone. The caller holds the gate.
fn remove_dead_sessions(unfinished: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(unfinished).map_err(StoreError::io("list", unfinished))?.flatten() {
        let dir = entry.path();
        if !dir.is_dir() {
            continue;
        }
        let dead = File::open(dir.join(".alive")).map_or(true, |alive| alive.try_lock().is_ok());
        if dead {
            fs::remove_dir_all(&dir).map_err(StoreError::io("remove", &dir))?;
        }
    }
    Ok(())
}

/// Copies all of `source`, and says what it was.
fn hash_while_copying(mut source: impl io::Read, target: &mut impl io::Write) -> io::Result<Content> {
    use sha2::Digest as _;
    let (mut hash, mut size) = (sha2::Sha256::new(), 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = source.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        hash.update(chunk);
        target.write_all(chunk)?;
        size += count as u64;
    }
    Ok(Content { digest: Digest::from_bytes(hash.finalize().into()), size })
}

/// Nobody may change a blob: not even who owns it, by mistake.
fn make_read_only(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o444))
}

/// Removes a file; one that is gone already is fine.
fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

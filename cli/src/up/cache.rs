//! Where content and compiled code are kept between runs, and how that stays bounded.
//!
//! Promise: nothing is removed that a running `spindle up` may use. Each holds the cache's lock as one of many; a start that
//! finds itself alone sweeps first: what was not used for [`LONGEST`], and of the rest what was used least recently beyond
//! [`LARGEST`], goes, with the code compiled of it.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use clap::{
    Args,
    builder::{BoolishValueParser, FalseyValueParser},
};
use manifest::{Application, Digest};
use node_runtime::engine::{Engine, EngineConfig};
use serde::Deserialize;
use sources::{Blob, Store};

/// How long content stays that nobody uses.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How much content stays, in bytes.
const LARGEST: u64 = 4 << 30;

/// What is in its directory.
const CONTENT: &str = "content";
const COMPILED: &str = "compiled";
const LOCK: &str = ".lock";

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Compiling and cache")]
pub(super) struct CacheArgs {
    /// Where content and compiled code are kept [default: spindle in the user's cache directory]
    #[arg(long, env = "SPINDLE_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Do not keep compiled code: compile again at each start
    #[arg(long, env = "DISABLE_WASMTIME_CACHE", value_parser = FalseyValueParser::new(), conflicts_with = "cache")]
    disable_cache: bool,
    /// A Wasmtime cache configuration (TOML), for where compiled code is kept: `enabled` and `directory` of its `[cache]`
    #[arg(long, env = "WASMTIME_CACHE_FILE", value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Do not take guests' memories from a pool: starts use less address space, requests take longer
    #[arg(long)]
    disable_pooling: bool,
    #[arg(long, env = "SPIN_WASMTIME_POOLING", hide = true, value_parser = BoolishValueParser::new())]
    wasmtime_pooling: Option<bool>,
    /// Have compiled code tell native debuggers and profilers about the guest's source
    #[arg(long)]
    debug_info: bool,

    #[arg(long, env = "XDG_CACHE_HOME", hide = true)]
    xdg_cache_home: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<PathBuf>,
}

/// The part of a Wasmtime cache configuration that means something here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheFile {
    cache: CacheSection,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheSection {
    enabled: Option<bool>,
    directory: Option<PathBuf>,
}

/// The cache of this run.
#[derive(Debug)]
pub(super) struct Cache {
    /// Content.
    pub(super) store: Store,
    /// What compiles.
    pub(super) engine: Engine,
    /// Where both keep their files.
    dir: PathBuf,
    /// Locked as one of many.
    _in_use: File,
    /// Removed in the end, where the user has no place for a cache.
    _temporary: Option<tempfile::TempDir>,
}

impl CacheArgs {
    /// Opens the cache, and sweeps it if nobody else uses it. Guests may use what `guests` says.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn open(&self, guests: EngineConfig) -> anyhow::Result<Cache> {
        let (dir, temporary) = self.dir()?;
        let lock = lock_file(&dir).context("no place for content (--cache-dir)")?;
        let alone = lock.try_lock().is_ok();
        let store = Store::open(dir.join(CONTENT)).context("no place for content (--cache-dir)")?;
        let engine = Engine::new(EngineConfig {
            cache_dir: self.compiled(&dir)?,
            pooling: !self.disable_pooling && self.wasmtime_pooling.unwrap_or(true),
            debug_info: self.debug_info,
            ..guests
        })?;
        if alone {
            if let Err(error) = sweep(&store, &engine) {
                tracing::warn!(error = daemon::chain(error.as_ref()), "the cache was not swept");
            }
            lock.unlock().context("cannot unlock the cache")?;
        }
        // Others that sweep are waited for. Where the file system has no locks, nobody ever sweeps.
        if let Err(error) = lock.lock_shared() {
            tracing::debug!(%error, "the cache is not locked");
        }
        Ok(Cache { store, engine, dir, _in_use: lock, _temporary: temporary })
    }

    fn dir(&self) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
        let user = absolute(&self.xdg_cache_home).or_else(|| Some(absolute(&self.home)?.join(".cache")));
        if let Some(dir) = self.cache_dir.clone().or_else(|| Some(user?.join("spindle"))) {
            return Ok((dir, None));
        }
        let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
        Ok((temporary.path().to_path_buf(), Some(temporary)))
    }

    /// Where compiled code is kept, if it is.
    fn compiled(&self, dir: &Path) -> anyhow::Result<Option<PathBuf>> {
        if self.disable_cache {
            return Ok(None);
        }
        let Some(path) = &self.cache else { return Ok(Some(dir.join(COMPILED))) };
        let file = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("--cache: cannot read {file}"))?;
        let read: CacheFile = toml::from_str(&text).with_context(|| {
            format!("--cache: {file}: only `enabled` and `directory` of `[cache]` are understood: remove the rest")
        })?;
        if read.cache.enabled == Some(false) {
            return Ok(None);
        }
        let directory = read.cache.directory.unwrap_or_else(|| dir.join(COMPILED));
        anyhow::ensure!(directory.is_absolute(), "--cache: {file}: `directory` must be an absolute path");
        Ok(Some(directory))
    }
}

impl Cache {
    /// What is written in its directory.
    pub(super) fn written(&self) -> [PathBuf; 3] {
        [CONTENT, COMPILED, LOCK].map(|name| self.dir.join(name))
    }

    /// Notes that the content of `application` is used now.
    pub(super) fn touch(&self, application: &Application) {
        for content in application.contents() {
            if let Err(error) = self.store.touch(&content) {
                tracing::debug!(%error, "the time of use is not noted");
            }
        }
    }
}

fn lock_file(dir: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(dir)?;
    File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))
}

fn sweep(store: &Store, engine: &Engine) -> anyhow::Result<()> {
    let kept = kept(store.list()?, SystemTime::now());
    store.retain(&kept)?;
    engine.retain_compiled(&kept)?;
    Ok(())
}

/// What stays of `blobs`.
fn kept(mut blobs: Vec<Blob>, now: SystemTime) -> BTreeSet<Digest> {
    blobs.sort_by_key(|blob| (std::cmp::Reverse(blob.used), blob.content));
    let mut room = LARGEST;
    let mut kept = BTreeSet::new();
    for Blob { content, used } in blobs {
        // A time in the future is that of another clock: as good as now.
        if now.duration_since(used).unwrap_or_default() > LONGEST {
            break;
        }
        let Some(left) = room.checked_sub(content.size) else { continue };
        room = left;
        kept.insert(content.digest);
    }
    kept
}

#[cfg(test)]
mod tests {
    use manifest::Content;

    use super::*;

    fn blob(name: &str, size: u64, used: SystemTime) -> Blob {
        Blob { content: Content { digest: Digest::of(name.as_bytes()), size }, used }
    }

    #[test]
    fn old_content_goes_and_of_too_much_the_least_recently_used() {
        let now = SystemTime::now();
        let days = |days: u64| now - Duration::from_secs(days * 24 * 60 * 60);
        let blobs = vec![
            blob("yesterday", 1 << 30, days(1)),
            blob("expired", 1, days(31)),
            blob("last week", 3 << 30, days(7)),
            blob("too much", 1 << 30, days(8)),
            blob("tomorrow", 0, now + Duration::from_secs(9)),
        ];
        let expected = ["yesterday", "last week", "tomorrow"].map(|name| Digest::of(name.as_bytes()));
        assert_eq!(kept(blobs, now), BTreeSet::from(expected));
        assert!(kept(Vec::new(), now).is_empty());
    }

    #[test]
    fn a_cache_in_use_is_not_swept_and_one_that_is_not_is() {
        let dir = tempfile::tempdir().unwrap();
        let args = || CacheArgs {
            cache_dir: Some(dir.path().to_path_buf()),
            disable_cache: true,
            cache: None,
            disable_pooling: true,
            wasmtime_pooling: None,
            debug_info: false,
            xdg_cache_home: None,
            home: None,
        };
        let first = args().open(EngineConfig::default()).unwrap();
        let content = first.store.insert_bytes(b"old").unwrap();
        let path = first.store.get(&content).unwrap().unwrap();
        File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let second = args().open(EngineConfig::default()).unwrap();
        assert!(path.exists(), "the first still uses it");
        drop(first);
        drop(second);
        let _third = args().open(EngineConfig::default()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_wasmtime_cache_file_says_where_compiled_code_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cache.toml");
        let args = CacheArgs {
            cache_dir: None,
            disable_cache: false,
            cache: Some(file.clone()),
            disable_pooling: true,
            wasmtime_pooling: None,
            debug_info: false,
            xdg_cache_home: None,
            home: None,
        };
        let compiled = |text: &str| {
            std::fs::write(&file, text).unwrap();
            args.compiled(Path::new("/default")).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(compiled("[cache]\nenabled = true\ndirectory = '/there'"), Ok(Some("/there".into())));
        assert_eq!(compiled("[cache]\nenabled = false"), Ok(None));
        assert_eq!(compiled("[cache]"), Ok(Some("/default/compiled".into())));
        assert!(compiled("[cache]\ndirectory = 'here'").unwrap_err().contains("absolute"));
        assert!(compiled("[cache]\nworker-event-queue-size = '16'").unwrap_err().contains("--cache"));
    }
}

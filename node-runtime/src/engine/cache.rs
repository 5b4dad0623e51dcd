//! Compiled code on disk, so that a restart or a second app with the same wasm costs no compilation.
//!
//! Promise: a file here is complete (written aside, synced, renamed), and was made for exactly this engine's version,
//! settings and processor, because its name says so. A directory that another user could write is refused: what is in
//! it gets executed.
//!
//! Absent on purpose: a size limit. Code that no app needs any more is removed with [`Cache::retain`], by whoever knows
//! the apps.

use std::{
    collections::BTreeSet,
    fs,
    hash::Hash as _,
    hash::Hasher,
    io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use manifest::Digest;
use sha2::Digest as _;

use super::guest::Variant;

/// How the name of each file ends.
const SUFFIX: &str = ".cwasm";

/// A directory of compiled code.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    engine: Digest,
}

/// Why compiled code cannot be kept in a directory.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made, read or written.
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
    /// Somebody else may write in it.
    #[error(
        "{} is owned by user {owner} with mode {mode:o}: compiled code is executed, so its directory must be this user's ({me}) with mode 700",
        .path.display()
    )]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        me: u32,
        /// Its permission bits.
        mode: u32,
    },
}

impl CacheError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

impl Cache {
    /// Opens `dir`, making it (mode 700) if there is none.
    pub(super) fn open(dir: &Path, engine: &wasmtime::Engine) -> Result<Self, CacheError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(CacheError::io("make", dir))?;
        let found = fs::metadata(dir).map_err(CacheError::io("look at", dir))?;
        // A file made here has the owner that we have for the file system, also in a user namespace.
        let probe = tempfile::NamedTempFile::new_in(dir).map_err(CacheError::io("write in", dir))?;
        let me = probe.as_file().metadata().map_err(CacheError::io("look at", probe.path()))?.uid();
        let mode = found.permissions().mode() & 0o777;
        if found.uid() != me || mode & 0o077 != 0 {
            return Err(CacheError::NotPrivate { path: dir.to_path_buf(), owner: found.uid(), me, mode });
        }
        let mut hasher = ShaHasher(sha2::Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_path_buf(), engine: Digest::from_bytes(hasher.0.finalize().into()) })
    }

    /// Where the code for `wasm` is or would be.
    pub(super) fn path(&self, wasm: &Digest, variant: Variant) -> PathBuf {
        self.dir.join(format!("{}-{}-{}{SUFFIX}", wasm.hex(), self.engine.short(), variant.name()))
    }

    /// Removes the code of all wasm but `keep`, whichever engine it was for.
    pub(super) fn retain(&self, keep: &BTreeSet<Digest>) -> Result<u64, CacheError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir).map_err(CacheError::io("list", &self.dir))? {
            let path = entry.map_err(CacheError::io("list", &self.dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let wasm = name.split_once('-').and_then(|(hex, _)| hex.parse::<Digest>().ok());
            if name.ends_with(SUFFIX) && wasm.is_some_and(|wasm| !keep.contains(&wasm)) {
                fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Writes `code` to `path`, which came from [`Cache::path`].
    pub(super) fn write(&self, path: &Path, code: &[u8]) -> Result<(), CacheError> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(CacheError::io("write in", &self.dir))?;
        file.write_all(code).map_err(CacheError::io("write", file.path()))?;
        file.as_file().sync_all().map_err(CacheError::io("sync", file.path()))?;
        file.persist(path).map_err(|error| CacheError::io("write", path)(error.error))?;
        Ok(())
    }
}

/// Feeds what is hashed to sha256, because the standard hashers promise no stable value.
struct ShaHasher(sha2::Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not asked for: the digest is taken instead.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Cache::open(&path, &wasmtime::Engine::default()).unwrap_err();
        assert!(error.to_string().contains("mode 777"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Cache::open(&path, &wasmtime::Engine::default()).unwrap();
    }

    #[test]
    fn code_that_nobody_needs_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("code"), &wasmtime::Engine::default()).unwrap();
        let (kept, dropped) = (Digest::of(b"kept"), Digest::of(b"dropped"));
        for wasm in [&kept, &dropped] {
            cache.write(&cache.path(wasm, Variant::AsIs), b"code").unwrap();
        }
        fs::write(cache.dir.join("README"), "not code").unwrap();
        assert_eq!(cache.retain(&BTreeSet::from([kept])).unwrap(), 1);
        assert!(cache.path(&kept, Variant::AsIs).exists());
        assert!(!cache.path(&dropped, Variant::AsIs).exists());
        assert!(cache.dir.join("README").exists());
    }

    #[test]
    fn engines_with_other_settings_have_other_names_for_the_same_wasm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        let mut other = wasmtime::Config::new();
        other.epoch_interruption(true);
        let one = Cache::open(&path, &wasmtime::Engine::default()).unwrap();
        let same = Cache::open(&path, &wasmtime::Engine::default()).unwrap();
        let other = Cache::open(&path, &wasmtime::Engine::new(&other).unwrap()).unwrap();
        let wasm = Digest::of(b"wasm");
        assert_eq!(one.path(&wasm, Variant::AsIs), same.path(&wasm, Variant::AsIs));
        assert_ne!(one.path(&wasm, Variant::AsIs), other.path(&wasm, Variant::AsIs));
    }
}

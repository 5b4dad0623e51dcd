//! Directory trees made of blobs: what a component sees at its `/`.
//!
//! Layout: `trees/<hex>/root/` is the tree and `trees/<hex>/files.json` the list it was made of, whose digest is
//! `<hex>`. So the same list always has the same tree, shared by every revision that has it, and a tree is never
//! changed after it has appeared. Files are hard links to the blobs (copies where links are not possible), mode 0444.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use manifest::{Content, Digest, File};

use super::{Store, StoreError, make_read_only};

impl Store {
    /// Makes a directory with exactly `files` in it, or finds the one made before, and returns its path. It must only
    /// be given to guests to read.
    ///
    /// # Errors
    /// When a path would leave the directory or clashes with another, when a blob is not in the store, or when
    /// the tree cannot be written.
    pub fn materialise(&self, files: &[File]) -> Result<PathBuf, StoreError> {
        let files = checked(files)?;
        let list = list_of(&files);
        let home = self.inner.root.join("trees").join(Digest::of(&list).hex());
        let root = home.join("root");
        if root.is_dir() {
            return Ok(root);
        }
        let session = self.inner.session.path();
        let building = tempfile::tempdir_in(session).map_err(StoreError::io("make a directory in", session))?;
        self.build(&files, &building.path().join("root"))?;
        let list_path = building.path().join("files.json");
        fs::write(&list_path, &list).map_err(StoreError::io("write", &list_path))?;
        let building = building.keep();
        match fs::rename(&building, &home) {
            Ok(()) => Ok(root),
            Err(error) => {
                // Somebody else was faster: theirs is the same. What cannot be removed goes with the session.
                let _removed = fs::remove_dir_all(&building);
                if root.is_dir() { Ok(root) } else { Err(StoreError::io("write", &home)(error)) }
            }
        }
    }

    fn build(&self, files: &BTreeMap<&str, Content>, root: &Path) -> Result<(), StoreError> {
        fs::create_dir_all(root).map_err(StoreError::io("make the directory", root))?;
        let mut made = BTreeSet::new();
        for (path, content) in files {
            let target = root.join(path);
            let parent = target.parent().unwrap_or(root).to_path_buf();
            if !made.contains(&parent) {
                fs::create_dir_all(&parent).map_err(StoreError::io("make the directory", &parent))?;
                made.insert(parent);
            }
            let missing = || StoreError::Missing { digest: content.digest, path: (*path).to_owned() };
            let blob = self.get(content)?.ok_or_else(missing)?;
            link_or_copy(&blob, &target).map_err(StoreError::io("make", &target))?;
        }
        Ok(())
    }

    /// Removes the trees that show a blob for which `keep` is false; returns how many.
    pub(super) fn retain_trees(&self, keep: impl Fn(&Digest) -> bool) -> Result<u64, StoreError> {
        let dir = self.inner.root.join("trees");
        let mut removed = 0;
        for entry in fs::read_dir(&dir).map_err(StoreError::io("list", &dir))? {
            let home = entry.map_err(StoreError::io("list", &dir))?.path();
            let list = fs::read(home.join("files.json")).unwrap_or_default();
            // A tree without a readable list is not one of ours, or damaged: nobody would miss it.
            let whole = serde_json::from_slice::<Vec<File>>(&list)
                .is_ok_and(|files| files.iter().all(|file| keep(&file.content.digest)));
            if !whole {
                fs::remove_dir_all(&home).map_err(StoreError::io("remove", &home))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// The files by path, once it is certain that they can be below one directory.
fn checked(files: &[File]) -> Result<BTreeMap<&str, Content>, StoreError> {
    let refuse = |path: &str, problem| Err(StoreError::Path { path: path.to_owned(), problem });
    let mut all = BTreeMap::new();
    for file in files {
        let path = file.path.as_str();
        if path.contains(['\0', '\\']) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse(path, "its parts must not be empty, `.` or `..`, and it has no NUL and no backslash");
        }
        if all.insert(path, file.content).is_some_and(|other| other != file.content) {
            return refuse(path, "it is listed twice with different content");
        }
    }
    for path in all.keys() {
        let mut above = *path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            if all.contains_key(parent) {
                return refuse(parent, "it is a file, and a directory of another file");
            }
            above = parent;
        }
    }
    Ok(all)
}

/// The bytes that identify a tree.
fn list_of(files: &BTreeMap<&str, Content>) -> Vec<u8> {
    let list = files.iter().map(|(path, content)| {
        serde_json::json!({ "path": path, "content": { "digest": content.digest.to_string(), "size": content.size } })
    });
    serde_json::Value::Array(list.collect()).to_string().into_bytes()
}

/// Hard links cost no space; where they are not possible (another file system, too many links), a copy does.
fn link_or_copy(blob: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(blob, target) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::NotFound) => Err(error),
        Err(_) => {
            fs::copy(blob, target)?;
            make_read_only(&fs::File::open(target)?)
        }
    }
}

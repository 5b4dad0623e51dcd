//! [`AppDirs`]: where the local stores and databases of apps are: `<directory>/<namespace>/<app>`.
//!
//! Promise: the revisions of an app share its directory, a restart keeps it, and it is removed when the app is no longer this
//! runtime's and none of its requests is under way.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use control::AppKey;

/// The directories of all apps.
#[derive(Debug, Clone)]
pub(super) struct AppDirs(PathBuf);

impl AppDirs {
    /// Below `root`, which need not be there.
    pub(super) const fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// That of `app`. It is made when something is stored.
    pub(super) fn of(&self, app: &AppKey) -> PathBuf {
        self.0.join(app.namespace()).join(app.name())
    }

    /// Removes those of apps that are not among `apps`; returns how many.
    ///
    /// # Errors
    /// The first that cannot be removed.
    pub(super) fn retain(&self, apps: &BTreeSet<AppKey>) -> io::Result<u64> {
        let mut removed = 0;
        for (namespace, path) in directories(&self.0)? {
            let mut kept = false;
            for (name, path) in directories(&path)? {
                // What is no app's is not ours.
                if AppKey::new(&namespace, &name).map_or(true, |app| apps.contains(&app)) {
                    kept = true;
                } else {
                    fs::remove_dir_all(path)?;
                    removed += 1;
                }
            }
            if !kept {
                // It has something else in it, or an app has just come.
                let _not_empty = fs::remove_dir(path);
            }
        }
        Ok(removed)
    }
}

/// The directories in `path`, by name; none where it is not there.
fn directories(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_apps_that_are_gone_lose_their_stores() {
        let root = tempfile::tempdir().unwrap();
        let dirs = AppDirs::new(root.path().join("stores"));
        assert_eq!(dirs.retain(&BTreeSet::new()).unwrap(), 0);
        let [kept, gone, alone] = [("shop", "cart"), ("shop", "search"), ("blog", "web")]
            .map(|(namespace, name)| AppKey::new(namespace, name).unwrap());
        for app in [&kept, &gone, &alone] {
            fs::create_dir_all(dirs.of(app)).unwrap();
            fs::write(dirs.of(app).join("sqlite_db.db"), "").unwrap();
        }
        assert_eq!(dirs.retain(&BTreeSet::from([kept.clone()])).unwrap(), 2);
        assert!(dirs.of(&kept).join("sqlite_db.db").exists());
        assert!(!dirs.of(&gone).exists());
        assert!(!root.path().join("stores/blog").exists());
    }
}

//! [`Rewritten`]: what looks like a change of what components are built of, and is none or their own doing.
//!
//! Formatters and generators write what they are given. Where `build.watch` names that, each build would be the reason for the
//! next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use manifest::Digest;

use super::interest::Change;

/// Files of more bytes are not compared: that they were written is enough.
const LARGEST: u64 = 16 << 20;
/// After so many builds in a row for what was written while the last one ran, it is told, and the next ones wait.
const ROUNDS: u32 = 4;
/// How long they wait at most.
const LONGEST: Duration = Duration::from_secs(60);

/// What files had in them when they were looked at last, and how often a build has been the reason for another.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    known: BTreeMap<PathBuf, Digest>,
    rounds: u32,
}

impl Rewritten {
    /// Leaves in `change` what has something else in it than when it was looked at last.
    pub(super) fn sift(&mut self, change: &mut Change) {
        let seen: BTreeSet<PathBuf> = change.built.values().flatten().cloned().collect();
        let same: BTreeSet<PathBuf> = seen.into_iter().filter(|path| self.is_same(path)).collect();
        change.built.retain(|_, paths| {
            // Without paths, nobody knows which.
            paths.is_empty() || {
                paths.retain(|path| !same.contains(path));
                !paths.is_empty()
            }
        });
    }

    fn is_same(&mut self, path: &Path) -> bool {
        match digest(path) {
            Ok(Some(now)) => self.known.insert(path.to_path_buf(), now) == Some(now),
            // A directory, or gone.
            Ok(None) | Err(_) => {
                self.known.remove(path);
                false
            }
        }
    }

    /// How long to wait before the components of `change` are built; `is_echo` if it came while the last ones were.
    pub(super) fn pace(&mut self, change: &Change, is_echo: bool) -> Option<Duration> {
        self.rounds = if is_echo && !change.built.is_empty() { self.rounds + 1 } else { 0 };
        let beyond = self.rounds.checked_sub(ROUNDS)?;
        Some(Duration::from_secs(1 << beyond.min(16)).min(LONGEST))
    }
}

/// What is in the file at `path`, if it is one and is not too large.
fn digest(path: &Path) -> io::Result<Option<Digest>> {
    let metadata = std::fs::metadata(path)?;
    let is_compared = metadata.is_file() && metadata.len() <= LARGEST;
    is_compared.then(|| Ok(Digest::of(&std::fs::read(path)?))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change_of(paths: &[&PathBuf]) -> Change {
        let paths = paths.iter().map(|path| (*path).clone()).collect();
        Change { built: BTreeMap::from([("api".parse().unwrap(), paths)]), ..Change::default() }
    }

    #[test]
    fn what_is_written_again_as_it_was_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let mut rewritten = Rewritten::default();
        let mut is_changed = |paths: &[&PathBuf]| {
            let mut change = change_of(paths);
            rewritten.sift(&mut change);
            !change.built.is_empty()
        };
        std::fs::write(&one, "1").unwrap();
        assert!(is_changed(&[&one]), "nobody has seen it before");
        std::fs::write(&one, "1").unwrap();
        assert!(!is_changed(&[&one]));
        std::fs::write(&other, "1").unwrap();
        assert!(is_changed(&[&one, &other]));
        std::fs::write(&one, "2").unwrap();
        assert!(is_changed(&[&one]));
        std::fs::remove_file(&one).unwrap();
        assert!(is_changed(&[&one]));
        std::fs::write(&one, "2").unwrap();
        assert!(is_changed(&[&one]), "it was gone");
        assert!(is_changed(&[&dir.path().to_path_buf()]));
        assert!(is_changed(&[]), "events were lost");
    }

    #[test]
    fn builds_that_are_the_reason_for_each_other_wait_longer_and_longer() {
        let mut rewritten = Rewritten::default();
        let change = change_of(&[]);
        let waits: Vec<_> = (0..12).map(|_| rewritten.pace(&change, true)).collect();
        assert_eq!(waits[..3], [None, None, None]);
        assert_eq!(waits[3..6], [1, 2, 4].map(|seconds| Some(Duration::from_secs(seconds))));
        assert_eq!(waits[11], Some(LONGEST));
        assert_eq!(rewritten.pace(&change, false), None);
        assert_eq!(rewritten.pace(&change, true), None, "it begins anew");
    }
}

//! Where a path leads, link by link: whichever of them changes, it is another file then.

use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

/// Where a path leads.
pub(super) struct Way {
    /// The symbolic links on the way, each at its own place.
    pub(super) links: Vec<PathBuf>,
    /// The path without symbolic links and `..`; what does not exist is no link.
    pub(super) end: PathBuf,
}

/// So many symbolic links lead nowhere, as for the operating system.
const MOST_LINKS: usize = 40;

/// Follows `path` as far as it exists.
pub(super) fn way_to(path: &Path) -> Way {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (mut links, mut end) = (Vec::new(), PathBuf::from("/"));
    // The next part is the last one.
    let mut parts = parts_of(&absolute);
    while let Some(part) = parts.pop() {
        if part == ".." {
            end.pop();
            continue;
        }
        let next = end.join(&part);
        match next.read_link() {
            Ok(target) if links.len() < MOST_LINKS => {
                if target.is_absolute() {
                    end = PathBuf::from("/");
                }
                parts.extend(parts_of(&target));
                links.push(next);
            }
            _ => end = next,
        }
    }
    Way { links, end }
}

/// The parts of a path that lead somewhere, the last one first.
fn parts_of(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// `path` without symbolic links and `..`, as far as it exists.
pub(super) fn settled(path: &Path) -> PathBuf {
    way_to(path).end
}

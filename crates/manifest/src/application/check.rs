//! What must be true of an [`Application`] beyond its types.

use std::collections::BTreeSet;

use super::{Application, ComponentId, File, Target};

/// Why an application is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationError {
    /// A route names a component that is not there.
    #[error("a route leads to component `{component}`, which does not exist")]
    UnknownComponent {
        /// The component.
        component: ComponentId,
    },
    /// The path of a file could lead out of the component's directory, or cannot exist.
    #[error("component `{component}` has a file at {path:?}: {problem}")]
    Path {
        /// The component.
        component: ComponentId,
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Application {
    /// Checks what the types cannot say: routes lead to components that exist; files have safe paths,
    /// sorted, none twice and none below another.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self) -> Result<(), ApplicationError> {
        for route in &self.routes {
            if let Target::Component { id, .. } = &route.target
                && !self.components.contains_key(id)
            {
                return Err(ApplicationError::UnknownComponent { component: id.clone() });
            }
        }
        for (component, spec) in &self.components {
            check_files(&spec.files).map_err(|(path, problem)| ApplicationError::Path {
                component: component.clone(),
                path: path.to_owned(),
                problem,
            })?;
        }
        Ok(())
    }
}

/// The first path that must not be in a component's list of files, and why.
pub(crate) fn check_files(files: &[File]) -> Result<(), (&str, &'static str)> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut last = None;
    for file in files {
        let path = file.path.as_str();
        check_path(path).map_err(|problem| (path, problem))?;
        match last {
            Some(last) if last == path => return Err((path, "there are two different files at this path")),
            Some(last) if last > path => return Err((path, "files must be sorted by path")),
            _ => last = Some(path),
        }
        if ancestors(path).any(|parent| paths.contains(parent)) {
            return Err((path, "one of its parent directories is itself a file"));
        }
    }
    Ok(())
}

/// Whether `path` is relative, normalised and without surprises.
///
/// # Errors
/// When it is not; the text says what is wrong.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        Err("the path is empty")
    } else if path.starts_with('/') {
        Err("the path must be relative")
    } else if path.contains('\0') {
        Err("the path has a NUL in it")
    } else if path.contains('\\') {
        Err("the path has a backslash in it; use `/`")
    } else if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        Err("no part of the path may be empty, `.` or `..`")
    } else if path.len() > 4096 || path.split('/').any(|part| part.len() > 255) {
        Err("the path is longer than file systems allow")
    } else {
        Ok(())
    }
}

/// `a/b`, `a` for `a/b/c`.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{application::Content, digest::Digest};

    fn files(paths: &[&str]) -> Vec<File> {
        let content = Content { digest: Digest::of(b""), size: 0 };
        paths.iter().map(|path| File { path: (*path).to_owned(), content }).collect()
    }

    #[test]
    fn a_path_that_could_leave_the_directory_is_refused() {
        for good in ["a", "a/b.txt", "a..b", ".hidden", "ü/ß"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "/a", "..", "a/..", "../a", "a//b", "a/", "./a", "a/./b", "a\\b", "a\0b", &"x".repeat(256)]
        {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_must_be_sorted_and_must_not_clash() {
        assert_eq!(check_files(&files(&["a", "b", "b-c", "d/e"])), Ok(()));
        for bad in [&["b", "a"], &["a", "a"], &["a", "a/b"]] {
            assert!(check_files(&files(bad)).is_err(), "{bad:?}");
        }
        assert!(check_files(&files(&["a", "a-b", "a/b"])).is_err());
    }
}

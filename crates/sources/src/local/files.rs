//! The files of a component: which there are, and that all of them are below the directory of the manifest, or below what a
//! pair of `source` and `destination` names.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
};

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use manifest::{
    Place,
    spin_toml::{Build, ComponentSpec, Exclusion, FilesEntry, FilesPattern},
};
use walkdir::WalkDir;

use super::{AppDir, LocalError, build_advice};

/// A file on this machine that a component sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where.
    pub(super) file: PathBuf,
    /// Which entry of the manifest says so.
    pub(super) place: Place,
}

impl AppDir<'_> {
    /// All files of a component, by their paths in the guest.
    pub(super) fn find_files(&self, spec: &ComponentSpec) -> Result<BTreeMap<String, Found>, LocalError> {
        let exclude = self.excluded(spec)?;
        let mut all = BTreeMap::new();
        for entry in &spec.files {
            let (place, build) = (&entry.place, spec.build.as_ref());
            let search = Search { app: self, place, exclude: &exclude, build, named: None };
            let found = search.entry(entry)?;
            if found.is_empty() {
                // Spin runs such an application too: a directory that is filled later may be empty.
                let advice = build_advice(spec.build.as_ref());
                tracing::warn!(at = self.at(&entry.place), advice, "no file is given to the component by this entry");
            }
            for (path, file) in found {
                self.add(&mut all, path, Found { file, place: entry.place.clone() })?;
            }
        }
        Ok(all)
    }

    fn excluded(&self, spec: &ComponentSpec) -> Result<GlobSet, LocalError> {
        let mut set = GlobSetBuilder::new();
        for Exclusion { place, pattern } in &spec.exclude_files {
            // As in Spin, `*` goes across directories here: what an author excludes must not be given by a deeper directory.
            set.add(Glob::new(pattern).map_err(|error| self.problem(place, error.to_string()))?);
        }
        set.build().map_err(|error| self.problem(&spec.place, format!("exclude_files: {error}")))
    }

    /// Two entries may name the same file, but not two files for the same path.
    fn add(&self, all: &mut BTreeMap<String, Found>, path: String, found: Found) -> Result<(), LocalError> {
        match all.entry(path) {
            Entry::Vacant(free) => {
                free.insert(found);
                Ok(())
            }
            Entry::Occupied(taken) if taken.get().file == found.file => Ok(()),
            Entry::Occupied(taken) => {
                let problem = format!(
                    "puts {} at /{}, where {} already is: change one of the destinations",
                    self.shown(&found.file),
                    taken.key(),
                    self.shown(&taken.get().file)
                );
                Err(self.problem(&found.place, problem))
            }
        }
    }

    /// A path as its author would write it.
    fn shown<'p>(&self, path: &'p Path) -> std::path::Display<'p> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// A pattern whose `*` stays within a directory.
fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// What one entry of `files` looks through.
struct Search<'a> {
    app: &'a AppDir<'a>,
    place: &'a Place,
    exclude: &'a GlobSet,
    build: Option<&'a Build>,
    /// The `source` of a pair, without symbolic links. As in Spin, it may be outside the directory of the manifest.
    named: Option<&'a Path>,
}

/// Paths in the guest and files here.
type Files = Vec<(String, PathBuf)>;

impl Search<'_> {
    fn entry(&self, entry: &FilesEntry) -> Result<Files, LocalError> {
        match &entry.pattern {
            FilesPattern::Placed { source, destination } => self.placed(source, destination),
            FilesPattern::Glob(pattern) => {
                let exact = self.app.root.join(pattern);
                // As in Spin, what exists under this very name is meant, whatever characters it has.
                if exact.exists() {
                    return self.within(&exact, None);
                }
                if !pattern.contains(PATTERN) {
                    return Err(self.missing(pattern));
                }
                let matcher = glob(pattern).map_err(|error| self.problem(error.to_string()))?.compile_matcher();
                let start = self.app.root.join(literal_prefix(pattern));
                if start.is_dir() { self.within(&start, Some(&matcher)) } else { Ok(Vec::new()) }
            }
        }
    }

    fn placed(&self, source: &str, destination: &str) -> Result<Files, LocalError> {
        let source = self.app.root.join(source);
        let Ok(named) = source.canonicalize() else {
            return Err(self.missing(&self.app.shown(&source).to_string()));
        };
        let is_dir = source.is_dir();
        if !is_dir && destination.is_empty() {
            return Err(self.problem("a file needs a destination with a name, such as `/name`"));
        }
        let files = Search { named: Some(&named), ..*self }.within(&source, None)?;
        files
            .into_iter()
            .map(|(_, file)| {
                let below = self.guest_path(file.strip_prefix(&source).unwrap_or(&file))?;
                let path = [destination, below.as_str()].into_iter().filter(|part| !part.is_empty());
                Ok((path.collect::<Vec<_>>().join("/"), file))
            })
            .collect()
    }

    /// The files at or below `start` that `matcher`, if there is one, matches.
    fn within(&self, start: &Path, matcher: Option<&GlobMatcher>) -> Result<Files, LocalError> {
        self.check_inside(start)?;
        let mut files = Vec::new();
        let mut walk = WalkDir::new(start).follow_links(true).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if leads_nowhere(&error) => continue,
                Err(error) => return Err(self.problem(format!("cannot look for files: {error}"))),
            };
            let relative = entry.path().strip_prefix(&self.app.root).unwrap_or(entry.path());
            if self.exclude.is_match(relative) {
                if entry.file_type().is_dir() {
                    walk.skip_current_dir();
                }
                continue;
            }
            let wanted = entry.file_type().is_file() && matcher.is_none_or(|matcher| matcher.is_match(relative));
            if entry.path_is_symlink() && (wanted || entry.file_type().is_dir()) {
                self.check_inside(entry.path())?;
            }
            if wanted {
                files.push((self.guest_path(relative)?, entry.path().to_path_buf()));
            }
        }
        Ok(files)
    }

    fn check_inside(&self, path: &Path) -> Result<(), LocalError> {
        let shown = self.app.shown(path);
        match path.canonicalize() {
            Ok(real) if real.starts_with(&self.app.root) => Ok(()),
            Ok(real) if self.named.is_some_and(|named| real.starts_with(named)) => Ok(()),
            Ok(real) => Err(self.problem(format!(
                "{shown} leads to {}, which is outside the directory of the manifest: copy it there, name it as the source of a pair, or add {shown} to exclude_files",
                real.display()
            ))),
            Err(error) => Err(self.problem(format!("cannot follow {shown}: {error}"))),
        }
    }

    fn guest_path(&self, relative: &Path) -> Result<String, LocalError> {
        match relative.to_str() {
            Some(path) => Ok(path.to_owned()),
            None => Err(self.problem(format!("{} is not UTF-8: rename the file", relative.display()))),
        }
    }

    fn problem(&self, problem: impl Into<String>) -> LocalError {
        self.app.problem(self.place, problem)
    }

    fn missing(&self, path: &str) -> LocalError {
        self.problem(format!("there is no `{path}`: {}", build_advice(self.build)))
    }
}

/// What makes a path a pattern.
const PATTERN: [char; 4] = ['*', '?', '[', '{'];

/// Whether it is a link that points to nothing, or back to a directory that it is in: editors and package managers leave
/// such links, and there is no file behind them that would not be found without.
fn leads_nowhere(error: &walkdir::Error) -> bool {
    let is_link = || error.path().is_some_and(Path::is_symlink);
    error.loop_ancestor().is_some()
        || is_link() && error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The directories at the start of `pattern` that are not patterns themselves.
fn literal_prefix(pattern: &str) -> PathBuf {
    let directories = pattern.rsplit_once('/').map_or("", |(directories, _)| directories);
    directories.split('/').take_while(|part| !part.contains(PATTERN)).collect()
}

//! [`Interest`]: which paths decide what runs, and which directories tell about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
use manifest::{ComponentId, spin_toml::FilesPattern};
use notify::RecursiveMode;

use super::{
    super::project::Project,
    way::{Way, settled, way_to},
};

/// What changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// Whether it is the manifest.
    pub(super) manifest: bool,
    /// What these components are built of: which of it, as far as that is known.
    pub(super) built: BTreeMap<ComponentId, BTreeSet<PathBuf>>,
}

/// The paths that decide what runs.
#[derive(Debug)]
pub(super) struct Interest {
    manifest: Vec<Paths>,
    /// What runs: wasm and files.
    content: Vec<Paths>,
    /// What components are built of.
    sources: BTreeMap<ComponentId, Vec<Paths>>,
    /// Wasm files: never what something is built of.
    wasm: BTreeSet<PathBuf>,
    /// Directories that this process writes into.
    ignored: Vec<PathBuf>,
}

/// Some paths, absolute and without symbolic links as far as they exist.
#[derive(Debug)]
enum Paths {
    /// A file.
    File(PathBuf),
    /// A directory with all that is below, or a file.
    Tree(PathBuf),
    /// What below `start` matches.
    Glob { start: PathBuf, is_deep: bool, matcher: GlobMatcher },
}

impl Interest {
    /// What decides about `project`: with what it is built of if `is_building`, and the files of components if `with_files`;
    /// and the files `more`.
    pub(super) fn of(
        project: &Project,
        is_building: bool,
        with_files: bool,
        more: impl IntoIterator<Item = PathBuf>,
        ignored: impl IntoIterator<Item = PathBuf>,
    ) -> Self {
        let mut content: Vec<Paths> = more.into_iter().flat_map(|file| Paths::of_file(&file)).collect();
        let mut sources = BTreeMap::new();
        let mut wasm = BTreeSet::new();
        for file in project.wasm() {
            content.extend(Paths::of_file(&file));
            wasm.insert(settled(&file));
        }
        for (id, component) in &project.manifest.components {
            for entry in component.files.iter().filter(|_| with_files) {
                let (start, paths) = match &entry.pattern {
                    FilesPattern::Placed { source, .. } => {
                        let source = project.dir.join(source);
                        (source.clone(), Paths::Tree(settled(&source)))
                    }
                    FilesPattern::Glob(pattern) => {
                        (project.dir.join(pattern), Paths::of_pattern(&project.dir, pattern))
                    }
                };
                content.push(paths);
                content.extend(way_to(&start).links.into_iter().map(Paths::File));
            }
            if let Some(build) = component.build.as_ref().filter(|_| is_building) {
                let dir = project.dir.join(build.workdir.as_deref().unwrap_or_default());
                let watched = build.watch.iter().map(|pattern| Paths::of_pattern(&dir, pattern));
                sources.insert(id.clone(), watched.collect());
            }
        }
        let ignored = ignored.into_iter().map(|dir| settled(&dir)).collect();
        Self { manifest: Paths::of_file(&project.named), content, sources, wasm, ignored }
    }

    /// Adds to `change` what a change of `paths` means; false if nothing.
    pub(super) fn note(&self, paths: &[PathBuf], change: &mut Change) -> bool {
        let mut is_seen = false;
        for path in paths.iter().filter(|path| !self.ignored.iter().any(|dir| path.starts_with(dir))) {
            let have = |paths: &[Paths]| paths.iter().any(|paths| paths.have(path));
            let (content, manifest) = (have(&self.content), have(&self.manifest));
            change.manifest |= manifest;
            is_seen |= content || manifest;
            if self.wasm.contains(path) {
                continue;
            }
            for (id, _) in self.sources.iter().filter(|(_, sources)| have(sources)) {
                change.built.entry(id.clone()).or_default().insert(path.clone());
                is_seen = true;
            }
        }
        is_seen
    }

    /// Everything may have changed.
    pub(super) fn everything(&self, change: &mut Change) -> bool {
        let built = self.sources.keys().map(|id| (id.clone(), BTreeSet::new()));
        *change = Change { manifest: true, built: built.collect() };
        true
    }

    /// The directories to watch: of what does not exist, the nearest one above that does.
    pub(super) fn directories(&self) -> BTreeMap<PathBuf, RecursiveMode> {
        let mut directories = BTreeMap::new();
        let all = self.manifest.iter().chain(&self.content).chain(self.sources.values().flatten());
        for paths in all {
            let (path, mode) = paths.directory();
            let known = directories.entry(path).or_insert(mode);
            if mode == RecursiveMode::Recursive {
                *known = mode;
            }
        }
        directories
    }
}

impl Paths {
    /// A file: where it really is, and each link on the way there, for whichever of them changes, it is another file then.
    fn of_file(file: &Path) -> Vec<Self> {
        let Way { links, end } = way_to(file);
        links.into_iter().chain([end]).map(Self::File).collect()
    }

    /// What `pattern` means below `dir`; what is no pattern, or exists under this very name, is taken literally.
    fn of_pattern(dir: &Path, pattern: &str) -> Self {
        let exact = dir.join(pattern);
        let parts: Vec<&str> = pattern.split('/').filter(|part| *part != ".").collect();
        let literal = parts.iter().take_while(|part| !is_pattern(part)).count();
        let (literal, rest) = parts.split_at(literal);
        if rest.is_empty() || exact.exists() {
            return Self::Tree(settled(&exact));
        }
        // An absolute pattern begins with an empty part.
        let literal = if pattern.starts_with('/') { format!("/{}", literal.join("/")) } else { literal.join("/") };
        let start = settled(&dir.join(literal));
        // Where directories have special characters, they are no pattern.
        let whole = format!("{}/{}", globset::escape(&start.display().to_string()), rest.join("/"));
        match GlobBuilder::new(&whole).literal_separator(true).build() {
            Ok(glob) => {
                let is_deep = rest.len() > 1 || rest.contains(&"**");
                Self::Glob { start, is_deep, matcher: glob.compile_matcher() }
            }
            Err(_) => Self::Tree(settled(&exact)),
        }
    }

    /// Where it begins.
    fn anchor(&self) -> &Path {
        match self {
            Self::File(path) | Self::Tree(path) | Self::Glob { start: path, .. } => path,
        }
    }

    /// Whether a change of `path` is one of these paths; also if a directory above them, or one within, appears or goes.
    fn have(&self, path: &Path) -> bool {
        if self.anchor().starts_with(path) {
            return true;
        }
        match self {
            Self::File(_) => false,
            Self::Tree(tree) => path.starts_with(tree),
            Self::Glob { start, is_deep, matcher } => {
                path.starts_with(start) && (matcher.is_match(path) || *is_deep && path.is_dir())
            }
        }
    }

    fn directory(&self) -> (PathBuf, RecursiveMode) {
        let (path, mode) = match self {
            Self::File(path) => (path.parent().unwrap_or(path), RecursiveMode::NonRecursive),
            Self::Tree(path) if path.is_dir() => (path.as_path(), RecursiveMode::Recursive),
            Self::Tree(path) => (path.parent().unwrap_or(path), RecursiveMode::NonRecursive),
            Self::Glob { start, is_deep: true, .. } => (start.as_path(), RecursiveMode::Recursive),
            Self::Glob { start, is_deep: false, .. } => (start.as_path(), RecursiveMode::NonRecursive),
        };
        if path.is_dir() {
            return (path.to_path_buf(), mode);
        }
        let above = path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        (above.to_path_buf(), RecursiveMode::NonRecursive)
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project in a directory of its own.
    fn project() -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["api/src/deep", "assets", "web/[odd]"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let text = r#"
            spin_manifest_version = 2
            application = { name = "x" }
            trigger = { http = [{ route = "/", component = "api" }, { route = "/web", component = "web" }] }
            [component.api]
            source = "api/target/api.wasm"
            files = ["web/[odd]", { source = "assets", destination = "/" }, "pages/*.html"]
            build = { command = "make", workdir = "api", watch = ["src/**/*.rs", "Cargo.toml", "./**/*.wasm", "../shared/*.rs"] }
            [component.web]
            source = { url = "https://example.com/a.wasm", digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
        "#;
        std::fs::write(dir.path().join("spin.toml"), text).unwrap();
        let project = Project::read(&dir.path().join("spin.toml"), None, &[]).unwrap();
        (dir, project)
    }

    /// What a change of `path` means: m(anifest), the components to build, or other c(ontent).
    fn meaning(interest: &Interest, project: &Project, path: &str) -> String {
        let mut change = Change::default();
        let is_seen = interest.note(&[project.dir.join(path)], &mut change);
        let mut meaning: Vec<String> = change.built.keys().map(ToString::to_string).collect();
        if change.manifest {
            meaning.push("m".to_owned());
        }
        if is_seen && meaning.is_empty() {
            meaning.push("c".to_owned());
        }
        meaning.join(" ")
    }

    #[test]
    fn each_path_means_what_the_manifest_says() {
        let (_dir, project) = project();
        let interest = Interest::of(&project, true, true, [project.dir.join(".env")], [project.dir.join(".spin")]);
        for (path, expected) in [
            ("spin.toml", "m"),
            ("spin.toml~", ""),
            (".env", "c"),
            ("api/target/api.wasm", "c"),
            ("api/target", "c"),
            ("api/target/other.o", ""),
            ("api/target/other.wasm", "api"),
            ("api/src/lib.rs", "api"),
            ("api/src/deep/er.rs", "api"),
            ("api/src/notes.txt", ""),
            ("shared/a.rs", "api"),
            ("shared/deep/a.rs", ""),
            ("api/Cargo.toml", "api"),
            ("assets/a/b.css", "c"),
            ("web/[odd]/x", "c"),
            ("web/o/x", ""),
            ("pages/index.html", "c"),
            ("pages/deep/index.html", ""),
            (".spin/logs/api_stderr.txt", ""),
        ] {
            assert_eq!(meaning(&interest, &project, path), expected, "{path}");
        }
        let without = Interest::of(&project, false, false, [], []);
        assert_eq!(meaning(&without, &project, "api/src/lib.rs"), "");
        assert_eq!(meaning(&without, &project, "assets/a"), "");
    }

    #[test]
    fn what_does_not_exist_is_waited_for_in_the_directory_above() {
        let (_dir, project) = project();
        let interest = Interest::of(&project, true, true, [], []);
        let directories = interest.directories();
        let mode = |path: &str| directories.get(&project.dir.join(path)).copied();
        assert_eq!(mode(""), Some(RecursiveMode::NonRecursive));
        assert_eq!(mode("api"), Some(RecursiveMode::Recursive), "for **/*.wasm");
        assert_eq!(mode("assets"), Some(RecursiveMode::Recursive));
        assert_eq!(mode("api/target"), None);
        assert_eq!(mode("pages"), None);
    }

    #[test]
    fn a_link_on_the_way_to_something_is_as_good_as_that_itself() {
        use std::os::unix::fs::symlink;
        let (_dir, project) = project();
        let at = |path: &str| project.dir.join(path);
        std::fs::create_dir_all(at("releases/1")).unwrap();
        std::fs::rename(at("spin.toml"), at("releases/1/real.toml")).unwrap();
        std::fs::write(at("releases/1/api.wasm"), "").unwrap();
        symlink("releases/1", at("current")).unwrap();
        symlink("current/real.toml", at("spin.toml")).unwrap();
        std::fs::create_dir(at("api/target")).unwrap();
        symlink("../../current/api.wasm", at("api/target/api.wasm")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let project = Project::read(&at("spin.toml"), None, &[]).unwrap();
        let interest = Interest::of(&project, false, true, [at("loop")], []);
        for (path, expected) in [
            ("spin.toml", "m"),
            ("current", "m"),
            ("releases/1", "m"),
            ("releases/1/real.toml", "m"),
            ("releases/1/api.wasm", "c"),
            ("api/target/api.wasm", "c"),
            ("loop", "c"),
            ("releases/2", ""),
            ("releases/1/notes", ""),
        ] {
            assert_eq!(meaning(&interest, &project, path), expected, "{path}");
        }
    }
}

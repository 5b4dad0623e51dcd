//! How components get their files: read-only and shared (the default), as copies that they may change, or as the author's own
//! directories.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use manifest::{
    Application, ComponentId,
    spin_toml::{ComponentSpec, Exclusion, FilesPattern},
};
use node_runtime::engine::Mount;
use sources::Store;
use tempfile::TempDir;

use super::project::Project;

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files of components")]
pub(super) struct FilesArgs {
    /// Let components change their files: copies that are made at each start and removed in the end
    #[arg(long, alias = "allow-transient-writes")]
    allow_transient_write: bool,
    /// Show components the directories of `files` as they are now, not as they were at the start. Not for patterns and
    /// exclude_files. With --allow-transient-write, components change these directories themselves
    #[arg(long)]
    direct_mounts: bool,
    /// Where copies of files are made [default: the system's directory for temporary files]
    #[arg(long, alias = "tmp", value_name = "DIR")]
    temp: Option<PathBuf>,
}

/// What components see instead of the files of their application.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// By component.
    pub(super) mounts: BTreeMap<ComponentId, Vec<Mount>>,
    /// What they were made in.
    pub(super) copies: Option<PathBuf>,
}

impl FilesArgs {
    /// Whether the store needs no files.
    pub(super) const fn are_direct(&self) -> bool {
        self.direct_mounts
    }

    /// The directories of `project` that are mounted as they are; none without `--direct-mounts`.
    ///
    /// # Errors
    /// When an entry of `files` is no directory.
    pub(super) fn direct(&self, project: Option<&Project>) -> anyhow::Result<BTreeMap<ComponentId, Vec<Mount>>> {
        if !self.direct_mounts {
            return Ok(BTreeMap::new());
        }
        let project = project.context(
            "--direct-mounts needs an application in a directory: a bindle's files are in no directory of yours",
        )?;
        let mounts = |spec: &ComponentSpec| direct_mounts(project, spec, self.allow_transient_write);
        project.manifest.components.iter().map(|(id, spec)| Ok((id.clone(), mounts(spec)?))).collect()
    }

    /// The directory for copies, removed when dropped; none where none are made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn place_of_copies(&self) -> anyhow::Result<Option<TempDir>> {
        if !self.allow_transient_write || self.direct_mounts {
            return Ok(None);
        }
        let parent = self.temp.clone().unwrap_or_else(std::env::temp_dir);
        let made = std::fs::create_dir_all(&parent)
            .and_then(|()| tempfile::Builder::new().prefix("spindle-up-").tempdir_in(&parent));
        made.map(Some).with_context(|| format!("cannot make a directory in {} (--temp)", parent.display()))
    }

    /// Copies the files of `application` into a new directory `dir`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn copies(application: &Application, store: &Store, dir: PathBuf) -> anyhow::Result<Mounts> {
        let mut mounts = BTreeMap::new();
        for (id, component) in &application.components {
            if component.files.is_empty() {
                continue;
            }
            let dir = dir.join(id.as_str());
            copy(&component.files, store, &dir)
                .with_context(|| format!("component `{id}`: cannot copy its files (--temp)"))?;
            mounts.insert(id.clone(), vec![Mount { dir, at: "/".to_owned(), writable: true }]);
        }
        Ok(Mounts { mounts, copies: Some(dir) })
    }
}

fn direct_mounts(project: &Project, spec: &ComponentSpec, writable: bool) -> anyhow::Result<Vec<Mount>> {
    let file = &project.manifest.file;
    if let Some(Exclusion { place, .. }) = spec.exclude_files.first() {
        anyhow::bail!(
            "{file}:{place}: --direct-mounts mounts whole directories: remove exclude_files, or leave the flag out"
        );
    }
    let mut mounts: Vec<Mount> = Vec::new();
    for entry in &spec.files {
        let at = format!("{file}:{}", entry.place);
        let (source, destination, is_pair) = match &entry.pattern {
            FilesPattern::Placed { source, destination } => (source, destination.as_str(), true),
            // The name of a directory is no pattern.
            FilesPattern::Glob(name) if project.dir.join(name).is_dir() => (name, name.trim_end_matches('/'), false),
            FilesPattern::Glob(_) => anyhow::bail!(
                "{at}: --direct-mounts mounts directories, not patterns: write {{ source = \"…\", destination = \"/…\" }}, or leave the flag out"
            ),
        };
        let dir = project.dir.join(source);
        let real = dir.canonicalize().with_context(|| format!("{at}: cannot mount {source}"))?;
        anyhow::ensure!(
            real.is_dir(),
            "{at}: --direct-mounts mounts directories, and {source} is none: leave the flag out"
        );
        anyhow::ensure!(
            is_pair || real.starts_with(&project.dir),
            "{at}: {source} leads outside the directory of the manifest: write {{ source = \"…\", destination = \"/…\" }}"
        );
        let destination = format!("/{destination}");
        anyhow::ensure!(
            mounts.iter().all(|mount| mount.at != destination),
            "{at}: --direct-mounts can mount one directory at {destination} only: change one of the destinations"
        );
        mounts.push(Mount { dir: real, at: destination, writable });
    }
    Ok(mounts)
}

/// Copies, because the store's own files are shared by all who have the same content.
fn copy(files: &[manifest::File], store: &Store, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    for file in files {
        let target = dir.join(&file.path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let blob = store.get(&file.content)?.with_context(|| format!("{} is not in the store", file.path))?;
        std::fs::copy(blob, &target).with_context(|| file.path.clone())?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

//! [`Disk`]: what the runtime was told, kept across restarts.
//!
//! | where | what |
//! |---|---|
//! | `<data>/assignments/<namespace>/<name>.json` | the assignment, without secret values |
//! | `<secrets>/<namespace>/<name>.json` | its variables, credentials and runtime configurations; on a memory volume |
//!
//! Promise: a file is replaced as a whole; what cannot be read, does not fit together or is not what was written is
//! reported, set aside as `*.corrupt` and never fatal. The fingerprint covers both files, so two that are not of one
//! assignment are noticed.
//!
//! Absent on purpose: waiting for the disk (fsync). After a power loss a file may be the old one or damaged; it is set
//! aside then and the operator sends the assignment again.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use control::{AppKey, Assignment, Credentials, Fetch, Fingerprint, RevisionId, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How the name of a file begins that is being written.
const UNFINISHED: &str = ".new-";
/// How the name of a file ends that is set aside.
const CORRUPT: &str = "corrupt";

/// The directories.
#[derive(Debug, Clone)]
pub struct Disk {
    assignments: PathBuf,
    secrets: PathBuf,
}

/// Why an assignment could not be kept or restored.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system failed.
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
    /// A file's content is not what is written there.
    #[error("{} cannot be read", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The secret values are gone, as they are after a reboot: the operator will send them again.
    #[error("{} needs secret values that are not in memory any more", .path.display())]
    WithoutSecrets {
        /// The assignment's file.
        path: PathBuf,
    },
    /// The file and its secret values are not of the same assignment, or either was changed.
    #[error("{} is not what was written there", .path.display())]
    Changed {
        /// The assignment's file.
        path: PathBuf,
    },
}

/// The file of an assignment.
#[derive(Serialize, Deserialize)]
struct Public {
    /// The fingerprint, unless it would tell about secret values.
    fingerprint: Option<Fingerprint>,
    assignment: Assignment,
}

/// The file of an assignment's secret values.
#[derive(Serialize, Deserialize)]
struct Secret {
    fingerprint: Fingerprint,
    variables: BTreeMap<RevisionId, BTreeMap<String, SecretString>>,
    credentials: BTreeMap<RevisionId, Credentials>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    runtime_configs: BTreeMap<RevisionId, RuntimeConfigs>,
}

/// The runtime configurations of a revision.
#[derive(Serialize, Deserialize, PartialEq, Default)]
struct RuntimeConfigs {
    app: Option<SecretString>,
    pool: Option<SecretString>,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Restored {
    /// What can be run again.
    pub assignments: Vec<Assignment>,
    /// What cannot, and why.
    pub problems: Vec<DiskError>,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.to_path_buf();
    move |source| DiskError::Io { action, path, source }
}

impl Disk {
    /// Uses (and makes) the directories below `data` and `secrets`.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn open(data: &Path, secrets: &Path) -> Result<Self, DiskError> {
        let disk = Self { assignments: data.join("assignments"), secrets: secrets.to_path_buf() };
        for dir in [&disk.assignments, &disk.secrets] {
            make_private_dir(dir)?;
            remove_unfinished(dir);
        }
        Ok(disk)
    }

    fn files(&self, app: &AppKey) -> (PathBuf, PathBuf) {
        // An `AppKey` is safe as a file name: it has no `/` but the one between its parts, and no part is `..`.
        let below = |root: &Path| root.join(app.namespace()).join(format!("{}.json", app.name()));
        (below(&self.assignments), below(&self.secrets))
    }

    /// Keeps `assignment` in place of an earlier one of that app. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, assignment: &Assignment) -> Result<(), DiskError> {
        let (file, secret_file) = self.files(&assignment.app);
        let malformed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DiskError::Malformed { path, source }
        };
        let fingerprint = assignment.fingerprint().map_err(malformed(&file))?;
        let (public, secret) = split(assignment.clone(), fingerprint);
        if let Some(secret) = secret {
            write(&secret_file, &serde_json::to_vec(&secret).map_err(malformed(&secret_file))?)?;
        } else {
            remove(&secret_file)?;
        }
        write(&file, &serde_json::to_vec(&public).map_err(malformed(&file))?)
    }

    /// Forgets `app`. Blocks.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub fn forget(&self, app: &AppKey) -> Result<(), DiskError> {
        let (file, secret_file) = self.files(app);
        remove(&file.with_extension(CORRUPT))?;
        for file in [&file, &secret_file] {
            remove(file)?;
            // Not while another app of the namespace has something there.
            let _not_empty = file.parent().map(fs::remove_dir);
        }
        Ok(())
    }

    /// Everything that was kept. What cannot be used is set aside. Blocks.
    #[must_use]
    pub fn restore(&self) -> Restored {
        let mut restored = Restored::default();
        for namespace in entries(&self.assignments, &mut restored.problems) {
            for file in entries(&namespace, &mut restored.problems) {
                if file.extension().is_none_or(|extension| extension != "json") {
                    continue;
                }
                match self.restore_one(&file) {
                    Ok(assignment) => restored.assignments.push(assignment),
                    Err(problem) => {
                        // Whether setting it aside works makes no difference to what was found.
                        drop(fs::rename(&file, file.with_extension(CORRUPT)));
                        restored.problems.push(problem);
                    }
                }
            }
        }
        restored
    }

    fn restore_one(&self, file: &Path) -> Result<Assignment, DiskError> {
        let changed = || DiskError::Changed { path: file.to_path_buf() };
        let Public { fingerprint, mut assignment } = read(file)?;
        let (own_file, secret_file) = self.files(&assignment.app);
        if own_file != file {
            return Err(changed());
        }
        let fingerprint = if let Some(fingerprint) = fingerprint {
            fingerprint
        } else {
            let secret: Secret = match read(&secret_file) {
                Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Err(DiskError::WithoutSecrets { path: file.to_path_buf() });
                }
                other => other?,
            };
            join(&mut assignment, secret)
        };
        let actual = assignment.fingerprint();
        if actual.is_ok_and(|actual| actual == fingerprint) { Ok(assignment) } else { Err(changed()) }
    }
}

/// Takes the secret values out of an assignment.
fn split(mut assignment: Assignment, fingerprint: Fingerprint) -> (Public, Option<Secret>) {
    let (mut variables, mut credentials, mut runtime_configs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for revision in &mut assignment.revisions {
        let values = std::mem::take(&mut revision.variables);
        if !values.is_empty() {
            variables.insert(revision.id.clone(), values);
        }
        let Fetch::Bindle { credentials: secret, .. } = &mut revision.fetch;
        if let Some(secret) = secret.take() {
            credentials.insert(revision.id.clone(), secret);
        }
        let configs = RuntimeConfigs { app: revision.runtime_config.take(), pool: revision.pool_config.take() };
        if configs != RuntimeConfigs::default() {
            runtime_configs.insert(revision.id.clone(), configs);
        }
    }
    if variables.is_empty() && credentials.is_empty() && runtime_configs.is_empty() {
        return (Public { fingerprint: Some(fingerprint), assignment }, None);
    }
    // A digest of short secrets could be guessed from, so it is kept where they are.
    (Public { fingerprint: None, assignment }, Some(Secret { fingerprint, variables, credentials, runtime_configs }))
}

/// Puts the secret values back.
fn join(assignment: &mut Assignment, secret: Secret) -> Fingerprint {
    let Secret { fingerprint, mut variables, credentials: mut all, mut runtime_configs } = secret;
    for revision in &mut assignment.revisions {
        revision.variables = variables.remove(&revision.id).unwrap_or_default();
        let Fetch::Bindle { credentials, .. } = &mut revision.fetch;
        *credentials = all.remove(&revision.id);
        let configs = runtime_configs.remove(&revision.id).unwrap_or_default();
        (revision.runtime_config, revision.pool_config) = (configs.app, configs.pool);
    }
    fingerprint
}

fn entries(dir: &Path, problems: &mut Vec<DiskError>) -> Vec<PathBuf> {
    let listed = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>());
    match listed {
        Ok(mut paths) => {
            paths.sort();
            paths
        }
        Err(source) => {
            problems.push(io_error("list", dir)(source));
            Vec::new()
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, DiskError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| DiskError::Malformed { path: path.to_path_buf(), source })
}

/// Replaces the file as a whole, readable for this user only.
fn write(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let dir = path.parent().unwrap_or(path);
    make_private_dir(dir)?;
    let mut file =
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir).map_err(io_error("make a file in", dir))?;
    io::Write::write_all(&mut file, bytes).map_err(io_error("write", path))?;
    file.persist(path).map_err(|error| io_error("write", path)(error.error))?;
    Ok(())
}

/// Removes what a crash has left behind of files that were being written; they may hold secrets.
fn remove_unfinished(root: &Path) {
    // What cannot be listed or removed does no harm but take room.
    let namespaces = entries(root, &mut Vec::new());
    for file in namespaces.iter().filter(|dir| dir.is_dir()).flat_map(|dir| entries(dir, &mut Vec::new())) {
        if file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())) {
            drop(fs::remove_file(file));
        }
    }
}

fn make_private_dir(dir: &Path) -> Result<(), DiskError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("make", dir))
}

fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use control::{Hold, Limits, RevisionSpec};

    use super::*;

    fn assignment(name: &str, secret: Option<&str>) -> Assignment {
        let application = serde_json::from_str(r#"{"name":"app","routes":[],"components":{}}"#).unwrap();
        let password = |text: &str| Credentials { username: "me".to_owned(), password: SecretString::new(text) };
        Assignment {
            app: AppKey::new("shop", name).unwrap(),
            uid: "uid".to_owned(),
            port: 10_000,
            revisions: vec![RevisionSpec {
                id: RevisionId("v1".to_owned()),
                application,
                fetch: Fetch::Bindle {
                    server: "http://127.0.0.1/v1".to_owned(),
                    id: "app/1.0.0".to_owned(),
                    credentials: secret.map(password),
                },
                variables: secret.map(|text| ("key".to_owned(), SecretString::new(text))).into_iter().collect(),
                limits: Limits::default(),
                runtime_config: secret.map(SecretString::new),
                pool_config: secret.map(|text| SecretString::new(format!("pool {text}"))),
                readiness: None,
            }],
            active: RevisionId("v1".to_owned()),
            hold: Hold::Requests,
        }
    }

    fn disk() -> (tempfile::TempDir, Disk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(&dir.path().join("data"), &dir.path().join("secrets")).unwrap();
        (dir, disk)
    }

    #[test]
    fn what_was_kept_is_restored_with_its_secret_values() {
        let (_dir, disk) = disk();
        let all = [assignment("a", None), assignment("b", Some("hunter2"))];
        for each in &all {
            disk.keep(each).unwrap();
        }
        let restored = disk.restore();
        assert!(restored.problems.is_empty(), "{:?}", restored.problems);
        assert_eq!(restored.assignments, all);
        disk.forget(&all[0].app).unwrap();
        disk.forget(&all[0].app).unwrap();
        assert_eq!(disk.restore().assignments, all[1..]);
    }

    #[test]
    fn of_an_app_that_is_gone_nothing_is_left_and_nothing_of_its_namespace_after_the_last() {
        let (dir, disk) = disk();
        let namespaces = ["data/assignments/shop", "secrets/shop"].map(|at| dir.path().join(at));
        let [a, b] = ["a", "b"].map(|name| assignment(name, Some("hunter2")));
        disk.keep(&a).unwrap();
        fs::write(namespaces[0].join("a.json"), b"{").unwrap();
        assert_eq!(disk.restore().problems.len(), 1);
        for kept in [&a, &b] {
            disk.keep(kept).unwrap();
        }
        disk.forget(&a.app).unwrap();
        let files =
            |dir: &PathBuf| fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(namespaces.each_ref().map(files), [["b.json"], ["b.json"]]);
        disk.forget(&b.app).unwrap();
        assert!(namespaces.iter().all(|dir| !dir.exists()));
        disk.keep(&a).unwrap();
        assert_eq!(disk.restore().assignments, [a]);
    }

    #[test]
    fn secret_values_are_only_in_the_directory_of_secrets() {
        let (dir, disk) = disk();
        let kept = assignment("a", Some("hunter2"));
        disk.keep(&kept).unwrap();
        let public = fs::read_to_string(dir.path().join("data/assignments/shop/a.json")).unwrap();
        assert!(!public.contains("hunter2"));
        assert!(!public.contains(&kept.fingerprint().unwrap().0.hex()), "a digest could be guessed from");
        fs::remove_file(dir.path().join("secrets/shop/a.json")).unwrap();
        let restored = disk.restore();
        assert!(restored.assignments.is_empty());
        assert!(matches!(restored.problems[..], [DiskError::WithoutSecrets { .. }]));
    }

    #[test]
    fn damaged_files_are_reported_and_set_aside_and_the_others_restored() {
        let (dir, disk) = disk();
        for name in ["a", "b", "c", "d"] {
            disk.keep(&assignment(name, None)).unwrap();
        }
        let shop = dir.path().join("data/assignments/shop");
        fs::write(shop.join("a.json"), b"{").unwrap();
        let changed = fs::read_to_string(shop.join("b.json")).unwrap().replace("10000", "10001");
        fs::write(shop.join("b.json"), changed).unwrap();
        fs::rename(shop.join("c.json"), shop.join("x.json")).unwrap();
        let restored = disk.restore();
        assert_eq!(restored.assignments, [assignment("d", None)]);
        assert!(matches!(
            restored.problems[..],
            [DiskError::Malformed { .. }, DiskError::Changed { .. }, DiskError::Changed { .. }]
        ));
        assert!(shop.join("a.corrupt").exists());
        assert!(disk.restore().problems.is_empty(), "each is reported once");
    }

    #[test]
    fn what_a_crash_left_unfinished_is_removed_at_the_next_start() {
        let (dir, disk) = disk();
        disk.keep(&assignment("a", Some("hunter2"))).unwrap();
        let unfinished = ["data/assignments/shop", "secrets/shop"].map(|at| dir.path().join(at).join(".new-x1y2"));
        for file in &unfinished {
            fs::write(file, "hunt").unwrap();
        }
        let disk = Disk::open(&dir.path().join("data"), &dir.path().join("secrets")).unwrap();
        assert!(unfinished.iter().all(|file| !file.exists()));
        assert_eq!(disk.restore().assignments, [assignment("a", Some("hunter2"))]);
    }

    #[test]
    fn new_secret_values_next_to_an_old_assignment_are_noticed() {
        let (dir, disk) = disk();
        disk.keep(&assignment("a", Some("old"))).unwrap();
        let old = fs::read(dir.path().join("secrets/shop/a.json")).unwrap();
        disk.keep(&assignment("a", Some("new"))).unwrap();
        fs::write(dir.path().join("secrets/shop/a.json"), old).unwrap();
        // The old values with the old fingerprint fit the public half: they are one assignment, the old one.
        assert_eq!(disk.restore().assignments, [assignment("a", Some("old"))]);
        let mut other = assignment("a", Some("new"));
        other.port = 10_001;
        let secret = fs::read(dir.path().join("secrets/shop/a.json")).unwrap();
        disk.keep(&other).unwrap();
        fs::write(dir.path().join("secrets/shop/a.json"), secret).unwrap();
        assert!(matches!(disk.restore().problems[..], [DiskError::Changed { .. }]));
    }
}

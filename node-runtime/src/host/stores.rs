//! Where stores and databases are: what the runtime configuration says about their places, checked when a revision is
//! built; and whether they work.
//!
//! Promise: a label that the manifest names and nobody configured is found when the revision is built, never by a request.
//!
//! Absent on purpose: rules about paths. Whoever reads a runtime configuration knows who wrote it, and refuses what leads
//! out of an app's directory on a cluster.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use manifest::{Application, ComponentId};

use super::Services;

/// Why an application's stores cannot be what its runtime configuration says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreConfigError {
    /// A component names a label that nothing is behind.
    #[error(
        "component `{component}`: its {what} `{label}` is not configured: add `[{table}.{label}]` with a `type` to the runtime \
         configuration, or use the label `default`"
    )]
    Unknown {
        /// Whose.
        component: ComponentId,
        /// A store or a database.
        what: &'static str,
        /// The table of the runtime configuration.
        table: &'static str,
        /// The label.
        label: String,
    },
    /// A label cannot be part of a file's name.
    #[error("`[{table}.{label}]`: a label that names no path has letters, digits, `-`, `_` and `.` only")]
    Label {
        /// The table of the runtime configuration.
        table: &'static str,
        /// The label.
        label: String,
    },
    /// A URL is not one. It may hold a password, so it is not repeated.
    #[error("`[{table}.{label}]`: {problem}")]
    Url {
        /// The table of the runtime configuration.
        table: &'static str,
        /// The label.
        label: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Why something that whoever runs the application asked of its stores was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreUseError {
    /// A value was not set.
    #[error("the key `{key}` was not set in the key-value store `default`: {problem}")]
    KeyValue {
        /// Which.
        key: String,
        /// What the store says.
        problem: String,
    },
    /// SQL was not run, or not to its end.
    #[error("SQL failed in the SQLite database `{label}`: {problem}")]
    Sqlite {
        /// In which.
        label: String,
        /// What the database says.
        problem: String,
    },
}

/// The label of the store, and of the database, that are always there.
pub(super) const DEFAULT: &str = "default";

/// Where the files of an app are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    state_dir: Option<PathBuf>,
}

impl Places {
    /// Files that are nowhere else are in `state_dir`.
    pub(super) const fn new(state_dir: Option<PathBuf>) -> Self {
        Self { state_dir }
    }

    /// The file `name` in the state directory; none without one.
    pub(super) fn default_path(&self, name: &str) -> Option<PathBuf> {
        Some(self.state_dir.as_ref()?.join(name))
    }

    /// The state directory, if `path` is a file of it.
    pub(super) fn holds(&self, path: &Path) -> Option<PathBuf> {
        self.state_dir.clone().filter(|dir| path.parent() == Some(dir))
    }
}

/// Whether a store works, which is logged when it changes: not by every call that fails.
#[derive(Debug)]
pub(super) struct Health {
    app: String,
    label: String,
    failing: AtomicBool,
}

impl Health {
    /// Of the store `label` of `app`, of which nothing bad is known.
    pub(super) fn new(app: &str, label: &str) -> Self {
        Self { app: app.to_owned(), label: label.to_owned(), failing: AtomicBool::new(false) }
    }

    /// It did what it was asked. `tell` is called, with app and label, if it did not before.
    pub(super) fn well(&self, tell: impl FnOnce(&str, &str)) {
        // Mostly, nothing is written.
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tell(&self.app, &self.label);
        }
    }

    /// It does not work. `tell` is called, with app, label and `error`, if it did before.
    pub(super) fn ill<E: fmt::Display + ?Sized>(&self, error: &E, tell: impl FnOnce(&str, &str, &E)) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tell(&self.app, &self.label, error);
        }
    }
}

/// Checks that `label` can be part of a file's name: it must not lead out of the app's directory.
pub(super) fn check_label(table: &'static str, label: &str) -> Result<(), StoreConfigError> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !label.is_empty() && label.len() <= 100 && label.chars().all(good) {
        Ok(())
    } else {
        Err(StoreConfigError::Label { table, label: label.to_owned() })
    }
}

/// Checks that there is something behind every label that `application` names.
pub(crate) fn check(application: &Application, services: &Services) -> Result<(), StoreConfigError> {
    for (component, found) in &application.components {
        let stores = found.key_value_stores.iter().filter(|label| !services.key_value.has(label));
        let stores = stores.map(|label| ("key-value store", "key_value_store", label));
        let databases = found.sqlite_databases.iter().filter(|label| !services.sqlite.has(label));
        let databases = databases.map(|label| ("SQLite database", "sqlite_database", label));
        if let Some((what, table, label)) = stores.chain(databases).next() {
            return Err(StoreConfigError::Unknown { component: component.clone(), what, table, label: label.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_told() {
        let (health, told) = (Health::new("default/app", "cache"), std::cell::RefCell::new(Vec::new()));
        let well = || health.well(|_, label| told.borrow_mut().push(format!("{label} works")));
        let ill = || health.ill("gone", |app, _, error| told.borrow_mut().push(format!("{app}: {error}")));
        well();
        ill();
        ill();
        well();
        well();
        ill();
        assert_eq!(*told.borrow(), ["default/app: gone", "cache works", "default/app: gone"]);
    }

    #[test]
    fn labels_that_would_be_paths_are_refused() {
        check_label("sqlite_database", "my-data_2").unwrap();
        for bad in ["", "../x", "a/b", "a\0b"] {
            assert!(check_label("sqlite_database", bad).is_err(), "{bad:?}");
        }
    }
}

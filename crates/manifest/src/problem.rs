//! What is wrong with a manifest, and where.

use std::fmt;

/// A place in a manifest: what an editor jumps to and a person looks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The field, such as `component.hello.source`; empty for the document.
    pub field: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        Ok(())
    }
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to do about it.
    pub message: String,
}

/// A manifest that is not one: everything that is wrong with it, in the order of its lines.
///
/// Displays as one line for each problem: `spin.toml:12:8: component.hello.source: is missing: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// What the manifest was called.
    pub file: String,
    /// The problems; at least one.
    pub problems: Vec<Problem>,
}

impl ManifestError {
    /// One word for conditions, events and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        "InvalidManifest"
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{}: {}", self.file, problem.place, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}

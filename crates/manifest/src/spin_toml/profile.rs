//! What differs in a profile, which is chosen by name when an application is loaded.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dependency, Format, Manifest, Source, dependency::library_problems};
use crate::{problem::ManifestError, reader};

/// How a component is built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// The commands, in order.
    pub commands: Vec<String>,
    /// Where they run, relative to the manifest's directory.
    pub workdir: Option<String>,
    /// Patterns of the files that it is made of, relative to where the commands run.
    pub watch: Vec<String>,
}

/// What is different about a component in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Another wasm.
    pub source: Option<Source>,
    /// More environment variables, or other values.
    pub environment: BTreeMap<String, String>,
    /// More dependencies, or others of the same names.
    pub dependencies: Vec<Dependency>,
    /// Other commands to build it, in the same directory.
    pub build: Option<Vec<String>>,
}

/// Why there is no manifest for a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No component has such a profile.
    #[error("{file}: there is no profile `{name}`: {hint}")]
    Unknown {
        /// The manifest.
        file: String,
        /// The profile.
        name: String,
        /// What to write instead.
        hint: String,
    },
    /// The manifest is wrong in this profile.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Manifest {
    /// The manifest as it is in the profile `name`: components that have it use its source and build, its environment
    /// on top of theirs, and its dependencies in place of those of the same name.
    ///
    /// # Errors
    /// When no component has such a profile, or when dependencies are wrong in it.
    pub fn with_profile(mut self, name: &str) -> Result<Self, ProfileError> {
        let known: BTreeSet<&str> =
            self.components.values().flat_map(|spec| spec.profiles.keys()).map(String::as_str).collect();
        if !known.contains(name) {
            let known: Vec<&str> = known.into_iter().collect();
            let hint = match self.format {
                Format::V1 => format!(
                    "version 1 has no profiles: leave the profile out, or bring the manifest to version 2 and add `[component.….profile.{name}]`"
                ),
                Format::V2 if known.is_empty() => format!("add `[component.….profile.{name}]`"),
                Format::V2 => reader::suggest(name, &known),
            };
            return Err(ProfileError::Unknown { file: self.file, name: name.to_owned(), hint });
        }
        for spec in self.components.values_mut() {
            let Some(profile) = spec.profiles.remove(name) else { continue };
            spec.source = profile.source.unwrap_or_else(|| spec.source.clone());
            spec.environment.extend(profile.environment);
            for dependency in profile.dependencies {
                spec.dependencies.retain(|other| other.name != dependency.name);
                spec.dependencies.push(dependency);
            }
            if let Some(commands) = profile.build {
                let build = spec.build.take().unwrap_or_default();
                spec.build = Some(Build { commands, ..build });
            }
        }
        let problems = library_problems(&self);
        if problems.is_empty() { Ok(self) } else { Err(ManifestError { file: self.file, problems }.into()) }
    }
}

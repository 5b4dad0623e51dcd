//! Components of the application that are others' dependencies or middleware.

use super::{Dependency, DependencyWasm};
use crate::{
    application::ComponentId,
    problem::Problem,
    reader::{list, suggest},
    spin_toml::Manifest,
};

/// More dependencies than a component has imports.
const MOST_DEPENDENCIES: usize = 500;

/// What is wrong with the components that others use as dependencies, and with dependencies that profiles changed.
///
/// As in Spin, such a component must not be granted anything: it would not get it.
pub(in crate::spin_toml) fn library_problems(manifest: &Manifest) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (user, spec) in &manifest.components {
        if spec.dependencies.len() > MOST_DEPENDENCIES {
            let message = format!("has {} dependencies, and may have {MOST_DEPENDENCIES}", spec.dependencies.len());
            problems.push(Problem { place: spec.place.clone(), message });
            continue;
        }
        for (index, dependency) in spec.dependencies.iter().enumerate() {
            let overlaps = |other: &&Dependency| match (&other.name, &dependency.name) {
                (Some(other), Some(name)) => other.overlaps(name),
                _ => false,
            };
            if let Some(other) =
                spec.dependencies.iter().take(index).find(overlaps).and_then(|other| other.name.as_ref())
            {
                let message =
                    format!("would satisfy the same imports as `{other}`: make one of the two names more specific");
                problems.push(Problem { place: dependency.place.clone(), message });
            }
        }
        for dependency in spec.dependencies.iter().chain(&spec.middleware) {
            let DependencyWasm::Component(id) = &dependency.wasm else { continue };
            if let Some(message) = library_problem(manifest, user, id) {
                problems.push(Problem { place: dependency.place.clone(), message });
            }
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

fn library_problem(manifest: &Manifest, user: &ComponentId, id: &ComponentId) -> Option<String> {
    let Some(spec) = manifest.components.get(id) else {
        let known: Vec<&str> = manifest.components.keys().map(ComponentId::as_str).collect();
        return Some(format!("there is no component `{id}`: add `[component.{id}]`; {}", suggest(id.as_str(), &known)));
    };
    if id == user {
        return Some(format!("component `{id}` cannot be a dependency of itself"));
    }
    let granted = [
        ("ai_models", spec.ai_models.is_empty()),
        ("allowed_outbound_hosts", spec.allowed_outbound_hosts.is_empty()),
        ("dependencies", spec.dependencies.is_empty()),
        ("environment", spec.environment.is_empty()),
        ("files", spec.files.is_empty()),
        ("key_value_stores", spec.key_value_stores.is_empty()),
        ("sqlite_databases", spec.sqlite_databases.is_empty()),
        ("variables", spec.variables.is_empty()),
    ];
    let surprises: Vec<&str> = granted.iter().filter(|(_, empty)| !empty).map(|(key, _)| *key).collect();
    (!surprises.is_empty()).then(|| {
        format!(
            "component `{id}` has {}, which it would not have as a dependency of `{user}`: remove them there, and let it inherit what `{user}` has with `inherit_configuration`",
            list(&surprises)
        )
    })
}

//! Decides which revisions of an app are remembered, so that one can go back to them.
//!
//! What makes a revision of a spec is its [`Template`]: everything in it but how often it runs and how it is looked after.
//! A template that has become `Ready` gets an entry, an `apps/v1` `ControllerRevision` as those of StatefulSets; one that
//! never did is nothing to go back to. The entry of the current template has the highest number, also after going back.
//!
//! Promise: one write per template that becomes ready; at most as many old entries as the spec asks for.
//!
//! Absent on purpose: going back. That is a change of the spec like any other, made by whoever owns it
//! (`kubectl spindle rollback`).

use std::sync::Arc;

use manifest::Digest;
use operator_api::{ConditionType, SpinAppSpec, SpinAppStatus};
use serde_json::Value;

use crate::{
    status::is_true,
    view::{App, View},
};

/// What of a spec makes a revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// What identifies it.
    pub digest: Digest,
    /// The fields, as in a `SpinApp`.
    pub spec: Arc<Value>,
}

impl Template {
    /// That of `spec`.
    #[must_use]
    pub fn of(spec: &SpinAppSpec) -> Self {
        // Plain data with string keys always serialises.
        let mut spec = serde_json::to_value(spec).unwrap_or_default();
        if let Value::Object(fields) = &mut spec {
            fields.retain(|name, _| !SpinAppSpec::NOT_OF_A_REVISION.contains(&name.as_str()));
        }
        Self { digest: Digest::of(spec.to_string().as_bytes()), spec: Arc::new(spec) }
    }
}

/// One remembered revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of its `ControllerRevision`.
    pub name: String,
    /// Its number: the highest is the current one.
    pub number: i64,
}

/// What is to be done about the entries.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// The entry to write, which is that of the current template.
    pub write: Option<Record>,
    /// The names of the entries to delete, as those of [`crate::Plan::stale_slices`].
    pub stale: Vec<String>,
}

/// An entry with everything that is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Name and number.
    pub entry: Entry,
    /// The spec's part.
    pub template: Template,
    /// The version that its author gave the application, for people.
    pub version: Option<String>,
    /// The revision that took requests when it was written, for people.
    pub revision: Option<String>,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.write.is_none() && self.stale.is_empty()
    }
}

/// The name of the entry of `app` as it is now.
#[must_use]
pub fn name(app: &App) -> String {
    format!("{}-{}", app.key.name(), app.template.digest.short())
}

/// What is to be done about the entries of `view`, when the app is as `status` says.
#[must_use]
pub fn history(view: &View, status: &SpinAppStatus) -> Changes {
    if !is_true(status, ConditionType::Ready) || view.app.replicas == 0 || view.app.is_ending {
        return Changes::default();
    }
    let current = name(&view.app);
    let highest = view.history.iter().map(|entry| entry.number).max();
    let known = view.history.iter().find(|entry| entry.name == current);
    let write = known.is_none_or(|entry| Some(entry.number) != highest).then(|| Record {
        entry: Entry { name: current.clone(), number: highest.unwrap_or_default().saturating_add(1) },
        template: view.app.template.clone(),
        version: status.version.clone(),
        revision: status.active_revision.clone(),
    });
    let mut old: Vec<&Entry> = view.history.iter().filter(|entry| entry.name != current).collect();
    old.sort_by(|a, b| (b.number, &b.name).cmp(&(a.number, &a.name)));
    let stale = old.into_iter().skip(view.app.history_limit).map(|entry| entry.name.clone()).collect();
    Changes { write, stale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::world;

    fn names(entries: &[Entry]) -> Vec<(&str, i64)> {
        entries.iter().map(|entry| (entry.name.as_str(), entry.number)).collect()
    }

    #[test]
    fn a_template_is_remembered_when_it_is_ready_and_not_before() {
        let mut world = world().runtime("r1").replicas(1);
        let waiting = world.act();
        assert!(waiting.history.is_empty());
        world.settle();
        assert_eq!(world.view.history.len(), 1);
        assert!(world.plan().is_idle());
    }

    #[test]
    fn going_back_makes_an_old_entry_the_newest_instead_of_adding_one() {
        let mut world = world().runtime("r1").replicas(1).settled();
        let first = world.view.app.template.clone();
        let first_name = name(&world.view.app);
        world.publish_version("2.0.0");
        world.settle();
        let second_name = name(&world.view.app);
        assert_eq!(names(&world.view.history), [(first_name.as_str(), 1), (second_name.as_str(), 2)]);
        world.publish_version("1.0.0");
        world.view.app.template = first;
        world.settle();
        let mut entries = world.view.history.clone();
        entries.sort_by_key(|entry| entry.number);
        assert_eq!(names(&entries), [(second_name.as_str(), 2), (first_name.as_str(), 3)]);
    }

    #[test]
    fn a_broken_revision_is_nothing_to_go_back_to() {
        let mut world = world().runtime("r1").replicas(1).settled();
        world.break_version("2.0.0");
        world.publish_version("2.0.0");
        world.settle();
        assert_eq!(world.view.history.len(), 1);
    }

    #[test]
    fn the_oldest_go_when_there_are_more_than_the_spec_keeps() {
        let mut world = world().runtime("r1").replicas(1);
        world.view.app.history_limit = 1;
        world.settle();
        for version in ["2.0.0", "3.0.0"] {
            world.publish_version(version);
            world.settle();
        }
        let numbers: Vec<i64> = world.view.history.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [2, 3]);
    }

    #[test]
    fn what_makes_no_revision_is_in_no_template() {
        let spec = |replicas: i32, id: &str| {
            serde_json::from_value::<SpinAppSpec>(serde_json::json!({
                "source": { "bindle": { "id": id } }, "replicas": replicas, "serviceAnnotations": { "a": replicas.to_string() },
            }))
            .unwrap()
        };
        assert_eq!(Template::of(&spec(1, "shop/1.0.0")), Template::of(&spec(3, "shop/1.0.0")));
        assert_ne!(Template::of(&spec(1, "shop/1.0.0")).digest, Template::of(&spec(1, "shop/2.0.0")).digest);
        assert_eq!(Template::of(&spec(1, "shop/1.0.0")).spec.get("replicas"), None);
    }
}

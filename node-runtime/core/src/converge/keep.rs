//! What must be kept for an app, as long as it may still be needed.

use std::{borrow::Cow, collections::BTreeSet};

use control::{Assignment, RevisionId, RevisionSpec};
use manifest::Digest;

use super::{App, Wanted};

/// The revision that an app serves although it is listed no more, because what is to replace it is not ready.
#[must_use]
pub fn unlisted<'a>(wanted: &Wanted, actual: Option<&'a App>) -> Option<&'a RevisionId> {
    let app = actual.filter(|app| app.uid == wanted.assignment.uid)?;
    app.serving.as_ref().filter(|serving| wanted.assignment.revision(serving).is_none())
}

/// What a restart of the process must bring back: what was `told` and, before that, the revision that is
/// [`unlisted`]. Without it a restart would leave the app with nothing if its new revision cannot be loaded.
#[must_use]
pub fn kept<'a>(told: &'a Assignment, unlisted: Option<&RevisionSpec>) -> Cow<'a, Assignment> {
    let Some(serving) = unlisted else { return Cow::Borrowed(told) };
    let revisions = [serving.clone()].into_iter().chain(told.revisions.iter().cloned()).collect();
    Cow::Owned(Assignment { revisions, ..told.clone() })
}

/// Whether an update of the app is not over: it has another revision besides its newest one, takes requests with
/// another, or something is held back.
#[must_use]
pub fn is_rollout(kept: &Assignment) -> bool {
    !kept.hold.is_nothing() || !matches!(kept.revisions.as_slice(), [only] if only.id == kept.active)
}

/// The content that `revisions` need.
#[must_use]
pub fn needed<'a>(revisions: impl IntoIterator<Item = &'a RevisionSpec>) -> BTreeSet<Digest> {
    revisions.into_iter().flat_map(|revision| revision.application.contents()).map(|content| content.digest).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control::{AppKey, Fetch, Hold, Limits};
    use manifest::{Application, Component, Content};

    use super::*;

    fn spec(id: &str, wasm: &[u8]) -> RevisionSpec {
        let component = Component {
            description: None,
            source: Content { digest: Digest::of(wasm), size: 1 },
            files: Vec::new(),
            environment: BTreeMap::new(),
            variables: BTreeMap::new(),
            allowed_outbound_hosts: Vec::new(),
            key_value_stores: Vec::new(),
            sqlite_databases: Vec::new(),
            ai_models: Vec::new(),
        };
        let application = Application {
            name: "app".to_owned(),
            version: "1.0.0".to_owned(),
            description: None,
            authors: Vec::new(),
            base: "/".to_owned(),
            variables: BTreeMap::new(),
            routes: Vec::new(),
            components: [("c".parse().unwrap(), component)].into(),
        };
        RevisionSpec {
            id: RevisionId(id.to_owned()),
            application,
            fetch: Fetch::Bindle { server: String::new(), id: String::new(), credentials: None },
            variables: [].into(),
            limits: Limits::default(),
            runtime_config: None,
            pool_config: None,
            readiness: None,
        }
    }

    fn told(revisions: &[&str], active: &str) -> Assignment {
        Assignment {
            app: AppKey::new("shop", "cart").unwrap(),
            uid: "uid".to_owned(),
            port: 1,
            revisions: revisions.iter().map(|id| spec(id, id.as_bytes())).collect(),
            active: RevisionId(active.to_owned()),
            hold: Hold::Nothing,
        }
    }

    fn wanted(assignment: Assignment) -> Wanted {
        Wanted { fingerprint: assignment.fingerprint().unwrap(), assignment: assignment.into() }
    }

    #[test]
    fn a_revision_that_serves_is_kept_until_another_does_although_it_is_listed_no_more() {
        let wanted = wanted(told(&["v2"], "v2"));
        let mut app = App::new(&wanted);
        app.serving = Some(RevisionId("v1".to_owned()));
        assert_eq!(unlisted(&wanted, Some(&app)), app.serving.as_ref());
        let kept = kept(&wanted.assignment, Some(&spec("v1", b"v1")));
        assert_eq!(*kept, told(&["v1", "v2"], "v2"));
        app.serving = Some(RevisionId("v2".to_owned()));
        assert_eq!(unlisted(&wanted, Some(&app)), None);
    }

    #[test]
    fn what_an_app_of_the_same_name_served_before_is_not_kept() {
        let wanted = wanted(told(&["v2"], "v2"));
        let mut app = App { uid: "another".to_owned(), ..App::new(&wanted) };
        app.serving = Some(RevisionId("v1".to_owned()));
        assert_eq!(unlisted(&wanted, Some(&app)), None);
    }

    #[test]
    fn an_update_is_over_when_the_only_revision_takes_requests() {
        assert!(!is_rollout(&told(&["v1"], "v1")));
        assert!(is_rollout(&told(&["v1", "v2"], "v1")));
        assert!(is_rollout(&told(&["v1", "v2"], "v2")));
        assert!(is_rollout(&told(&["v1"], "v2")));
        assert!(is_rollout(&Assignment { hold: Hold::Requests, ..told(&["v1"], "v1") }));
    }

    #[test]
    fn content_is_needed_once_however_many_share_it() {
        let all = [spec("v1", b"same"), spec("v2", b"same"), spec("v3", b"other")];
        assert_eq!(needed(&all), BTreeSet::from([Digest::of(b"same"), Digest::of(b"other")]));
    }
}

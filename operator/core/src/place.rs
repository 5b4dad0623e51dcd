//! Decides which runtimes run an app.
//!
//! Rendezvous hashing: each runtime has a rank for each app that depends on nothing but the two, and the
//! first `replicas` of those that can take the app have it.
//!
//! Promise: a runtime that stays keeps its apps; when one joins or leaves, only the apps that it gets or
//! had move (property-tested). A runtime that is silent or not ready for less than [`PATIENCE`] keeps what
//! it has.
//!
//! Absent on purpose: load and latency. Placement must not depend on anything that changes by itself.

use std::{cmp::Reverse, collections::BTreeSet};

use control::RuntimeName;
use jiff::{SignedDuration, Timestamp};
use manifest::Digest;

use crate::view::{App, Contact, Pod, Runtime, View};

/// How long a runtime that is silent or not ready keeps its apps before others get them. A stream is dialled
/// again within a second, and a container is back within a few.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// How long a runtime goes on serving an app whose endpoint has been withdrawn: the time that proxies and
/// ingress controllers may take to notice.
pub const LINGER: SignedDuration = SignedDuration::from_secs(10);

/// The runtimes that are to have the app.
#[must_use]
pub fn place(view: &View) -> BTreeSet<RuntimeName> {
    let mut able: Vec<&Runtime> = view.runtimes.iter().filter(|runtime| can_have(view, runtime)).collect();
    able.sort_by_key(|runtime| (Reverse(rank(&view.app, &runtime.name)), &runtime.name));
    able.into_iter()
        .take(usize::try_from(view.app.replicas).unwrap_or(usize::MAX))
        .map(|runtime| runtime.name.clone())
        .collect()
}

/// Whether the app may be on this runtime.
fn can_have(view: &View, runtime: &Runtime) -> bool {
    let holds = holds(view, runtime);
    let patient = |since: Timestamp| holds && within(view.now, since, PATIENCE);
    let pod = match runtime.pod {
        Pod::Ready => true,
        Pod::NotReady { since } => patient(since),
        Pod::Terminating => false,
    };
    let contact = match &runtime.contact {
        Contact::Connected(_) => true,
        Contact::Never { since } | Contact::Lost { since, .. } => patient(*since),
    };
    pod && contact && !runtime.is_leaving() && (holds || runtime.assigned < runtime.capacity)
}

/// Whether the runtime has been told to run the app, as far as anybody knows.
#[must_use]
pub fn holds(view: &View, runtime: &Runtime) -> bool {
    match runtime.holding() {
        Some(holding) => holding.assigned.is_some() || runtime.report(&view.app).is_some(),
        None => was_published(view, runtime),
    }
}

/// Whether the app's slices have the runtime: an operator before this one had its report.
#[must_use]
pub fn was_published(view: &View, runtime: &Runtime) -> bool {
    view.slices
        .iter()
        .filter(|slice| Some(slice.port) == view.port)
        .flat_map(|slice| &slice.endpoints)
        .any(|endpoint| endpoint.runtime == runtime.name && endpoint.uid == runtime.uid)
}

/// Whether less than `span` has passed since `since`.
#[must_use]
pub fn within(now: Timestamp, since: Timestamp, span: SignedDuration) -> bool {
    now.duration_since(since) < span
}

/// The rank of a runtime for an app; the highest wins.
fn rank(app: &App, runtime: &RuntimeName) -> Digest {
    Digest::of(format!("{}\0{runtime}", app.uid).as_bytes())
}

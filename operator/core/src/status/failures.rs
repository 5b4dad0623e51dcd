//! What keeps runtimes from having a revision, summarised: one sentence per problem, with the runtimes that have it.
//!
//! Promise: the summary has a bounded length however many runtimes there are, and does not depend on their order.

use std::collections::BTreeMap;

use control::{Problem, RevisionId, RevisionState, clip};

use crate::{plan::Facts, view::Runtime};

/// How many problems are told.
const PROBLEMS: usize = 3;
/// How many runtimes of each are named.
const NAMES: usize = 5;
/// How much of each message is told, in bytes.
const MESSAGE: usize = 1024;

/// The problems that the runtimes of the app have with `revision`; `None` when they have none.
///
/// Its reason is that of most of them. As long as one cannot be overcome by trying again, neither can the whole.
pub(super) fn summary(facts: &Facts<'_>, revision: &RevisionId) -> Option<Problem> {
    let mut groups: BTreeMap<(&str, &str, bool), Vec<&str>> = BTreeMap::new();
    for runtime in facts.chosen_runtimes() {
        if let Some(Problem { reason, message, retrying }) = problem_of(facts, runtime, revision) {
            groups.entry((reason, message, *retrying)).or_default().push(&runtime.id.name.0);
        }
    }
    let failed: usize = groups.values().map(Vec::len).sum();
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|((_, _, retrying), runtimes)| (*retrying, std::cmp::Reverse(runtimes.len())));
    let ((reason, message, retrying), runtimes) = groups.first()?;
    let message = if facts.chosen.len() == 1 {
        format!("Runtime {}: {}", runtimes.first().unwrap_or(&""), clip(message, MESSAGE))
    } else {
        let told = groups.iter().take(PROBLEMS).map(|((reason, message, _), runtimes)| {
            format!("{reason} on {}: {}", names(runtimes), clip(message, MESSAGE))
        });
        let more = match groups.len().saturating_sub(PROBLEMS) {
            0 => String::new(),
            more => format!("; and {more} other problems"),
        };
        let told = told.collect::<Vec<_>>().join("; ");
        format!("{failed} of {} runtimes do not have the revision ready: {told}{more}", facts.chosen.len())
    };
    Some(Problem { reason: (*reason).to_owned(), message, retrying: *retrying })
}

/// What keeps one runtime from serving a revision.
fn problem_of<'a>(facts: &'a Facts<'_>, runtime: &'a Runtime, revision: &RevisionId) -> Option<&'a Problem> {
    let report = runtime.report(&facts.view.app)?;
    match report.revisions.get(revision) {
        Some(RevisionState::Failed(problem)) => Some(problem),
        _ => report.problem.as_ref(),
    }
}

/// The first few names, and how many more there are.
fn names(runtimes: &[&str]) -> String {
    let named = runtimes.iter().take(NAMES).copied().collect::<Vec<_>>().join(", ");
    match runtimes.len().saturating_sub(NAMES) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

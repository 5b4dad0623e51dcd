//! What is told as events: changes of conditions, each once. How long a note may be is the shell's to know.

use operator_api::{Condition, ConditionType, Reason, SpinAppStatus};

use super::{find, is_true};
use crate::{
    plan::{Event, EventKind, Facts},
    resolve,
};

/// What has changed that people who watch the app want to know.
pub(crate) fn events(facts: &Facts<'_>, status: &SpinAppStatus) -> Vec<Event> {
    let before = &facts.view.status;
    let news = |condition: ConditionType, kind: EventKind, action: &'static str| {
        let found = find(status, condition)?;
        let same = |old: &Condition| old.status == found.status && old.reason == found.reason;
        let changed = !find(before, condition).is_some_and(same) || before.active_revision != status.active_revision;
        changed.then(|| Event { kind, reason: found.reason.clone(), message: found.message.clone(), action })
    };
    let mut events = Vec::new();
    let resolved = is_true(status, ConditionType::Resolved) && before.latest_revision != status.latest_revision;
    if resolved && let Some(found) = find(status, ConditionType::Resolved) {
        let (reason, message) = (found.reason.clone(), found.message.clone());
        events.push(Event { kind: EventKind::Normal, reason, message, action: "Resolve" });
    }
    events.extend(undeclared(facts, status));
    if is_true(status, ConditionType::Ready) {
        events.extend(news(ConditionType::Ready, EventKind::Normal, "Serve"));
    }
    if is_true(status, ConditionType::Degraded) && before_differs(before, status, ConditionType::Degraded) {
        events.extend(news(ConditionType::Degraded, EventKind::Warning, "Serve"));
    }
    let late = Reason::ProgressDeadlineExceeded.as_str();
    if find(status, ConditionType::Progressing).is_some_and(|found| found.reason == late) {
        events.extend(news(ConditionType::Progressing, EventKind::Warning, "RollOut"));
    }
    let wanted = facts.view.app.replicas > 0;
    if wanted && is_true(before, ConditionType::Available) && !is_true(status, ConditionType::Available) {
        events.extend(news(ConditionType::Available, EventKind::Warning, "Serve"));
    }
    events
}

/// That the spec sets variables which nobody reads. `Resolved` goes on saying so, and what it said before is no news, also
/// when it had to be cut.
fn undeclared(facts: &Facts<'_>, status: &SpinAppStatus) -> Option<Event> {
    let message = resolve::undeclared_variables(facts.resolution.revision()?)?;
    let said = |status| find(status, ConditionType::Resolved).map(|found: &Condition| found.message.as_str());
    let before = said(&facts.view.status);
    let is_news = before != said(status) && !before.is_some_and(|before| before.contains(&message));
    let reason = Reason::VariableUndeclared.as_str().to_owned();
    is_news.then_some(Event { kind: EventKind::Warning, reason, message, action: "Resolve" })
}

/// Whether a condition's status or reason has changed.
fn before_differs(before: &SpinAppStatus, after: &SpinAppStatus, condition: ConditionType) -> bool {
    let essence = |status: &SpinAppStatus| {
        find(status, condition).map(|found| (found.status.clone(), found.reason.clone(), found.observed_generation))
    };
    essence(before) != essence(after)
}

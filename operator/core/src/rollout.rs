//! How far a change of revision is, since when, and how long its phases took.
//!
//! Promise: a change begins when it is first seen, and the beginning outlives the operator, in the status. What is
//! written changes when something has happened, not with time: getting further is noted together with other news, or a
//! second later at most. A change that is complete stays so, whatever becomes of runtimes.

use control::{AppReport, RevisionId, RevisionState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::MicroTime, util::intstr::IntOrString};
use operator_api::{ConditionType, RolloutStatus, RolloutTimings};

use crate::{plan::Facts, status::is_true, view::View};

/// How long getting further may go unwritten when nothing else is to be written.
pub const NOTE_WITHIN: SignedDuration = SignedDuration::from_secs(1);

/// What a spec asks for about taking over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollout {
    /// How a revision takes over.
    pub strategy: Strategy,
    /// After how long without getting further a change has failed.
    pub deadline: SignedDuration,
}

/// How a revision takes over from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// It is made ready beside the old one, on so many runtimes at a time.
    RollingUpdate(Surge),
    /// The old one is stopped everywhere before the new one is called.
    Recreate,
}

/// A number of runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surge {
    /// All of them.
    All,
    /// So many.
    Count(usize),
    /// This part of them, rounded up.
    Percent(usize),
}

impl Default for Rollout {
    fn default() -> Self {
        Self { strategy: Strategy::RollingUpdate(Surge::All), deadline: SignedDuration::from_secs(600) }
    }
}

impl From<&operator_api::Rollout> for Rollout {
    fn from(spec: &operator_api::Rollout) -> Self {
        let surge = spec.rolling_update.as_ref().and_then(|update| update.max_surge.as_ref());
        let strategy = match spec.strategy.as_str() {
            "Recreate" => Strategy::Recreate,
            _ => Strategy::RollingUpdate(surge.map_or(Surge::All, Surge::of)),
        };
        Self { strategy, deadline: SignedDuration::from_secs(spec.progress_deadline_seconds.into()) }
    }
}

impl Surge {
    /// The CRD's rules let only numbers above zero and percentages get here.
    fn of(value: &IntOrString) -> Self {
        match value {
            IntOrString::Int(count) => usize::try_from(*count).map_or(Self::All, Self::Count),
            IntOrString::String(text) => {
                text.strip_suffix('%').and_then(|number| number.parse().ok()).map_or(Self::All, Self::Percent)
            }
        }
    }

    /// How many of `runtimes` that is; at least one.
    #[must_use]
    pub fn of_runtimes(self, runtimes: usize) -> usize {
        match self {
            Self::All => runtimes,
            Self::Count(count) => count,
            Self::Percent(percent) => runtimes.saturating_mul(percent).div_ceil(100),
        }
        .max(1)
    }
}

/// One change of revision, as the operator saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// What takes over; `None` while the spec is being resolved.
    pub revision: Option<RevisionId>,
    /// Whether it is the first of the app, and nobody has been told of the app before it.
    pub first: bool,
    /// When it was first seen.
    pub started: Timestamp,
    /// When it last got further.
    pub progressed: Timestamp,
    /// When it was complete.
    pub completed: Option<Timestamp>,
    /// The most that has been reached.
    reached: Reached,
    /// When each phase ended, as far as this operator saw it.
    ends: Ends,
}

/// How far a change is: on how many runtimes the revision is how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Reached {
    loaded: usize,
    ready: usize,
    serving: usize,
    stopped: usize,
}

/// When phases ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ends {
    resolved: End,
    loaded: End,
    ready: End,
    serving: End,
}

/// When a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    /// It goes on.
    #[default]
    Open,
    /// Then.
    Seen(Timestamp),
    /// Before this operator looked.
    Unseen,
}

impl End {
    const fn time(self) -> Option<Timestamp> {
        match self {
            Self::Seen(time) => Some(time),
            Self::Open | Self::Unseen => None,
        }
    }
}

impl Course {
    fn begin(revision: Option<RevisionId>, first: bool, now: Timestamp) -> Self {
        let resolved = if revision.is_some() { End::Seen(now) } else { End::Open };
        let ends = Ends { resolved, ..Ends::default() };
        Self { revision, first, started: now, progressed: now, completed: None, reached: Reached::default(), ends }
    }

    /// That of an earlier operator.
    fn remembered(status: &RolloutStatus) -> Self {
        Self {
            revision: status.revision.clone().map(RevisionId),
            first: false,
            started: status.started_at.0,
            progressed: status.progressed_at.0,
            completed: status.completed_at.as_ref().map(|time| time.0),
            reached: Reached::default(),
            ends: Ends { resolved: if status.revision.is_some() { End::Unseen } else { End::Open }, ..Ends::default() },
        }
    }

    /// Whether it has got no further for as long as it may take.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp, deadline: SignedDuration) -> bool {
        self.completed.is_none() && now.duration_since(self.progressed) >= deadline
    }

    /// When it is overdue, if it gets no further.
    #[must_use]
    pub fn due_in(&self, now: Timestamp, deadline: SignedDuration) -> Option<SignedDuration> {
        let left = deadline - now.duration_since(self.progressed);
        (self.completed.is_none() && left.is_positive()).then_some(left)
    }
}

/// The change that is going on, or that was the last; `None` for an app that has not changed since there is this, and
/// while nothing is to run.
pub(crate) fn course(facts: &Facts<'_>) -> Option<Course> {
    let view = facts.view;
    let wanted = facts.resolution.id();
    let known = view.memory.course.clone().map(|course| (course, true));
    // An operator that has just started has not seen what led here.
    let remembered = || view.status.rollout.as_ref().map(|status| (Course::remembered(status), false));
    let (mut course, seen) = match known.or_else(remembered) {
        None if is_settled(view, wanted) => return None,
        None => (Course::begin(wanted.cloned(), view.status.latest_revision.is_none(), view.now), true),
        Some((course, seen)) if course.revision.as_ref() == wanted => (course, seen),
        // What was to be resolved is: the same change goes on.
        Some((course, seen)) if course.revision.is_none() && course.completed.is_none() => {
            let ends = Ends { resolved: End::Seen(view.now), ..course.ends };
            (Course { revision: wanted.cloned(), progressed: view.now, ends, ..course }, seen)
        }
        Some((course, _)) => {
            let first = course.first && view.memory.assignment.is_none();
            (Course::begin(wanted.cloned(), first, view.now), true)
        }
    };
    if course.completed.is_some() {
        return Some(course);
    }
    if view.app.replicas == 0 {
        return None;
    }
    // A clock that was set back must not put off the deadline for as long as it was wrong.
    course.progressed = course.progressed.min(view.now);
    if let Some(revision) = wanted {
        advance(&mut course, facts, revision, seen);
    }
    Some(course)
}

/// Whether `wanted` serves already, so that there is no change.
fn is_settled(view: &View, wanted: Option<&RevisionId>) -> bool {
    let status = &view.status;
    let same = wanted.is_some_and(|wanted| status.active_revision.as_deref() == Some(&wanted.0));
    same && is_true(status, ConditionType::Ready)
}

/// Notes what has been reached; whether that is progress is known only of what this operator has `seen`.
fn advance(course: &mut Course, facts: &Facts<'_>, revision: &RevisionId, seen: bool) {
    let view = facts.view;
    let count = |is_so: &dyn Fn(&AppReport) -> bool| {
        facts.chosen_runtimes().filter_map(|runtime| runtime.report(&view.app)).filter(|report| is_so(report)).count()
    };
    let state =
        |report: &AppReport, is_so: fn(&RevisionState) -> bool| report.revisions.get(revision).is_some_and(is_so);
    let reached = Reached {
        loaded: count(&|report| state(report, RevisionState::is_loaded)),
        ready: count(&|report| state(report, RevisionState::is_ready)),
        serving: count(&|report| report.serving.as_ref() == Some(revision)),
        stopped: count(&|report| report.serving.is_none()),
    };
    let most = course.reached.max(reached);
    if seen && most != course.reached {
        course.progressed = view.now;
    }
    course.reached = most;
    let all = facts.chosen.len();
    let end = |end: &mut End, count: usize| {
        if *end == End::Open && all > 0 && count == all {
            *end = if seen { End::Seen(view.now) } else { End::Unseen };
        }
    };
    end(&mut course.ends.loaded, reached.loaded);
    end(&mut course.ends.ready, reached.ready);
    end(&mut course.ends.serving, reached.serving);
}

impl Reached {
    fn max(self, other: Self) -> Self {
        Self {
            loaded: self.loaded.max(other.loaded),
            ready: self.ready.max(other.ready),
            serving: self.serving.max(other.serving),
            stopped: self.stopped.max(other.stopped),
        }
    }
}

/// As the API server keeps it.
fn written(time: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time))
}

/// What is written of `course`, given whether the rest of the status is written anyway.
pub(crate) fn status(facts: &Facts<'_>, course: Option<&Course>, is_written: bool) -> Option<RolloutStatus> {
    let course = course?;
    let before = facts.view.status.rollout.as_ref();
    let same = |before: &&RolloutStatus| {
        before.revision.as_deref() == course.revision.as_ref().map(|id| id.0.as_str())
            && before.completed_at.is_some() == course.completed.is_some()
            && before.started_at == written(course.started)
    };
    if let Some(before) = before.filter(same) {
        let unwritten = written(course.progressed).0.duration_since(before.progressed_at.0).abs();
        let age = facts.view.now.duration_since(course.progressed);
        let may_wait = unwritten.is_zero() || (unwritten < NOTE_WITHIN && age < NOTE_WITHIN);
        if course.completed.is_some() || (!is_written && may_wait) {
            return Some(before.clone());
        }
    }
    Some(RolloutStatus {
        revision: course.revision.as_ref().map(|id| id.0.clone()),
        started_at: written(course.started),
        progressed_at: written(course.progressed),
        completed_at: course.completed.map(written),
        timings: course.completed.map(|completed| timings(facts, course, completed)),
    })
}

/// Adds how long it took to write the Service and its slices to the timings of a change that is complete now.
pub(crate) fn note_published(status: &mut RolloutStatus, took: SignedDuration) {
    if let Some(timings) = &mut status.timings
        && timings.publish_milliseconds.is_none()
    {
        timings.publish_milliseconds = Some(milliseconds(took));
        timings.total_milliseconds = timings.total_milliseconds.map(|total| total.saturating_add(milliseconds(took)));
    }
}

/// When something that was left unwritten must be written.
pub(crate) fn unwritten(facts: &Facts<'_>, course: &Course, status: Option<&RolloutStatus>) -> Option<SignedDuration> {
    let is_written = status?.progressed_at == written(course.progressed);
    let age = facts.view.now.duration_since(course.progressed);
    (course.completed.is_none() && !is_written && age < NOTE_WITHIN).then(|| NOTE_WITHIN - age)
}

fn timings(facts: &Facts<'_>, course: &Course, completed: Timestamp) -> RolloutTimings {
    let Ends { resolved, loaded, ready, serving } = course.ends;
    let span = |from: End, to: End| Some(milliseconds(to.time()?.duration_since(from.time()?)));
    let times = |read: fn(&control::LoadTimes) -> Option<u64>| {
        let reports = facts.chosen_runtimes().filter_map(|runtime| runtime.report(&facts.view.app));
        let times = reports.filter_map(|report| report.times.get(course.revision.as_ref()?)).filter_map(read);
        times.max().and_then(|longest| i64::try_from(longest).ok())
    };
    RolloutTimings {
        resolve_milliseconds: span(End::Seen(course.started), resolved),
        load_milliseconds: span(resolved, loaded),
        fetch_milliseconds: times(|times| times.fetch_ms),
        compile_milliseconds: times(|times| times.prepare_ms),
        check_milliseconds: span(loaded, ready).filter(|_| facts.view.app.readiness.is_some()),
        switch_milliseconds: span(ready, serving),
        publish_milliseconds: None,
        total_milliseconds: Some(milliseconds(completed.duration_since(course.started))),
    }
}

fn milliseconds(span: SignedDuration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(0)
}

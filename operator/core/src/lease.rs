//! Decides which operator leads.
//!
//! Promise: an operator stops leading before another may start, as long as clocks run at about the same speed;
//! they need not show the same time, because a lease counts as expired when *we* have not seen it renewed for
//! its duration. Each time somebody starts to lead, the term is higher than ever before, also after the
//! Lease object was deleted, edited or restored from a backup, so runtimes can refuse whoever led earlier. Nobody who is
//! written into the Lease and does not renew it keeps operators from leading for longer than [`LONGEST_WAIT`].
//!
//! Absent on purpose: reading and writing the Lease. A write must carry the `resourceVersion` of what was
//! read, and a conflict means: read again, decide again.

use jiff::{SignedDuration, Timestamp};

/// 2025-01-01, in seconds since 1970. A term is no lower than the seconds since then at which it begins: whatever became of
/// the Lease, it is above every earlier one. They fit the field's 31 bits until 2093.
const EPOCH: i64 = 1_735_689_600;

/// How far above the seconds since [`EPOCH`] a term may be. One that is higher was never led: somebody has edited the Lease,
/// and going on from it would end where the field ends.
const AHEAD: u64 = 365 * 24 * 3600;

/// The highest term that a Lease can hold.
const HIGHEST: u64 = 0x7fff_ffff;

/// How long a lease is waited for whose holder does not renew it, whatever duration is written in it; longer if our own
/// leases hold longer.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(60);

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a lease holds without being renewed.
    pub duration: SignedDuration,
    /// How long a leader goes on without a successful renewal; must be shorter than `duration`.
    pub deadline: SignedDuration,
    /// How often a leader renews and others look.
    pub retry: SignedDuration,
}

impl Default for Settings {
    /// 15, 10 and 2 seconds: what Kubernetes's own controllers use.
    fn default() -> Self {
        Self {
            duration: SignedDuration::from_secs(15),
            deadline: SignedDuration::from_secs(10),
            retry: SignedDuration::from_secs(2),
        }
    }
}

/// What of a Lease object matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `spec.holderIdentity`; nobody after a release.
    pub holder: Option<String>,
    /// `spec.leaseTransitions`: the term.
    pub term: u64,
    /// `spec.renewTime`.
    pub renewed: Option<Timestamp>,
    /// `spec.leaseDurationSeconds`.
    pub duration: SignedDuration,
}

/// A record, and since when it looks like this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The record.
    pub record: Record,
    /// When we first saw it with this holder, term and renewal, by our clock.
    pub since: Timestamp,
}

/// Our own leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The term that we lead.
    pub term: u64,
    /// When our last successful write was **started**, by our clock.
    pub renewed: Timestamp,
}

/// What to do about the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Write this record; a success makes us the leader of its term.
    Acquire(Record),
    /// Write this record; we lead.
    Renew(Record),
    /// Look again after this time. If we lead, we still do.
    Wait(SignedDuration),
    /// Stop leading at once: no further write, no further message.
    Lost,
}

/// Decides what `me` does about the lease; `observed` is `None` when there is no Lease object. `led` is the highest term
/// that was ever its own, 0 for none.
#[must_use]
pub fn decide(
    settings: &Settings,
    me: &str,
    now: Timestamp,
    observed: Option<&Observed>,
    held: Option<&Held>,
    led: u64,
) -> Decision {
    match held {
        Some(held) => lead(settings, me, now, observed, held),
        None => follow(settings, me, now, observed, led),
    }
}

fn lead(settings: &Settings, me: &str, now: Timestamp, observed: Option<&Observed>, held: &Held) -> Decision {
    let ours = |observed: &Observed| observed.record.holder.as_deref() == Some(me) && observed.record.term == held.term;
    let age = now.duration_since(held.renewed);
    // Where there is no Lease any more, another may have made one and led a higher term before that went, too.
    if !observed.is_some_and(ours) || age >= settings.deadline {
        return Decision::Lost;
    }
    if age < settings.retry {
        return Decision::Wait(settings.retry - age);
    }
    Decision::Renew(record(settings, me, now, held.term))
}

fn follow(settings: &Settings, me: &str, now: Timestamp, observed: Option<&Observed>, led: u64) -> Decision {
    // Runtimes refuse a term that is over, whatever became of the object that it was in.
    let lowest = u64::try_from(now.as_second() - EPOCH).unwrap_or_default();
    let last = observed.map(|observed| observed.record.term).filter(|term| *term <= lowest + AHEAD).unwrap_or_default();
    let next = record(settings, me, now, lowest.max(last + 1).max(led.saturating_add(1)).min(HIGHEST));
    let Some(observed) = observed else { return Decision::Acquire(next) };
    let free = match observed.record.holder.as_deref() {
        None | Some("") => true,
        // The process before this one, in the same pod: it is gone, or this one could not run.
        Some(holder) => holder == me,
    };
    let duration = observed.record.duration.min(settings.duration.max(LONGEST_WAIT));
    let left = duration - now.duration_since(observed.since);
    if free || !left.is_positive() { Decision::Acquire(next) } else { Decision::Wait(left.min(settings.retry)) }
}

fn record(settings: &Settings, me: &str, now: Timestamp, term: u64) -> Record {
    Record { holder: Some(me.to_owned()), term, renewed: Some(now), duration: settings.duration }
}

/// The record that gives leadership up, so that the next leader need not wait; written when stopping.
#[must_use]
pub fn release(settings: &Settings, held: &Held, now: Timestamp) -> Record {
    Record { holder: None, term: held.term, renewed: Some(now), duration: settings.duration }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// The lowest term at second 0.
    const LOWEST: u64 = 64_310_400;

    fn held_by(holder: &str, term: u64, since: i64) -> Observed {
        let record = record(&Settings::default(), holder, at(since), term);
        Observed { record, since: at(since) }
    }

    fn follow_at(second: i64, observed: Option<&Observed>) -> Decision {
        decide(&Settings::default(), "me", at(second), observed, None, 0)
    }

    fn lead_at(second: i64, observed: Option<&Observed>, renewed: i64) -> Decision {
        decide(&Settings::default(), "me", at(second), observed, Some(&Held { term: 7, renewed: at(renewed) }), 7)
    }

    #[test]
    fn operator_waits_while_another_renews_and_takes_over_when_it_stops() {
        let other = held_by("other", LOWEST + 100, 0);
        assert_eq!(follow_at(14, Some(&other)), Decision::Wait(SignedDuration::from_secs(1)));
        assert!(matches!(follow_at(15, Some(&other)), Decision::Acquire(record) if record.term == LOWEST + 101));
    }

    #[test]
    fn released_lease_is_taken_at_once_with_a_higher_term() {
        let held = Held { term: LOWEST, renewed: at(0) };
        let released = Observed { record: release(&Settings::default(), &held, at(0)), since: at(0) };
        assert!(matches!(follow_at(0, Some(&released)), Decision::Acquire(record) if record.term == LOWEST + 1));
    }

    #[test]
    fn lease_that_was_deleted_starts_above_earlier_terms() {
        let Decision::Acquire(first) = follow_at(0, None) else { panic!("no acquire") };
        let Decision::Acquire(later) = follow_at(1, None) else { panic!("no acquire") };
        assert!(later.term > first.term && later.term < u64::from(i32::MAX.unsigned_abs()));
    }

    #[test]
    fn term_that_somebody_has_set_back_is_not_led_again() {
        for edited in [0, 7, LOWEST - 1000] {
            let decision = follow_at(15, Some(&held_by("other", edited, 0)));
            assert!(matches!(&decision, Decision::Acquire(record) if record.term == LOWEST + 15), "{decision:?}");
        }
    }

    #[test]
    fn term_that_nobody_can_have_led_is_not_gone_on_from() {
        for edited in [HIGHEST, HIGHEST - 1, LOWEST + 2 * AHEAD] {
            let decision = follow_at(15, Some(&held_by("other", edited, 0)));
            assert!(matches!(&decision, Decision::Acquire(record) if record.term == LOWEST + 15), "{decision:?}");
        }
        let decision = decide(&Settings::default(), "me", at(15), None, None, HIGHEST);
        assert!(matches!(&decision, Decision::Acquire(record) if record.term == HIGHEST), "the field has no more");
    }

    #[test]
    fn lease_that_somebody_has_made_endless_is_waited_for_no_longer_than_a_minute() {
        let mut stolen = held_by("somebody", LOWEST, 0);
        stolen.record.duration = SignedDuration::from_secs(i64::from(i32::MAX));
        assert!(matches!(follow_at(59, Some(&stolen)), Decision::Wait(_)));
        assert!(matches!(follow_at(60, Some(&stolen)), Decision::Acquire(_)));
        // Who holds its own for longer believes that others do.
        let patient = Settings { duration: SignedDuration::from_secs(600), ..Settings::default() };
        assert!(matches!(decide(&patient, "me", at(599), Some(&stolen), None, 0), Decision::Wait(_)));
    }

    #[test]
    fn operator_never_leads_a_term_that_it_has_led_whatever_the_lease_says() {
        let led = u64::from(i32::MAX.unsigned_abs()) / 2;
        for observed in [None, Some(held_by("me", 7, 0)), Some(held_by("other", 7, 0))] {
            let decision = decide(&Settings::default(), "me", at(15), observed.as_ref(), None, led);
            assert!(matches!(&decision, Decision::Acquire(record) if record.term == led + 1), "{decision:?}");
        }
    }

    #[test]
    fn restarted_operator_leads_a_new_term() {
        let mine = held_by("me", LOWEST + 100, 0);
        assert!(matches!(follow_at(1, Some(&mine)), Decision::Acquire(record) if record.term == LOWEST + 101));
    }

    #[test]
    fn leader_renews_and_keeps_its_term() {
        assert_eq!(lead_at(1, Some(&held_by("me", 7, 0)), 0), Decision::Wait(SignedDuration::from_secs(1)));
        assert!(matches!(lead_at(2, Some(&held_by("me", 7, 0)), 0), Decision::Renew(record) if record.term == 7));
    }

    #[test]
    fn leader_that_cannot_renew_stops_before_another_may_start() {
        let settings = Settings::default();
        assert_eq!(lead_at(10, Some(&held_by("me", 7, 0)), 0), Decision::Lost);
        assert!(settings.deadline + settings.retry < settings.duration);
    }

    #[test]
    fn leader_that_sees_another_holder_or_term_stops() {
        assert_eq!(lead_at(1, Some(&held_by("other", 8, 1)), 0), Decision::Lost);
        assert_eq!(lead_at(1, Some(&held_by("me", 8, 1)), 0), Decision::Lost);
    }

    #[test]
    fn leader_whose_lease_is_gone_stops_because_another_may_have_led_meanwhile() {
        assert_eq!(lead_at(1, None, 0), Decision::Lost);
    }
}

//! Decides which certificates are made, and when.
//!
//! An authority is replaced in three stages, so that at each moment both sides of a stream trust each other's
//! certificate: the new authority joins the bundle; after [`Settings::propagation`] leaves are issued by it;
//! when those have had the same time to arrive, the old authority leaves the bundle.
//!
//! It is replaced when two thirds of its life are over, or when somebody asks for it ([`State::rotate_before`]).
//!
//! Promise: as long as it is asked at least once per propagation time, no certificate in use expires and none
//! is ever presented to a peer that does not have its authority.
//!
//! Absent on purpose: keys, and the clock.

use jiff::{SignedDuration, Timestamp};

/// How long things hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The life of an authority.
    pub authority: SignedDuration,
    /// The life of a leaf.
    pub leaf: SignedDuration,
    /// How long a change of a Secret may take to reach every process that uses it.
    pub propagation: SignedDuration,
}

impl Default for Settings {
    /// A year, thirty days, an hour.
    fn default() -> Self {
        Self {
            authority: SignedDuration::from_hours(365 * 24),
            leaf: SignedDuration::from_hours(30 * 24),
            propagation: SignedDuration::from_hours(1),
        }
    }
}

/// When a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// When it was made: `notBefore` without the allowance for clocks that differ.
    pub made: Timestamp,
    /// `notAfter`.
    pub until: Timestamp,
}

/// An authority in the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// What it is told apart by: its key identifier or serial number.
    pub id: String,
    /// When it holds.
    pub validity: Validity,
}

/// A certificate that a process presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is: `operator` or `runtime`.
    pub name: String,
    /// The [`Authority::id`] that issued it.
    pub issuer: String,
    /// When it holds.
    pub validity: Validity,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The bundle, in any order.
    pub authorities: Vec<Authority>,
    /// The leaves, each name once.
    pub leaves: Vec<Leaf>,
    /// Replace authorities that were made before this, whatever their age. Whole seconds count, as certificates have no
    /// finer ones; a time that has not come yet counts for nothing.
    pub rotate_before: Option<Timestamp>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make an authority and put it into the bundle. Then decide again.
    MakeAuthority,
    /// Issue a leaf, replacing the one of that name.
    IssueLeaf {
        /// Whose.
        name: String,
        /// By which authority.
        issuer: String,
    },
    /// Take an authority out of the bundle.
    RemoveAuthority {
        /// Which.
        id: String,
    },
}

/// What to do now; nothing when all is well.
///
/// `leaves` are the names that are wanted. After carrying the steps out, decide again until there are none;
/// then again after [`Settings::propagation`].
#[must_use]
pub fn decide(settings: &Settings, now: Timestamp, state: &State, leaves: &[&str]) -> Vec<Step> {
    let newest = state.authorities.iter().max_by_key(|authority| (authority.validity.made, &authority.id));
    let Some(newest) = newest.filter(|newest| newest.validity.until > now) else {
        return vec![Step::MakeAuthority];
    };
    let signer = signer(settings, now, state, newest);
    let mut steps: Vec<Step> = leaves
        .iter()
        .filter(|name| !is_good(now, state, name, signer))
        .map(|name| Step::IssueLeaf { name: (*name).to_owned(), issuer: signer.id.clone() })
        .collect();
    steps.extend(removable(settings, now, state, signer).map(|id| Step::RemoveAuthority { id: id.to_owned() }));
    if is_old(now, newest.validity) || is_unwanted(now, state, newest) {
        steps.push(Step::MakeAuthority);
    }
    steps
}

/// Whether somebody has asked for another authority than this.
fn is_unwanted(now: Timestamp, state: &State, authority: &Authority) -> bool {
    let asked = state.rotate_before.filter(|before| *before <= now);
    asked.is_some_and(|before| authority.validity.made.as_second() < before.as_second())
}

/// The authority that issues leaves: the newest that everybody has had the time to learn of.
fn signer<'a>(settings: &Settings, now: Timestamp, state: &'a State, newest: &'a Authority) -> &'a Authority {
    let known = |authority: &&Authority| {
        authority.validity.until > now && now.duration_since(authority.validity.made) >= settings.propagation
    };
    let settled = state.authorities.iter().filter(known).max_by_key(|authority| authority.validity.made);
    settled.unwrap_or_else(|| {
        // None is: the oldest that holds is the one that most know.
        let valid = state.authorities.iter().filter(|authority| authority.validity.until > now);
        valid.min_by_key(|authority| authority.validity.made).unwrap_or(newest)
    })
}

/// Whether the leaf `name` can stay.
fn is_good(now: Timestamp, state: &State, name: &str, signer: &Authority) -> bool {
    let leaf = state.leaves.iter().find(|leaf| leaf.name == name);
    leaf.is_some_and(|leaf| leaf.issuer == signer.id && !is_old(now, leaf.validity))
}

/// Whether two thirds of a life are over.
fn is_old(now: Timestamp, validity: Validity) -> bool {
    let life = validity.until.duration_since(validity.made);
    let age = now.duration_since(validity.made);
    age * 3 >= life * 2
}

/// The authorities that nothing in use is issued by any more.
fn removable<'a>(
    settings: &Settings,
    now: Timestamp,
    state: &'a State,
    signer: &'a Authority,
) -> impl Iterator<Item = &'a str> {
    let settled =
        |leaf: &Leaf| leaf.issuer == signer.id && now.duration_since(leaf.validity.made) >= settings.propagation;
    let all_settled = !state.leaves.is_empty() && state.leaves.iter().all(settled);
    let older = |authority: &&Authority| authority.id != signer.id && authority.validity.made <= signer.validity.made;
    state
        .authorities
        .iter()
        .filter(older)
        .filter(move |authority| all_settled || authority.validity.until <= now)
        .map(|authority| authority.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVES: [&str; 2] = ["operator", "runtime"];

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap()
    }

    /// A certificate authority in memory, which does what is decided.
    #[derive(Default)]
    struct Pki {
        state: State,
        made: u32,
        settings: Settings,
    }

    impl Pki {
        fn settle(&mut self, now: Timestamp) {
            for _ in 0..10 {
                let steps = decide(&self.settings, now, &self.state, &LEAVES);
                if steps.is_empty() {
                    return;
                }
                steps.into_iter().for_each(|step| self.carry_out(now, step));
            }
            panic!("never settles: {:?}", self.state);
        }

        fn carry_out(&mut self, now: Timestamp, step: Step) {
            match step {
                Step::MakeAuthority => {
                    self.made += 1;
                    let validity = Validity { made: now, until: now + self.settings.authority };
                    self.state.authorities.push(Authority { id: format!("ca{}", self.made), validity });
                }
                Step::IssueLeaf { name, issuer } => {
                    self.state.leaves.retain(|leaf| leaf.name != name);
                    let validity = Validity { made: now, until: now + self.settings.leaf };
                    self.state.leaves.push(Leaf { name, issuer, validity });
                }
                Step::RemoveAuthority { id } => self.state.authorities.retain(|authority| authority.id != id),
            }
        }

        fn bundle(&self) -> Vec<String> {
            self.state.authorities.iter().map(|authority| authority.id.clone()).collect()
        }
    }

    #[test]
    fn first_start_makes_an_authority_and_every_leaf() {
        let mut pki = Pki::default();
        pki.settle(at(0));
        assert_eq!(pki.bundle(), ["ca1"]);
        assert!(pki.state.leaves.iter().all(|leaf| leaf.issuer == "ca1"));
        assert_eq!(pki.state.leaves.len(), 2);
    }

    #[test]
    fn leaf_is_issued_again_when_two_thirds_of_its_life_are_over() {
        let mut pki = Pki::default();
        pki.settle(at(0));
        assert_eq!(decide(&pki.settings, at(20 * 24 - 1), &pki.state, &LEAVES), []);
        assert_eq!(decide(&pki.settings, at(20 * 24), &pki.state, &LEAVES).len(), 2);
    }

    #[test]
    fn new_authority_joins_first_signs_later_and_replaces_the_old_one_last() {
        let mut pki = Pki::default();
        pki.settle(at(0));
        let old = 250 * 24;
        pki.settle(at(old));
        assert_eq!(pki.bundle(), ["ca1", "ca2"]);
        assert!(pki.state.leaves.iter().all(|leaf| leaf.issuer == "ca1"), "nobody knows ca2 yet");
        pki.settle(at(old + 1));
        assert_eq!(pki.bundle(), ["ca1", "ca2"], "leaves of ca1 are still in use");
        assert!(pki.state.leaves.iter().all(|leaf| leaf.issuer == "ca2"));
        pki.settle(at(old + 2));
        assert_eq!(pki.bundle(), ["ca2"]);
    }

    #[test]
    fn authority_that_somebody_wants_replaced_is_replaced_once_and_in_the_same_stages() {
        let mut pki = Pki::default();
        pki.settle(at(0));
        pki.state.rotate_before = Some(at(5) + SignedDuration::from_millis(900));
        pki.settle(at(5));
        assert_eq!(pki.bundle(), ["ca1"], "the time has not come yet");
        let asked = at(5) + SignedDuration::from_millis(950);
        pki.settle(asked);
        assert_eq!(pki.bundle(), ["ca1", "ca2"]);
        assert!(pki.state.leaves.iter().all(|leaf| leaf.issuer == "ca1"));
        pki.settle(at(7));
        pki.settle(at(8));
        assert_eq!(pki.bundle(), ["ca2"]);
        pki.settle(at(20));
        assert_eq!(pki.made, 2);
    }

    #[test]
    fn authority_made_in_the_second_in_which_it_was_asked_for_is_new_enough() {
        let mut pki = Pki { state: State { rotate_before: Some(at(0)), ..State::default() }, ..Pki::default() };
        pki.settle(at(0));
        pki.state.rotate_before = Some(at(0) + SignedDuration::from_millis(999));
        pki.settle(at(1));
        assert_eq!(pki.made, 1);
    }

    #[test]
    fn operator_that_was_away_for_years_starts_over() {
        let mut pki = Pki::default();
        pki.settle(at(0));
        let later = 3 * 365 * 24;
        pki.settle(at(later));
        assert_eq!(pki.bundle(), ["ca2"]);
        assert!(pki.state.leaves.iter().all(|leaf| leaf.issuer == "ca2" && leaf.validity.until > at(later)));
    }

    #[test]
    fn every_leaf_is_always_valid_and_its_authority_known_for_an_hour() {
        let mut pki = Pki::default();
        let mut known: std::collections::BTreeMap<String, i64> = [("ca1".to_owned(), -1)].into();
        for hour in 0..3 * 365 * 24 {
            pki.settle(at(hour));
            for id in pki.bundle() {
                known.entry(id).or_insert(hour);
            }
            for leaf in &pki.state.leaves {
                assert!(leaf.validity.until > at(hour + 1), "{leaf:?}");
                assert!(known[&leaf.issuer] < hour, "{leaf:?} at {hour}");
                assert!(pki.bundle().contains(&leaf.issuer));
            }
        }
        assert!(pki.made > 3);
    }
}

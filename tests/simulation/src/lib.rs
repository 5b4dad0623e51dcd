//! Operators and runtimes in one thread, with everything going wrong that a seed decides, and rules that must hold all
//! the same.
//!
//! The deciders are the real ones ([`operator_core::plan`], [`node_runtime_core::converge`], the lease, the ports, the
//! mailboxes). Around them, in memory and in simulated time: an API server whose watches are late and out of step with
//! each other, streams that break, processes that crash, freeze and come back, clocks that jump.
//!
//! ```text
//! scenario   what a run is like                      faults    what happens to the world, both decided by the seed
//! world      time, events, messages                  trace     events, for people
//! operator   a process around operator-core          runtime   a process around node-runtime-core
//! link       a runtime, as a leader knows it         machine   its pod and its disk
//! invariants what must be true at every moment, and in the end
//! ```
//!
//! The same seed is the same run, event by event: [`run`] with the seed of a failure replays it.
//!
//! Absent on purpose: content, HTTP, TLS and Kubernetes itself; the other tests have the real ones.

mod api;
mod faults;
mod invariants;
mod link;
mod machine;
mod operator;
mod rules;
mod runtime;
mod scenario;
mod trace;
mod world;

use jiff::Timestamp;

pub use invariants::Violation;
pub use rules::{Mutation, Rules};
pub use scenario::Weather;

/// What a run that broke no rule did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events that happened.
    pub events: u64,
    /// Disturbances among them.
    pub faults: u64,
    /// Writes to the API server.
    pub writes: u64,
    /// Assignments that runtimes obeyed.
    pub assignments: u64,
    /// How often an app was looked at to see that requests would be answered.
    pub probes: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        let Self { events, faults, writes, assignments, probes } = self;
        *events += other.events;
        *faults += other.faults;
        *writes += other.writes;
        *assignments += other.assignments;
        *probes += other.probes;
    }
}

/// Runs the world of `seed`.
///
/// # Errors
/// The first rule that does not hold.
pub fn run(seed: u64, rules: &Rules) -> Result<Summary, Box<Violation>> {
    world::World::new(seed, *rules, false).run()
}

/// As [`run`], with a line for each event.
///
/// # Errors
/// The first rule that does not hold; the lines that led to it are in it.
pub fn replay(seed: u64, rules: &Rules) -> Result<Summary, Box<Violation>> {
    world::World::new(seed, *rules, true).run()
}

/// The time, `milliseconds` after the beginning of the world.
fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

//! Ten thousand worlds, each as its seed has it.
//!
//! A failure prints its seed. `SPINDLE_SEED=<seed> cargo test --workspace --test simulation replay -- --nocapture` runs that
//! one again and prints what happened; `SPINDLE_SEEDS=<count>` runs more or fewer.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use simulation::{Mutation, Rules, Summary, Violation, replay, run};

/// How many seeds a run has.
const SEEDS: u64 = 10_000;

/// How many seeds a broken rule may take to be noticed.
const SEEDS_TO_CATCH: u64 = 4_000;

#[expect(clippy::disallowed_methods, reason = "which worlds to run is the caller's choice")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at seeds on all processors until something is found; of what several find at once, that of the lowest.
fn find<T: Send>(seeds: u64, look: impl Fn(u64) -> Option<T> + Sync) -> Option<T> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<(u64, T)>> = Mutex::new(None);
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let Some(new) = look(seed) else { continue };
            next.store(seeds, Ordering::Relaxed);
            let mut found = lock(&found);
            if found.as_ref().is_none_or(|(known, _)| seed < *known) {
                *found = Some((seed, new));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    // A panic in one of them is one here.
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
    found.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(_, found)| found)
}

/// Runs seeds; the lowest that fails, or what all did together.
fn run_all(seeds: u64, rules: &Rules) -> Result<Summary, Box<Violation>> {
    let sum = Mutex::new(Summary::default());
    let failed = find(seeds, |seed| run(seed, rules).map(|one| *lock(&sum) += one).err());
    failed.map_or_else(|| Ok(*lock(&sum)), Err)
}

#[test]
fn no_world_breaks_a_rule() {
    let seeds = number("SPINDLE_SEEDS").unwrap_or(SEEDS);
    match run_all(seeds, &Rules::real()) {
        Ok(sum) => {
            println!("{seeds} seeds: {sum:?}");
            assert!(
                sum.faults > seeds && sum.assignments > seeds && sum.probes > seeds,
                "the worlds do too little: {sum:?}"
            );
        }
        Err(violation) => panic!(
            "{violation}\nreplay: SPINDLE_SEED={} cargo test --workspace --test simulation replay -- --nocapture",
            violation.seed
        ),
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [1, 2, 3, 500] {
        assert_eq!(run(seed, &Rules::real()), run(seed, &Rules::real()), "seed {seed}");
    }
}

#[test]
fn every_rule_that_is_broken_on_purpose_is_noticed_by_its_check() {
    let noticed = |mutation: Mutation| {
        let shows = |violation: &Violation| violation.what.contains(mutation.shown_by());
        find(SEEDS_TO_CATCH, |seed| run(seed, &Rules::broken(mutation)).err().filter(|violation| shows(violation)))
    };
    let missed: Vec<Mutation> = Mutation::ALL.into_iter().filter(|mutation| noticed(*mutation).is_none()).collect();
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

#[test]
fn replay_of_one_seed() {
    let seed = number("SPINDLE_SEED").unwrap_or_default();
    match replay(seed, &Rules::real()) {
        Ok(summary) => println!("seed {seed}: {summary:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

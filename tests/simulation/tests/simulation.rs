//! Ten thousand worlds, each as its seed has it.
//!
//! A failure prints its seed. `SPINDLE_SEED=<seed> cargo test --workspace --test simulation replay -- --nocapture` runs that
//! one again and prints what happened; `SPINDLE_SEEDS=<count>` runs more or fewer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
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

/// Runs seeds on all processors; the lowest that fails, or what all did together.
fn run_all(seeds: u64, rules: &Rules) -> Result<Summary, Box<Violation>> {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut sum = Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return Ok(sum);
            }
            let one = run(seed, rules).inspect_err(|_| next.store(seeds, Ordering::Relaxed))?;
            sum += one;
        }
    };
    let results: Vec<Result<Summary, Box<Violation>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut sum = Summary::default();
    let mut failed: Option<Box<Violation>> = None;
    for result in results {
        match result {
            Ok(one) => sum += one,
            Err(violation) if failed.as_ref().is_none_or(|known| violation.seed < known.seed) => {
                failed = Some(violation);
            }
            Err(_) => {}
        }
    }
    failed.map_or(Ok(sum), Err)
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
fn every_rule_that_is_broken_on_purpose_is_noticed() {
    let missed = |mutation: &Mutation| run_all(SEEDS_TO_CATCH, &Rules::broken(*mutation)).is_ok();
    let missed: Vec<Mutation> = Mutation::ALL.into_iter().filter(missed).collect();
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

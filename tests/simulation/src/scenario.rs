//! [`Scenario`]: what one run is like, and how slow and lossy everything is in it.

use jiff::SignedDuration;
use operator_core::rollout::{Rollout, Strategy, Surge};

use crate::runtime::JobKind;

/// How hard the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// What people do on purpose, one thing at a time: no request may be lost.
    Calm,
    /// Whatever can go wrong, at any time: requests may be lost where a runtime was, nothing else.
    Storm,
}

/// After how long without getting further a change has failed.
pub(crate) const DEADLINE: SignedDuration = SignedDuration::from_secs(15);

/// What one run is like.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) weather: Weather,
    pub(crate) operators: usize,
    pub(crate) runtimes: usize,
    pub(crate) apps: usize,
    /// When the last disturbance is over.
    pub(crate) calm_from: i64,
    /// When everything must have come to rest.
    pub(crate) settled_from: i64,
    pub(crate) end: i64,
    /// How slow watches, streams and writes are at most, in milliseconds.
    slowness: i64,
    quiet: bool,
    /// In how many zones runtimes are; 0 where nodes say nothing of zones.
    pub(crate) zones: u8,
    /// Whether runtimes take different numbers of apps.
    pub(crate) uneven: bool,
}

/// What another version is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateKind {
    Good,
    /// It cannot be loaded.
    Bad,
    /// It does not answer its check.
    Unfit,
}

impl UpdateKind {
    pub(crate) fn any(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..4) {
            0 => Self::Bad,
            1 => Self::Unfit,
            _ => Self::Good,
        }
    }

    /// What the names of such versions end with.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Good => "",
            Self::Bad => "-bad",
            Self::Unfit => "-unfit",
        }
    }
}

/// The pause between two disturbances in calm weather: longer than anything takes to settle.
pub(crate) const CALM_PAUSE: i64 = 40_000;

impl Scenario {
    pub(crate) fn of(rng: &mut fastrand::Rng) -> Self {
        let weather = if rng.bool() { Weather::Calm } else { Weather::Storm };
        let calm_from = match weather {
            Weather::Calm => 15_000 + CALM_PAUSE * rng.i64(2..5),
            Weather::Storm => rng.i64(20_000..60_000),
        };
        Self {
            weather,
            operators: rng.usize(1..3),
            runtimes: rng.usize(2..5),
            apps: rng.usize(1..3),
            calm_from,
            // An operator may still be away for 80 seconds.
            settled_from: calm_from + 130_000,
            end: calm_from + 130_000 + 40_000,
            slowness: if weather == Weather::Calm { rng.i64(5..300) } else { rng.i64(5..3_000) },
            quiet: false,
            zones: rng.u8(..3),
            uneven: rng.bool(),
        }
    }

    pub(crate) fn watch_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        rng.i64(1..=self.slow())
    }

    pub(crate) fn message_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        rng.i64(1..=self.slow() / 4 + 1)
    }

    pub(crate) fn write_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        rng.i64(2..=self.slow() / 4 + 10)
    }

    fn slow(&self) -> i64 {
        if self.quiet { 200 } else { self.slowness }
    }

    /// How long it takes to notice that a stream is gone.
    pub(crate) fn notice_delay(&self, rng: &mut fastrand::Rng) -> i64 {
        if self.weather == Weather::Storm && rng.u8(..) < 50 { rng.i64(1_000..6_000) } else { rng.i64(1..300) }
    }

    pub(crate) fn job_delay(&self, rng: &mut fastrand::Rng, kind: JobKind) -> i64 {
        match (kind, self.weather) {
            (JobKind::Fetch, _) => rng.i64(5..300),
            (JobKind::Prepare, Weather::Calm) => rng.i64(5..800),
            (JobKind::Prepare, Weather::Storm) => rng.i64(5..4_000),
            (JobKind::Check, Weather::Calm) => rng.i64(1..500),
            (JobKind::Check, Weather::Storm) => rng.i64(1..3_000),
            (JobKind::Drain, _) => rng.i64(0..4_000),
        }
    }

    pub(crate) fn fails_fetch(&self, rng: &mut fastrand::Rng, now: i64) -> bool {
        self.weather == Weather::Storm && now < self.calm_from && rng.u8(..) < 40
    }

    /// Whether the answer to a write is lost although the write is done.
    pub(crate) fn loses_answer(&self, rng: &mut fastrand::Rng) -> bool {
        self.weather == Weather::Storm && !self.quiet && rng.u8(..) < 10
    }
}

/// How an app's revisions take over.
pub(crate) fn rollout(rng: &mut fastrand::Rng) -> Rollout {
    let strategy = match rng.u8(..4) {
        0 => Strategy::Recreate,
        1 => Strategy::RollingUpdate(Surge::Count(1)),
        2 => Strategy::RollingUpdate(Surge::Percent(50)),
        _ => Strategy::RollingUpdate(Surge::All),
    };
    Rollout { strategy, deadline: DEADLINE }
}

impl Scenario {
    pub(crate) fn be_quiet(&mut self) {
        self.quiet = true;
    }
}

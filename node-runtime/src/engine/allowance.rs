//! [`Allowance`]: what a request of one guest may use: what its app says, else what the engine does.

use std::{sync::Arc, time::Duration};

use control::Limits;

use super::{Engine, EngineConfig};
use crate::host::{
    InstanceLimits, Usage,
    limits::{Queue, Share, files::FileShare},
};

/// What one request may use, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Wall-clock time, from the request's head to the guest's end.
    pub(super) timeout: Duration,
    /// Processor time, in ticks of the epoch.
    pub(super) cpu_ticks: u64,
    /// The body, in bytes.
    pub(super) body: Option<u64>,
    /// Requests of the app at a time.
    pub(super) queue: Queue,
    /// Requests at a time that the app's own guests make.
    pub(super) inner: u32,
}

impl Allowance {
    /// The allowance of a guest whose instances take `slots` of the pool each.
    pub(super) fn new(limits: &Limits, config: &EngineConfig, slots: u32) -> Self {
        let cpu = limits.cpu_ms.map(Duration::from_millis).or(config.default_cpu);
        // Whatever an app says, there are no more instances than the pool has.
        let most = config.max_instances / slots.max(1);
        let share = config.default_concurrency.map_or(most, |most| most / slots.max(1)).max(1);
        let running = limits.concurrency.unwrap_or(share);
        Self {
            timeout: limits.timeout_ms.map_or(config.default_timeout, Duration::from_millis),
            cpu_ticks: cpu.map_or(u64::MAX, |cpu| ticks(cpu, config.epoch_tick)),
            body: limits.body.or(config.default_body),
            queue: Queue {
                running: running.min(most).max(1),
                waiting: limits.queue.unwrap_or(config.default_queue),
                patience: config.queue_timeout,
            },
            inner: share.min(most).max(1),
        }
    }
}

/// How many ticks make up `time`, at least one.
fn ticks(time: Duration, tick: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(tick.as_nanos().max(1)).max(1);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// What the instances of an app may grow to.
pub(super) fn instance_limits(limits: &Limits, engine: &Engine, usage: &Arc<Usage>) -> InstanceLimits {
    let config = engine.config();
    let files = FileShare::new(usage, config.open_files);
    let limits = InstanceLimits::new(limits.memory.unwrap_or(config.default_memory), config.table_elements, files);
    match config.guests_memory {
        None => limits,
        Some(all) => {
            let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
            let of_app = config.app_memory.unwrap_or(all / 2);
            limits.within(Share::new(engine.memory(), bytes(all)), usage, bytes(of_app))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limits: &Limits, slots: u32) -> Allowance {
        let config = EngineConfig { max_instances: 100, default_concurrency: Some(50), ..EngineConfig::default() };
        Allowance::new(limits, &config, slots)
    }

    #[test]
    fn an_app_that_says_nothing_gets_the_defaults_and_leaves_room_for_others() {
        let usual = of(&Limits::default(), 1);
        assert_eq!((usual.timeout, usual.body, usual.queue.running), (Duration::from_secs(60), None, 50));
        assert_eq!(of(&Limits::default(), 4).queue.running, 12, "each instance takes four places");
        assert_eq!(of(&Limits::default(), 1000).queue.running, 1);
    }

    #[test]
    fn what_an_app_says_counts_as_far_as_there_is_room() {
        let limits = Limits { concurrency: Some(80), queue: Some(0), cpu_ms: Some(15), ..Limits::default() };
        let allowance = of(&limits, 1);
        assert_eq!((allowance.queue.running, allowance.queue.waiting, allowance.cpu_ticks), (80, 0, 2));
        assert_eq!(of(&Limits { concurrency: Some(1000), ..limits }, 2).queue.running, 50);
    }
}

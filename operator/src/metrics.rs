//! What the operator counts, from a registry that is passed in.
//!
//! Gauges mirror state, so they are computed when somebody asks ([`Metrics::observe_state`]).

use std::{sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// The operator's metrics. Clones are the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: IntCounterVec,
    reconcile_seconds: Histogram,
    writes: IntCounterVec,
    resolves: IntCounterVec,
    watch_failures: IntCounterVec,
    leader: IntGauge,
}

impl Metrics {
    /// Metrics that nobody reads.
    #[must_use]
    pub fn detached() -> Self {
        Self::build().unwrap_or_else(|_| unreachable!("the names below are valid"))
    }

    /// Metrics of `registry`.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::build()?;
        registry.register(Box::new(metrics.reconciles.clone()))?;
        registry.register(Box::new(metrics.reconcile_seconds.clone()))?;
        registry.register(Box::new(metrics.writes.clone()))?;
        registry.register(Box::new(metrics.resolves.clone()))?;
        registry.register(Box::new(metrics.watch_failures.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        Ok(metrics)
    }

    fn build() -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let buckets = prometheus::exponential_buckets(0.0005, 2.0, 14)?;
        Ok(Self {
            reconciles: counters("spindle_operator_reconciles_total", "Looks at an app, by result", "result")?,
            reconcile_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "spindle_operator_reconcile_seconds",
                    "How long a look at an app took, writes included",
                )
                .buckets(buckets),
            )?,
            writes: IntCounterVec::new(
                Opts::new("spindle_operator_writes_total", "Writes to the API server, by kind and result"),
                &["kind", "result"],
            )?,
            resolves: counters("spindle_operator_resolves_total", "Answers about bundles, by reason", "reason")?,
            watch_failures: counters("spindle_operator_watch_failures_total", "Failures of watches, by kind", "kind")?,
            leader: IntGauge::new("spindle_operator_leader", "1 while this operator leads")?,
        })
    }

    /// Adds gauges whose values are asked for at each scrape.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn observe_state(registry: &Registry, state: Arc<dyn Fn() -> Levels + Send + Sync>) -> prometheus::Result<()> {
        registry.register(Box::new(LevelCollector::new(state)?))
    }

    /// A look at an app has ended.
    pub fn reconciled(&self, result: &str, took: Duration) {
        self.reconciles.with_label_values(&[result]).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// A write has ended.
    pub fn wrote(&self, kind: &str, ok: bool) {
        self.writes.with_label_values(&[kind, if ok { "ok" } else { "error" }]).inc();
    }

    /// There is an answer about a bundle.
    pub fn resolved(&self, reason: &str) {
        self.resolves.with_label_values(&[reason]).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_failures.with_label_values(&[kind]).inc();
    }

    /// Whether this operator leads now.
    pub fn leading(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

/// State as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Levels {
    /// Apps that exist.
    pub apps: usize,
    /// Runtimes that exist.
    pub runtimes: usize,
    /// Runtimes that there is a stream to.
    pub connected: usize,
    /// Apps that wait to be looked at.
    pub queued: usize,
}

struct LevelCollector {
    state: Arc<dyn Fn() -> Levels + Send + Sync>,
    apps: IntGauge,
    runtimes: IntGauge,
    connected: IntGauge,
    queued: IntGauge,
}

impl LevelCollector {
    fn new(state: Arc<dyn Fn() -> Levels + Send + Sync>) -> prometheus::Result<Self> {
        Ok(Self {
            state,
            apps: IntGauge::new("spindle_operator_apps", "Apps that exist")?,
            runtimes: IntGauge::new("spindle_operator_runtimes", "Runtimes that the leader knows")?,
            connected: IntGauge::new(
                "spindle_operator_runtimes_connected",
                "Runtimes that the leader has a stream to",
            )?,
            queued: IntGauge::new("spindle_operator_queue_depth", "Apps that wait to be looked at")?,
        })
    }

    const fn all(&self) -> [&IntGauge; 4] {
        [&self.apps, &self.runtimes, &self.connected, &self.queued]
    }
}

impl Collector for LevelCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Levels { apps, runtimes, connected, queued } = (self.state)();
        for (gauge, level) in self.all().into_iter().zip([apps, runtimes, connected, queued]) {
            gauge.set(i64::try_from(level).unwrap_or(i64::MAX));
        }
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_registered_and_levels_are_those_of_the_scrape() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        Metrics::observe_state(&registry, Arc::new(|| Levels { apps: 3, ..Levels::default() })).unwrap();
        metrics.leading(true);
        let families = registry.gather();
        let value = |name: &str| {
            families.iter().find(|family| family.name() == name).unwrap().get_metric()[0].get_gauge().get_value()
        };
        assert!((value("spindle_operator_apps") - 3.0).abs() < f64::EPSILON);
        assert!((value("spindle_operator_leader") - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn every_metric_is_in_the_reference() {
        let reference = include_str!("../../docs/reference/metrics.md");
        let is_name = |text: &&str| {
            text.strip_prefix("spindle_").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
        };
        let names: Vec<&str> = include_str!("metrics.rs").split('"').filter(is_name).collect();
        assert!(names.len() > 9, "{names:?}");
        for name in names {
            assert!(reference.contains(&format!("`{name}`")), "{name} is not in docs/reference/metrics.md");
        }
    }
}

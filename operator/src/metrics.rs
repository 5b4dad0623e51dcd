//! What the operator counts, from a registry that is passed in.
//!
//! Gauges mirror state, so they are computed when somebody asks ([`Metrics::observe_state`]).

use std::time::Duration;

use daemon::metrics::{level, mirror};
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

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
    pub fn observe_state(
        registry: &Registry,
        state: impl Fn() -> Levels + Send + Sync + 'static,
    ) -> prometheus::Result<()> {
        let apps = IntGauge::new("spindle_operator_apps", "Apps that exist")?;
        let runtimes = IntGauge::new("spindle_operator_runtimes", "Runtimes that the leader knows")?;
        let connected =
            IntGauge::new("spindle_operator_runtimes_connected", "Runtimes that the leader has a stream to")?;
        let queued = IntGauge::new("spindle_operator_queue_depth", "Apps that wait to be looked at")?;
        let all = [&apps, &runtimes, &connected, &queued];
        let gauges = all.map(|gauge| Box::new(gauge.clone()) as Box<dyn Collector>);
        mirror(registry, gauges.into(), move || {
            let now = state();
            apps.set(level(now.apps));
            runtimes.set(level(now.runtimes));
            connected.set(level(now.connected));
            queued.set(level(now.queued));
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_registered_and_levels_are_those_of_the_scrape() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        Metrics::observe_state(&registry, || Levels { apps: 3, ..Levels::default() }).unwrap();
        metrics.leading(true);
        let families = registry.gather();
        let value = |name: &str| {
            families.iter().find(|family| family.name() == name).unwrap().get_metric()[0].get_gauge().get_value()
        };
        assert!((value("spindle_operator_apps") - 3.0).abs() < f64::EPSILON);
        assert!((value("spindle_operator_leader") - 1.0).abs() < f64::EPSILON);
    }
}

//! [`Metrics`]: everything that a runtime measures, declared once.
//!
//! Handles of one app are resolved when it is loaded ([`Metrics::of_app`]), never per request. Gauges that mirror
//! state are computed at scrape ([`observe`]).

use std::{sync::Arc, time::Duration};

use control::AppKey;
use daemon::metrics::{level, mirror};
use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

use crate::executor::RequestError;

/// From fast guests to slow ones, in seconds.
const REQUEST_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// From a cached small component to a large language runtime, in seconds.
const WORK_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The values of the label `status`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics of one process. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    failures: IntCounterVec,
    connections: IntGaugeVec,
    waiting: IntGaugeVec,
    lines_dropped: IntCounterVec,
    fetches: HistogramVec,
    preparations: HistogramVec,
    checks: HistogramVec,
    /// Whether an operator's stream is open: 0 or 1.
    pub control_connected: IntGauge,
    /// Streams that were refused, whatever for.
    pub control_refused: IntCounter,
}

impl Metrics {
    /// Makes them and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64], label: &str| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[label])
        };
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("spindle_requests_total", "Requests answered, by app and class of the response's status"),
                &["app", "status"],
            )?,
            durations: histogram(
                "spindle_request_duration_seconds",
                "From a request's headers to the end of its response, by app",
                REQUEST_BUCKETS,
                "app",
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "spindle_request_failures_total",
                    "Requests that were answered by the runtime instead of a guest, by app and reason",
                ),
                &["app", "reason"],
            )?,
            connections: IntGaugeVec::new(
                Opts::new("spindle_connections", "Connections of callers that are open, by app"),
                &["app"],
            )?,
            waiting: IntGaugeVec::new(
                Opts::new("spindle_requests_waiting", "Requests that wait for another of their app to end, by app"),
                &["app"],
            )?,
            lines_dropped: IntCounterVec::new(
                Opts::new(
                    "spindle_guest_lines_dropped_total",
                    "Lines that guests printed and that were dropped, by app",
                ),
                &["app"],
            )?,
            fetches: histogram(
                "spindle_fetch_duration_seconds",
                "How long it took to have a revision's blobs, by outcome: ok or the problem's reason",
                WORK_BUCKETS,
                "outcome",
            )?,
            preparations: histogram(
                "spindle_prepare_duration_seconds",
                "How long it took to compile and link a revision, by outcome: ok or the problem's reason",
                WORK_BUCKETS,
                "outcome",
            )?,
            checks: histogram(
                "spindle_check_duration_seconds",
                "How long it took a revision to pass or fail its check, by outcome: ok or the problem's reason",
                WORK_BUCKETS,
                "outcome",
            )?,
            control_connected: IntGauge::new("spindle_control_connected", "Whether an operator's stream is open")?,
            control_refused: IntCounter::new("spindle_control_refused_total", "Control streams that were refused")?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.durations.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.lines_dropped.clone()))?;
        registry.register(Box::new(metrics.fetches.clone()))?;
        registry.register(Box::new(metrics.preparations.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        registry.register(Box::new(metrics.control_connected.clone()))?;
        registry.register(Box::new(metrics.control_refused.clone()))?;
        Ok(metrics)
    }

    /// The handles of one app.
    #[must_use]
    pub fn of_app(&self, app: &str) -> AppMetrics {
        AppMetrics {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[app, class])),
            duration: self.durations.with_label_values(&[app]),
            failures: self.failures.clone(),
            app: app.into(),
            connections: self.connections.with_label_values(&[app]),
            waiting: self.waiting.with_label_values(&[app]),
            lines_dropped: self.lines_dropped.with_label_values(&[app]),
        }
    }

    /// Forgets an app that is gone.
    pub fn forget(&self, app: &AppKey) {
        let app = app.to_string();
        for class in CLASSES {
            // An error means that there is nothing to forget.
            drop(self.requests.remove_label_values(&[&app, class]));
        }
        for reason in RequestError::REASONS {
            drop(self.failures.remove_label_values(&[&app, reason]));
        }
        drop(self.durations.remove_label_values(&[&app]));
        drop(self.connections.remove_label_values(&[&app]));
        drop(self.waiting.remove_label_values(&[&app]));
        drop(self.lines_dropped.remove_label_values(&[&app]));
    }

    /// Notes how long a revision's blobs took; `outcome` is `ok` or a problem's reason.
    pub fn fetched(&self, outcome: &str, took: Duration) {
        self.fetches.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }

    /// Notes how long a revision took to be built; `outcome` is `ok` or a problem's reason.
    pub fn prepared(&self, outcome: &str, took: Duration) {
        self.preparations.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }

    /// Notes how long a revision took to pass or fail its check; `outcome` is `ok` or a problem's reason.
    pub fn checked(&self, outcome: &str, took: Duration) {
        self.checks.with_label_values(&[outcome]).observe(took.as_secs_f64());
    }
}

/// The handles of one app.
#[derive(Clone, Debug)]
pub struct AppMetrics {
    requests: [IntCounter; CLASSES.len()],
    duration: Histogram,
    /// Few apps have failures of many kinds, so these are resolved when they happen.
    failures: IntCounterVec,
    app: Arc<str>,
    connections: IntGauge,
    /// Requests that wait for another to end.
    pub(crate) waiting: IntGauge,
    /// Lines that guests printed and that were dropped.
    pub(crate) lines_dropped: IntCounter,
}

/// Counts something as open while it lives.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl AppMetrics {
    /// Notes a response and, from its headers to its end, how long it took.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(requests) = self.requests.get(class) {
            requests.inc();
        }
        self.duration.observe(took.as_secs_f64());
    }

    /// Notes that the runtime answered instead of a guest.
    pub fn failed(&self, reason: &'static str) {
        self.failures.with_label_values(&[self.app.as_ref(), reason]).inc();
    }

    /// Notes a connection, which is open until what this returns is dropped.
    #[must_use]
    pub fn connected(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }
}

/// What a scrape finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Apps assigned.
    pub apps: usize,
    /// Apps that answer requests.
    pub serving: usize,
    /// Revisions that can take requests.
    pub ready: usize,
    /// Revisions being fetched.
    pub fetching: usize,
    /// Revisions being built.
    pub preparing: usize,
    /// Revisions being checked, or waiting for that.
    pub checking: usize,
    /// Revisions that cannot run.
    pub failed: usize,
    /// Revisions that finish old requests.
    pub draining: usize,
    /// Guests that run.
    pub instances: u64,
}

/// Registers gauges that mirror state; `count` is asked at every scrape.
///
/// # Errors
/// When `registry` has metrics of these names already.
pub fn observe(
    registry: &Registry,
    count: impl Fn() -> Counts + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    let states = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["state"]);
    let apps = states("spindle_apps", "Apps of this runtime, by state: assigned or serving")?;
    let revisions = states("spindle_revisions", "Revisions of this runtime, by state")?;
    let instances = IntGauge::new("spindle_instances", "Guests that run now")?;
    let gauges: Vec<Box<dyn Collector>> =
        vec![Box::new(apps.clone()), Box::new(revisions.clone()), Box::new(instances.clone())];
    mirror(registry, gauges, move || {
        let counts = count();
        for (state, value) in [("assigned", counts.apps), ("serving", counts.serving)] {
            apps.with_label_values(&[state]).set(level(value));
        }
        for (state, value) in [
            ("ready", counts.ready),
            ("fetching", counts.fetching),
            ("preparing", counts.preparing),
            ("checking", counts.checking),
            ("failed", counts.failed),
            ("draining", counts.draining),
        ] {
            revisions.with_label_values(&[state]).set(level(value));
        }
        instances.set(i64::try_from(counts.instances).unwrap_or(i64::MAX));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn an_app_is_counted_by_status_class_and_leaves_nothing_when_it_goes() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let key = AppKey::new("shop", "cart").unwrap();
        metrics.of_app("shop/cart").answered(StatusCode::NOT_FOUND, Duration::from_millis(3));
        assert!(text(&registry).contains("spindle_requests_total{app=\"shop/cart\",status=\"4xx\"} 1"));
        metrics.forget(&key);
        assert!(!text(&registry).contains("shop/cart"));
    }

    #[test]
    fn mirrored_gauges_are_what_is_true_at_the_scrape() {
        let registry = Registry::new();
        observe(&registry, || Counts { ready: 3, ..Counts::default() }).unwrap();
        assert!(text(&registry).contains("spindle_revisions{state=\"ready\"} 3"));
    }
}

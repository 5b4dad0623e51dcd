//! Gauges that mirror state.
//!
//! Promise: what a scrape finds is what is true then; nobody has to keep a number right meanwhile.

use prometheus::{
    Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Registers `gauges`, which `set` sets at every scrape.
///
/// # Errors
/// When `registry` has metrics of their names already.
pub fn mirror(
    registry: &Registry,
    gauges: Vec<Box<dyn Collector>>,
    set: impl Fn() + Send + Sync + 'static,
) -> prometheus::Result<()> {
    registry.register(Box::new(Mirror { gauges, set }))
}

/// A number of things, as a gauge has it.
#[must_use]
pub fn level(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Mirror<F> {
    gauges: Vec<Box<dyn Collector>>,
    set: F,
}

impl<F: Fn() + Send + Sync> Collector for Mirror<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|gauge| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.set)();
        self.gauges.iter().flat_map(|gauge| gauge.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use prometheus::{IntGauge, TextEncoder};

    use super::*;

    #[test]
    fn a_scrape_finds_what_is_true_then() {
        let (registry, apps) = (Registry::new(), Arc::new(AtomicUsize::new(3)));
        let gauge = IntGauge::new("apps", "Apps").unwrap();
        let (state, mirrored) = (Arc::clone(&apps), gauge.clone());
        mirror(&registry, vec![Box::new(gauge)], move || mirrored.set(level(state.load(Ordering::SeqCst)))).unwrap();
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text().contains("apps 3"));
        apps.store(7, Ordering::SeqCst);
        assert!(text().contains("apps 7"));
    }
}

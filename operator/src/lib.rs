//! Makes SpinApps real: resolves, places, publishes.

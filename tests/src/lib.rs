//! The proof: harness, integration and end-to-end tests, benchmarks.

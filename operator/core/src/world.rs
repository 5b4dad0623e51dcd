//! A tiny world for tests: what the shell, the API server and the runtimes would do with a plan.

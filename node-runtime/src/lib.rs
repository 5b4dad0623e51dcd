//! Runs many Spin applications in one process.

//! The project's own commands: generate, check.

fn main() {}

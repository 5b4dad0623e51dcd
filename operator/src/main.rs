//! The process: reads its configuration, runs until told to stop.

fn main() {}

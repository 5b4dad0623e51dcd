//! The spindle command: run and publish Spin applications.

fn main() {}

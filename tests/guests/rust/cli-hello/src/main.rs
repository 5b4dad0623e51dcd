//! A component that exports `wasi:cli/run` and nothing else: a valid program, but no HTTP handler.

fn main() {
    println!("Hello from a command");
}

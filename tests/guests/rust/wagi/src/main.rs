//! A Wagi guest: greets, then shows what it was given: arguments, environment, body.

use std::env;
use std::io::{self, Read, Write};

fn main() -> io::Result<()> {
    let mut body = Vec::new();
    io::stdin().read_to_end(&mut body)?;

    let mut out = io::stdout().lock();
    write!(out, "content-type: text/plain\n\n")?;
    writeln!(out, "Hello from Wagi Rust")?;
    for (index, argument) in env::args().enumerate() {
        writeln!(out, "arg[{index}]={argument}")?;
    }
    let mut environment: Vec<_> = env::vars().collect();
    environment.sort();
    for (name, value) in environment {
        writeln!(out, "{name}={value}")?;
    }
    out.write_all(b"body=")?;
    out.write_all(&body)
}

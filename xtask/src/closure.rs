//! Deciders cannot do I/O: their dependency closures have nothing that could.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::outputs::root;

/// The crates that decide.
const PURE: [&str; 5] = ["control", "manifest", "node-runtime-core", "operator-api", "operator-core"];

/// What none of them may depend on.
const FORBIDDEN: [&str; 8] = ["async-std", "hyper", "kube-client", "mio", "reqwest", "rustls", "tokio", "wasmtime"];

/// Fails when a pure crate depends on something that can do I/O.
pub(crate) fn check() -> Result<()> {
    for krate in PURE {
        let closure = closure(krate)?;
        let found: Vec<&str> = FORBIDDEN.into_iter().filter(|bad| closure.iter().any(|name| name == bad)).collect();
        if !found.is_empty() {
            let found = found.join(", ");
            bail!("{krate} depends on {found}: it decides, so it must not be able to do; see `cargo tree -p {krate}`");
        }
    }
    Ok(())
}

/// The names of everything that a crate depends on.
fn closure(krate: &str) -> Result<Vec<String>> {
    let args = ["tree", "--package", krate, "--edges", "normal", "--prefix", "none", "--format", "{p}", "--offline"];
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(root())
        // As the crate is alone, however the caller has cargo unify features.
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .output()
        .context("cannot run cargo tree")?;
    ensure!(output.status.success(), "cargo tree -p {krate} failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn crates_that_decide_cannot_do() {
        super::check().unwrap();
    }
}

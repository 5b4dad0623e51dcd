//! Every generated file, and whether it is as it should be.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{crds, reference, roles};

/// The command that makes every stale file right.
const COMMAND: &str = "cargo xtask gen";

/// One generated file.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its path below the checkout.
    pub(crate) path: &'static str,
    /// What it holds.
    pub(crate) text: String,
}

/// Every generated file.
pub(crate) fn all() -> Result<Vec<Output>> {
    let mut outputs = crds::outputs()?;
    outputs.push(roles::template()?);
    outputs.extend(reference::outputs()?);
    Ok(outputs)
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Writes the files that are stale.
pub(crate) fn write() -> Result<()> {
    for output in stale(all()?)? {
        let path = root().join(output.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(&path, &output.text).with_context(|| format!("cannot write {}", path.display()))?;
        say(&format!("wrote {}", output.path));
    }
    Ok(())
}

/// Fails when a file is stale.
pub(crate) fn check() -> Result<()> {
    let stale: Vec<&str> = stale(all()?)?.iter().map(|output| output.path).collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!("stale: {}; run `{COMMAND}` and commit the result", stale.join(", "))
}

fn stale(outputs: Vec<Output>) -> Result<Vec<Output>> {
    let mut stale = Vec::new();
    for output in outputs {
        let path = root().join(output.path);
        match fs::read_to_string(&path) {
            Ok(text) if text == output.text => {}
            Ok(_) => stale.push(output),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => stale.push(output),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    Ok(stale)
}

/// Tells whoever runs the command.
pub(crate) fn say(line: &str) {
    // Nobody is left to tell when standard error is gone.
    let _gone = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_files_are_up_to_date() {
        super::check().unwrap();
    }
}

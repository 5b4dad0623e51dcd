//! `--build`: runs the build commands of components.
//!
//! Promise: what a command prints is shown as it comes, on standard error; the first command that fails ends the build; when
//! the build is given up, the command is ended with everything that it started.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
};

use anyhow::Context as _;
use manifest::{ComponentId, spin_toml::Build};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::{console, project::Project};

/// Builds the components that `wanted` names, in the order of their ids.
///
/// # Errors
/// When a command cannot be started or fails.
pub(super) async fn build(project: &Project, wanted: impl Fn(&ComponentId) -> bool) -> anyhow::Result<()> {
    let components = project.manifest.components.iter().filter(|(id, _)| wanted(id));
    let builds: Vec<_> = components.filter_map(|(id, spec)| Some((id, spec.build.as_ref()?))).collect();
    if builds.is_empty() {
        console::say("No component has a build command.");
    }
    for (id, build) in builds {
        build_component(&project.dir, id, build).await?;
    }
    Ok(())
}

async fn build_component(dir: &Path, id: &ComponentId, build: &Build) -> anyhow::Result<()> {
    let workdir = build.workdir.as_ref().map_or_else(|| dir.to_path_buf(), |workdir| dir.join(workdir));
    anyhow::ensure!(
        workdir.is_dir(),
        "--build: component `{id}`: its workdir {} is no directory: correct build.workdir in the manifest",
        workdir.display()
    );
    for command in &build.commands {
        console::say(&format!("Building component {id} with `{command}`"));
        let status = run(command, &workdir).await;
        let status = status.with_context(|| format!("--build: component `{id}`: cannot run `{command}`"))?;
        anyhow::ensure!(status.success(), "--build: component `{id}`: `{command}` failed: {status}");
    }
    Ok(())
}

async fn run(command: &str, workdir: &Path) -> std::io::Result<ExitStatus> {
    let child = Command::new("sh")
        .args(["-c", command])
        .current_dir(workdir)
        .stdin(Stdio::null())
        // Standard output is for where the application is.
        .stdout(std::io::stderr())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child);
    let status = group.0.wait().await;
    drop(group);
    status
}

/// A command with what it started. Dropping it while it runs ends all of them.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // It may have ended just now.
            let _gone = kill_process_group(pid, Signal::TERM);
        }
    }
}

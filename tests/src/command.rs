//! Runs a program and keeps what it said.

use std::{ffi::OsStr, process::Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
}

/// Runs `program` with `args`, feeding it `stdin`, whatever its exit code.
///
/// # Errors
/// When it cannot be started.
pub async fn run<S: AsRef<OsStr> + std::fmt::Debug>(program: &str, args: &[S], stdin: &str) -> Result<Output> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start `{program}`; is it on PATH? (the Makefile sets it)"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program may end without reading all of it.
        let _broken_pipe_is_fine = pipe.write_all(stdin.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    Ok(Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    })
}

/// [`run`], and its standard output when it ends well.
///
/// # Errors
/// When it ends otherwise, with everything it said.
pub async fn succeed<S: AsRef<OsStr> + std::fmt::Debug>(program: &str, args: &[S], stdin: &str) -> Result<String> {
    let output = run(program, args, stdin).await?;
    if output.code != 0 {
        bail!("`{program} {args:?}` ended with {}:\n{}{}", output.code, output.stdout, output.stderr);
    }
    Ok(output.stdout)
}

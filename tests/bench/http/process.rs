//! The servers that are measured: each a process of its own, on a free port of the loopback.

pub(crate) mod floor;

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
};

use super::{Settings, workload::Guest};

/// What makes a fresh instance cheapest in `wasmtime serve`.
const BEST: &str = "-Opooling-allocator=y,pooling-pagemap-scan=y,pooling-memory-keep-resident=2097152,pooling-table-keep-resident=524288";

/// How `wasmtime serve` runs a component of `wasi:http` 0.2: as it is, and with what makes a fresh instance cheapest.
pub(crate) const WASMTIME: [(&str, &[&str]); 2] = [("wasmtime serve", &["-Scli"]), (BEST_PEER, &["-Scli", BEST])];

/// The peer that Spindle is compared with.
pub(crate) const BEST_PEER: &str = "wasmtime serve, best";

/// How long a server may take to start: it may have to compile.
const START: Duration = Duration::from_secs(120);
/// Linux counts a process's time in units of 1/100 s, on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// A server that runs.
pub(crate) struct Server {
    pub(crate) name: String,
    /// How it was started, for whoever reads the table.
    pub(crate) command: String,
    pub(crate) address: SocketAddr,
    child: Child,
    _files: Option<TempDir>,
}

impl Server {
    /// A server that answers without any wasm: this program.
    pub(crate) async fn floor() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve");
        Self::start("hyper", "bench-http serve", command, Says::OnStdout, None).await
    }

    /// `spindle up` of an application with one guest.
    pub(crate) async fn spindle(settings: &Settings, guest: &Guest) -> Result<Self> {
        let app = guest.application(&settings.guests)?;
        let mut command = Command::new(settings.binaries.join("spindle"));
        command.args(["up", "--quiet", "--listen", "127.0.0.1:0", "--log-dir", "", "-f"]).arg(app.path());
        let shown = format!("spindle up --quiet --log-dir '' ({})", guest.wasm);
        Self::start(&format!("spindle, {}", guest.name), &shown, command, Says::OnStdout, Some(app)).await
    }

    /// `wasmtime serve`.
    pub(crate) async fn wasmtime(wasmtime: &Path, name: &str, flags: &[&str], wasm: &Path) -> Result<Self> {
        let mut command = Command::new(wasmtime);
        command.args(["serve", "--addr", "127.0.0.1:0"]).args(flags).arg(wasm);
        let file = wasm.file_name().unwrap_or_default().to_string_lossy();
        let shown = format!("wasmtime serve {} {file}", flags.join(" "));
        Self::start(name, &shown, command, Says::OnStderr, None).await
    }

    async fn start(name: &str, shown: &str, mut command: Command, says: Says, files: Option<TempDir>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let address = match says {
            Says::OnStdout => address_from(child.stdout.take().context("no output")?).await,
            Says::OnStderr => address_from(child.stderr.take().context("no output")?).await,
        };
        let address = match address {
            Ok(address) => address,
            Err(error) => {
                // It has ended, or it ends now.
                let _ended = child.start_kill();
                let output = child.wait_with_output().await?;
                return Err(error.context(format!("{name}: {}", String::from_utf8_lossy(&output.stderr))));
            }
        };
        Ok(Self { name: name.to_owned(), command: shown.to_owned(), address, child, _files: files })
    }

    /// The processor time that the process has needed so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let pid = self.child.id().context("the server has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("this needs Linux")?;
        // The name in brackets may hold anything: what follows is counted from its end (proc(5): utime is field 14).
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(TICK * ticks)
    }
}

/// Where a server tells its address.
enum Says {
    OnStdout,
    OnStderr,
}

/// The first URL in what a server prints. The rest is read and dropped, so that the server never waits.
async fn address_from(output: impl AsyncRead + Unpin + Send + 'static) -> Result<SocketAddr> {
    let mut lines = BufReader::new(output).lines();
    let find = async {
        let mut seen = String::new();
        while let Some(line) = lines.next_line().await? {
            let url = line.split_once("http://").map(|(_, rest)| rest.trim_end_matches('/'));
            if let Some(address) = url.and_then(|address| address.parse().ok()) {
                return Ok(address);
            }
            seen.push_str(&line);
        }
        bail!("it ended without telling its address: {seen}")
    };
    let address = tokio::time::timeout(START, find).await.context("it did not start in time")??;
    #[expect(clippy::disallowed_methods, reason = "it ends with the server's output")]
    drop(tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} }));
    Ok(address)
}

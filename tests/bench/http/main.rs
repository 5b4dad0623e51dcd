//! `tests/bench.sh http`: what a request costs, beside peers in the same run.
//!
//! | part | what is measured |
//! |---|---|
//! | in process | a request without a socket: routing, a fresh instance, the guest, its response |
//! | over loopback | `spindle up` as it is shipped, beside a bare hyper server (the floor of what an HTTP server costs) and `wasmtime serve` (the peer), with 1 and 64 connections |
//!
//! Rounds are interleaved, so that whatever else the machine does hits all alike, and medians are told. The generator of load is a
//! closed loop: each connection sends its next request when it has the whole response.
//!
//! Absent on purpose: assertions. A number here is printed, never tested.

mod load;
mod process;
mod runtime;
mod table;
mod workload;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use load::{Ask, Measured};
use process::{BEST_PEER, Server};
use table::{Cell, Table};
use workload::{WASI_HTTP, Workload};

/// How many connections are open at a time.
const CONNECTIONS: [usize; 2] = [1, 64];
/// How long a server is warmed up before each measurement.
const WARM_UP: Duration = Duration::from_millis(200);

/// What can be set from outside.
struct Settings {
    /// The directory of `spindle`.
    binaries: PathBuf,
    /// The directory of guests.
    guests: PathBuf,
    /// `wasmtime`, if it is to be measured.
    wasmtime: Option<PathBuf>,
    rounds: usize,
    /// How long one measurement takes.
    time: Duration,
}

impl Settings {
    #[expect(clippy::disallowed_methods, reason = "the one place of this program that reads the environment")]
    fn from_environment() -> Result<Self> {
        let path = |name: &str| {
            std::env::var(name)
                .map(PathBuf::from)
                .with_context(|| format!("${name} is not set: start this with tests/bench.sh http"))
        };
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("${name} must be a number")),
            Err(_) => Ok(default),
        };
        Ok(Self {
            binaries: path("SPINDLE_BIN")?,
            guests: path("SPINDLE_GUESTS")?,
            wasmtime: path("WASMTIME").ok().filter(|path| path.exists()),
            rounds: usize::try_from(number("BENCH_ROUNDS", 9)?.max(1))?,
            time: Duration::from_millis(number("BENCH_MS", 400)?.max(100)),
        })
    }
}

/// One thread: the other processors are for the server.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return process::floor::serve().await;
    }
    let settings = Settings::from_environment()?;
    print(&runtime::measure(&settings.guests, settings.time).await?);
    let floor = Server::floor().await?;
    for workload in Workload::all(&floor) {
        print(&measure(&settings, &workload, &floor).await?);
    }
    Ok(())
}

/// Measures one workload on every server that can do it.
async fn measure(settings: &Settings, workload: &Workload, floor: &Server) -> Result<String> {
    let mut servers: Vec<Server> = Vec::new();
    for guest in &workload.guests {
        servers.push(Server::spindle(settings, guest).await?);
    }
    if let Some(wasmtime) = &settings.wasmtime {
        for (wasm, (name, flags)) in &workload.peers {
            match Server::wasmtime(wasmtime, name, flags, &settings.guests.join(wasm)).await {
                Ok(server) => servers.push(server),
                Err(error) => print(&format!("{}: left out: {error:#}", workload.name)),
            }
        }
    }
    let mut all: Vec<&Server> = servers.iter().collect();
    if workload.is_for_floor {
        all.insert(0, floor);
    }
    let mut asks = Vec::new();
    let mut able = Vec::new();
    for server in all {
        match workload.prepare(server.address).await {
            Ok(ask) => {
                asks.push(ask);
                able.push(server);
            }
            Err(error) => print(&format!("{}: {} cannot do this: {error:#}", workload.name, server.name)),
        }
    }
    let mut table = Table::new(workload.name, able.iter().map(|server| (server.name.clone(), server.command.clone())));
    table.compare(&format!("spindle, {}", WASI_HTTP.name), BEST_PEER);
    for round in 0..settings.rounds {
        for connections in CONNECTIONS {
            let mut rows: Vec<_> = able.iter().zip(&asks).enumerate().collect();
            // Nobody always comes after the same one.
            if round % 2 == 1 {
                rows.reverse();
            }
            for (row, (server, ask)) in rows {
                let measured = one(settings, ask, server, connections).await;
                let measured = measured.with_context(|| format!("{}: {}", workload.name, server.name))?;
                table.add(row, connections, Cell::of(measured));
            }
        }
    }
    Ok(table.render())
}

async fn one(settings: &Settings, ask: &Ask, server: &Server, connections: usize) -> Result<Measured> {
    load::run(server.address, ask, connections, WARM_UP).await?;
    let before = server.cpu_time()?;
    let mut measured = load::run(server.address, ask, connections, settings.time).await?;
    measured.cpu = server.cpu_time()?.saturating_sub(before);
    Ok(measured)
}

#[expect(clippy::print_stdout, reason = "a benchmark's product is what it prints")]
fn print(text: &str) {
    println!("{text}");
}

//! [`EngineConfig`], and the wasmtime configuration made of it.
//!
//! Instantiating afresh for each request is only cheap with the pooling allocator, copy-on-write memory images and a
//! reset that leaves touched pages mapped: `PAGEMAP_SCAN` (Linux 6.7 or later) finds them. Together they are worth a
//! factor of three in throughput. Keeping pages resident without that scan costs more memory than it saves time, so
//! the two are always used together.

use std::{path::PathBuf, time::Duration};

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::{
    host::{BlockedNetworks, LineFormat, limits},
    open_files,
};

/// How much of a used slot's memory stays mapped, in bytes.
const MEMORY_KEEP_RESIDENT: usize = 2 << 20;
/// How much of a used slot's table stays mapped, in bytes.
const TABLE_KEEP_RESIDENT: usize = 512 << 10;
/// What wasmtime itself may need to describe one instance, in bytes. The big language runtimes need more than the
/// default of 1 MiB.
const INSTANCE_METADATA: usize = 10 << 20;
/// Tables of a guest: its own and those of its adapters.
pub(super) const TABLES_PER_GUEST: u32 = 2;
/// Stacks of a guest: one of WASI 0.3 may wait in one task while another runs.
const STACKS_PER_GUEST: u32 = 2;

/// The settings of an [`Engine`](super::Engine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// How many guests may run at once; a request beyond that is answered 503. Default 1000. Each reserves 4 GiB of
    /// address space, not memory; some 20,000 fit.
    pub max_instances: u32,
    /// How many slots of the pool stay warm when idle. Many apps that take turns need more; each costs the memory its
    /// last guest touched, at most 2.5 MiB. Default 200.
    pub warm_slots: u32,
    /// Whether to use the pool at all. Default true.
    pub pooling: bool,
    /// Linear memory of one instance where the app sets no limit, in bytes. Default 128 MiB.
    pub default_memory: u64,
    /// Elements in all tables of one instance together. Default 100,000.
    pub table_elements: u32,
    /// Wall-clock time of one request where the app sets no limit: from the request's head to the guest's end. Default
    /// 60 s.
    pub default_timeout: Duration,
    /// Processor time of one request where the app sets no limit. Default none: [`EngineConfig::default_timeout`] holds.
    pub default_cpu: Option<Duration>,
    /// How many requests of one app run at a time where it sets no limit. Default none: as many as there are instances.
    pub default_concurrency: Option<u32>,
    /// How many further requests of one app wait for one of those to end, where it sets no limit. Default 128.
    pub default_queue: u32,
    /// How long they wait; then they are answered 503. Default 5 s.
    pub queue_timeout: Duration,
    /// How large a request's body may be where the app sets no limit, in bytes. Default none: bodies are streamed.
    pub default_body: Option<u64>,
    /// How much an app's guests may print in a second where it sets no limit, in bytes; lines beyond that are dropped and
    /// counted. Default 1 MiB.
    pub default_output: u64,
    /// The longest line that a guest may print, in bytes; a longer one is cut, with a mark. Default 8 KiB.
    pub longest_line: usize,
    /// How much linear memory all guests together may have, with what the host holds for them, in bytes. Default no limit.
    pub guests_memory: Option<u64>,
    /// How much of that one app gets, in bytes. Default half: whatever it does, others can run.
    pub app_memory: Option<u64>,
    /// How large a body may be that must be held in memory, because the guest's ABI (legacy Spin, Wagi) knows no
    /// streams: a larger request is answered 413, a larger response 500. In bytes, default 16 MiB.
    pub buffered_body: usize,
    /// How large one result of a store or a database may be, and one value that is written to a store, in bytes. Default
    /// 64 MiB.
    pub store_result: usize,
    /// What an app's local stores and databases may take on disk together, in bytes, where the app sets no limit; their
    /// logs may take half as much for a while. Default 1 GiB.
    pub store_disk: u64,
    /// What SQLite may have of memory, over all apps, in bytes: pages of files, and what does not fit a sort or a temporary
    /// table. The first engine of a process decides. Default 256 MiB.
    pub sqlite_memory: u64,
    /// How often a guest that computes lets others run and looks at its deadline. Default 10 ms.
    pub epoch_tick: Duration,
    /// Where compiled code is kept. It must be a directory of this user alone, since what is in there is executed.
    /// Default none: compile again after a restart.
    pub cache_dir: Option<PathBuf>,
    /// Whether compiled code tells a native debugger about the guest's source (DWARF). Default false.
    pub debug_info: bool,
    /// How many threads compile small guests, and as many others large ones (from 1 MiB of wasm on). Default: all cores but one, at least one.
    pub compile_threads: usize,
    /// How many lines of guest output may wait to be written before further ones are dropped (and counted). Default
    /// 10,000.
    pub log_queue_lines: usize,
    /// How many bytes those lines may have together. Default 16 MiB.
    pub log_queue_bytes: usize,
    /// The form in which guest output is written to standard output. Default JSON.
    pub log_format: LineFormat,
    /// How many connections the guests of one app may have open at a time, of all kinds together, where its runtime
    /// configuration sets no `max_total_connections`; further ones wait. Default 256.
    pub outbound_connections: usize,
    /// How many files and sockets the guests of one app may have open together. Default: an eighth of what the process may.
    pub open_files: usize,
    /// Where no guest may connect to, whatever its manifest and its runtime configuration say. Default: nothing.
    pub blocked_networks: BlockedNetworks,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            max_instances: 1000,
            warm_slots: 200,
            pooling: true,
            default_memory: 128 << 20,
            table_elements: 100_000,
            default_timeout: Duration::from_secs(60),
            default_cpu: None,
            default_concurrency: None,
            default_queue: 128,
            queue_timeout: Duration::from_secs(5),
            default_body: None,
            default_output: 1 << 20,
            longest_line: 8 << 10,
            guests_memory: None,
            app_memory: None,
            buffered_body: 16 << 20,
            store_result: 64 << 20,
            store_disk: 1 << 30,
            sqlite_memory: 256 << 20,
            epoch_tick: Duration::from_millis(10),
            cache_dir: None,
            debug_info: false,
            compile_threads: cores.saturating_sub(1).max(1),
            log_queue_lines: 10_000,
            outbound_connections: 256,
            open_files: open_files::of_an_app(),
            blocked_networks: BlockedNetworks::default(),
            log_queue_bytes: 16 << 20,
            log_format: LineFormat::Json,
        }
    }
}

/// The best engine that this machine allows, and whether it pools.
pub(super) fn wasmtime_engine(config: &EngineConfig) -> wasmtime::Result<(wasmtime::Engine, bool)> {
    if config.pooling {
        match pooled(config, Enabled::Yes) {
            Ok(engine) => return Ok((engine, true)),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "pool without page map scan"),
        }
        match pooled(config, Enabled::No) {
            Ok(engine) => return Ok((engine, true)),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "no instance pool: requests will be slower"),
        }
    }
    Ok((wasmtime::Engine::new(&base(config))?, false))
}

/// What holds for every allocation strategy. It decides whether compiled code can be shared.
fn base(config: &EngineConfig) -> Config {
    let mut wasmtime = Config::new();
    wasmtime.epoch_interruption(true);
    wasmtime.memory_init_cow(true);
    wasmtime.debug_info(config.debug_info);
    wasmtime
}

fn pooled(config: &EngineConfig, scan: Enabled) -> wasmtime::Result<wasmtime::Engine> {
    let guests = config.max_instances.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        // Nothing is reserved for these: how many one guest has is limited instead.
        .total_core_instances(guests.saturating_mul(limits::CORE_INSTANCES))
        .max_core_instances_per_component(limits::CORE_INSTANCES)
        .max_memories_per_component(limits::MEMORIES)
        .max_tables_per_component(limits::TABLES)
        .total_memories(guests)
        .total_tables(guests.saturating_mul(TABLES_PER_GUEST))
        .total_stacks(guests.saturating_mul(STACKS_PER_GUEST))
        .total_gc_heaps(guests)
        .max_tables_per_module(TABLES_PER_GUEST)
        .table_elements(usize::try_from(config.table_elements)?)
        .max_core_instance_size(INSTANCE_METADATA)
        .max_component_instance_size(INSTANCE_METADATA)
        .max_unused_warm_slots(config.warm_slots);
    if matches!(scan, Enabled::Yes) {
        pool.pagemap_scan(scan)
            .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
            .table_keep_resident(TABLE_KEEP_RESIDENT);
    }
    let mut wasmtime = base(config);
    wasmtime.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasmtime::Engine::new(&wasmtime)
}

//! The flags about guests: what one request, one app and all of them together may use.

use std::{num::NonZeroUsize, time::Duration};

use clap::Args;

use crate::{engine::EngineConfig, machine};

#[derive(Debug, Args)]
#[command(next_help_heading = "Guests")]
pub(super) struct GuestFlags {
    /// How many guests may run at a time; a request beyond that is answered with 503
    #[arg(long, env = "SPINDLE_MAX_INSTANCES", default_value_t = 1000, value_name = "INSTANCES")]
    max_instances: u32,

    /// How many idle instance slots keep their memory
    #[arg(long, env = "SPINDLE_WARM_SLOTS", default_value_t = 200, value_name = "SLOTS")]
    warm_slots: u32,

    /// The memory of all guests together, in MiB; one app gets half of it at most [default: three quarters of the container's
    /// memory limit, or of the machine's memory]
    #[arg(long, env = "SPINDLE_GUESTS_MEMORY", value_name = "MIB")]
    guests_memory: Option<u64>,

    /// The linear memory of one guest, in MiB, where its app sets no limit
    #[arg(long, env = "SPINDLE_GUEST_MEMORY", default_value_t = 128, value_name = "MIB")]
    guest_memory: u64,

    /// How long, in seconds, one request may take, where its app sets no limit; then it is a 504
    #[arg(long, env = "SPINDLE_REQUEST_TIMEOUT", default_value_t = 60, value_name = "SECONDS")]
    request_timeout: u64,

    /// How long, in seconds, one request may compute, where its app sets no limit; then it is a 504
    #[arg(long, env = "SPINDLE_REQUEST_CPU", default_value_t = 30, value_name = "SECONDS")]
    request_cpu: u64,

    /// How many requests of one app run at a time, where it sets no limit [default: half of --max-instances]
    #[arg(long, env = "SPINDLE_APP_CONCURRENCY", value_name = "REQUESTS")]
    app_concurrency: Option<u32>,

    /// How many further requests of one app wait for one of those to end, where it sets no limit; more are a 503
    #[arg(long, env = "SPINDLE_APP_QUEUE", default_value_t = 128, value_name = "REQUESTS")]
    app_queue: u32,

    /// How long, in seconds, they wait; then they are a 503
    #[arg(long, env = "SPINDLE_QUEUE_TIMEOUT", default_value_t = 5, value_name = "SECONDS")]
    queue_timeout: u64,

    /// How many files and sockets the guests of one app have open together [default: an eighth of what the process may]
    #[arg(long, env = "SPINDLE_APP_OPEN_FILES", value_name = "FILES")]
    app_open_files: Option<NonZeroUsize>,

    /// The most MiB of a request's body, where its app sets no limit; more is a 413 [default: no limit for guests that
    /// stream]
    #[arg(long, env = "SPINDLE_MAX_BODY", value_name = "MIB")]
    max_body: Option<u64>,

    /// The most MiB of a body that must be held in memory, for guests that know no streams
    #[arg(long, env = "SPINDLE_BUFFERED_BODY", default_value_t = 16, value_name = "MIB")]
    buffered_body: usize,

    /// The most MiB of one result of a store or a database, and of a value that is written to a store
    #[arg(long, env = "SPINDLE_STORE_RESULT", default_value_t = 64, value_name = "MIB")]
    store_result: usize,

    /// The most MiB that the local stores and databases of one app take on disk, where it sets no limit
    #[arg(long, env = "SPINDLE_STORE_DISK", default_value_t = 1024, value_name = "MIB")]
    store_disk: u64,

    /// The most MiB of memory that SQLite takes for all apps together
    #[arg(long, env = "SPINDLE_SQLITE_MEMORY", default_value_t = 256, value_name = "MIB")]
    sqlite_memory: u64,

    /// The most KiB that the guests of one app print in a second, where it sets no limit; further lines are dropped
    #[arg(long, env = "SPINDLE_GUEST_OUTPUT", default_value_t = 1024, value_name = "KIB")]
    guest_output: u64,

    /// The longest line that a guest prints, in bytes; a longer one is cut
    #[arg(long, env = "SPINDLE_GUEST_LINE", default_value_t = 8192, value_name = "BYTES")]
    guest_line: usize,
}

impl GuestFlags {
    /// `config`, with what these flags say.
    pub(super) fn over(&self, config: EngineConfig) -> EngineConfig {
        let mebibytes = |count: u64| count.saturating_mul(1 << 20);
        EngineConfig {
            max_instances: self.max_instances,
            warm_slots: self.warm_slots,
            guests_memory: self.guests_memory.map(mebibytes).or_else(machine::memory_for_guests),
            default_memory: mebibytes(self.guest_memory),
            default_timeout: Duration::from_secs(self.request_timeout),
            default_cpu: Some(Duration::from_secs(self.request_cpu)),
            default_concurrency: Some(self.app_concurrency.unwrap_or(self.max_instances.div_ceil(2))),
            default_queue: self.app_queue,
            queue_timeout: Duration::from_secs(self.queue_timeout),
            open_files: self.app_open_files.map_or(config.open_files, NonZeroUsize::get),
            default_body: self.max_body.map(mebibytes),
            buffered_body: self.buffered_body.saturating_mul(1 << 20),
            store_result: self.store_result.saturating_mul(1 << 20),
            store_disk: mebibytes(self.store_disk),
            sqlite_memory: mebibytes(self.sqlite_memory),
            default_output: self.guest_output.saturating_mul(1 << 10),
            longest_line: self.guest_line,
            ..config
        }
    }
}

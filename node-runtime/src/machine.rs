//! What the machine, or the container, gives to this process.

use std::fs;

/// Where the kernel tells the limit of the container that this process runs in: with control groups of version 2, and of 1.
const CONTAINER: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Where it tells what the machine has.
const MACHINE: &str = "/proc/meminfo";

/// How many bytes all guests may have together: three quarters of the container's limit, or of the machine's memory where
/// that is less. The rest is for the process itself. `None` where neither is known.
#[must_use]
pub fn memory_for_guests() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let container = CONTAINER.into_iter().filter_map(|path| read(path)?.trim().parse().ok());
    let machine = read(MACHINE).and_then(|text| total(&text));
    container.chain(machine).min().map(|bytes: u64| bytes / 4 * 3)
}

/// The bytes that `/proc/meminfo` tells as the machine's.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24682496 kB\nMemFree:        12984320 kB\n";
        assert_eq!(total(text), Some(24_682_496 << 10));
        for other in ["", "MemFree: 1 kB", "MemTotal: many kB", "MemTotal: 1 MB", "MemTotal: 18446744073709551615 kB"] {
            assert_eq!(total(other), None, "{other}");
        }
        assert!(memory_for_guests().is_some_and(|bytes| bytes > 0), "this is Linux");
    }
}

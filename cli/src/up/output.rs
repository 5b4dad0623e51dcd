//! [`Output`]: what components print, shown and kept.
//!
//! Promise: printing never makes a component wait; one that prints faster than its lines can be written loses lines,
//! and is told about. No line can look like another component's: control characters are escaped.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel},
    },
    time::Duration,
};

use anyhow::Context as _;
use node_runtime::host::{GuestLine, GuestLog};

/// How many lines may wait to be written.
const LINES: usize = 10_000;
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Writes what components print, on a thread of its own.
pub(super) struct Output {
    lines: SyncSender<GuestLine>,
    lost: Arc<AtomicU64>,
    /// Closed when everything is written.
    written: Receiver<()>,
}

impl Output {
    /// Starts to write to standard error, unless `quiet`, and to files in `dir`.
    pub(super) fn start(quiet: bool, dir: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(dir) = dir {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {} (--log-dir)", dir.display()))?;
        }
        let (lines, queue) = sync_channel(LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let mut sinks = Sinks { show: !quiet, dir: dir.map(Path::to_path_buf), files: BTreeMap::new() };
        let reported = Arc::clone(&lost);
        let (writing, written) = channel::<()>();
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                sinks.write_all(&queue, &reported);
                drop(writing);
            })
            .context("cannot start the thread that writes what components print")?;
        Ok(Self { lines, lost, written })
    }

    /// What components print to.
    pub(super) fn log(&self) -> Arc<dyn GuestLog> {
        let (lines, lost) = (self.lines.clone(), Arc::clone(&self.lost));
        Arc::new(move |line: GuestLine| {
            if lines.try_send(line).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Writes what is left. Everything that [`Output::log`] gave must be dropped by then.
    pub(super) fn finish(self) {
        let Self { lines, written, .. } = self;
        drop(lines);
        if written.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a component still runs: what it prints now is lost");
        }
    }
}

struct Sinks {
    show: bool,
    dir: Option<PathBuf>,
    files: BTreeMap<PathBuf, File>,
}

impl Sinks {
    fn write_all(&mut self, queue: &Receiver<GuestLine>, lost: &AtomicU64) {
        for line in queue {
            if let Err(error) = self.write(&line) {
                tracing::warn!(%error, component = line.labels.component, "a line that was printed is lost");
            }
            let lines = lost.swap(0, Ordering::Relaxed);
            if lines > 0 {
                tracing::warn!(lines, "lines that were printed are lost: they came faster than they can be written");
            }
        }
    }

    fn write(&mut self, line: &GuestLine) -> io::Result<()> {
        let component = &line.labels.component;
        if self.show {
            writeln!(io::stderr(), "[{component}] {}", visible(&line.text))?;
        }
        let Some(dir) = &self.dir else { return Ok(()) };
        // A component's id has no `/` and does not start with a dot.
        let path = dir.join(format!("{component}_{}.txt", line.stream.name()));
        if !self.files.contains_key(&path) {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            self.files.insert(path.clone(), file);
        }
        self.files.get_mut(&path).map_or(Ok(()), |file| writeln!(file, "{}", line.text))
    }
}

/// The text with control characters other than tabs escaped: a component must not control a terminal.
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' { visible.extend(c.escape_default()) } else { visible.push(c) }
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_control_a_terminal_is_escaped() {
        assert_eq!(visible("a\tb\u{1b}[2J\rc \u{e9}"), "a\tb\\u{1b}[2J\\rc \u{e9}");
    }
}

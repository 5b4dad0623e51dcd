//! [`Output`]: what components print, shown and kept.
//!
//! Promise: printing never makes a component wait; one that prints faster than its lines can be written loses lines,
//! and is told about. No line can look like another component's: control characters are escaped.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use manifest::{Application, runtime_config::Directory};
use node_runtime::host::{GuestLine, GuestLog};

use super::console;

/// How many lines may wait to be written, and how many bytes they may have together.
const LINES: usize = 10_000;
const BYTES: usize = 64 << 20;
/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How often a loss of lines is told.
const LOSSES: Duration = Duration::from_secs(30);

/// The flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "What components print")]
pub(super) struct OutputArgs {
    /// Append what components print to COMPONENT_stdout.txt and COMPONENT_stderr.txt in this directory; '' for none
    /// [default: logs in the state directory]
    #[arg(short = 'L', long, env = "SPIN_LOG_DIR", value_name = "DIR")]
    log_dir: Option<OsString>,
    /// Empty these files first
    #[arg(long)]
    truncate_logs: bool,
    /// Show only what this component prints; repeatable
    #[arg(long, value_name = "ID")]
    follow: Vec<String>,
    /// Show what all components print, which is the default
    #[arg(long, conflicts_with = "follow")]
    follow_all: bool,
    /// Do not show what components print
    #[arg(short = 'q', long, aliases = ["sh", "shush", "silence-component-logs"], conflicts_with_all = ["follow", "follow_all"])]
    quiet: bool,
}

/// Whose lines are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    All,
    Nobodys,
    Of(BTreeSet<String>),
}

impl OutputArgs {
    /// Whether only what matters is told.
    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The directory of log files; as `configured` by the runtime configuration, or in `state_dir`, if no flag says.
    pub(super) fn log_dir(&self, configured: &Directory, state_dir: Option<&Path>) -> Option<PathBuf> {
        if let Some(dir) = &self.log_dir {
            return Some(PathBuf::from(dir)).filter(|dir| !dir.as_os_str().is_empty());
        }
        match configured {
            Directory::At(dir) => Some(dir.clone()),
            Directory::None => None,
            Directory::Default => Some(state_dir?.join("logs")),
        }
    }

    /// Whether the directory of log files was asked for, so that it must not be missing.
    fn is_log_dir_wanted(&self) -> bool {
        self.log_dir.is_some() || self.truncate_logs
    }

    fn shown(&self, application: &Application) -> anyhow::Result<Shown> {
        for id in &self.follow {
            let known: Vec<&str> = application.components.keys().map(manifest::ComponentId::as_str).collect();
            anyhow::ensure!(
                known.contains(&id.as_str()),
                "--follow {id}: there is no such component, the application has: {}",
                known.join(", ")
            );
        }
        Ok(match self.follow.as_slice() {
            _ if self.quiet => Shown::Nobodys,
            [] => Shown::All,
            ids => Shown::Of(ids.iter().cloned().collect()),
        })
    }
}

/// Writes what components print, on a thread of its own.
pub(super) struct Output {
    lines: SyncSender<GuestLine>,
    /// How many bytes wait to be written.
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Closed when everything is written.
    written: Receiver<()>,
}

impl Output {
    /// Starts to write to standard error and to files in `log_dir`, as `args` say.
    ///
    /// # Errors
    /// When a component that is followed does not exist, or the directory that was asked for cannot be made.
    pub(super) fn start(
        args: &OutputArgs,
        log_dir: Option<PathBuf>,
        application: &Application,
    ) -> anyhow::Result<Self> {
        let shown = args.shown(application)?;
        let dir = match log_dir.as_deref().map(|dir| prepare(dir, args.truncate_logs)).transpose() {
            Ok(_) => log_dir,
            Err(error) if args.is_log_dir_wanted() => return Err(error),
            Err(error) => {
                tracing::warn!(error = daemon::chain(error.as_ref()), "what components print is not kept");
                None
            }
        };
        if let Some(dir) = &dir
            && !args.quiet
        {
            console::say(&format!("Logging component stdio to \"{}\"", dir.join("").display()));
        }
        let (lines, queue) = sync_channel(LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut sinks = Sinks { shown, dir, waiting: Arc::clone(&waiting), files: BTreeMap::new(), is_failing: false };
        let losses = Losses { lost: Arc::clone(&lost), told: None };
        let (writing, written) = channel::<()>();
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                sinks.write_all(&queue, losses);
                drop(writing);
            })
            .context("cannot start the thread that writes what components print")?;
        Ok(Self { lines, waiting, lost, written })
    }

    /// What components print to.
    pub(super) fn log(&self) -> Arc<dyn GuestLog> {
        let (lines, waiting, lost) = (self.lines.clone(), Arc::clone(&self.waiting), Arc::clone(&self.lost));
        Arc::new(move |line: GuestLine| {
            let size = line.text.len();
            let is_full = waiting.fetch_add(size, Ordering::Relaxed).saturating_add(size) > BYTES;
            if is_full || lines.try_send(line).is_err() {
                waiting.fetch_sub(size, Ordering::Relaxed);
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

/// Makes the directory of log files, and empties those that are there if `truncate`.
fn prepare(dir: &Path, truncate: bool) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {} (--log-dir)", dir.display()))?;
    if !truncate {
        return Ok(());
    }
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {} (--truncate-logs)", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with("_stdout.txt") || name.ends_with("_stderr.txt") {
            File::create(&path).with_context(|| format!("cannot empty {} (--truncate-logs)", path.display()))?;
        }
    }
    Ok(())
}

/// Counts the lines that are lost, and tells about them now and then.
struct Losses {
    lost: Arc<AtomicU64>,
    told: Option<Instant>,
}

impl Losses {
    /// Tells what was lost since it was told last, if that is long ago.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.duration_since(told) < LOSSES) {
            return None;
        }
        let lines = self.lost.swap(0, Ordering::Relaxed);
        if lines == 0 {
            return None;
        }
        self.told = Some(now);
        tracing::warn!(lines, "lines that were printed are lost: they came faster than they can be written");
        Some(lines)
    }
}

struct Sinks {
    shown: Shown,
    dir: Option<PathBuf>,
    waiting: Arc<AtomicUsize>,
    files: BTreeMap<PathBuf, File>,
    /// Whether the last line could not be written: told once, until it works again.
    is_failing: bool,
}

impl Sinks {
    fn write_all(&mut self, queue: &Receiver<GuestLine>, mut losses: Losses) {
        for line in queue {
            let written = self.write(&line);
            self.waiting.fetch_sub(line.text.len(), Ordering::Relaxed);
            if let Err(error) = &written
                && !self.is_failing
            {
                tracing::warn!(%error, component = line.labels.component, "what is printed is lost");
            }
            self.is_failing = written.is_err();
            losses.tell(Instant::now());
        }
        losses.told = None;
        losses.tell(Instant::now());
    }

    fn write(&mut self, line: &GuestLine) -> io::Result<()> {
        let component = &line.labels.component;
        let is_shown = match &self.shown {
            Shown::All => true,
            Shown::Nobodys => false,
            Shown::Of(ids) => ids.contains(component),
        };
        if is_shown {
            console::say(&format!("[{component}] {}", visible(&line.text)));
        }
        let Some(dir) = &self.dir else { return Ok(()) };
        // A component's id has no `/` and does not start with a dot.
        let path = dir.join(format!("{component}_{}.txt", line.stream.name()));
        if !self.files.contains_key(&path) {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            self.files.insert(path.clone(), file);
        }
        self.files.get_mut(&path).map_or(Ok(()), |file| file.write_all(format!("{}\n", line.text).as_bytes()))
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

    #[test]
    fn a_flood_is_told_at_once_and_then_now_and_then() {
        let mut losses = Losses { lost: Arc::default(), told: None };
        let start = Instant::now();
        assert_eq!(losses.tell(start), None, "nothing is lost");
        losses.lost.store(3, Ordering::Relaxed);
        assert_eq!(losses.tell(start), Some(3));
        losses.lost.store(4, Ordering::Relaxed);
        assert_eq!(losses.tell(start + LOSSES / 2), None);
        assert_eq!(losses.tell(start + LOSSES), Some(4));
    }
}

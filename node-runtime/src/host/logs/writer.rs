//! [`GuestLogs`]: the bounded queue of lines, and the thread that writes them to standard output.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
};

use serde::Serialize;

use super::{GuestLine, GuestLog};

/// The form of a line that a guest printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineFormat {
    /// One JSON object: `timestamp`, `level`, `namespace`, `app`, `component`, `revision`, `stream`, `message`.
    #[default]
    Json,
    /// For people: labels, then the line with its control characters escaped.
    Text,
}

/// After how many lines, at the latest, everything is handed to the system.
const BATCH: usize = 1000;

/// How much may wait to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    pub(crate) lines: usize,
    pub(crate) bytes: usize,
}

/// A bounded queue of lines and the thread that writes them. The thread ends when every clone is gone.
#[derive(Clone)]
pub(crate) struct GuestLogs {
    queue: SyncSender<GuestLine>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The bytes of lines that wait.
    waiting: AtomicUsize,
    /// How many lines are not written yet.
    unwritten: AtomicUsize,
    most: usize,
    dropped: AtomicU64,
}

impl GuestLogs {
    /// Starts the thread, which writes to `out`; that may take its time.
    pub(crate) fn start(backlog: Backlog, format: LineFormat, out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(backlog.lines.max(1));
        let shared = Arc::new(Shared { most: backlog.bytes, ..Shared::default() });
        let mut writer = Writer { out: BufWriter::new(out), format, text: String::new(), shared: Arc::clone(&shared) };
        thread::Builder::new().name("guest-log".to_owned()).spawn(move || writer.run(&lines))?;
        Ok(Self { queue, shared })
    }
}

impl GuestLogs {
    /// Whether everything is written that guests have printed.
    pub(crate) fn is_written(&self) -> bool {
        self.shared.unwritten.load(Ordering::Relaxed) == 0
    }
}

impl GuestLog for GuestLogs {
    fn line(&self, line: GuestLine) -> bool {
        let size = line.text.len();
        let Shared { waiting, unwritten, most, .. } = &*self.shared;
        unwritten.fetch_add(1, Ordering::Relaxed);
        let fits = waiting.fetch_add(size, Ordering::Relaxed).saturating_add(size) <= *most;
        if fits && self.queue.try_send(line).is_ok() {
            return true;
        }
        waiting.fetch_sub(size, Ordering::Relaxed);
        unwritten.fetch_sub(1, Ordering::Relaxed);
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        false
    }
}

struct Writer<W: Write> {
    out: BufWriter<W>,
    format: LineFormat,
    text: String,
    shared: Arc<Shared>,
}

impl<W: Write> Writer<W> {
    /// Writes until nobody can print any more. Nobody can be told that nobody listens: what cannot be written is lost.
    fn run(&mut self, lines: &Receiver<GuestLine>) {
        while let Ok(first) = lines.recv() {
            let (mut next, mut count) = (Ok(first), 0);
            while let Ok(line) = next {
                self.write(&line);
                self.shared.waiting.fetch_sub(line.text.len(), Ordering::Relaxed);
                count += 1;
                next = if count < BATCH { lines.try_recv() } else { Err(TryRecvError::Empty) };
            }
            drop(self.out.flush());
            self.shared.unwritten.fetch_sub(count, Ordering::Relaxed);
            self.tell_dropped();
            if next == Err(TryRecvError::Disconnected) {
                return;
            }
        }
    }

    fn write(&mut self, line: &GuestLine) {
        self.text.clear();
        match self.format {
            LineFormat::Json => json(line, &mut self.text),
            LineFormat::Text => plain(line, &mut self.text),
        }
        self.text.push('\n');
        drop(self.out.write_all(self.text.as_bytes()));
    }

    fn tell_dropped(&self) {
        let lines = self.shared.dropped.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "lines that guests printed were dropped: they print faster than can be written");
        }
    }
}

/// A line as log collectors want it.
#[derive(Serialize)]
struct Record<'a> {
    timestamp: String,
    level: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    app: &'a str,
    component: &'a str,
    revision: &'a str,
    stream: &'static str,
    message: &'a str,
}

fn json(line: &GuestLine, out: &mut String) {
    let labels = &line.labels;
    let record = Record {
        timestamp: timestamp(line),
        level: "INFO",
        namespace: &labels.namespace,
        app: &labels.app,
        component: &labels.component,
        revision: &labels.revision,
        stream: line.stream.name(),
        message: &line.text,
    };
    // Text in a structure of text cannot fail to be written.
    if let Ok(text) = serde_json::to_string(&record) {
        out.push_str(&text);
    }
}

fn plain(line: &GuestLine, out: &mut String) {
    let labels = &line.labels;
    let app = [labels.namespace.as_str(), &labels.app].join("/");
    let app = app.trim_start_matches('/');
    let _written =
        write!(out, "{} {app} {} {} {}: ", timestamp(line), labels.revision, labels.component, line.stream.name());
    for c in line.text.chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// RFC 3339, in UTC, to the microsecond.
fn timestamp(line: &GuestLine) -> String {
    let at = jiff::Timestamp::try_from(line.at).unwrap_or_default();
    format!("{at:.6}")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Mutex,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{
        super::{GuestStream, LogLabels},
        *,
    };

    fn line(text: &str) -> GuestLine {
        let name = |text: &str| text.to_owned();
        let labels =
            LogLabels { namespace: name("shop"), app: name("cart"), revision: name("r1"), component: name("main") };
        let at = UNIX_EPOCH + Duration::from_micros(1_500_000);
        GuestLine { labels: Arc::new(labels), stream: GuestStream::Stderr, at, text: text.to_owned() }
    }

    /// Keeps what is written, once it is let.
    #[derive(Clone, Default)]
    struct Gate {
        written: Arc<Mutex<Vec<u8>>>,
        open: Arc<(Mutex<bool>, std::sync::Condvar)>,
    }

    impl Gate {
        fn open(&self) {
            *self.open.0.lock().unwrap() = true;
            self.open.1.notify_all();
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            drop(self.open.1.wait_while(self.open.0.lock().unwrap(), |open| !*open).unwrap());
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_the_guest_prints() {
        let mut text = String::new();
        json(&line("a \"quote\"\u{1b}[31m\r{\"app\":\"other\"}"), &mut text);
        assert_eq!(
            text,
            r#"{"timestamp":"1970-01-01T00:00:01.500000Z","level":"INFO","namespace":"shop","app":"cart","component":"main","#.to_owned()
                + r#""revision":"r1","stream":"stderr","message":"a \"quote\"\u001b[31m\r{\"app\":\"other\"}"}"#
        );
    }

    #[test]
    fn a_line_for_people_cannot_leave_its_line() {
        let mut text = String::new();
        plain(&line("a\u{1b}[31m\rb"), &mut text);
        assert_eq!(text, "1970-01-01T00:00:01.500000Z shop/cart r1 main stderr: a\\u{1b}[31m\\rb");
    }

    #[test]
    fn a_full_queue_drops_lines_instead_of_waiting_and_writes_the_others() {
        let gate = Gate::default();
        let logs = GuestLogs::start(Backlog { lines: 4, bytes: 1 << 20 }, LineFormat::Text, gate.clone()).unwrap();
        let large = "x".repeat(64 * 1024);
        let taken = (0..20).filter(|_| logs.line(line(&large))).count();
        assert!((4..20).contains(&taken), "{taken}");
        gate.open();
        while !logs.is_written() {
            thread::yield_now();
        }
        assert_eq!(gate.written.lock().unwrap().iter().filter(|byte| **byte == b'\n').count(), taken);
    }

    #[test]
    fn few_lines_that_are_long_fill_the_queue_too() {
        let gate = Gate::default();
        let logs = GuestLogs::start(Backlog { lines: 1000, bytes: 100 }, LineFormat::Json, gate.clone()).unwrap();
        let long = "x".repeat(60);
        assert!(logs.line(line(&long)));
        assert!((0..1000).any(|_| !logs.line(line(&long))));
        gate.open();
    }
}

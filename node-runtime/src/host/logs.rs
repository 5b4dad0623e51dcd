//! What guests print: line by line, labelled, without ever making a guest or a serving thread wait.
//!
//! Promise: a guest that prints faster than its lines can be written loses lines, and the loss is counted and logged.
//! Nothing a guest prints can look like another guest's line: line ends and other control characters are escaped by
//! whoever writes the log, and labels are fields of their own.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    task::{Context, Poll},
    thread,
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// The longest line, in bytes; what is longer is cut into several.
const LONGEST_LINE: usize = 8 * 1024;
/// How much a guest may write at once, in bytes.
const WRITE_PERMIT: usize = 64 * 1024;

/// Whose output it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLabels {
    /// The app, as `namespace/name`.
    pub app: String,
    /// Its revision.
    pub revision: String,
    /// The component's id.
    pub component: String,
}

/// Which of a guest's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl GuestStream {
    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line that a guest printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestLine {
    /// Whose.
    pub labels: Arc<LogLabels>,
    /// Where it printed it.
    pub stream: GuestStream,
    /// The line without its end; what is not UTF-8 is replaced.
    pub text: String,
}

/// Takes the lines that guests print. Called on serving threads, so it must not block.
pub trait GuestLog: Send + Sync {
    /// Takes one line.
    fn line(&self, line: GuestLine);
}

impl<F: Fn(GuestLine) + Send + Sync> GuestLog for F {
    fn line(&self, line: GuestLine) {
        self(line);
    }
}

/// Writes a line as a `tracing` event of target `guest`.
pub(crate) fn trace_line(line: &GuestLine) {
    let GuestLine { labels, stream, text } = line;
    tracing::info!(
        target: "guest",
        app = labels.app, revision = labels.revision, component = labels.component, stream = stream.name(),
        "{text}",
    );
}

/// A bounded queue of lines and the thread that writes them. The thread ends when every clone is gone.
#[derive(Clone)]
pub(crate) struct GuestLogs {
    queue: SyncSender<GuestLine>,
    dropped: Arc<AtomicU64>,
}

impl GuestLogs {
    /// Starts the thread; `write` may take its time.
    pub(crate) fn start(capacity: usize, write: impl Fn(&GuestLine) + Send + 'static) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        thread::Builder::new().name("guest-log".to_owned()).spawn(move || write_lines(&lines, &lost, write))?;
        Ok(Self { queue, dropped })
    }
}

impl GuestLog for GuestLogs {
    fn line(&self, line: GuestLine) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines(lines: &Receiver<GuestLine>, dropped: &AtomicU64, write: impl Fn(&GuestLine)) {
    for line in lines {
        write(&line);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lines = lost, "guest output dropped: guests print faster than it can be written");
        }
    }
}

/// A guest's standard output or error, cut into lines.
#[derive(Clone)]
pub(crate) struct LineStream {
    shared: Arc<Lines>,
}

struct Lines {
    log: Arc<dyn GuestLog>,
    labels: Arc<LogLabels>,
    stream: GuestStream,
    /// What was written since the last line end. The lock is this request's own.
    partial: Mutex<Vec<u8>>,
}

impl LineStream {
    pub(crate) fn new(log: &Arc<dyn GuestLog>, labels: &Arc<LogLabels>, stream: GuestStream) -> Self {
        let (log, labels) = (Arc::clone(log), Arc::clone(labels));
        Self { shared: Arc::new(Lines { log, labels, stream, partial: Mutex::default() }) }
    }
}

impl Lines {
    fn add(&self, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            for chunk in text.chunks(LONGEST_LINE) {
                if partial.len() + chunk.len() > LONGEST_LINE {
                    self.emit(&std::mem::take(&mut *partial));
                }
                partial.extend_from_slice(chunk);
            }
            if ended {
                self.emit(&partial);
                partial.clear();
            }
        }
    }

    fn emit(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        self.log.line(GuestLine { labels: Arc::clone(&self.labels), stream: self.stream, text });
    }
}

impl Drop for Lines {
    /// A last line without an end is a line.
    fn drop(&mut self) {
        let rest = std::mem::take(self.partial.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !rest.is_empty() {
            self.emit(&rest);
        }
    }
}

impl fmt::Debug for LineStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineStream").field("stream", &self.shared.stream).finish_non_exhaustive()
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.shared.add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT)
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.shared.add(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(pieces: &[&[u8]]) -> Vec<String> {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log: Arc<dyn GuestLog> = {
            let seen = Arc::clone(&seen);
            Arc::new(move |line: GuestLine| seen.lock().unwrap().push(line.text))
        };
        let labels = Arc::new(LogLabels { app: "a/b".to_owned(), revision: "1".to_owned(), component: "c".to_owned() });
        let mut stream = LineStream::new(&log, &labels, GuestStream::Stdout);
        for piece in pieces {
            stream.write(Bytes::copy_from_slice(piece)).unwrap();
        }
        drop(stream);
        let lines = seen.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn lines_are_cut_at_line_ends_only_and_the_rest_comes_last() {
        assert_eq!(printed(&[b"one\ntw", b"o\r\n\nthr", b"ee"]), ["one", "two", "", "three"]);
        assert_eq!(printed(&[b"\xff\n"]), ["\u{fffd}"]);
        assert!(printed(&[b""]).is_empty());
    }

    #[test]
    fn a_line_without_end_does_not_grow_without_end() {
        let lines = printed(&[&[b'x'; 3 * LONGEST_LINE + 1]]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST_LINE, LONGEST_LINE, LONGEST_LINE, 1]);
    }

    #[test]
    fn a_full_queue_drops_lines_instead_of_waiting() {
        let (started, wait_started) = sync_channel(1);
        let (go, wait) = sync_channel::<()>(0);
        let logs = GuestLogs::start(1, move |_: &GuestLine| {
            let _first = started.try_send(());
            let _gone = wait.recv();
        })
        .unwrap();
        let labels = Arc::new(LogLabels { app: String::new(), revision: String::new(), component: String::new() });
        let line = || GuestLine { labels: Arc::clone(&labels), stream: GuestStream::Stderr, text: "x".to_owned() };
        logs.line(line());
        wait_started.recv().unwrap();
        for _ in 0..5 {
            logs.line(line());
        }
        assert_eq!(logs.dropped.load(Ordering::Relaxed), 4);
        drop(go);
    }
}

//! What guests print: line by line, labelled, without ever making a guest or a serving thread wait.
//!
//! Promise: a guest that prints faster than its lines can be written, or than its app may, loses lines, and the loss is
//! counted and told. Nothing a guest prints can look like another guest's line: line ends and other control characters are
//! escaped by whoever writes the log, and labels are fields of their own.

mod writer;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

pub use writer::LineFormat;
pub(crate) use writer::{Backlog, GuestLogs};

use super::limits::{Grant, Usage};

/// How much a guest may write at once, in bytes.
const WRITE_PERMIT: usize = 64 * 1024;

/// Whose output it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLabels {
    /// The app's namespace; empty without Kubernetes.
    pub namespace: String,
    /// The app's name.
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
    /// When.
    pub at: SystemTime,
    /// The line without its end; bytes that are no UTF-8 are written as `\xff`. What was longer than a line may be ends with
    /// a mark that says how much is missing.
    pub text: String,
}

/// Takes the lines that guests print. Called on serving threads, so it must not block.
pub trait GuestLog: Send + Sync {
    /// Takes one line; whether it will be written. A line that is not is counted as dropped.
    fn line(&self, line: GuestLine) -> bool;
}

impl<F: Fn(GuestLine) + Send + Sync> GuestLog for F {
    fn line(&self, line: GuestLine) -> bool {
        self(line);
        true
    }
}

/// Where one component's lines go, and how many there may be.
pub(crate) struct GuestOutput {
    pub(crate) log: Arc<dyn GuestLog>,
    pub(crate) labels: Arc<LogLabels>,
    /// The app's, which all its lines count for.
    pub(crate) usage: Arc<Usage>,
    /// How many bytes the app may print in a second.
    pub(crate) rate: u64,
    /// The longest line, in bytes.
    pub(crate) longest_line: usize,
}

impl GuestOutput {
    /// Writes a line of which `cut` bytes are missing.
    fn line(&self, stream: GuestStream, line: &[u8], cut: usize) {
        let at = SystemTime::now();
        // Any number that is another one a second later.
        let second = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() & u64::from(u32::MAX));
        let labels = &self.labels;
        match self.usage.print(u32::try_from(second).unwrap_or_default(), line.len(), self.rate) {
            Grant::Written(0) => {}
            Grant::Written(lines) => tracing::warn!(
                namespace = labels.namespace,
                app = labels.app,
                lines,
                "lines that guests printed were dropped",
            ),
            Grant::FirstDropped => {
                tracing::warn!(
                    namespace = labels.namespace,
                    app = labels.app,
                    bytes_per_second = self.rate,
                    "guests print more than their app may: lines are dropped",
                );
                return;
            }
            Grant::Dropped => return,
        }
        let text = text(line.strip_suffix(b"\r").unwrap_or(line), cut);
        if !self.log.line(GuestLine { labels: Arc::clone(labels), stream, at, text }) {
            self.usage.dropped_line();
        }
    }
}

impl fmt::Debug for GuestOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestOutput").field("labels", &self.labels).field("rate", &self.rate).finish_non_exhaustive()
    }
}

/// Bytes as text, those that are no UTF-8 escaped; with a mark if some are missing.
fn text(line: &[u8], cut: usize) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _written = write!(text, "\\x{byte:02x}");
        }
    }
    if cut > 0 {
        let _written = write!(text, " … ({cut} bytes cut)");
    }
    text
}

/// A guest's standard output or error, cut into lines.
#[derive(Clone)]
pub(crate) struct LineStream {
    shared: Arc<Lines>,
}

struct Lines {
    output: Arc<GuestOutput>,
    stream: GuestStream,
    /// The lock is this request's own.
    partial: Mutex<Partial>,
}

/// What was written since the last line end.
#[derive(Default)]
struct Partial {
    line: Vec<u8>,
    /// How many bytes there were beyond the longest line.
    cut: usize,
}

impl LineStream {
    pub(crate) fn new(output: &Arc<GuestOutput>, stream: GuestStream) -> Self {
        Self { shared: Arc::new(Lines { output: Arc::clone(output), stream, partial: Mutex::default() }) }
    }
}

impl Lines {
    fn add(&self, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            partial.add(text, self.output.longest_line);
            if ended {
                self.output.line(self.stream, &partial.line, partial.cut);
                partial.line.clear();
                partial.cut = 0;
            }
        }
    }
}

impl Partial {
    fn add(&mut self, text: &[u8], longest: usize) {
        let room = longest.saturating_sub(self.line.len()).min(text.len());
        let (kept, cut) = text.split_at_checked(room).unwrap_or((text, &[]));
        self.line.extend_from_slice(kept);
        self.cut = self.cut.saturating_add(cut.len());
    }
}

impl Drop for Lines {
    /// A last line without an end is a line.
    fn drop(&mut self) {
        let Partial { line, cut } = std::mem::take(self.partial.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !line.is_empty() {
            self.output.line(self.stream, &line, cut);
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

    const LONGEST: usize = 100;

    fn printed(pieces: &[&[u8]]) -> Vec<String> {
        printed_at(u64::MAX, pieces)
    }

    fn printed_at(rate: u64, pieces: &[&[u8]]) -> Vec<String> {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log: Arc<dyn GuestLog> = {
            let seen = Arc::clone(&seen);
            Arc::new(move |line: GuestLine| seen.lock().unwrap().push(line.text))
        };
        let name = |text: &str| text.to_owned();
        let labels = LogLabels { namespace: name("a"), app: name("b"), revision: name("1"), component: name("c") };
        let usage = Arc::new(Usage::default());
        let output = GuestOutput { log, labels: Arc::new(labels), usage, rate, longest_line: LONGEST };
        let mut stream = LineStream::new(&Arc::new(output), GuestStream::Stdout);
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
        assert!(printed(&[b""]).is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(printed(&[b"a\xffb\xc3\x28\n", "ä\u{0}\n".as_bytes()]), ["a\\xffb\\xc3(", "ä\u{0}"]);
        // A character that is written in two halves is one.
        assert_eq!(printed(&[b"\xc3", b"\xa4\n"]), ["ä"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_with_a_mark() {
        let long = [b'x'; LONGEST + 7];
        let cut = format!("{} … (7 bytes cut)", "x".repeat(LONGEST));
        assert_eq!(printed(&[&long, b"\nnext\n"]), [cut.as_str(), "next"]);
        assert_eq!(printed(&[&long[..50], &long[50..]]), [cut]);
    }

    #[test]
    fn an_app_that_prints_too_much_loses_lines() {
        assert_eq!(printed_at(0, &[b"one\ntwo\n"]), [""; 0]);
    }
}

//! [`Framing`]: where the requests of an HTTP/1.1 connection begin and end, as far as that is needed to refuse those that
//! say it twice.
//!
//! A request with both `Content-Length` and `Transfer-Encoding` ends at two places. hyper goes by the latter and forgets
//! the former, as RFC 9112 (6.3) allows; a proxy before it that goes by the former would take the rest for another
//! caller's request. Such a request is spoiled here while it is read, so that hyper answers it with 400 and closes.
//! One with a transfer coding beside `chunked` is, too: hyper takes that away alone, and a guest would take what is left for
//! the body.
//!
//! Promise: whatever comes, bytes pass unchanged except the last one of such a head. What cannot be followed is not
//! judged any more: hyper refuses it.

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(crate) struct Framing {
    at: At,
}

/// Where in a message the next byte is.
#[derive(Debug)]
enum At {
    /// In a head.
    Head(Head),
    /// In a body, of which so many bytes are left.
    Body(u64),
    /// In a body in chunks.
    Chunks(Chunks),
    /// Not to be known: not HTTP/1.1, or malformed.
    Lost,
}

/// The head of a request, line by line.
#[derive(Debug)]
struct Head {
    /// The beginning of the current line: enough for the names that matter and a length.
    line: [u8; LINE],
    /// How long the line is.
    size: usize,
    /// How many lines have ended.
    lines: u32,
    length: Option<u64>,
    chunked: bool,
    /// It has a transfer coding other than `chunked`, or that one twice: whoever knows the other reads another body.
    coded: bool,
}

/// How much of a line is looked at. A length that needs more is none that fits 64 bits.
const LINE: usize = 64;

/// A body in chunks (RFC 9112, 7.1).
#[derive(Debug, Clone, Copy)]
enum Chunks {
    /// In the size of a chunk.
    Size(u64),
    /// Behind it, up to the end of the line.
    Extension(u64),
    /// In its data, or the line end behind it.
    Data(u64),
    /// In the trailers; how long the current line is.
    Trailers(u64),
}

impl Default for Framing {
    fn default() -> Self {
        Self { at: At::Head(Head::default()) }
    }
}

impl Framing {
    /// Looks at bytes that have come, and spoils the head of a request with two lengths.
    pub(crate) fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let (taken, next) = match &mut self.at {
                At::Lost => return,
                At::Head(head) => match head.take(bytes) {
                    (taken, HeadStep::On) => (taken, None),
                    (taken, HeadStep::End(next)) => (taken, Some(next)),
                    (taken, HeadStep::Ambiguous) => {
                        if let Some(last) = bytes.get_mut(taken - 1) {
                            // No parser takes this for the end of a line.
                            *last = 0;
                        }
                        (taken, Some(At::Lost))
                    }
                },
                At::Body(left) => {
                    let taken = skip(left, bytes);
                    (taken, (*left == 0).then(|| At::Head(Head::default())))
                }
                At::Chunks(chunks) => chunks.take(bytes),
            };
            if let Some(next) = next {
                self.at = next;
            }
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
    }
}

/// Takes as many of `bytes` as there are to skip.
fn skip(left: &mut u64, bytes: &[u8]) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= taken as u64;
    taken
}

/// What a line of a head leads to.
enum HeadStep {
    On,
    End(At),
    Ambiguous,
}

impl Default for Head {
    fn default() -> Self {
        Self { line: [0; LINE], size: 0, lines: 0, length: None, chunked: false, coded: false }
    }
}

impl Head {
    /// Takes the rest of a line, or as much as there is of it; at least one byte.
    fn take(&mut self, bytes: &[u8]) -> (usize, HeadStep) {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = self.line.get_mut(self.size..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(text) {
            *place = *byte;
        }
        self.size = self.size.saturating_add(text.len());
        match end {
            Some(end) => (end + 1, self.end_line()),
            None => (text.len(), HeadStep::On),
        }
    }

    fn end_line(&mut self) -> HeadStep {
        let line = self.line.get(..self.size.min(LINE)).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            // Empty lines before a request are skipped (RFC 9112, 2.2).
            return if self.lines == 0 { self.next_line(0) } else { self.end() };
        }
        if self.lines == 0 && line == b"PRI * HTTP/2.0" {
            return HeadStep::End(At::Lost);
        }
        let Some((name, value)) = split(line) else { return self.next_line(1) };
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_chunked = self.size <= LINE && value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.coded |= self.chunked || !is_chunked;
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            let Some(length) = length.filter(|_| self.size <= LINE) else { return HeadStep::End(At::Lost) };
            self.length = Some(length);
        }
        self.next_line(1)
    }

    fn next_line(&mut self, ended: u32) -> HeadStep {
        self.lines = self.lines.saturating_add(ended);
        self.size = 0;
        HeadStep::On
    }

    fn end(&self) -> HeadStep {
        match (self.chunked, self.length) {
            (true, Some(_)) => HeadStep::Ambiguous,
            (true, None) if self.coded => HeadStep::Ambiguous,
            (true, None) => HeadStep::End(At::Chunks(Chunks::Size(0))),
            (false, Some(length @ 1..)) => HeadStep::End(At::Body(length)),
            (false, Some(0) | None) => HeadStep::End(At::Head(Self::default())),
        }
    }
}

/// A line's name and value.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((line.get(..colon)?, line.get(colon + 1..)?))
}

impl Chunks {
    /// Takes what can be taken at once, and says where the next byte is if it is not in the chunks any more.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<At>) {
        if let Self::Data(left) = self
            && *left > 1
        {
            let mut data = *left - 1;
            let taken = skip(&mut data, bytes);
            *left = data + 1;
            return (taken, None);
        }
        let Some(byte) = bytes.first() else { return (0, None) };
        match self.step(*byte) {
            Some(next) => {
                *self = next;
                (1, None)
            }
            None if *byte == b'\n' => (1, Some(At::Head(Head::default()))),
            None => (1, Some(At::Lost)),
        }
    }

    /// What comes next; `None` at the end of the body, and where it cannot be followed.
    fn step(self, byte: u8) -> Option<Self> {
        match self {
            Self::Size(size) => match char::from(byte).to_digit(16) {
                Some(digit) => Some(Self::Size(size.checked_mul(16)?.checked_add(u64::from(digit))?)),
                None => Self::Extension(size).step(byte),
            },
            Self::Extension(0) if byte == b'\n' => Some(Self::Trailers(0)),
            // The data, its line end included.
            Self::Extension(size) if byte == b'\n' => Some(Self::Data(size.checked_add(2)?)),
            Self::Extension(size) => Some(Self::Extension(size)),
            // The last byte before the next size is a line feed.
            Self::Data(_) => (byte == b'\n').then_some(Self::Size(0)),
            Self::Trailers(0) if byte == b'\n' => None,
            Self::Trailers(_) if byte == b'\n' => Some(Self::Trailers(0)),
            Self::Trailers(length) if byte == b'\r' => Some(Self::Trailers(length)),
            Self::Trailers(length) => Some(Self::Trailers(length.saturating_add(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the bytes were changed when they came in pieces of `size`.
    fn spoiled(text: &str, size: usize) -> Vec<usize> {
        let mut framing = Framing::default();
        let mut bytes = text.as_bytes().to_vec();
        for piece in bytes.chunks_mut(size) {
            framing.follow(piece);
        }
        let changed = text.bytes().zip(&bytes).enumerate().filter(|(_, (before, after))| before != *after);
        changed.map(|(index, _)| index).collect()
    }

    const BOTH: &str = "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\nTRANSFER-encoding: chunked\r\n\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn a_head_with_two_lengths_loses_its_end_wherever_it_comes() {
        let length = |body: &str| format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        for before in [
            String::new(),
            "\r\n".to_owned(),
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
            length("hello"),
            length(""),
            length(BOTH),
            length("a\n\nb\n\n"),
            format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"),
            format!("{CHUNKED}5;name=\"value\"\r\nhello\r\n1\r\n\n\r\n000\r\nx-trailer: y\r\n\r\n"),
            format!("{CHUNKED}{:x}\r\n{BOTH}\r\n0\r\n\r\n", BOTH.len()),
            "GET / HTTP/1.1\nhost: a\n\n".to_owned(),
        ] {
            let text = format!("{before}{BOTH}GET /smuggled HTTP/1.1\r\n\r\n");
            for size in [1, 2, 7, 4096] {
                assert_eq!(spoiled(&text, size), [before.len() + BOTH.len() - 1], "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_body_in_another_coding_than_chunked_is_read_by_nobody() {
        for coding in ["gzip, chunked", "chunked, chunked", "chunked\r\ntransfer-encoding: chunked", "identity", ""] {
            let text = format!("POST / HTTP/1.1\r\ntransfer-encoding: {coding}\r\n\r\n");
            assert_eq!(spoiled(&text, 5), [text.len() - 1], "{text:?}");
        }
    }

    #[test]
    fn everything_else_passes_unchanged() {
        for text in [
            "",
            "POST / HTTP/1.1\r\nTransfer-Encoding:\tChunked \r\n\r\n",
            "GET / HTTP/1.1\r\nx-content-length: 5\r\nx: transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: x\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            &format!("{CHUNKED}ffffffffffffffffff\r\n{BOTH}"),
        ] {
            assert_eq!(spoiled(text, 3), [0; 0], "{text:?}");
        }
    }
}

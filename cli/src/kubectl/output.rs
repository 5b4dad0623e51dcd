//! What commands print.

use std::io::{self, ErrorKind};

/// Prints `text` to standard output; whether somebody still reads it. Whoever pipes into `head` has seen enough, which is no error.
///
/// # Errors
/// When it cannot be written for another reason.
pub(super) fn print(text: &str) -> io::Result<bool> {
    print_to(io::stdout().lock(), text)
}

fn print_to(mut out: impl io::Write, text: &str) -> io::Result<bool> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_told_and_no_error() {
        let mut text = Vec::new();
        assert!(print_to(&mut text, "line\n").unwrap());
        assert_eq!(text, b"line\n");
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert!(!print_to(writer, "line\n").unwrap());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(print_to(file, "line\n").is_err(), "it is open for reading only");
    }
}

//! What commands print.

use std::io::{self, ErrorKind};

/// Prints `text` to standard output; whether somebody still reads it. Whoever pipes into `head` has seen enough, which is no error.
///
/// # Errors
/// When it cannot be written for another reason.
pub(crate) fn print(text: &str) -> io::Result<bool> {
    print_to(io::stdout().lock(), text)
}

/// What went wrong, and why, in one line; what an API server says in its own words alone.
pub(super) fn told(error: &anyhow::Error) -> String {
    let api = error.chain().enumerate().find_map(|(at, cause)| match cause.downcast_ref() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => {
            Some((at, status.message.trim_end().to_owned()))
        }
        _ => None,
    });
    match api {
        Some((at, message)) => {
            let before = error.chain().take(at).map(ToString::to_string);
            before.chain([message]).collect::<Vec<_>>().join(": ")
        }
        None => daemon::chain(error.as_ref()),
    }
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
    fn what_an_api_server_says_is_told_in_its_words_and_once() {
        use kube::core::Status;
        let refusal = Status::failure("pods is forbidden: you may not", "Forbidden").with_code(403).boxed();
        let error = anyhow::Error::new(kube::Error::Api(refusal)).context("cannot read pods");
        assert_eq!(told(&error), "cannot read pods: pods is forbidden: you may not");
        assert_eq!(told(&anyhow::anyhow!("why").context("what")), "what: why");
    }

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

//! What the command tells its user while it runs, on standard error: one write per line, so that lines of guests and of this
//! process never mix.

use std::io::Write as _;

/// Tells one line.
pub(super) fn say(text: &str) {
    // Nobody is there to be told that standard error is closed.
    let _closed = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Tells that something failed, while the process goes on.
pub(super) fn complain(error: &anyhow::Error) {
    say(&format!("error: {}", daemon::chain(error.as_ref())));
}

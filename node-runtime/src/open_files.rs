//! How many files and connections the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to the most that this process may give itself.
///
/// The usual soft limit (1024) is kept low for programs that use `select`; each connection and each directory of a
/// guest takes one. A failure is logged: the process works, with fewer.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = current, to = maximum, "more files may be open"),
        Err(error) => tracing::warn!(limit = current, %error, "the limit of open files cannot be raised"),
    }
}

/// How many of them may be connections of callers: the rest is for guests' files, stores and the process itself.
#[must_use]
pub fn connections() -> usize {
    usize::try_from(most() / 4 * 3).unwrap_or(usize::MAX).max(1)
}

/// How many the guests of one app may have: half of what is left for guests, and at least what one of them may have.
#[must_use]
pub fn of_an_app() -> usize {
    usize::try_from(most() / 8).unwrap_or(usize::MAX).max(512)
}

fn most() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

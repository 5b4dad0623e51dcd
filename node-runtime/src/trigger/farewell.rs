//! [`Farewell`]: how a process that is about to go gets its callers to go first.
//!
//! While it lasts everything is served as before, but each response over HTTP/1 says `Connection: close`, so that
//! connections which are kept end between two requests and not in the middle of one; callers that come again are sent
//! elsewhere as soon as somebody else can take them. Whether that is so can be told by nobody new coming.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use http::{HeaderValue, Response, Version, header::CONNECTION};
use tokio::time::Instant;

/// What all ports of a process share.
#[derive(Debug)]
pub struct Farewell {
    begun: AtomicBool,
    since: Instant,
    /// When the newest connection came, in milliseconds after `since`.
    newest: AtomicU64,
}

impl Default for Farewell {
    fn default() -> Self {
        Self { begun: AtomicBool::new(false), since: Instant::now(), newest: AtomicU64::new(0) }
    }
}

impl Farewell {
    /// From now on callers are asked to go.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Waits until nobody new has come for `quiet`, at most `within`; whether it became quiet.
    pub async fn quiet(&self, quiet: Duration, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let over = self.since + Duration::from_millis(self.newest.load(Ordering::Relaxed)) + quiet;
            let now = Instant::now();
            if over <= now || deadline <= now {
                return over <= now;
            }
            tokio::time::sleep_until(over.min(deadline)).await;
        }
    }

    /// Somebody has come.
    pub(super) fn came(&self) {
        let after = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.newest.fetch_max(after, Ordering::Relaxed);
    }

    /// Asks whoever is answered to go, if it is time to.
    pub(super) fn ask<B>(&self, version: Version, response: &mut Response<B>) {
        // HTTP/2 has no such header: its connections are told by GOAWAY when ports are closed, which loses no request.
        if self.begun.load(Ordering::Relaxed) && version <= Version::HTTP_11 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_quiet_when_nobody_has_come_for_a_while() {
        let farewell = Farewell::default();
        farewell.came();
        assert!(farewell.quiet(Duration::from_millis(20), Duration::from_secs(60)).await);
        assert!(farewell.quiet(Duration::from_millis(20), Duration::ZERO).await, "it is quiet already");
    }

    #[tokio::test]
    async fn callers_who_keep_coming_are_waited_for_no_longer_than_it_may_take() {
        let farewell = Farewell::default();
        farewell.came();
        assert!(!farewell.quiet(Duration::from_secs(60), Duration::from_millis(20)).await);
    }

    #[test]
    fn callers_over_http_1_are_asked_to_go_when_it_is_time_to() {
        let (farewell, mut response) = (Farewell::default(), Response::new(()));
        farewell.ask(Version::HTTP_11, &mut response);
        assert!(response.headers().is_empty());
        farewell.begin();
        farewell.ask(Version::HTTP_2, &mut response);
        assert!(response.headers().is_empty());
        farewell.ask(Version::HTTP_11, &mut response);
        assert_eq!(response.headers()[CONNECTION], "close");
    }
}

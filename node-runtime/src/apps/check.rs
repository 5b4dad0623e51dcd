//! Checks: whether a revision answers as it must, before it takes requests.
//!
//! Promise: a check is a request to the revision itself, through its router and executor and under the app's limits, not
//! over a socket; whatever the guest does, a check ends, and costs no more than one request at a time. A revision passes
//! only on an answer between 200 and 399 that could be read as far as it is looked at.
//!
//! Absent on purpose: redirects (an answer that redirects is a good one), and what follows from a result: that is decided
//! in the core crate.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use control::Check;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, uri::Scheme};
use http_body_util::{BodyExt as _, Empty};
use node_runtime_core::converge::Fault;
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    application::{Connection, HttpApplication, ResponseBody},
    trigger::Serving,
};

/// How much of an answer's body is looked at, in bytes: as much as the kubelet reads.
const BODY: usize = 10 << 10;
/// How much of it people are told, in characters.
const EXCERPT: usize = 200;
/// How many requests of checks run at a time on this runtime; others wait, which does not count as their time.
pub(super) const AT_A_TIME: usize = 32;

/// Why one request was not answered well.
struct Miss {
    /// What happened, which is the same whenever it happens again.
    what: String,
    /// What the answer said.
    excerpt: Option<String>,
}

/// Makes the requests of `check` until the revision that was loaded at `loaded` has passed or failed.
///
/// # Errors
/// When it has failed.
pub(super) async fn pass(
    serving: Arc<Serving>,
    check: Check,
    loaded: Instant,
    places: Arc<Semaphore>,
) -> Result<(), Fault> {
    let probe = Probe::new(&check)?;
    sleep_until(loaded + Duration::from_millis(check.initial_delay_ms)).await;
    let mut ticks = interval(Duration::from_millis(check.period_ms.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut good, mut bad) = (0, 0);
    loop {
        ticks.tick().await;
        // Nobody closes it.
        let _place = places.acquire().await;
        match probe.ask(serving.application()).await {
            Ok(()) => {
                (good, bad) = (good + 1, 0);
                if good >= check.success_threshold {
                    return Ok(());
                }
            }
            Err(miss) => {
                (good, bad) = (0, bad + 1);
                if bad >= check.failure_threshold {
                    return Err(failed(&check, miss, bad));
                }
            }
        }
    }
}

fn failed(check: &Check, miss: Miss, times: u32) -> Fault {
    let Miss { what, excerpt } = miss;
    let times = if times == 1 { String::new() } else { format!(", {times} times in a row") };
    Fault {
        reason: "CheckFailed".to_owned(),
        message: format!("the readiness check GET {} {what}{times}", check.path),
        detail: excerpt,
        retryable: true,
    }
}

/// A check's request, ready to be made.
struct Probe {
    request: Request<()>,
    connection: Connection,
    patience: Duration,
}

impl Probe {
    fn new(check: &Check) -> Result<Self, Fault> {
        let mut request = Request::get(check.path.as_str()).body(()).map_err(|_| invalid("path", &check.path))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers
            .insert(header::USER_AGENT, HeaderValue::from_static(concat!("spindle-check/", env!("CARGO_PKG_VERSION"))));
        let own = headers.clone();
        for wanted in &check.headers {
            let name: HeaderName = wanted.name.parse().map_err(|_| invalid("header", &wanted.name))?;
            let value: HeaderValue = wanted.value.parse().map_err(|_| invalid("value of the header", &wanted.name))?;
            // The first of a name takes the place of ours.
            if headers.get(&name) == own.get(&name) {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let patience = Duration::from_millis(check.timeout_ms);
        Ok(Self { request, connection: Connection::new(nobody, Scheme::HTTP), patience })
    }

    /// Makes the request once. What has not ended in time is stopped.
    async fn ask(&self, application: &HttpApplication) -> Result<(), Miss> {
        let body = Empty::<Bytes>::new().map_err(|never| -> wasmtime_wasi_http::Error { match never {} });
        let request = self.request.clone().map(|()| body);
        let answer = async { judge(application.handle(request, &self.connection).await).await };
        let in_time = timeout(self.patience, Box::pin(answer)).await;
        in_time.unwrap_or_else(|_| {
            let what = format!("was not answered within {:?}", self.patience);
            Err(Miss { what, excerpt: None })
        })
    }
}

/// Whether an answer is a good one.
async fn judge(response: Response<ResponseBody>) -> Result<(), Miss> {
    let status = response.status();
    let mut body = response.into_body();
    let mut read = Vec::new();
    while read.len() < BODY {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Some(Err(_)) => {
                let what = format!("was answered with {status}, and the body broke off");
                return Err(Miss { what, excerpt: excerpt(&read) });
            }
        }
    }
    if (StatusCode::OK..StatusCode::BAD_REQUEST).contains(&status) {
        return Ok(());
    }
    Err(Miss { what: format!("was answered with {status}"), excerpt: excerpt(&read) })
}

/// The beginning of a body, as a line of text.
fn excerpt(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body.get(..EXCERPT * 4).unwrap_or(body)).into_owned();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then(|| line.chars().take(EXCERPT).collect())
}

/// The API server lets no such thing get here.
fn invalid(what: &str, found: &str) -> Fault {
    Fault {
        reason: "InvalidCheck".to_owned(),
        message: format!("spec.checks.readiness.httpGet: the {what} `{found}` cannot be sent"),
        detail: None,
        retryable: false,
    }
}

#[cfg(test)]
mod tests {
    use control::CheckHeader;

    use super::*;

    fn check(headers: &[(&str, &str)]) -> Check {
        let header = |(name, value): &(&str, &str)| CheckHeader { name: (*name).into(), value: (*value).into() };
        Check {
            path: "/healthz?deep=1".to_owned(),
            headers: headers.iter().map(header).collect(),
            initial_delay_ms: 0,
            timeout_ms: 1000,
            period_ms: 1000,
            success_threshold: 1,
            failure_threshold: 3,
        }
    }

    #[test]
    fn headers_of_the_check_take_the_place_of_its_own_and_may_come_more_than_once() {
        let asked = [("Host", "shop.example"), ("X-A", "1"), ("x-a", "2")];
        let probe = Probe::new(&check(&asked)).unwrap_or_else(|fault| panic!("{fault:?}"));
        let headers = probe.request.headers();
        assert_eq!(headers.get_all("host").iter().collect::<Vec<_>>(), ["shop.example"]);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(headers["user-agent"].to_str().unwrap().starts_with("spindle-check/"));
        assert_eq!(probe.request.uri(), "/healthz?deep=1");
    }

    #[test]
    fn what_cannot_be_sent_is_said_and_not_tried_again() {
        for bad in [("a b", "1"), ("a", "1\n2")] {
            let fault = Probe::new(&check(&[bad])).err().unwrap();
            assert_eq!((fault.reason.as_str(), fault.retryable), ("InvalidCheck", false), "{fault:?}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b""), None);
        assert_eq!(excerpt(b"no\r\n\x1b[31m  database\0").as_deref(), Some("no [31m database"));
        assert_eq!(excerpt("\u{e9}".repeat(5000).as_bytes()).unwrap().chars().count(), EXCERPT);
    }
}

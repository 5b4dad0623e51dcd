//! The client of the API server: what every request has in common.
//!
//! Promise: whatever the server does, a request ends. One whose answer does not begin is given up after
//! [`Patience::answer`]; one whose answer stops half-way, and a connection that is dead without saying so,
//! after [`Patience::silence`]. Nothing is retried here: who asked decides anew, from what is known by then.
//! A server that is hurting is left alone ([`Gate`]), and a watch that ends as soon as it begins is begun again
//! at growing distances.

mod gate;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header::RETRY_AFTER};
use kube::{Client, Config, client::Body, runtime::watcher};
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

pub use self::gate::{Gate, LONGEST};
use crate::backoff::Backoff;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For an answer to begin.
    pub answer: Duration,
    /// For the next bytes of one that has begun; longer than [`Patience::watch`], for nothing may happen in a watch.
    pub silence: Duration,
    /// How long a watch lasts before it is begun again where it ended.
    pub watch: Duration,
}

impl Default for Patience {
    /// A half-dead connection is noticed within a minute; client-go takes up to ten for a watch.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(55),
            watch: Duration::from_secs(45),
        }
    }
}

impl Patience {
    /// The settings of every watch.
    #[must_use]
    pub fn watches(&self) -> watcher::Config {
        watcher::Config::default().timeout(u32::try_from(self.watch.as_secs()).unwrap_or(u32::MAX).max(1))
    }

    fn apply(&self, mut config: Config) -> Config {
        config.connect_timeout = Some(self.connect);
        config.read_timeout = Some(self.silence);
        // A connection that was idle has all the time again.
        config.reset_reader_on_write = true;
        config.default_retry = false;
        config
    }
}

/// The clients of one process.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    apart: Client,
    gate: Arc<Gate>,
    patience: Patience,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Clients of the server that `config` names.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: Config, patience: Patience) -> kube::Result<Self> {
        let config = patience.apply(config);
        let namespace = config.default_namespace.clone();
        let apart = Client::try_from(config.clone())?;
        let gate = Arc::new(Gate::default());
        let polite = Polite {
            inner: Client::try_from(config)?,
            gate: Arc::clone(&gate),
            paces: Arc::default(),
            answer: patience.answer,
        };
        Ok(Self { client: Client::new(polite, namespace), apart, gate, patience })
    }

    /// The client for everything but the lease.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client with connections of its own that waits for nothing: for the lease, whose time is short.
    #[must_use]
    pub fn apart(&self) -> Client {
        self.apart.clone()
    }

    /// Whether the server can be asked for something now.
    #[must_use]
    pub const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// How long is waited for what.
    #[must_use]
    pub const fn patience(&self) -> &Patience {
        &self.patience
    }

    /// While the server hurts, asks it now and then how it is, for as long as this is polled.
    pub async fn ask_after_it(&self) {
        loop {
            self.gate.is_due().await;
            let answer = timeout(self.patience.answer, self.apart.send(version())).await;
            let health = match &answer {
                Ok(Ok(response)) => health(&Method::GET, response),
                Ok(Err(_)) | Err(_) => Health::Hurting(None),
            };
            match health {
                Health::Hurting(wait) => self.gate.hurts(wait),
                Health::Reads | Health::Writes => self.gate.open(),
            }
        }
    }
}

/// The cheapest question there is; everybody who is authenticated may ask it.
fn version() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static("/version");
    request
}

/// What an answer says about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It takes writes.
    Writes,
    /// It answers; what it answers is about the request.
    Reads,
    /// It cannot do its work, and may say how long it wants to be left alone.
    Hurting(Option<Duration>),
}

/// 500 is not among them: it is also what a broken admission webhook of one kind of object answers.
fn health<B>(method: &Method, response: &Response<B>) -> Health {
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Health::Hurting(retry_after(response)),
        status if status.is_success() && *method != Method::GET => Health::Writes,
        _ => Health::Reads,
    }
}

/// `Retry-After` in seconds; API servers send no dates.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Sends requests when the gate lets them, and tells it what comes back.
#[derive(Clone)]
struct Polite {
    inner: Client,
    gate: Arc<Gate>,
    paces: Arc<Mutex<HashMap<String, Pace>>>,
    answer: Duration,
}

/// The distances between the beginnings of one watch.
#[derive(Debug)]
struct Pace {
    last: Instant,
    backoff: Backoff,
}

impl Pace {
    /// A watch that lasted this long was one.
    const ENOUGH: Duration = Duration::from_secs(5);

    fn start() -> Backoff {
        Backoff::new(Duration::from_millis(100), Self::ENOUGH.mul_f64(0.8))
    }
}

impl Polite {
    async fn send(self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let method = request.method().clone();
        self.gate.waited().await;
        sleep(self.pace(&request, Instant::now())).await;
        let answer = timeout(self.answer, self.inner.send(request)).await;
        let answer = answer.unwrap_or_else(|_elapsed| {
            let late = format!("no answer from the API server within {:?}", self.answer);
            Err(kube::Error::Service(Box::new(io::Error::new(io::ErrorKind::TimedOut, late))))
        });
        match answer.as_ref().map_or(Health::Hurting(None), |response| health(&method, response)) {
            Health::Hurting(wait) => self.gate.hurts(wait),
            Health::Writes => self.gate.writes(),
            Health::Reads => {}
        }
        answer
    }

    /// How long to wait `now` before a watch that has just been begun is begun again.
    fn pace(&self, request: &Request<Body>, now: Instant) -> Duration {
        let query = request.uri().query().unwrap_or_default();
        let mut parts = query.split('&');
        if !parts.clone().any(|part| matches!(part, "watch=true" | "watch=1")) {
            return Duration::ZERO;
        }
        let selector = parts.find(|part| part.starts_with("labelSelector=") || part.starts_with("fieldSelector="));
        let watch = format!("{}?{}", request.uri().path(), selector.unwrap_or_default());
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pace) = paces.get_mut(&watch) else {
            paces.insert(watch, Pace { last: now, backoff: Pace::start() });
            return Duration::ZERO;
        };
        let since = now.saturating_duration_since(pace.last);
        let delay = if since < Pace::ENOUGH {
            // What has been waited for already, after a failure, counts.
            pace.backoff.next_delay().saturating_sub(since)
        } else {
            pace.backoff = Pace::start();
            Duration::ZERO
        };
        pace.last = now + delay;
        delay
    }
}

impl Service<Request<Body>> for Polite {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::{LONGEST_PAUSE, Pauses};

    /// Clients of a server that is never asked.
    fn polite() -> Polite {
        let inner = Client::try_from(Config::new(http::Uri::from_static("http://127.0.0.1:1"))).unwrap();
        Polite { inner, gate: Arc::default(), paces: Arc::default(), answer: Duration::from_secs(1) }
    }

    fn watch_of(what: &str) -> Request<Body> {
        Request::get(format!("/api/v1/{what}?watch=true&resourceVersion=7")).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn after_an_outage_of_any_length_a_watch_is_begun_again_within_seconds() {
        let (server, mut pauses, mut now) = (polite(), Pauses::default(), Instant::now());
        let mut begun = Vec::new();
        for _ in 0..100 {
            // It is begun, fails at once, and is begun again after the pause.
            now += server.pace(&watch_of("pods"), now);
            begun.push(now);
            now += pauses.next().unwrap();
        }
        let apart: Vec<Duration> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(apart.iter().all(|distance| *distance <= LONGEST_PAUSE), "{apart:?}");
        assert!(apart.last() > Some(&Duration::from_secs(2)), "{apart:?}");
        assert_eq!(server.pace(&watch_of("nodes"), now), Duration::ZERO, "each has its own pace");
    }

    #[tokio::test]
    async fn a_watch_that_ends_as_soon_as_it_begins_is_begun_again_less_and_less_often() {
        let (server, mut now) = (polite(), Instant::now());
        let waits: Vec<Duration> = (0..20)
            .map(|_| {
                let wait = server.pace(&watch_of("pods"), now);
                now += wait;
                wait
            })
            .collect();
        assert!(waits[1] < Duration::from_millis(150) && waits[19] > Duration::from_secs(2), "{waits:?}");
        assert_eq!(server.pace(&watch_of("pods"), now + Pace::ENOUGH), Duration::ZERO, "it was one");
    }

    fn answer(status: u16, retry_after: Option<&str>) -> Response<()> {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header("retry-after", value);
        }
        response.body(()).unwrap()
    }

    #[test]
    fn a_server_hurts_when_it_cannot_work_and_not_when_it_says_no() {
        for (status, wait, hurts) in [
            (429, Some("2"), Health::Hurting(Some(Duration::from_secs(2)))),
            (429, Some("soon"), Health::Hurting(None)),
            (503, None, Health::Hurting(None)),
            (504, None, Health::Hurting(None)),
            (500, None, Health::Reads),
            (403, None, Health::Reads),
            (409, None, Health::Reads),
            (200, None, Health::Writes),
        ] {
            assert_eq!(health(&Method::PATCH, &answer(status, wait)), hurts, "{status}");
        }
        assert_eq!(health(&Method::GET, &answer(200, None)), Health::Reads);
    }
}

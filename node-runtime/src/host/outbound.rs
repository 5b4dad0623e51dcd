//! Outgoing HTTP: only to hosts that the component's manifest allows.
//!
//! Every interface by which guests send requests ends in [`Outbound::send`]: `wasi:http` 0.2 and 0.3 by way of wasmtime's
//! hooks, and those that know whole bodies only by way of [`whole`].

mod body;
mod chain;
mod client;
mod connector;
mod experimental_http;
mod failure;
mod handlers;
mod legacy_http;
mod spin_http;
mod whole;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, Method};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

use crate::application::Caller;

use super::{
    Grants, Network, RuntimeContext,
    limits::{NoRoom, resources::size_of_headers},
};
use body::Presence;
use chain::Destination;
pub(crate) use client::HttpPool;
pub(super) use experimental_http::OpenResponses;
use whole::BodyError;

/// How much of a body is taken whose request is not sent, in bytes, and how long its next piece may take.
const TAKEN: usize = 1 << 20;
const LINGER: Duration = Duration::from_millis(20);
/// How long the name of a method may be, in bytes.
const METHOD: usize = 256;

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Result<(http::Response<WasiBody>, Io), Error>;
type Sent = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How a guest sends requests.
#[derive(Debug)]
pub(crate) struct Outbound {
    grants: Arc<Grants>,
    deadline: Instant,
    caller: Caller,
    presence: Presence,
}

/// The clients of one revision: one for each identity that its components have. Used while it is built.
#[derive(Debug, Default)]
pub(crate) struct HttpPools(Vec<(Network, Arc<HttpPool>)>);

impl HttpPools {
    /// The client of the component with `network`.
    pub(crate) fn of(&mut self, network: &Network, reuse: bool) -> Arc<HttpPool> {
        let known = self.0.iter().find(|(other, _)| Arc::ptr_eq(other.identity(), network.identity()));
        if let Some((_, pool)) = known {
            return Arc::clone(pool);
        }
        let pool = HttpPool::new(network, reuse);
        self.0.push((network.clone(), Arc::clone(&pool)));
        pool
    }
}

impl Outbound {
    /// For a guest that is stopped at `deadline`.
    pub(crate) fn new(grants: &Arc<Grants>, deadline: Instant, caller: Caller) -> Self {
        Self { grants: Arc::clone(grants), deadline, caller, presence: Presence::default() }
    }

    pub(super) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// Sends a request with an absolute URI, if the component may. The second future that comes with the response must go on
    /// while the body is read.
    pub(super) fn send(&self, mut request: http::Request<WasiBody>, options: RequestOptions) -> Sent {
        let destination = Destination::of(request.uri());
        let caller = match self.permit(&request, &destination) {
            Ok(caller) => caller,
            Err(error) => return refuse(request, error),
        };
        // The URI decides whom a request is for, not a header that was copied from another one. The client writes its own.
        request.headers_mut().remove(http::header::HOST);
        let mut held = self.grants.network.memory().hold_all();
        if let Err(error) = held.add(size_of_head(&request)) {
            return refuse(request, no_room(error));
        }
        let request = request.map(|body| self.presence.body(body));
        let (grants, until) = (Arc::clone(&self.grants), self.deadline);
        Box::pin(async move {
            if destination != Destination::Server {
                return chain::call(&grants, destination, request, options, caller).await;
            }
            let response = grants.http.send(request, options, until).await?;
            if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
                return Err(Error::HttpUpgradeFailed);
            }
            held.becomes(size_of_headers(response.headers())).map_err(no_room)?;
            let response = response.map(|body| body.holding(held).boxed_unsync());
            Ok((response, Box::new(std::future::ready(Ok(()))) as Io))
        })
    }

    /// Sends a request of the host on the guest's behalf, to a server that whoever runs the application has named: the manifest
    /// is not asked. What is blocked stays blocked.
    pub(super) async fn ask(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, Error> {
        let limit = self.grants.buffered_body;
        let body = |body| self.presence.body(Full::new(body).map_err(|never| match never {}).boxed_unsync());
        let response = self.grants.http.send(request.map(body), RequestOptions::default(), self.deadline).await?;
        let (parts, body) = response.into_parts();
        let body = whole::collect(body, limit, self.grants.network.memory()).await;
        let body = body.map_err(|error| match error {
            BodyError::Broken(error) => error,
            BodyError::TooLarge(_) => Error::HttpResponseBodySize(None),
            BodyError::NoRoom(error) => no_room(error),
        })?;
        Ok(http::Response::from_parts(parts, body))
    }

    /// Whether it is a request, and the manifest allows it. Returns whose request it is for those who get it here.
    fn permit(&self, request: &http::Request<WasiBody>, destination: &Destination) -> Result<Caller, Error> {
        check(request, destination)?;
        let (uri, network) = (request.uri(), &self.grants.network);
        let (scheme, host) = (uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default());
        let permitted = match destination {
            // Whatever scheme it says, it takes the same way.
            Destination::Own => network.permits_own("http") || network.permits_own("https"),
            Destination::Server | Destination::Component(_) => network.permits(scheme, host, uri.port_u16()),
        };
        if !permitted {
            match destination {
                Destination::Own => self.grants.denied("http", "self", None),
                Destination::Server | Destination::Component(_) => self.grants.denied(scheme, host, uri.port_u16()),
            }
            return Err(Error::HttpRequestDenied);
        }
        self.caller.next(self.deadline).map_err(|_| Error::LoopDetected)
    }
}

/// Tells a guest that its request is not sent. Guests write the body before they look at the response: it is taken for a moment,
/// because one that has nobody to write to never hears why.
fn refuse(request: http::Request<WasiBody>, error: Error) -> Sent {
    Box::pin(async move {
        let mut body = request.into_body();
        let mut left = TAKEN;
        while left > 0 {
            let Ok(Some(Ok(frame))) = tokio::time::timeout(LINGER, body.frame()).await else { break };
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
        Err(error)
    })
}

/// What a guest is told when its app has no memory left.
fn no_room(error: NoRoom) -> Error {
    Error::InternalError(Some(error.to_string()))
}

/// What the head of a request takes of memory until there is a response, of which a guest may wait for thousands.
fn size_of_head<B>(request: &http::Request<B>) -> usize {
    let uri = request.uri();
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    request.method().as_str().len() + authority + path + size_of_headers(request.headers())
}

/// Refuses what is no request to a server: tunnels, methods that are longer than any, and URIs that name a user or an interface
/// of this host.
fn check(request: &http::Request<WasiBody>, destination: &Destination) -> Result<(), Error> {
    if request.method() == Method::CONNECT || request.method().as_str().len() > METHOD {
        return Err(Error::HttpRequestMethodInvalid);
    }
    if *destination == Destination::Own && request.uri().authority().is_none() {
        return Ok(());
    }
    let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?;
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    // A port that is no number would be read as none.
    let port_is_one = port.is_empty() || port == ":" || authority.port_u16().is_some_and(|port| port != 0);
    // Without a host it is for the own application: Spin's SDKs send a path alone to `:80` or `:443`.
    if authority.as_str().contains(['@', '%']) || !port_is_one {
        return Err(Error::HttpRequestUriInvalid);
    }
    Ok(())
}

/// The interfaces of this module that are a component's under exactly these names.
pub(super) const INTERFACES: [&str; 1] = [spin_http::INTERFACE];

/// Defines the import by which core modules send requests.
pub(super) fn link_modules(linker: &mut wasmtime::Linker<RuntimeContext>) -> wasmtime::Result<()> {
    legacy_http::link(linker)?;
    experimental_http::link(linker)
}

/// Defines `wasi:http` in both versions, and Spin's interface from before it, for components.
pub(super) fn link_components(linker: &mut wasmtime::component::Linker<RuntimeContext>) -> wasmtime::Result<()> {
    handlers::link(linker)?;
    spin_http::link(linker)
}

impl WasiHttpHooks for Outbound {
    /// As wasmtime's, except that a guest sees the `host` it was asked for, as Spin's guests do.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    /// The same, for trailers that pass without a store.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden));
        Arc::clone(&FILTER)
    }

    /// The client does.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        Box::new(self.send(request, options.unwrap_or_default()))
    }
}

fn is_forbidden(name: &HeaderName) -> bool {
    name != http::header::HOST && DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::channel::Channel;

    use super::*;

    fn checked(method: Method, uri: &str) -> Result<(), Error> {
        let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().method(method).uri(uri).body(body).unwrap();
        check(&request, &Destination::of(request.uri()))
    }

    #[test]
    fn only_requests_to_servers_are_sent() {
        for good in [
            "http://h",
            "https://h:1/a?b",
            "http://[::1]:8/",
            "http://h:/",
            "http://h?q",
            "http://xn--bcher-kva.de/",
            "/a",
            "http://self.alt/a",
            "http://:80/a",
            "https://:443/a",
        ] {
            assert!(checked(Method::GET, good).is_ok(), "{good}");
        }
        for bad in ["http://u@h/", "http://u:p@h/", "http://h:0/", "http://h:65536/", "http://u@:80/"] {
            assert!(matches!(checked(Method::GET, bad), Err(Error::HttpRequestUriInvalid)), "{bad}");
        }
        assert!(matches!(checked(Method::CONNECT, "http://h/"), Err(Error::HttpRequestMethodInvalid)));
        assert!(checked(Method::from_bytes(b"BREW").unwrap(), "http://h/").is_ok());
        let long = Method::from_bytes(&[b'A'; METHOD + 1]).unwrap();
        assert!(matches!(checked(long, "http://h/"), Err(Error::HttpRequestMethodInvalid)));
    }

    #[tokio::test]
    async fn a_guest_whose_request_is_refused_can_write_its_body_and_hears_why() {
        let outbound =
            Outbound::new(&Arc::new(Grants::none()), Instant::now() + Duration::from_secs(60), Caller::default());
        let (mut sender, body) = Channel::<Bytes, Error>::new(1);
        let request = Request::post("http://elsewhere.example/").body(body.boxed_unsync()).unwrap();
        let written = async {
            for _ in 0..10 {
                sender.send_data(Bytes::from_static(b"piece")).await?;
            }
            drop(sender);
            Ok::<(), http_body_util::channel::SendError>(())
        };
        let (answer, written) = futures::join!(outbound.send(request, RequestOptions::default()), written);
        assert!(matches!(answer, Err(Error::HttpRequestDenied)));
        assert!(written.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_has_no_end_keeps_no_refusal_waiting() {
        let outbound =
            Outbound::new(&Arc::new(Grants::none()), Instant::now() + Duration::from_secs(60), Caller::default());
        let (sender, body) = Channel::<Bytes, Error>::new(1);
        let request = Request::post("http://elsewhere.example/").body(body.boxed_unsync()).unwrap();
        assert!(matches!(outbound.send(request, RequestOptions::default()).await, Err(Error::HttpRequestDenied)));
        drop(sender);
    }
}

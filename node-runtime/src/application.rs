//! [`HttpApplication`]: what a listener serves. It routes a request, calls the executor of the route's guest, and makes
//! one response of whatever comes back.
//!
//! Promise: [`HttpApplication::handle`] always answers, and adds no header that neither the guest nor HTTP itself wants.
//! Every error becomes a response in one place ([`respond`]), where it is also logged, once.
//!
//! Built-in answers: `/.well-known/spin/health` and `/.well-known/spin/info`, whatever the routes and the base are.
//!
//! Absent on purpose: sockets, TLS, draining.

mod chain;
mod respond;
mod subject;
mod target;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, uri::Scheme};
use http_body::Body;
use manifest::Target;
use node_runtime_core::{
    headers::RouteHeaders,
    router::{Match, RESERVED, RouteWarning, Router},
};

pub(crate) use chain::{Caller, OwnApplication};
pub use respond::Reason;
pub(crate) use respond::refuse;
pub(crate) use subject::Subject;

pub use crate::executor::{BodyError, RequestError, ResponseBody};
use crate::{
    engine::{ExecutionContext, Guest},
    executor::{self, Exchange},
};

/// One application, ready to answer HTTP requests.
#[derive(Debug)]
pub struct HttpApplication {
    context: ExecutionContext,
    router: Router,
    warnings: Vec<RouteWarning>,
    /// Per route, like [`Router::paths`].
    headers: Vec<Option<RouteHeaders>>,
    /// Per route; `None` where a guest answers.
    fixed: Vec<Option<FixedResponse>>,
    info: Bytes,
    links: chain::Links,
}

/// What Spin's guests can be asked. Every other method is answered with 405, as Spin does since 1.0.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub struct Connection {
    client: SocketAddr,
    client_value: HeaderValue,
    scheme: Scheme,
}

/// One route, for people to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo<'a> {
    /// The component's id; `None` for a static response.
    pub component: Option<&'a manifest::ComponentId>,
    /// The path with the base, without the wildcard: `/base/foo`, or `/`.
    pub path: &'a str,
    /// Whether everything below is meant too.
    pub wildcard: bool,
}

/// A response that needs no wasm.
#[derive(Debug, Clone)]
struct FixedResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Connection {
    /// A connection from `client`, with (`https`) or without TLS.
    #[must_use]
    pub fn new(client: SocketAddr, scheme: Scheme) -> Self {
        let client_value = node_runtime_core::headers::text(&client.to_string());
        Self { client, client_value, scheme }
    }

    /// The other end's address.
    #[must_use]
    pub const fn client(&self) -> SocketAddr {
        self.client
    }

    /// `http` or `https`.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    pub(crate) const fn client_value(&self) -> &HeaderValue {
        &self.client_value
    }
}

/// What was found out about a request before its guest is called.
struct Asked<'a> {
    target: target::Target,
    found: &'a Match<'a>,
    headers: &'a RouteHeaders,
    connection: &'a Connection,
    caller: Caller,
}

impl HttpApplication {
    /// Serves what `context` runs. Its guests can call each other, and it, from now on.
    #[must_use]
    pub fn new(context: ExecutionContext) -> Arc<Self> {
        let application = context.application();
        let (router, warnings) = Router::new(&application.base, &application.routes);
        let headers = router.paths().iter().map(|path| path.as_ref().map(RouteHeaders::new)).collect();
        let fixed = application.routes.iter().map(|route| FixedResponse::of(&route.target)).collect();
        let info = info(&application.name, &application.version, context.bundle());
        let links = chain::Links::new(application);
        let application = Arc::new(Self { context, router, warnings, headers, fixed, info, links });
        application.context.own().set(&application);
        application
    }

    /// What it runs.
    #[must_use]
    pub fn context(&self) -> &ExecutionContext {
        &self.context
    }

    /// What the application's author should know about its routes.
    #[must_use]
    pub fn warnings(&self) -> &[RouteWarning] {
        &self.warnings
    }

    /// The routes that answer from outside, in the manifest's order.
    pub fn routes(&self) -> impl Iterator<Item = RouteInfo<'_>> {
        let routes = self.context.application().routes.iter().zip(self.router.paths());
        routes.filter_map(|(route, path)| {
            let path = path.as_ref()?;
            let component = match &route.target {
                Target::Component { id, .. } => Some(id),
                Target::Static { .. } => None,
            };
            let stem =
                if path.wildcard { path.matched.rsplit_once('/').map_or("", |(stem, _)| stem) } else { &path.matched };
            Some(RouteInfo { component, path: if stem.is_empty() { "/" } else { stem }, wildcard: path.wildcard })
        })
    }

    /// What `/.well-known/spin/info` answers: JSON.
    #[must_use]
    pub fn info(&self) -> &Bytes {
        &self.info
    }

    /// Answers one request. Dropping the future stops the guest.
    pub async fn handle<B>(&self, request: Request<B>, connection: &Connection) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        self.answer(request, connection, Caller::default()).await
    }

    async fn answer<B>(&self, request: Request<B>, connection: &Connection, caller: Caller) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        if let Some(below) = request.uri().path().strip_prefix(RESERVED) {
            return self.built_in(below);
        }
        if !METHODS.contains(request.method()) {
            return respond::to_error(&RequestError::Method, None);
        }
        if request.uri().path() == "*" {
            return respond::to_all(request.method());
        }
        let target = match target::Target::of(&request, connection) {
            Ok(target) => target,
            Err(error) => return respond::to_error(&error, None),
        };
        // The router borrows the path while the request is taken apart: a `Uri` is cheap to clone.
        let uri = request.uri().clone();
        let Some(found) = self.router.find(uri.path()) else {
            return respond::to_error(&RequestError::NoRoute, None);
        };
        if let Some(Some(fixed)) = self.fixed.get(found.route) {
            return fixed.respond();
        }
        let (Some(guest), Some(Some(headers))) = (self.context.guest(found.route), self.headers.get(found.route))
        else {
            return respond::to_error(&RequestError::NoRoute, None);
        };
        self.call(guest, request, Asked { target, found: &found, headers, connection, caller }).await
    }

    /// Calls the guest. What goes wrong becomes a response, and is logged.
    async fn call<B>(&self, guest: &Arc<Guest>, request: Request<B>, asked: Asked<'_>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let subject = Subject::of(&request, asked.headers.raw_component_route());
        match self.execute(guest, request, asked, &subject).await {
            Ok(response) => response,
            Err(error) => respond::to_error(&error, Some((guest, &subject))),
        }
    }

    async fn execute<B>(
        &self,
        guest: &Arc<Guest>,
        request: Request<B>,
        asked: Asked<'_>,
        subject: &Subject,
    ) -> Result<Response<ResponseBody>, RequestError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let Asked { target, found, headers, connection, caller } = asked;
        let exchange = Exchange {
            guest,
            found,
            headers,
            connection,
            authority: target.authority,
            full_url: target.full_url,
            buffered_body: self.context.buffered_body(),
            deadline: caller.earliest(guest.deadline()),
            pass: Some(guest.enter(caller.is_guest()).await?),
            caller,
            subject,
        };
        guest.executor().execute(exchange, request).await
    }

    fn built_in(&self, below: &str) -> Response<ResponseBody> {
        match below {
            "health" => respond::text(StatusCode::OK, Bytes::from_static(b"OK")),
            "info" => {
                let mut response = respond::text(StatusCode::OK, self.info.clone());
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            _ => respond::to_error(&RequestError::NoRoute, None),
        }
    }
}

/// The document of `/.well-known/spin/info`.
fn info(name: &str, version: &str, bundle: Option<&str>) -> Bytes {
    let mut info = serde_json::Map::new();
    info.insert("name".to_owned(), name.into());
    if !version.is_empty() {
        info.insert("version".to_owned(), version.into());
    }
    if let Some(bundle) = bundle {
        info.insert("bindle_version".to_owned(), bundle.into());
    }
    // The pretty form of a JSON value; it cannot fail.
    Bytes::from(format!("{:#}", serde_json::Value::Object(info)))
}

impl FixedResponse {
    /// The response of a static target. What is no header is left out: the manifest's reader has refused it already.
    fn of(target: &Target) -> Option<Self> {
        let Target::Static { status, headers, body } = target else { return None };
        let headers = headers.iter().filter_map(|(name, value)| {
            Some((name.parse::<http::HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        });
        let mut headers: HeaderMap = headers.collect();
        // The length is that of the body, and the connection the server's, whatever the manifest says.
        headers.remove(header::CONTENT_LENGTH);
        executor::drop_connection(&mut headers);
        Some(Self {
            status: StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body: Bytes::from(body.clone()),
        })
    }

    fn respond(&self) -> Response<ResponseBody> {
        let mut response = respond::text(self.status, self.body.clone());
        *response.headers_mut() = self.headers.clone();
        response
    }
}

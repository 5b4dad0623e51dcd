//! Requests from the application's own guests: to a component of it, or to itself, without a socket.
//!
//! Promise: a chain of calls ends. The number of calls before is counted where no guest can change it, and a guest that is
//! called has no more time than its caller has left.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock, Weak},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Request, Response, uri::Scheme};
use http_body::Body;
use manifest::{Application, ComponentId, Pattern, Route};
use node_runtime_core::{headers::RouteHeaders, router::Router};

use super::{Asked, Connection, HttpApplication, ResponseBody, respond, target::Target};
use crate::executor::RequestError;

/// How many calls may lead to a call.
const MOST_CALLS: u32 = 32;

/// What comes before a request, if a guest sends it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller {
    /// How many guests are waiting for it.
    calls: u32,
    /// When the last of them is stopped.
    until: Option<Instant>,
}

/// The calls in a chain are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_CALLS} guests wait for each other already")]
pub(crate) struct TooManyCalls;

impl Caller {
    /// What a guest with this caller is to those that it calls.
    pub(crate) fn next(self, until: Instant) -> Result<Self, TooManyCalls> {
        if self.calls < MOST_CALLS { Ok(Self { calls: self.calls + 1, until: Some(until) }) } else { Err(TooManyCalls) }
    }

    /// Whether it is a guest.
    pub(super) const fn is_guest(self) -> bool {
        self.calls > 0
    }

    /// When a guest must have ended that may go on until `own` by itself.
    pub(super) fn earliest(self, own: Instant) -> Instant {
        self.until.map_or(own, |until| until.min(own))
    }
}

/// The application that a guest belongs to, as soon as it is served. Guests do not keep it alive.
#[derive(Debug, Default)]
pub(crate) struct OwnApplication(OnceLock<Weak<HttpApplication>>);

impl OwnApplication {
    /// It is this one. The first that is said counts: there is one for each revision.
    pub(super) fn set(&self, application: &Arc<HttpApplication>) {
        self.0.get_or_init(|| Arc::downgrade(application));
    }

    /// The application, unless it is not served yet or any more.
    pub(crate) fn get(&self) -> Option<Arc<HttpApplication>> {
        self.0.get()?.upgrade()
    }
}

/// What calls of components by their name need, made once.
#[derive(Debug)]
pub(super) struct Links {
    /// A route of each component.
    routes: BTreeMap<ComponentId, usize>,
    /// One route, `/...`: what a component that is called by its name sees as its own.
    everything: Router,
    headers: Option<RouteHeaders>,
    connection: Connection,
}

impl Links {
    pub(super) fn new(application: &Application) -> Self {
        let mut routes = BTreeMap::new();
        for (index, route) in application.routes.iter().enumerate() {
            if let manifest::Target::Component { id, .. } = &route.target {
                routes.entry(id.clone()).or_insert(index);
            }
        }
        let target = manifest::Target::Static { status: 200, headers: BTreeMap::new(), body: String::new() };
        let (everything, _) = Router::new("/", &[Route { pattern: Pattern::Path("/...".to_owned()), target }]);
        let headers = everything.paths().iter().flatten().next().map(RouteHeaders::new);
        // As Spin has it: nobody's address.
        let client = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self { routes, everything, headers, connection: Connection::new(client, Scheme::HTTP) }
    }
}

impl HttpApplication {
    /// Whether a component called `name` can be called by it.
    pub(crate) fn has_component(&self, name: &str) -> bool {
        self.component(name).is_some()
    }

    /// Answers a request of `caller` to the component called `name`, whatever its routes are.
    pub(crate) async fn call_component<B>(
        &self,
        name: &str,
        request: Request<B>,
        caller: Caller,
    ) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let uri = request.uri().clone();
        let found = self.links.everything.find(uri.path());
        let (Some(route), Some(found), Some(headers)) = (self.component(name), found, &self.links.headers) else {
            return respond::to_error(&RequestError::NoRoute, None);
        };
        let Some(guest) = self.context.guest(route) else {
            return respond::to_error(&RequestError::NoRoute, None);
        };
        if request.method() == Method::CONNECT {
            return respond::to_error(&RequestError::Method, None);
        }
        let connection = &self.links.connection;
        let target = match Target::of(&request, connection) {
            Ok(target) => target,
            Err(error) => return respond::to_error(&error, None),
        };
        self.call(guest, request, Asked { target, found: &found, headers, connection, caller }).await
    }

    /// Answers a request of `caller` to the application, as one from outside.
    pub(crate) async fn call_self<B>(&self, request: Request<B>, caller: Caller) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        self.answer(request, &self.links.connection, caller).await
    }

    /// A route of the component.
    fn component(&self, name: &str) -> Option<usize> {
        // Hosts know no case; ids of version 1 may have capitals.
        let known = || self.links.routes.iter().find(|(id, _)| id.as_str().eq_ignore_ascii_case(name));
        name.parse::<ComponentId>()
            .ok()
            .and_then(|id| self.links.routes.get(&id).copied())
            .or_else(|| known().map(|(_, route)| *route))
    }
}

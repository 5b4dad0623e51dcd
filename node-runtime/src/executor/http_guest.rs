//! Guests that are components and stream their bodies both ways: `wasi:http/incoming-handler@0.2.x` and
//! `wasi:http/handler@0.3.x`.
//!
//! The guest runs inside the future of the request and then inside the response's body: no task of its own, and a client
//! that goes away takes its guest along. Only a guest that goes on after its response is complete gets a task.
//!
//! Both kinds get a fresh instance per request. Spin reuses instances of 0.3 by default; here that would be for the app to
//! ask, because a guest's state then leaks from one caller to the next.

mod incoming_handler;
mod kind;
mod service;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body::Body;
use tokio::sync::oneshot;
use wasmtime::{
    Store,
    component::{Component, Linker},
};
use wasmtime_wasi_http::{WasiBody, p2::bindings::ProxyPre, p3::bindings::ServicePre};

pub(super) use kind::HandlerKind;

use super::{
    Exchange, RequestError, ResponseBody,
    body::Run,
    error::{check_headers, check_status, exited_well, has_no_body},
    link::{self, Called, LinkError},
};
use crate::{
    engine::Guest,
    host::{GuestStream, RuntimeContext, limits::Pass},
};

/// What a guest answers, before its body is written.
type Head = Result<Response<WasiBody>, RequestError>;

/// A component, linked.
#[derive(Clone)]
pub(crate) enum HttpGuest {
    /// `wasi:http/incoming-handler@0.2.x`.
    IncomingHandler(ProxyPre<RuntimeContext>),
    /// `wasi:http/handler@0.3.x`.
    Service(ServicePre<RuntimeContext>),
}

impl std::fmt::Debug for HttpGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::IncomingHandler(_) => "HttpGuest::IncomingHandler",
            Self::Service(_) => "HttpGuest::Service",
        })
    }
}

impl HttpGuest {
    /// Links a component that exports `wasi:http/incoming-handler`.
    pub(super) fn incoming_handler(component: &Component, linker: &Linker<RuntimeContext>) -> Result<Self, LinkError> {
        let pre = link::complete_component(linker, component)?.instantiate_pre(component).map_err(LinkError::of)?;
        incoming_handler::check(&pre)?;
        ProxyPre::new(pre).map(Self::IncomingHandler).map_err(LinkError::of)
    }

    /// Links a component that exports `wasi:http/handler`.
    pub(super) fn service(component: &Component, linker: &Linker<RuntimeContext>) -> Result<Self, LinkError> {
        let pre = link::complete_component(linker, component)?.instantiate_pre(component).map_err(LinkError::of)?;
        service::check(&pre)?;
        ServicePre::new(pre).map(Self::Service).map_err(LinkError::of)
    }

    /// Calls it.
    pub(super) async fn call<B>(
        &self,
        mut exchange: Exchange<'_>,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, RequestError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let head_only = *request.method() == Method::HEAD;
        let (sender, mut head) = oneshot::channel();
        let mut run = self.start(&mut exchange, request, sender).map_err(RequestError::of_wasmtime)?;
        let response = poll_fn(|context| poll_head(context, &mut run, &mut head)).await?;
        check_status(response.status())?;
        check_headers(response.headers())?;
        let (mut parts, body) = response.into_parts();
        if parts.status == StatusCode::NO_CONTENT {
            // RFC 9110, 8.6.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        if head_only || has_no_body(parts.status) {
            // Such guests announce a length and write nothing, which would look like a broken body.
            return Ok(Response::from_parts(parts, ResponseBody::omitted(run)));
        }
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let mut written = Some((run, body));
        let body = poll_fn(|context| {
            let Some((run, body)) = written.take() else { return Poll::Ready(Ok(ResponseBody::default())) };
            Poll::Ready(ResponseBody::of_guest(context, run, body, length))
        });
        Ok(Response::from_parts(parts, body.await?))
    }

    /// The guest's call, which ends at its deadline.
    fn start<B>(
        &self,
        exchange: &mut Exchange<'_>,
        request: Request<B>,
        head: oneshot::Sender<Head>,
    ) -> wasmtime::Result<Run>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let guest = exchange.guest;
        let mut wasi = guest.wasi()?;
        wasi.stdout(guest.output(GuestStream::Stdout)).envs(guest.environment());
        let deadline = exchange.deadline;
        let store = exchange.store(wasi);
        let scheme = exchange.connection.scheme();
        let request = addressed(request, scheme, &exchange.authority)?;
        let (guest, subject, pass) = (Arc::clone(guest), exchange.subject.clone(), exchange.pass.take());
        let limits = (Arc::clone(&guest), deadline, pass);
        Ok(match self {
            Self::IncomingHandler(pre) => {
                let call = incoming_handler::call(pre, store, scheme, request, head)?;
                Run::new(guest, subject, within(limits, call))
            }
            Self::Service(pre) => {
                let call = service::call(pre.clone(), store, request, head);
                Run::new(guest, subject, within(limits, call))
            }
        })
    }
}

/// `call`, ended at its deadline and with the processor time that the guest has. It keeps its place among its app's
/// requests until then. A guest may end it by exiting: what it has answered by then is its answer, as in Spin.
async fn within(
    (guest, deadline, _pass): (Arc<Guest>, Instant, Option<Pass>),
    call: impl Future<Output = wasmtime::Result<()>>,
) -> Result<(), RequestError> {
    match tokio::time::timeout_at(deadline.into(), guest.metered(call)).await {
        Ok(Err(error)) if exited_well(&error) => Ok(()),
        Ok(result) => result.map_err(RequestError::of_wasmtime),
        Err(_) => Err(RequestError::Deadline(None)),
    }
}

/// A guest answered with an error code instead of a response.
fn answered_with(code: &impl std::fmt::Debug) -> RequestError {
    RequestError::Response(format!("it answered with {code:?}"))
}

/// Waits for the head of the response, or for the guest to fail.
fn poll_head(
    context: &mut Context<'_>,
    run: &mut Run,
    head: &mut oneshot::Receiver<Head>,
) -> Poll<Result<Response<WasiBody>, RequestError>> {
    let ended = run.poll(context);
    match Pin::new(head).poll(context) {
        // What it fails with after it has answered is found when the body is read.
        Poll::Ready(Ok(Ok(response))) => match ended {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(response)),
        },
        Poll::Ready(Ok(Err(error))) => Poll::Ready(Err(error)),
        Poll::Ready(Err(_)) => match ended {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => {
                Poll::Ready(Err(RequestError::Response("it never set a response".to_owned())))
            }
        },
        Poll::Pending => Poll::Pending,
    }
}

/// The request with its scheme and authority in the URI, where the guests' bindings look for them.
fn addressed<B>(mut request: Request<B>, scheme: &Scheme, authority: &str) -> wasmtime::Result<Request<B>> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if parts.authority.is_none() {
        parts.authority = Some(authority.parse()?);
    }
    parts.scheme = Some(scheme.clone());
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts)?;
    Ok(request)
}

/// The store of one request.
type RequestStore = Store<RuntimeContext>;

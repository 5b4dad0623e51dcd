//! Guests that are components with `wasi:http/incoming-handler@0.2.x`.
//!
//! The guest runs inside the future of the request and then inside the response's body: no task of its own, and a client
//! that goes away takes its guest along. Only a guest that goes on after its response is complete gets a task.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header, uri::Scheme};
use http_body::Body;
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, types::ComponentItem};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::{
        bindings::{ProxyPre, http::types},
        body::HyperOutgoingBody,
    },
};

use super::{
    Exchange, RequestError, ResponseBody,
    body::Run,
    error::check_status,
    link::{self, LinkError},
};
use crate::host::{GuestStream, RuntimeContext};

type Head = Result<Response<HyperOutgoingBody>, types::ErrorCode>;

/// A component, linked.
#[derive(Clone)]
pub(crate) struct HttpGuest {
    pre: ProxyPre<RuntimeContext>,
}

impl std::fmt::Debug for HttpGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpGuest").finish_non_exhaustive()
    }
}

impl HttpGuest {
    /// Checks that `component` is one, and links it.
    pub(super) fn link(component: &Component, linker: &Linker<RuntimeContext>) -> Result<Self, LinkError> {
        expect_handler(component)?;
        let linker = link::complete_component(linker, component)?;
        let pre = linker.instantiate_pre(component).map_err(LinkError::of)?;
        Ok(Self { pre: ProxyPre::new(pre).map_err(LinkError::of)? })
    }

    /// Calls it.
    pub(super) async fn call<B>(
        &self,
        exchange: Exchange<'_>,
        request: Request<B>,
    ) -> Result<Response<ResponseBody>, RequestError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<wasmtime_wasi_http::Error>,
    {
        let head_only = *request.method() == Method::HEAD;
        let (sender, mut head) = oneshot::channel();
        let mut run = self.start(&exchange, request, sender).map_err(RequestError::of_wasmtime)?;
        let response = poll_fn(|context| poll_head(context, &mut run, &mut head)).await?;
        check_status(response.status())?;
        let (parts, body) = response.into_parts();
        if head_only {
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
        exchange: &Exchange<'_>,
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
        let mut store = guest.store(wasi, deadline);
        let scheme =
            if *exchange.connection.scheme() == Scheme::HTTPS { types::Scheme::Https } else { types::Scheme::Http };
        let request = store.data_mut().http().new_incoming_request(scheme, addressed(request, &exchange.authority)?)?;
        let response = store.data_mut().http().new_response_outparam(head)?;
        let pre = self.pre.clone();
        let call = async move {
            let run = async {
                let proxy = pre.instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, request, response).await
            };
            match tokio::time::timeout_at(deadline.into(), run).await {
                Ok(result) => result.map_err(RequestError::of_wasmtime),
                Err(_) => Err(RequestError::Deadline(None)),
            }
        };
        Ok(Run::new(Arc::clone(guest), call))
    }
}

/// Waits for the head of the response, or for the guest to fail.
fn poll_head(
    context: &mut Context<'_>,
    run: &mut Run,
    head: &mut oneshot::Receiver<Head>,
) -> Poll<Result<Response<HyperOutgoingBody>, RequestError>> {
    let ended = run.poll(context);
    match Pin::new(head).poll(context) {
        // What it fails with after it has answered is found when the body is read.
        Poll::Ready(Ok(Ok(response))) => match ended {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(response)),
        },
        Poll::Ready(Ok(Err(code))) => Poll::Ready(Err(RequestError::Response(format!("it answered with {code:?}")))),
        Poll::Ready(Err(_)) => match ended {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => {
                Poll::Ready(Err(RequestError::Response("it never set a response".to_owned())))
            }
        },
        Poll::Pending => Poll::Pending,
    }
}

/// The request with its authority in the URI, where the guest's binding looks for it.
fn addressed<B>(mut request: Request<B>, authority: &str) -> wasmtime::Result<Request<B>> {
    if request.uri().authority().is_none() {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = Some(authority.parse()?);
        parts.scheme = Some(Scheme::HTTP);
        *request.uri_mut() = Uri::from_parts(parts)?;
    }
    Ok(request)
}

/// Checks that `component` exports exactly one handler, of a version that is supported.
fn expect_handler(component: &Component) -> Result<(), LinkError> {
    let exports: Vec<String> = component
        .component_type()
        .exports(component.engine())
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_) | ComponentItem::ComponentFunc(_)))
        .map(|(name, _)| name.to_owned())
        .collect();
    let handlers: Vec<&String> =
        exports.iter().filter(|name| HANDLERS.iter().any(|handler| name.split('@').next() == Some(*handler))).collect();
    let expected = "expected a component that exports `wasi:http/incoming-handler@0.2`";
    match handlers[..] {
        [one] if is_supported(one) => Ok(()),
        [] => Err(LinkError(format!(
            "it handles no HTTP: {expected}. It exports: {}",
            if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") }
        ))),
        [one] => Err(LinkError(format!("it exports `{one}`, which this runtime does not call: {expected}"))),
        _ => Err(LinkError(format!(
            "it exports more than one handler ({}): which is meant is not clear; {expected} and no other handler",
            handlers.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The interfaces by which some version of Spin calls a guest over HTTP.
const HANDLERS: [&str; 3] = ["wasi:http/incoming-handler", "wasi:http/handler", "fermyon:spin/inbound-http"];

/// Released versions of 0.2 are compatible; the drafts before are not.
fn is_supported(handler: &str) -> bool {
    handler.strip_prefix("wasi:http/incoming-handler@0.2.").is_some_and(|patch| patch.parse::<u32>().is_ok())
}

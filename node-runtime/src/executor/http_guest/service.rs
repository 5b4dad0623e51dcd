//! The call of `wasi:http/handler@0.3.x`.
//!
//! The guest's function returns the response while its tasks still write the body, and what the guest gave as the body may
//! even be a stream of the host (a file, another response). So the store goes on until the last of the guest's tasks has
//! ended and the body has reached its end.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::component::{InstancePre, Resource};
use wasmtime_wasi_http::{
    WasiBody, WasiHttpView as _,
    p3::{self, bindings::http::types::ErrorCode},
};

use super::{Called, Head, LinkError, RequestStore, RuntimeContext, answered_with, link};

/// Checks that the guest's function is one that [`call`] can call.
pub(super) fn check(pre: &InstancePre<RuntimeContext>) -> Result<(), LinkError> {
    type Answer = Result<Resource<p3::Response>, ErrorCode>;
    link::export::<(Resource<p3::Request>,), (Answer,)>(pre, "wasi:http/handler", "handle", Called::Async).map(drop)
}

/// Instantiates the guest, calls it, and goes on until nothing of it is left to do.
pub(super) async fn call<B>(
    pre: p3::bindings::ServicePre<RuntimeContext>,
    mut store: RequestStore,
    request: Request<B>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<()>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let service = pre.instantiate_async(&mut store).await?;
    // What the guest says about reading the request's body is for nobody.
    let (request, _read) = p3::Request::from_http(store.data_mut().http().hooks, request);
    let concurrent = store.run_concurrent(async |accessor| -> wasmtime::Result<()> {
        let delivered = CancellationToken::new();
        let answer = match service.handle(accessor, request).await? {
            Ok(response) => {
                let seen = delivered.clone();
                // The guest can wait for its response to be delivered. If the client is gone, so is the guest.
                let told = async move {
                    seen.cancelled().await;
                    Ok(())
                };
                let response = accessor.with(|access| response.into_http(access, told))?;
                let guard = delivered.clone().drop_guard();
                Ok(response.map(|body| Delivery { body, undelivered: Some(guard) }.boxed_unsync()))
            }
            Err(code) => {
                delivered.cancel();
                Err(answered_with(&code))
            }
        };
        // Nobody waits any more where the client is gone.
        let _gone = head.send(answer);
        poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
        delivered.cancelled().await;
        Ok(())
    });
    concurrent.await?
}

/// A body that says when it has been read to its end, or dropped.
struct Delivery {
    body: WasiBody,
    /// Dropping it says so.
    undelivered: Option<DropGuard>,
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.undelivered = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! The call of `wasi:http/incoming-handler@0.2.x`.

use bytes::Bytes;
use http::{Request, uri::Scheme};
use http_body::Body;
use tokio::sync::oneshot;
use wasmtime::component::{InstancePre, Resource};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    p2::{
        bindings::{ProxyPre, http::types},
        types::{HostIncomingRequest, HostResponseOutparam},
    },
};

use super::{Called, Head, LinkError, RequestStore, RuntimeContext, answered_with, link};

/// Checks that the guest's function is one that [`call`] can call.
pub(super) fn check(pre: &InstancePre<RuntimeContext>) -> Result<(), LinkError> {
    type Parameters = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);
    link::export::<Parameters, ()>(pre, "wasi:http/incoming-handler", "handle", Called::Waiting).map(drop)
}

/// Instantiates the guest and calls it. The future ends with the guest's function; the head comes through `head` before.
pub(super) fn call<B>(
    pre: &ProxyPre<RuntimeContext>,
    mut store: RequestStore,
    scheme: &Scheme,
    request: Request<B>,
    head: oneshot::Sender<Head>,
) -> wasmtime::Result<impl Future<Output = wasmtime::Result<()>> + Send + use<B>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<wasmtime_wasi_http::Error>,
{
    let scheme = if *scheme == Scheme::HTTPS { types::Scheme::Https } else { types::Scheme::Http };
    let request = store.data_mut().http().new_incoming_request(scheme, request)?;
    let response = store.data_mut().http().new_response_outparam_from_callback(move |response| {
        // Nobody waits any more where the client is gone.
        let _gone = head.send(response.map_err(|code| answered_with(&code)));
    })?;
    let pre = pre.clone();
    Ok(async move {
        let proxy = pre.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, response).await
    })
}

//! `wasi:http` for components: wasmtime's, except that a request without an authority is one to the own application. Spin's
//! SDKs send such requests, and wasmtime refuses them before anybody is asked.

use http::uri::{Authority, Scheme};
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiHttp, WasiHttpView as _,
    p2::{
        self,
        bindings::http::{outgoing_handler::Host as _, types as p2_types},
        types::{HostFutureIncomingResponse, HostOutgoingRequest},
    },
    p3::{
        self,
        bindings::http::{client::HostWithStore, types as p3_types},
    },
};

use super::chain::OWN_HOST;
use crate::host::RuntimeContext;

/// The interfaces that send requests, in the versions in which wasmtime has the rest of `wasi:http`. Older ones of the same
/// minor version are found under these names.
const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
const CLIENT: &str = "wasi:http/client@0.3.0";
const TYPES: &str = "wasi:http/types@0.2.12";

/// Defines both versions.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    let options = p2::bindings::LinkOptions::default();
    p2_types::add_to_linker::<_, WasiHttp>(linker, &(&options).into(), RuntimeContext::http)?;
    linker.instance(OUTGOING_HANDLER)?.func_wrap("handle", |mut store, (request, options)| {
        match handle(store.data_mut(), request, options) {
            Ok(response) => Ok((Ok(response),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        }
    })?;
    // Wasmtime's knows no errors of bodies.
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap("http-error-code", |mut store, (error,): (Resource<p2_types::IoError>,)| {
        Ok((error_code(store.data_mut(), &error)?,))
    })?;
    linker.allow_shadowing(false);
    p3_types::add_to_linker::<_, WasiHttp>(linker, RuntimeContext::http)?;
    linker.instance(CLIENT)?.func_wrap_concurrent("send", |accessor, (request,)| Box::pin(send(accessor, request)))
}

/// 0.2: `handle: func(request: outgoing-request, options: option<request-options>) -> result<future-incoming-response, error-code>`.
fn handle(
    context: &mut RuntimeContext,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> p2::HttpResult<Resource<HostFutureIncomingResponse>> {
    let mut view = context.http();
    let asked = view.table.get_mut(&request)?;
    if asked.authority.as_deref().is_none_or(str::is_empty) {
        asked.authority = Some(OWN_HOST.to_owned());
        asked.scheme.get_or_insert(p2_types::Scheme::Http);
    }
    view.handle(request, options)
}

/// 0.2: `http-error-code: func(err: borrow<error>) -> option<error-code>`: why a body broke off.
fn error_code(
    context: &mut RuntimeContext,
    error: &Resource<p2_types::IoError>,
) -> wasmtime::Result<Option<p2_types::ErrorCode>> {
    let error = context.http().table.get(error)?;
    if let Some(code) = error.downcast_ref::<p2_types::ErrorCode>() {
        return Ok(Some(code.clone()));
    }
    Ok(error.downcast_ref::<Error>().map(|error| match error {
        Error::ConnectionTerminated => p2_types::ErrorCode::ConnectionTerminated,
        Error::ConnectionReadTimeout => p2_types::ErrorCode::ConnectionReadTimeout,
        Error::HttpResponseIncomplete => p2_types::ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseTimeout => p2_types::ErrorCode::HttpResponseTimeout,
        Error::HttpResponseHeaderSectionSize(size) => p2_types::ErrorCode::HttpResponseTrailerSectionSize(*size),
        Error::TlsProtocolError => p2_types::ErrorCode::TlsProtocolError,
        _ => p2_types::ErrorCode::HttpProtocolError,
    }))
}

/// 0.3: `send: async func(request: request) -> result<response, error-code>`.
async fn send(
    accessor: &Accessor<RuntimeContext>,
    request: Resource<p3::Request>,
) -> wasmtime::Result<(Result<Resource<p3::Response>, p3_types::ErrorCode>,)> {
    accessor.with(|mut access| {
        // A handle that is none is wasmtime's to report.
        if let Ok(asked) = access.data_mut().http().table.get_mut(&request)
            && asked.authority.is_none()
        {
            asked.authority = Some(Authority::from_static(OWN_HOST));
            asked.scheme.get_or_insert(Scheme::HTTP);
        }
    });
    let accessor = accessor.with_getter::<WasiHttp>(RuntimeContext::http);
    match <WasiHttp as HostWithStore<RuntimeContext>>::send(&accessor, request).await {
        Ok(response) => Ok((Ok(response),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

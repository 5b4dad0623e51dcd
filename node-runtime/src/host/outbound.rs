//! Outgoing HTTP: only to hosts that the component's manifest allows.

mod legacy_http;

use std::{
    future::Future,
    sync::{Arc, LazyLock},
};

use http::HeaderName;
use http_body_util::BodyExt;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
    default_send_request,
};

use super::{Grants, RuntimeContext};

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send>;

/// What `wasi:http` asks before it acts.
pub(crate) struct Outbound {
    grants: Arc<Grants>,
}

impl Outbound {
    pub(crate) fn new(grants: &Arc<Grants>) -> Self {
        Self { grants: Arc::clone(grants) }
    }

    pub(super) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }
}

/// Defines the import by which core modules send requests.
pub(super) fn link_modules(linker: &mut wasmtime::Linker<RuntimeContext>) -> wasmtime::Result<()> {
    legacy_http::link(linker)
}

fn is_forbidden(name: &HeaderName) -> bool {
    name != http::header::HOST && DEFAULT_FORBIDDEN_HEADERS.contains(name)
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

    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sent {
        // A guest may set a host header of its own, as proxies do that copy a request; the URI decides.
        let host = request.uri().authority().and_then(|host| http::HeaderValue::from_str(host.as_str()).ok());
        if let Some(host) = host {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let uri = request.uri();
        let allowed = match (uri.scheme_str(), uri.host()) {
            (Some(scheme), Some(host)) => self.grants.allowed_hosts.permits(scheme, host, uri.port_u16()),
            _ => false,
        };
        if !allowed {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        Box::new(async move {
            let (response, io) = default_send_request(request, options).await?;
            Ok((response.map(BodyExt::boxed_unsync), Box::new(io) as Io))
        })
    }
}

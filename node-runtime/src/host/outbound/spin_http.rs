//! `fermyon:spin/http`, what components of Spin 1 import: `send-request: func(req: request) -> result<response, http-error>`.
//!
//! Promise: as for core modules (`legacy_http`), which have the same interface.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::{
    RuntimeContext,
    whole::{self, Failure},
};
use crate::host::http_types::{Headers, Method, Response};

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/http";

/// `http-types.request`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Asked {
    method: Method,
    uri: String,
    headers: Headers,
    /// Spin ignores them: the URI has the query.
    params: Headers,
    body: Option<Vec<u8>>,
}

/// `http-types.http-error`.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum HttpError {
    #[component(name = "success")]
    #[expect(dead_code, reason = "a case of the interface, which must be whole")]
    Success,
    #[component(name = "destination-not-allowed")]
    DestinationNotAllowed,
    #[component(name = "invalid-url")]
    InvalidUrl,
    #[component(name = "request-error")]
    RequestError,
    #[component(name = "runtime-error")]
    RuntimeError,
    #[component(name = "too-many-requests")]
    #[expect(dead_code, reason = "a case of the interface, which must be whole")]
    TooManyRequests,
}

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap_async("send-request", |mut store, (asked,): (Asked,)| {
        Box::new(async move {
            let context = store.data_mut();
            let answer = match asked.request() {
                Ok(request) => whole::send(&context.outbound, request).await,
                Err(failure) => Err(failure),
            };
            Ok((answer.map(Response::from).map_err(HttpError::from),))
        })
    })
}

impl Asked {
    fn request(self) -> Result<Request<Bytes>, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(value)) = (name, value) else { return Err(Failure::RequestError) };
            headers.try_append(name, value).map_err(|_| Failure::RequestError)?;
        }
        let _ignored = self.params;
        whole::request(self.method.into(), self.uri.as_bytes(), headers, self.body.unwrap_or_default().into())
    }
}

impl From<Failure> for HttpError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DestinationNotAllowed => Self::DestinationNotAllowed,
            Failure::InvalidUrl => Self::InvalidUrl,
            Failure::RequestError => Self::RequestError,
            Failure::RuntimeError => Self::RuntimeError,
        }
    }
}

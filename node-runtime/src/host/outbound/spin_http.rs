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

/// The interface's name.
pub(super) const INTERFACE: &str = "fermyon:spin/http";

/// `http-types.method`.
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "values come from guests")]
enum Method {
    #[component(name = "get")]
    Get,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "patch")]
    Patch,
    #[component(name = "head")]
    Head,
    #[component(name = "options")]
    Options,
}

/// `http-types.request`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct Asked {
    method: Method,
    uri: String,
    headers: Vec<(String, String)>,
    /// Spin ignores them: the URI has the query.
    params: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// `http-types.response`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Answered {
    status: u16,
    headers: Option<Vec<(String, String)>>,
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
            Ok((answer.map(Answered::of).map_err(HttpError::from),))
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

impl Answered {
    fn of(response: http::Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Self { status: parts.status.as_u16(), headers: Some(headers), body: Some(body.into()) }
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Delete => Self::DELETE,
            Method::Patch => Self::PATCH,
            Method::Head => Self::HEAD,
            Method::Options => Self::OPTIONS,
        }
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

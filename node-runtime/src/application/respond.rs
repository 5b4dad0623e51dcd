//! The one place where errors become responses, and where they are logged.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::Subject;
use crate::{
    engine::Guest,
    executor::{RequestError, ResponseBody},
};

/// A response with this body and no headers.
pub(super) fn text(status: StatusCode, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response
}

/// Why a request failed, in one word: beside a response that this process made of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub &'static str);

/// The response to a request that failed. A client learns no more than the status; a guest's author finds the rest in
/// the log.
pub(super) fn to_error(error: &RequestError, of: Option<(&Guest, &Subject)>) -> Response<ResponseBody> {
    if let Some((guest, subject)) = of {
        error.log(guest, subject);
    }
    refuse(error)
}

/// The response to a request that failed before a guest saw it.
pub(crate) fn refuse(error: &RequestError) -> Response<ResponseBody> {
    let mut response = text(error.status(), error.body());
    response.extensions_mut().insert(Reason(error.reason()));
    let headers = response.headers_mut();
    if matches!(error, RequestError::Method) {
        // RFC 9110, 15.5.6: the answer says what is allowed.
        headers.insert(header::ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
    }
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

/// In seconds: what is full now is often not full then, and another runtime may have room at once.
const RETRY_AFTER: &str = "1";
/// The response to a request that is about the server as a whole (`OPTIONS *`, RFC 9112, 3.2.4).
pub(super) fn to_all(method: &Method) -> Response<ResponseBody> {
    if method != Method::OPTIONS {
        return refuse(&RequestError::Request("only OPTIONS has the target *"));
    }
    let mut response = text(StatusCode::OK, Bytes::new());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
    response
}

/// What every kind of guest can be asked.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

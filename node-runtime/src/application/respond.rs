//! The one place where errors become responses, and where they are logged.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

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

/// The response to a request that failed. A client learns no more than the status; a guest's author finds the rest in
/// the log.
pub(super) fn to_error(error: &RequestError, guest: Option<&Guest>) -> Response<ResponseBody> {
    if let Some(guest) = guest {
        error.log(guest);
    }
    let mut response = text(error.status(), error.body());
    if matches!(error, RequestError::Method) {
        // RFC 9110, 15.5.6: the answer says what is allowed.
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
    }
    response
}

/// What every kind of guest can be asked.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

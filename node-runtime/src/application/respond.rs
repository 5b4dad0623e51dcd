//! The one place where errors become responses, and where they are logged.

use bytes::Bytes;
use http::{Response, StatusCode};

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
    text(error.status(), error.body())
}

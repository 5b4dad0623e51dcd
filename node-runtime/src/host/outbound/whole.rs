//! Requests of guests whose interface knows whole bodies only.
//!
//! Promise: the way out, and what is allowed, is that of everybody else. Bodies are held in memory and limited both ways. The
//! guest's deadline ends a call that goes on.
//!
//! Absent on purpose: redirects. The guest sees them, so that every host that is asked was allowed.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions};

use super::{Outbound, Sent};
use crate::host::limits::{HostMemory, NoRoom};

/// The interfaces' `http-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    DestinationNotAllowed = 1,
    InvalidUrl = 2,
    RequestError = 3,
    RuntimeError = 4,
}

/// A request with these parts. What frames the message is not the guest's business.
pub(super) fn request(
    method: Method,
    uri: &[u8],
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Bytes>, Failure> {
    let uri = destination(uri).ok_or(Failure::InvalidUrl)?;
    headers.remove(header::CONTENT_LENGTH);
    drop_forbidden(&mut headers);
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Sends it, and waits for the whole response.
pub(super) async fn send(outbound: &Outbound, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
    let limit = outbound.grants().buffered_body;
    if request.body().len() > limit {
        return Err(Failure::RuntimeError);
    }
    let memory = outbound.grants().network.memory();
    let (parts, body) = request.into_parts();
    let body = memory.keep(body).map_err(|NoRoom| Failure::RuntimeError)?;
    let request =
        Request::from_parts(parts, body).map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync());
    receive(outbound.send(request, RequestOptions::default()), limit, memory).await
}

/// A URI of `http` or `https` with a host and without a user; or a path, at the own application.
fn destination(text: &[u8]) -> Option<Uri> {
    // Servers are not told what is behind it, and not every parser accepts it.
    let text = text.split(|byte| *byte == b'#').next().unwrap_or_default();
    let uri = Uri::try_from(text).ok()?;
    let Some(authority) = uri.authority() else { return text.starts_with(b"/").then_some(uri) };
    let known = uri.scheme_str().is_some_and(|scheme| matches!(scheme, "http" | "https"));
    (known && !authority.host().is_empty() && !authority.as_str().contains('@')).then_some(uri)
}

fn drop_forbidden(headers: &mut HeaderMap) {
    for name in &DEFAULT_FORBIDDEN_HEADERS {
        headers.remove(name);
    }
}

async fn receive(sent: Sent, limit: usize, memory: &HostMemory) -> Result<Response<Bytes>, Failure> {
    let (response, io) = sent.await.map_err(|error| failure(&error))?;
    let (mut parts, body) = response.into_parts();
    let mut body = pin!(collect(body, limit, memory));
    // The connection must go on while the body is read; what it has delivered is there after its end.
    let body = tokio::select! {
        body = &mut body => body,
        _ended = Box::into_pin(io) => body.await,
    };
    let body = body.map_err(|error| {
        tracing::debug!(%error, "response to a guest not received");
        if matches!(error, BodyError::Broken(_)) { Failure::RequestError } else { Failure::RuntimeError }
    })?;
    drop_forbidden(&mut parts.headers);
    Ok(Response::from_parts(parts, body))
}

/// Why a body is not there as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It has no end where it must.
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    /// There is no memory for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It did not come to its end.
    #[error("it ended early: {0}")]
    Broken(Error),
}

/// Reads all of a body, up to `limit` bytes, and holds it in `memory`.
pub(super) async fn collect<B>(body: B, limit: usize, memory: &HostMemory) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error = Error>,
{
    let (mut body, mut held, mut collected) = (pin!(body), memory.hold(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        if collected.len() + data.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        held.add(data.len())?;
        collected.extend_from_slice(&data);
    }
    Ok(held.keep(collected.freeze()))
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::HttpRequestDenied | Error::DestinationIpProhibited => Failure::DestinationNotAllowed,
        Error::HttpRequestUriInvalid => Failure::InvalidUrl,
        other => {
            tracing::debug!(error = ?other, "request of a guest failed");
            Failure::RequestError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_http_uris_without_a_user_and_paths_are_sent() {
        for good in [
            "http://h",
            "https://h:1/a?b",
            "http://[::1]:8/",
            "HTTP://h/",
            "http://h/a#b",
            "http://h#b",
            "/a",
            "/a?b#c",
        ] {
            assert!(destination(good.as_bytes()).is_some(), "{good}");
        }
        for bad in
            ["", "a", "*", "h:1", "ftp://h/", "http://", "http:///a", "http://u@h/", "http://h/a b", "\u{ff}://h", "#a"]
        {
            assert!(destination(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

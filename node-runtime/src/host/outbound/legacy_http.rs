//! The core import `wasi-outbound-http`: `request`, with the request's method, then pointers and lengths of its URI,
//! headers and parameters, then its body (tag, pointer, length), then where the result goes.
//!
//! The result is 32 bytes: u8 tag at 0. 0 (response): u16 status at 4, headers: u8 tag at 8, pointer at 12, count at 16; body:
//! u8 tag at 20, pointer at 24, length at 28. 1 (error): u8 kind at 4.
//!
//! Promise: the way out, and what is allowed, is that of components. Bodies are held in memory and limited both ways. The
//! guest's deadline ends a call that goes on.
//!
//! Absent on purpose: parameters (Spin ignored them too: the URI has the query); redirects (the guest sees them, and every
//! host that is asked was allowed); the 8-byte slots in which SDKs up to 0.3 would read the result.

use std::pin::pin;

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use wasmtime::{Caller, Linker};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody};

use super::{RuntimeContext, Sent};
use crate::host::guest_memory::{GuestHeap, GuestMemory, METHODS, MemoryError};

const RESULT_SIZE: u32 = 32;

/// The interface's `http-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    DestinationNotAllowed = 1,
    InvalidUrl = 2,
    RequestError = 3,
    RuntimeError = 4,
}

/// The arguments, in their order.
type Arguments = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async("wasi-outbound-http", "request", |caller, arguments: Arguments| {
        Box::new(request(caller, arguments))
    })?;
    Ok(())
}

async fn request(mut caller: Caller<'_, RuntimeContext>, arguments: Arguments) -> wasmtime::Result<()> {
    let (.., result) = arguments;
    let heap = GuestHeap::of(&mut caller)?;
    let (bytes, context) = heap.memory.data_and_store_mut(&mut caller);
    let memory = GuestMemory(bytes);
    // Before anything is sent.
    memory.slice("result", result, RESULT_SIZE.into())?;
    let limit = context.grants().buffered_body;
    let answer = match read(memory, &arguments, limit)? {
        Ok(request) => {
            let sent = context.outbound.send(request, RequestOptions::default());
            receive(sent, limit).await
        }
        Err(failure) => Err(failure),
    };
    let words = match answer {
        Ok(response) => {
            let status = u32::from(response.status().as_u16());
            let (headers, count) = heap.give_headers(&mut caller, response.headers()).await?;
            let (body, size) = heap.give(&mut caller, response.body(), 1).await?;
            [0, status, 1, headers, count, 1, body, size]
        }
        Err(failure) => [1, failure as u32, 0, 0, 0, 0, 0, 0],
    };
    heap.write_words(&mut caller, "result", result, &words)
}

/// The request that the arguments describe; the outer error is the guest's fault and stops it.
fn read(
    memory: GuestMemory<'_>,
    arguments: &Arguments,
    limit: usize,
) -> wasmtime::Result<Result<Request<WasiBody>, Failure>> {
    let (method, uri, uri_size, headers, header_count, _, _, body_tag, body, body_size, _) = *arguments;
    let method = usize::try_from(method).ok().and_then(|method| METHODS.get(method));
    let method = method.ok_or_else(|| wasmtime::format_err!("the guest asked with an unknown method"))?;
    let uri = memory.slice("URI", uri, uri_size.into())?;
    let headers = memory.headers(headers, header_count);
    let body = match body_tag {
        0 => &[][..],
        1 => memory.slice("body", body, body_size.into())?,
        tag => return Err(MemoryError::Tag { what: "body", tag }.into()),
    };
    let mut headers = match headers {
        Ok(headers) => headers,
        Err(MemoryError::Header(_) | MemoryError::HeadersTooLarge) => return Ok(Err(Failure::RequestError)),
        Err(outside) => return Err(outside.into()),
    };
    let Some(uri) = absolute(uri) else { return Ok(Err(Failure::InvalidUrl)) };
    if body.len() > limit {
        return Ok(Err(Failure::RuntimeError));
    }
    // What frames the message is not the guest's business.
    headers.remove(header::CONTENT_LENGTH);
    drop_forbidden(&mut headers);
    let body = Full::new(Bytes::copy_from_slice(body)).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(Ok(request))
}

/// A URI of `http` or `https` with a host and without a user.
fn absolute(text: &[u8]) -> Option<Uri> {
    let uri = Uri::try_from(text).ok()?;
    let known = uri.scheme_str().is_some_and(|scheme| matches!(scheme, "http" | "https"));
    let authority = uri.authority()?;
    (known && !authority.host().is_empty() && !authority.as_str().contains('@')).then_some(uri)
}

fn drop_forbidden(headers: &mut http::HeaderMap) {
    for name in &DEFAULT_FORBIDDEN_HEADERS {
        headers.remove(name);
    }
}

/// Waits for the whole response.
async fn receive(sent: Sent, limit: usize) -> Result<Response<Bytes>, Failure> {
    let (response, io) = sent.await.map_err(|error| failure(&error))?;
    let (mut parts, body) = response.into_parts();
    let mut body = pin!(Limited::new(body, limit).collect());
    // The connection must go on while the body is read; what it has delivered is there after its end.
    let body = tokio::select! {
        body = &mut body => body,
        _ended = Box::into_pin(io) => body.await,
    };
    let body = body.map_err(|error| {
        tracing::debug!(error, "response to a guest not received");
        if error.is::<http_body_util::LengthLimitError>() { Failure::RuntimeError } else { Failure::RequestError }
    })?;
    drop_forbidden(&mut parts.headers);
    Ok(Response::from_parts(parts, body.to_bytes()))
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::HttpRequestDenied => Failure::DestinationNotAllowed,
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
    fn only_whole_http_uris_without_a_user_are_sent() {
        for good in ["http://h", "https://h:1/a?b", "http://[::1]:8/", "HTTP://h/"] {
            assert!(absolute(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "/a", "h:1", "ftp://h/", "http://", "http:///a", "http://u@h/", "http://h/a b", "\u{ff}://h"] {
            assert!(absolute(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

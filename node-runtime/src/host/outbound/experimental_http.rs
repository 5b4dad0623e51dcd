//! The core import `wasi_experimental_http`, by which modules of Spin 0.1 to 0.4 send requests, Wagi programs too: `req`, then
//! `header_get`, `headers_get_all` and `body_read` of the response, then `close`.
//!
//! Every function returns 0 or the number of a [`Problem`]. Headers are lines `name:value`. What is given back goes into the
//! guest's own buffers, and its size where the last pointer says.
//!
//! Promise: as for the other interfaces that know whole bodies only (`whole`). A guest has few responses open at a time.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use wasmtime::{Caller, Extern, Linker, Memory};

use super::{
    RuntimeContext,
    whole::{self, Failure},
};
use crate::host::guest_memory::{GuestMemory, HEADERS_LIMIT, MemoryError};

const MODULE: &str = "wasi_experimental_http";
/// How many responses a guest may have open. Each may be as large as the limit for bodies.
const OPEN_LIMIT: usize = 16;

/// The interface's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    InvalidHandle = 1,
    MemoryNotFound = 2,
    MemoryAccess = 3,
    BufferTooSmall = 4,
    HeaderNotFound = 5,
    Utf8 = 6,
    DestinationNotAllowed = 7,
    InvalidMethod = 8,
    InvalidEncoding = 9,
    InvalidUrl = 10,
    Request = 11,
    Runtime = 12,
    TooManySessions = 13,
}

impl From<MemoryError> for Problem {
    fn from(_: MemoryError) -> Self {
        Self::MemoryAccess
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DestinationNotAllowed => Self::DestinationNotAllowed,
            Failure::InvalidUrl => Self::InvalidUrl,
            Failure::RequestError => Self::Request,
            Failure::RuntimeError => Self::Runtime,
        }
    }
}

/// The responses that a guest has open; what is left of a body is what it has not read.
#[derive(Debug, Default)]
pub(crate) struct OpenResponses {
    last: u32,
    open: BTreeMap<u32, Response<Bytes>>,
}

impl OpenResponses {
    fn get(&mut self, handle: u32) -> Result<&mut Response<Bytes>, Problem> {
        self.open.get_mut(&handle).ok_or(Problem::InvalidHandle)
    }

    /// Handles are never used again within a request.
    fn insert(&mut self, response: Response<Bytes>) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.open.insert(self.last, response);
        self.last
    }
}

/// Pointers and sizes of the URL, the method, the headers and the body; then where the status and the handle go.
type Arguments = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

/// Defines it.
pub(super) fn link(linker: &mut Linker<RuntimeContext>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "req", |caller, arguments: Arguments| {
        Box::new(async move { number(req(caller, arguments).await) })
    })?;
    linker.func_wrap(MODULE, "close", |mut caller: Caller<'_, RuntimeContext>, handle: u32| {
        let closed = caller.data_mut().responses.open.remove(&handle);
        number(closed.map(|_| ()).ok_or(Problem::InvalidHandle))
    })?;
    linker.func_wrap(
        MODULE,
        "header_get",
        |caller: Caller<'_, RuntimeContext>, handle, name, name_size, at, size, written| {
            number(header_get(caller, handle, (name, name_size), (at, size), written))
        },
    )?;
    linker.func_wrap(MODULE, "headers_get_all", |caller: Caller<'_, RuntimeContext>, handle, at, size, written| {
        number(headers_get_all(caller, handle, (at, size), written))
    })?;
    linker.func_wrap(MODULE, "body_read", |caller: Caller<'_, RuntimeContext>, handle, at, size, written| {
        number(body_read(caller, handle, (at, size), written))
    })?;
    Ok(())
}

fn number(result: Result<(), Problem>) -> u32 {
    result.map_or_else(|problem| problem as u32, |()| 0)
}

fn memory_of(caller: &mut Caller<'_, RuntimeContext>) -> Result<Memory, Problem> {
    caller.get_export("memory").and_then(Extern::into_memory).ok_or(Problem::MemoryNotFound)
}

async fn req(mut caller: Caller<'_, RuntimeContext>, arguments: Arguments) -> Result<(), Problem> {
    let (.., status_at, handle_at) = arguments;
    let memory = memory_of(&mut caller)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let limit = context.grants().buffered_body;
    let request = read(GuestMemory(bytes), &arguments, limit)?;
    if context.responses.open.len() >= OPEN_LIMIT {
        return Err(Problem::TooManySessions);
    }
    let response = whole::send(&context.outbound, request).await?;
    let status = response.status().as_u16();
    let handle = caller.data_mut().responses.insert(response);
    write(&mut caller, memory, status_at, &status.to_le_bytes())?;
    write(&mut caller, memory, handle_at, &handle.to_le_bytes())
}

fn read(memory: GuestMemory<'_>, arguments: &Arguments, limit: usize) -> Result<Request<Bytes>, Problem> {
    let (url, url_size, method, method_size, headers, headers_size, body, body_size, status_at, handle_at) = *arguments;
    // Before anything is sent.
    memory.slice("status", status_at, 2)?;
    memory.slice("handle", handle_at, 4)?;
    let url = memory.slice("URL", url, url_size.into())?;
    let method = Method::from_bytes(memory.slice("method", method, method_size.into())?);
    let method = method.map_err(|_| Problem::InvalidMethod)?;
    let headers = header_lines(memory.slice("headers", headers, headers_size.into())?)?;
    let body = memory.slice("body", body, body_size.into())?;
    if body.len() > limit {
        return Err(Problem::Runtime);
    }
    Ok(whole::request(method, url, headers, Bytes::copy_from_slice(body))?)
}

/// Headers as the guest writes them.
fn header_lines(lines: &[u8]) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    if lines.len() > HEADERS_LIMIT {
        return Err(Problem::Runtime);
    }
    let lines = std::str::from_utf8(lines).map_err(|_| Problem::Utf8)?;
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Problem::InvalidEncoding)?;
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name.trim()), HeaderValue::try_from(value.trim())) else {
            return Err(Problem::InvalidEncoding);
        };
        headers.try_append(name, value).map_err(|_| Problem::Runtime)?;
    }
    Ok(headers)
}

fn header_get(
    mut caller: Caller<'_, RuntimeContext>,
    handle: u32,
    (name, name_size): (u32, u32),
    buffer: (u32, u32),
    written: u32,
) -> Result<(), Problem> {
    let memory = memory_of(&mut caller)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let name = GuestMemory(bytes).slice("header name", name, name_size.into())?;
    let response = context.responses.get(handle)?;
    let value = HeaderName::from_bytes(name).ok().and_then(|name| response.headers().get(name).cloned());
    let value = value.ok_or(Problem::HeaderNotFound)?;
    give(&mut caller, memory, buffer, written, value.as_bytes())
}

fn headers_get_all(
    mut caller: Caller<'_, RuntimeContext>,
    handle: u32,
    buffer: (u32, u32),
    written: u32,
) -> Result<(), Problem> {
    let memory = memory_of(&mut caller)?;
    let mut lines = Vec::new();
    for (name, value) in caller.data_mut().responses.get(handle)?.headers() {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.push(b':');
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    give(&mut caller, memory, buffer, written, &lines)
}

fn body_read(
    mut caller: Caller<'_, RuntimeContext>,
    handle: u32,
    (at, size): (u32, u32),
    written: u32,
) -> Result<(), Problem> {
    let memory = memory_of(&mut caller)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    GuestMemory(bytes).slice("buffer", at, size.into())?;
    let body = context.responses.get(handle)?.body_mut();
    let part = body.slice(..body.len().min(usize::try_from(size).unwrap_or(usize::MAX)));
    body.advance(part.len());
    give(&mut caller, memory, (at, size), written, &part)
}

/// Writes `bytes` into the guest's buffer, and how many they are.
fn give(
    caller: &mut Caller<'_, RuntimeContext>,
    memory: Memory,
    (at, size): (u32, u32),
    written: u32,
    bytes: &[u8],
) -> Result<(), Problem> {
    let count = u32::try_from(bytes.len()).ok().filter(|count| *count <= size).ok_or(Problem::BufferTooSmall)?;
    write(caller, memory, at, bytes)?;
    write(caller, memory, written, &count.to_le_bytes())
}

fn write(caller: &mut Caller<'_, RuntimeContext>, memory: Memory, at: u32, bytes: &[u8]) -> Result<(), Problem> {
    let at = usize::try_from(at).map_err(|_| Problem::MemoryAccess)?;
    memory.write(caller, at, bytes).map_err(|_| Problem::MemoryAccess)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lines_of_names_and_values() {
        let headers = header_lines(b"accept:*/*\nx-a: 1\nx-a:2:3\n").unwrap();
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2:3"]);
        assert_eq!(headers["accept"], "*/*");
        assert_eq!(header_lines(b"").unwrap().len(), 0);
        assert_eq!(header_lines(b"nothing"), Err(Problem::InvalidEncoding));
        assert_eq!(header_lines(b"a b:c"), Err(Problem::InvalidEncoding));
        assert_eq!(header_lines(b"a:\xff"), Err(Problem::Utf8));
    }

    #[test]
    fn a_handle_is_never_given_twice() {
        let mut open = OpenResponses::default();
        let first = open.insert(Response::new(Bytes::new()));
        open.open.remove(&first);
        assert_ne!(open.insert(Response::new(Bytes::new())), first);
        assert_eq!(open.get(first).map(|_| ()), Err(Problem::InvalidHandle));
    }
}

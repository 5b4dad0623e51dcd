//! The core import `wasi-outbound-http`: `request`, with the request's method, then pointers and lengths of its URI,
//! headers and parameters, then its body (tag, pointer, length), then where the result goes.
//!
//! The result is 32 bytes: u8 tag at 0. 0 (response): u16 status at 4, headers: u8 tag at 8, pointer at 12, count at 16; body:
//! u8 tag at 20, pointer at 24, length at 28. 1 (error): u8 kind at 4.
//!
//! Absent on purpose: parameters (Spin ignored them too: the URI has the query).

use bytes::Bytes;
use http::Request;
use wasmtime::{Caller, Linker};

use super::{
    RuntimeContext,
    whole::{self, Failure},
};
use crate::host::guest_memory::{GuestHeap, GuestMemory, METHODS, MemoryError};

const RESULT_SIZE: u32 = 32;

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
        Ok(request) => whole::send(&context.outbound, request).await,
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
) -> wasmtime::Result<Result<Request<Bytes>, Failure>> {
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
    let headers = match headers {
        Ok(headers) => headers,
        Err(MemoryError::Header(_) | MemoryError::HeadersTooLarge) => return Ok(Err(Failure::RequestError)),
        Err(outside) => return Err(outside.into()),
    };
    // Before it is copied.
    if body.len() > limit {
        return Ok(Err(Failure::RuntimeError));
    }
    Ok(whole::request(method.clone(), uri, headers, Bytes::copy_from_slice(body)))
}

//! The legacy Spin HTTP ABI (Spin v0.4 to v1.4), canonical layout: what the host calls and what it
//! reads back. Memory that crosses the border is leaked on purpose: an instance serves one request.

use std::alloc::{self, Layout};
use std::slice;

/// A request as the rest of this guest sees it.
pub struct Request {
    pub uri: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A response to hand to the host.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[repr(C)]
struct RawText {
    ptr: *const u8,
    len: usize,
}

#[repr(C)]
struct RawField {
    name: RawText,
    value: RawText,
}

#[repr(C)]
struct RawResponse {
    status: u16,
    has_headers: u32,
    headers: *const RawField,
    header_count: usize,
    has_body: u32,
    body: *const u8,
    body_len: usize,
}

#[unsafe(export_name = "canonical_abi_realloc")]
unsafe extern "C" fn reallocate(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    if new_len == 0 {
        return std::ptr::without_provenance_mut(align);
    }
    let ptr = unsafe {
        if old_len == 0 {
            alloc::alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            alloc::realloc(old, Layout::from_size_align_unchecked(old_len, align), new_len)
        }
    };
    assert!(!ptr.is_null(), "out of memory");
    ptr
}

#[unsafe(export_name = "canonical_abi_free")]
unsafe extern "C" fn free(ptr: *mut u8, len: usize, align: usize) {
    if len != 0 {
        unsafe { alloc::dealloc(ptr, Layout::from_size_align_unchecked(len, align)) }
    }
}

#[unsafe(export_name = "handle-http-request")]
unsafe extern "C" fn handle_http_request(
    _method: u32,
    uri: *const u8,
    uri_len: usize,
    headers: *const RawField,
    header_count: usize,
    _params: *const RawField,
    _param_count: usize,
    has_body: u32,
    body: *const u8,
    body_len: usize,
) -> *const RawResponse {
    let headers = unsafe { list(headers, header_count) };
    let request = Request {
        uri: unsafe { text(uri, uri_len) },
        headers: headers
            .iter()
            .map(|field| unsafe { (text(field.name.ptr, field.name.len), text(field.value.ptr, field.value.len)) })
            .collect(),
        body: if has_body == 1 { unsafe { list(body, body_len) }.to_vec() } else { Vec::new() },
    };
    lower(super::respond(&request))
}

/// Empty lists may come with any pointer, so that one is not looked at.
unsafe fn list<'a, T>(ptr: *const T, len: usize) -> &'a [T] {
    if len == 0 { &[] } else { unsafe { slice::from_raw_parts(ptr, len) } }
}

unsafe fn text(ptr: *const u8, len: usize) -> String {
    String::from_utf8_lossy(unsafe { list(ptr, len) }).into_owned()
}

fn lower(response: Response) -> *const RawResponse {
    let headers: Vec<RawField> = response
        .headers
        .into_iter()
        .map(|(name, value)| RawField { name: leak(name.into_bytes()), value: leak(value.into_bytes()) })
        .collect();
    let headers = Vec::leak(headers);
    let body = leak(response.body);
    Box::leak(Box::new(RawResponse {
        status: response.status,
        has_headers: 1,
        headers: headers.as_ptr(),
        header_count: headers.len(),
        has_body: 1,
        body: body.ptr,
        body_len: body.len,
    }))
}

fn leak(bytes: Vec<u8>) -> RawText {
    let bytes = Vec::leak(bytes);
    RawText { ptr: bytes.as_ptr(), len: bytes.len() }
}

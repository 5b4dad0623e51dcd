//! What a guest's resources take of the host's memory: headers, and what requests of its own are made of.
//!
//! How many there are is limited, and how much one call may hand over, but one resource may be as large as that: a guest with
//! little memory could fill the host's. So they are looked at once a tick of the epoch, as [files](super::files) are, and count
//! as memory of the app.

use std::any::Any;

use http::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{
    FieldMap,
    p2::{
        bindings::http::types::Method,
        types::{HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse},
    },
    p3,
};

/// How much the resources of one instance may take, in bytes.
const MOST: usize = 16 << 20;
/// What a header takes beside its name and value.
const HEADER: usize = 128;

/// A guest's resources take too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest's headers and requests take more than {MOST} bytes")]
pub(crate) struct TooLarge;

/// What all that is in a guest's table takes. What is not known here has its size from `other`.
pub(crate) fn size(table: &mut ResourceTable, other: impl Fn(&dyn Any) -> usize) -> Result<usize, TooLarge> {
    let mut size = 0_usize;
    for entry in table.iter_mut() {
        let entry: &dyn Any = entry;
        size = size.saturating_add(size_of_http(entry).unwrap_or_else(|| other(entry)));
    }
    if size > MOST { Err(TooLarge) } else { Ok(size) }
}

/// What a resource of `wasi:http` takes, as far as the guest decides that.
fn size_of_http(entry: &dyn Any) -> Option<usize> {
    if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        return Some(size_of_headers(fields));
    }
    if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let method = if let Method::Other(name) = &request.method { name.len() } else { 0 };
        let texts = [&request.authority, &request.path_with_query].into_iter().flatten().map(String::len);
        return Some(method + texts.sum::<usize>() + size_of_headers(&request.headers));
    }
    if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        return Some(size_of_headers(&response.headers));
    }
    if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        return Some(size_of_headers(&response.headers));
    }
    if let Some(request) = entry.downcast_ref::<p3::Request>() {
        let authority = request.authority.as_ref().map_or(0, |authority| authority.as_str().len());
        let path = request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
        return Some(request.method.as_str().len() + authority + path + size_of_headers(&request.headers));
    }
    entry.downcast_ref::<p3::Response>().map(|response| size_of_headers(&response.headers))
}

/// What headers take of memory.
pub(crate) fn size_of_headers(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER).sum()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(size: usize) -> FieldMap {
        let mut fields = FieldMap::new_mutable(usize::MAX);
        let value = HeaderValue::from_bytes(&vec![b'a'; size]).unwrap();
        fields.append_raw(HeaderName::from_static("x"), value).unwrap();
        fields
    }

    fn size_of_all(table: &mut ResourceTable) -> Result<usize, TooLarge> {
        size(table, |_| 0)
    }

    #[test]
    fn what_headers_take_is_counted_and_has_an_end() {
        let mut table = ResourceTable::new();
        let first = table.push(fields(8 << 20)).unwrap();
        assert_eq!(size_of_all(&mut table), Ok((8 << 20) + 1 + HEADER));
        table.push(fields(9 << 20)).unwrap();
        assert_eq!(size_of_all(&mut table), Err(TooLarge));
        table.delete(first).unwrap();
        assert_eq!(size_of_all(&mut table), Ok((9 << 20) + 1 + HEADER));
    }

    #[test]
    fn what_a_request_is_made_of_counts_and_so_does_what_others_know() {
        let mut table = ResourceTable::new();
        table
            .push(HostOutgoingRequest {
                method: Method::Other("A".repeat(9 << 20)),
                scheme: None,
                authority: Some("a".repeat(8 << 20)),
                path_with_query: None,
                headers: fields(1),
                body: None,
            })
            .unwrap();
        assert_eq!(size_of_all(&mut table), Err(TooLarge));
        let mut table = ResourceTable::new();
        table.push(7_u8).unwrap();
        assert_eq!((size(&mut table, |_| MOST), size(&mut table, |_| MOST + 1)), (Ok(MOST), Err(TooLarge)));
    }
}

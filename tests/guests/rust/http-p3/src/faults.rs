//! What a guest should not do.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use spin_sdk::http::{BoxBody, Response, box_body};
use std::convert::Infallible;
use std::hint;

/// Sends a part of a body, and traps.
pub fn partial() -> Response<BoxBody> {
    let first = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"the first half\n")))]);
    let rest = stream::once(async { panic!("asked to panic in the middle of a body") });
    Response::new(box_body(StreamBody::new(first.chain(rest))))
}

/// Announces more than it sends.
pub fn short() -> Response<BoxBody> {
    let pieces = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"short\n")))]);
    let mut response = Response::new(box_body(StreamBody::new(pieces)));
    response.headers_mut().insert("content-length", 100.into());
    response
}

pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = hint::black_box(turns.wrapping_add(1));
    }
}

pub fn oom() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(hint::black_box(vec![1_u8; 1 << 20]));
    }
}

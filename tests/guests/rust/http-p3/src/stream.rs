//! Bodies that are written bit by bit.

use crate::text;
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use spin_sdk::http::{BoxBody, HeaderMap, HeaderName, HeaderValue, Request, Response, Result, box_body};
use std::convert::Infallible;
use std::time::Duration;

type Piece = std::result::Result<Frame<Bytes>, Infallible>;

pub async fn pause(ms: u64) {
    spin_sdk::time::sleep(Duration::from_millis(ms)).await;
}

fn streamed(pieces: impl futures::Stream<Item = Piece> + Send + 'static) -> Response<BoxBody> {
    Response::new(box_body(StreamBody::new(pieces)))
}

/// `bytes` bytes of `x`.
pub fn large(bytes: u64) -> Response<BoxBody> {
    const BLOCK: u64 = 65_536;
    streamed(stream::unfold(bytes, |left| async move {
        let part = left.min(BLOCK);
        (part > 0).then(|| (Ok(Frame::data(Bytes::from(vec![b'x'; part as usize]))), left - part))
    }))
}

/// `chunk 0`, `chunk 1`, ... with pauses between.
pub fn chunks(count: u64, ms: u64) -> Response<BoxBody> {
    streamed(stream::unfold(0, move |chunk| async move {
        if chunk == count {
            return None;
        }
        if chunk > 0 {
            pause(ms).await;
        }
        Some((Ok(Frame::data(Bytes::from(format!("chunk {chunk}\n")))), chunk + 1))
    }))
}

/// A text, and a trailer.
pub fn with_trailer(text: &'static str, name: &'static str, value: &'static str) -> Response<BoxBody> {
    let trailers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
    streamed(stream::iter([Ok(Frame::data(Bytes::from_static(text.as_bytes()))), Ok(Frame::trailers(trailers))]))
}

/// The trailers of the request, one a line.
pub async fn echo_trailers(request: Request) -> Result<Response<BoxBody>> {
    let body = request.into_body().collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}\n", value.to_str().unwrap_or("?"));
    text(200, &trailers.iter().map(line).collect::<String>())
}

/// Answers at once, and writes a line to the log when it is long done.
pub fn go_on(ms: u64) -> Response<BoxBody> {
    spin_sdk::wasip3::spawn(async move {
        pause(ms).await;
        println!("after the response");
    });
    streamed(stream::iter([Ok(Frame::data(Bytes::from_static(b"done\n")))]))
}

//! HTTP/2 clients that send what costs them little and a server much.

#![expect(clippy::indexing_slicing, reason = "a test that cannot go on fails, also in what tests share")]

use std::time::Duration;

use daemon::HttpSettings;
use node_runtime::trigger::TriggerSettings;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::trigger::{Open, usual};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags], stream.to_be_bytes().as_slice(), payload].concat()
}

/// `GET /path` of `http://shop.example`, in HPACK without compression.
fn request(path: &str) -> Vec<u8> {
    let literal = |index: u8, value: &str| {
        let mut field = vec![index, u8::try_from(value.len()).unwrap()];
        field.extend_from_slice(value.as_bytes());
        field
    };
    // `:method: GET` and `:scheme: http` are in the static table; `:authority` and `:path` are by name.
    [vec![0x82, 0x86], literal(0x01, "shop.example"), literal(0x04, path)].concat()
}

async fn begin(app: &Open) -> TcpStream {
    let mut stream = app.connect().await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// The frames that come until the server closes, as kind and payload.
async fn frames(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return frames;
        }
        let size = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let mut payload = vec![0; size];
        if stream.read_exact(&mut payload).await.is_err() {
            return frames;
        }
        frames.push((head[3], payload));
    }
}

/// Sends `flood` again and again until the server takes no more of it, then returns what it had said.
async fn until_closed(app: &Open, mut flood: impl FnMut(u32) -> Vec<u8>) -> Vec<(u8, Vec<u8>)> {
    let (mut read, mut write) = begin(app).await.into_split();
    let sending = async {
        for number in 0..1_000_000 {
            if write.write_all(&flood(number)).await.is_err() {
                return true;
            }
        }
        false
    };
    let mut said = Vec::new();
    let reading = async { while let Ok(1..) = read.read_buf(&mut said).await {} };
    let (closed, ()) = tokio::join!(sending, reading);
    assert!(closed, "a million times is not too much");
    parse(&said)
}

fn parse(mut said: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = said.split_at_checked(9) {
        let size = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let Some((payload, rest)) = rest.split_at_checked(size) else { break };
        frames.push((head[3], payload.to_vec()));
        said = rest;
    }
    frames
}

/// Why the server went, if it said so.
fn reason(frames: &[(u8, Vec<u8>)]) -> Option<u32> {
    let (_, payload) = frames.iter().rfind(|(kind, _)| *kind == GOAWAY)?;
    Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()))
}

const ENHANCE_YOUR_CALM: u32 = 0xb;

async fn still_serves(app: &Open) {
    let mut stream = begin(app).await;
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("/"))).await.unwrap();
    stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await.unwrap();
    let frames = frames(&mut stream).await;
    assert!(frames.iter().any(|(kind, _)| *kind == DATA), "{frames:?}");
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_without_end_cost_their_connection() {
    let app = usual(TriggerSettings::default()).await;
    let said = until_closed(&app, |number| {
        let stream = number * 2 + 1;
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("/"));
        [open, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
    assert_eq!(reason(&said), Some(ENHANCE_YOUR_CALM));
    still_serves(&app).await;
}

#[tokio::test]
async fn headers_that_never_end_cost_their_connection() {
    let app = usual(TriggerSettings::default()).await;
    let said = until_closed(&app, |number| match number {
        0 => frame(HEADERS, 0, 1, &request("/")),
        _ => frame(CONTINUATION, 0, 1, &[0x00, 0x01, b'x', 0x01, b'y'].repeat(1000)),
    })
    .await;
    assert!(reason(&said).is_some(), "{said:?}");
    let empty = until_closed(&app, |number| match number {
        0 => frame(HEADERS, 0, 1, &request("/")),
        _ => frame(CONTINUATION, 0, 1, &[]),
    })
    .await;
    assert!(reason(&empty).is_some(), "{empty:?}");
    still_serves(&app).await;
}

#[tokio::test]
async fn headers_that_are_small_when_compressed_count_as_what_they_are() {
    let app = usual(TriggerSettings::default()).await;
    // A field of 4,000 bytes enters the dynamic table, and is named again by its index (62).
    let value = vec![b'y'; 4000];
    let field = [vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e], value].concat();
    let answer = async |times: usize| {
        let mut stream = begin(&app).await;
        let block = [request("/"), field.clone(), vec![0xbe; times]].concat();
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await.unwrap();
        stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await.unwrap();
        frames(&mut stream).await
    };
    let too_large = answer(16).await;
    let has_431 = |(kind, payload): &(u8, Vec<u8>)| {
        *kind == HEADERS && payload.windows(STATUS_431.len()).any(|window| window == STATUS_431)
    };
    assert!(too_large.iter().any(has_431), "{too_large:?}");
    let very_much_too_large = answer(1000).await;
    assert_eq!(reason(&very_much_too_large), Some(ENHANCE_YOUR_CALM), "{very_much_too_large:?}");
    still_serves(&app).await;
}

/// `431` in Huffman's code of HPACK (RFC 7541, appendix B).
const STATUS_431: [u8; 3] = [0x69, 0x90, 0xff];

#[tokio::test]
async fn who_sends_pings_and_settings_without_reading_the_answers_is_closed() {
    let http = HttpSettings { write_timeout: Duration::from_millis(300), ..HttpSettings::default() };
    let app = usual(TriggerSettings { http, ..TriggerSettings::default() }).await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])] {
        let mut stream = begin(&app).await;
        let flood = flood.repeat(1000);
        let mut sent = 0_usize;
        // Nothing is read: the answers fill what the system holds, and then the server waits, and then no longer.
        while stream.write_all(&flood).await.is_ok() {
            sent += flood.len();
            assert!(sent < 1 << 30, "the server takes whatever comes");
        }
    }
    still_serves(&app).await;
}

#[tokio::test]
async fn pings_that_are_answered_disturb_nobody() {
    let app = usual(TriggerSettings::default()).await;
    let mut stream = begin(&app).await;
    stream.write_all(&frame(PING, 0, 0, &[7; 8]).repeat(100)).await.unwrap();
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("/"))).await.unwrap();
    stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await.unwrap();
    let frames = frames(&mut stream).await;
    assert_eq!(frames.iter().filter(|(kind, _)| *kind == PING).count(), 100);
    assert!(frames.iter().any(|(kind, _)| *kind == DATA));
}

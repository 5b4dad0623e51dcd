//! A WASI 0.3 component written with the Spin SDK 7: it answers, streams, calls out, uses what Spin's hosts offer, and
//! misbehaves. What each path does is listed in `../../../README.md`.
//!
//! What an interface of Spin is for is in a module of its own: `/kv/...` in `kv`, `/sqlite/...` in `sqlite`, `/var/...` in
//! `variables`, `/db/...` in `databases`.

mod databases;
mod faults;
mod kv;
mod llm;
mod sqlite;
mod stream;
mod variables;

use bytes::Bytes;
use http_body_util::Empty;
use spin_sdk::http::body::IncomingBodyExt as _;
use spin_sdk::http::{self, BoxBody, FullBody, Request, Response, Result, box_body};
use spin_sdk::http_service;

#[http_service]
async fn handle(request: Request) -> Result<Response<BoxBody>> {
    let uri = request.uri().clone();
    let query = Query(uri.query().unwrap_or_default());
    let path = uri.path();
    let (interface, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    match interface {
        "llm" => return llm::handle(rest, &query),
        "kv" => return kv::handle(request, rest, &query).await,
        "db" => return databases::handle(request, rest).await,
        "sqlite" => return sqlite::handle(request, rest).await,
        "var" => return variables::handle(rest).await,
        _ => {}
    }
    match path {
        "/" => text(200, "Hello from WASI 0.3\n"),
        "/env" => text(200, &environment()),
        "/headers" => text(200, &listing(&request)),
        "/status" => Ok(empty(query.number("code", 200) as u16)),
        "/echo" => Ok(Response::new(box_body(request.into_body()))),
        "/echo-trailers" => stream::echo_trailers(request).await,
        "/length" => text(200, &format!("{}\n", request.into_body().bytes().await?.len())),
        // Never looks at the request's body.
        "/early" => text(200, "early\n"),
        "/large" => Ok(stream::large(query.number("bytes", 1 << 20))),
        "/stream" => Ok(stream::chunks(query.number("chunks", 5), query.number("ms", 100))),
        "/trailers" => Ok(stream::with_trailer("body\n", "x-trailer", "end")),
        "/sleep" => {
            stream::pause(query.number("ms", 100)).await;
            text(200, "slept\n")
        }
        "/after" => Ok(stream::go_on(query.number("ms", 100))),
        "/log" => {
            let line = query.get("line").unwrap_or("a line");
            println!("stdout: {line}");
            eprintln!("stderr: {line}");
            text(200, "logged\n")
        }
        "/fetch" => fetch(&query.decoded("url")).await,
        "/panic" => panic!("asked to panic"),
        "/error" => Err("asked to fail".into()),
        "/partial" => Ok(faults::partial()),
        "/short" => Ok(faults::short()),
        "/spin" => faults::spin(),
        "/oom" => faults::oom(),
        _ => text(404, "not found\n"),
    }
}

/// A text as the whole body.
pub fn text(status: u16, text: &str) -> Result<Response<BoxBody>> {
    let body = box_body(FullBody::new(Bytes::copy_from_slice(text.as_bytes())));
    Ok(Response::builder().status(status).header("content-type", "text/plain").body(body)?)
}

fn empty(status: u16) -> Response<BoxBody> {
    let mut response = Response::new(box_body(Empty::new()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn environment() -> String {
    let mut lines: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort();
    lines.concat()
}

/// First line `METHOD uri`, then one line a header.
fn listing(request: &Request) -> String {
    let mut lines = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    lines
}

/// One outbound GET: its status and body become the response; a refusal becomes 502 and its reason.
async fn fetch(url: &str) -> Result<Response<BoxBody>> {
    match http::get(url).await {
        Ok(response) => Ok(response.map(box_body)),
        Err(code) => text(502, &format!("{code:?}\n")),
    }
}

/// The part of a URI after `?`.
pub struct Query<'a>(&'a str);

impl Query<'_> {
    /// The parameter as it was sent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The parameter as a number; `default` where it is absent or no number.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// The parameter with `%XX` decoded and spaces for `+`; empty where absent.
    pub fn decoded(&self, name: &str) -> String {
        let mut bytes = self.get(name).unwrap_or_default().bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            match byte {
                b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                    (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                    _ => out.push(b'?'),
                },
                b'+' => out.push(b' '),
                other => out.push(other),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

//! A `wasi:http@0.2.0` component that can do what tests ask of a guest: answer, stream, call out,
//! and misbehave. What each path does is listed in `../../../README.md`.

mod call;
mod exchange;
mod fetch;
mod odd;
mod sockets;

use exchange::{Failure, Query, Reply};
use std::hint;
use wasi::cli::environment::get_environment;
use wasi::clocks::monotonic_clock::subscribe_duration;
use wasi::http::types::{IncomingRequest, Method, ResponseOutparam};

struct Guest;

impl wasi::exports::http::incoming_handler::Guest for Guest {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let uri = request.path_with_query().unwrap_or_default();
        let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
        if let Some(way) = path.strip_prefix("/odd/") {
            return odd::misuse(&request, way, outparam);
        }
        let query = Query(query);
        let reply = Reply::new(outparam);
        // A caller that goes away in the middle ends the request; there is nobody to tell.
        let _ = route(&request, path, &query, reply);
    }
}

fn route(request: &IncomingRequest, path: &str, query: &Query<'_>, reply: Reply) -> Result<(), Failure> {
    match path {
        "/" => reply.text(200, "Hello from Rust\n"),
        "/v" => reply.text(200, &format!("{}\n", version())),
        "/env" => reply.text(200, &environment()),
        "/headers" => reply.text(200, &listing(request)),
        "/status" => reply.text(query.number("code", 200) as u16, ""),
        "/echo" => reply.echo(request),
        "/large" => large(reply, query.number("bytes", 1 << 20)),
        "/stream" => stream(reply, query.number("chunks", 5), query.number("ms", 100)),
        "/trailers" => reply.text_with_trailer("body\n", "x-trailer", "end"),
        "/sleep" => sleep(reply, query.number("ms", 100)),
        "/cpu" => reply.text(200, &format!("{} primes\n", primes(query.number("n", 1_000_000) as usize))),
        "/log" => log(reply, query.get("line").unwrap_or("a line")),
        "/fetch" => fetch::fetch(reply, &query.decoded("url")),
        "/call" => call::call(request, query, reply),
        "/tcp/connect" => sockets::answer(reply, "connect", query),
        "/tcp/listen" => sockets::answer(reply, "listen", query),
        "/udp/send" => sockets::answer(reply, "send", query),
        "/lookup" => sockets::answer(reply, "lookup", query),
        "/panic" => panic!("asked to panic"),
        "/partial" => partial(reply),
        "/silent" => Ok(()),
        "/spin" => spin(),
        "/oom" => oom(),
        _ => reply.text(404, "not found\n"),
    }
}

// The environment is asked of the host directly: to `std::env` it would look empty, because this
// guest is linked with the adapter for proxies, which has none.

fn version() -> String {
    let version = get_environment().into_iter().find(|(name, _)| name == "VERSION");
    version.map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |(_, value)| value)
}

fn environment() -> String {
    let mut lines: Vec<String> =
        get_environment().into_iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort();
    lines.concat()
}

/// First line `METHOD uri`, then one line a header.
fn listing(request: &IncomingRequest) -> String {
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name,
    };
    let mut lines = format!("{method} {}\n", request.path_with_query().unwrap_or_default());
    for (name, value) in request.headers().entries() {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    lines
}

fn large(reply: Reply, bytes: u64) -> Result<(), Failure> {
    let block = [b'x'; 4096];
    let mut body = reply.start(200)?;
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len() as u64);
        body.write(&block[..part as usize])?;
        left -= part;
    }
    body.finish()
}

fn stream(reply: Reply, chunks: u64, pause_ms: u64) -> Result<(), Failure> {
    let mut body = reply.start(200)?;
    for chunk in 0..chunks {
        if chunk > 0 {
            subscribe_duration(pause_ms * 1_000_000).block();
        }
        body.write(format!("chunk {chunk}\n").as_bytes())?;
    }
    body.finish()
}

fn sleep(reply: Reply, pause_ms: u64) -> Result<(), Failure> {
    subscribe_duration(pause_ms * 1_000_000).block();
    reply.text(200, "slept\n")
}

/// The primes below `limit`, by the sieve: work that needs the processor and nothing else.
fn primes(limit: usize) -> usize {
    let mut composite = vec![false; limit];
    let mut count = 0;
    for number in 2..limit {
        if !composite[number] {
            count += 1;
            for multiple in (number * number..limit).step_by(number) {
                composite[multiple] = true;
            }
        }
    }
    count
}

fn log(reply: Reply, line: &str) -> Result<(), Failure> {
    println!("stdout: {line}");
    eprintln!("stderr: {line}");
    reply.text(200, "logged\n")
}

/// Promises a body, sends a part of it, and traps.
fn partial(reply: Reply) -> Result<(), Failure> {
    let mut body = reply.start(200)?;
    body.write(b"the first half\n")?;
    panic!("asked to panic in the middle of a body")
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = hint::black_box(turns.wrapping_add(1));
    }
}

fn oom() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(hint::black_box(vec![1_u8; 1 << 20]));
    }
}

wasi::http::proxy::export!(Guest);

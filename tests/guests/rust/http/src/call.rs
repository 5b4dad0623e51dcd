//! One outbound request made of the request that came: `?url=` says where it goes (a path alone: to the own application), its body is
//! sent on as it arrives, and the response comes back as it arrives, with its trailers. Both at the same time.

use crate::exchange::{Body, Failure, Query, Reply};
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use wasi::io::poll::{Pollable, poll};
use wasi::io::streams::{InputStream, OutputStream, StreamError};

/// How much is moved at once.
const PIECE: u64 = 64 << 10;
/// What is passed on, beside whatever begins with `x-`.
const PASSED: [&str; 6] = ["expect", "host", "te", "traceparent", "content-type", "connection"];

pub fn call(request: &IncomingRequest, query: &Query<'_>, reply: Reply) -> Result<(), Failure> {
    let (outgoing, options) = match outgoing(request, query) {
        Ok(made) => made,
        Err(reason) => return reply.text(502, &format!("{reason}\n")),
    };
    let incoming = request.consume().map_err(|()| Failure::Host)?;
    let body = outgoing.body().map_err(|()| Failure::Host)?;
    let up = Up { input: incoming.stream().map_err(|()| Failure::Host)?, output: body.write().map_err(|()| Failure::Host)? };
    match outgoing_handler::handle(outgoing, Some(options)) {
        Ok(pending) => exchange(Some((up, body)), pending, reply),
        Err(code) => reply.text(502, &format!("{code:?}\n")),
    }
}

fn outgoing(request: &IncomingRequest, query: &Query<'_>) -> Result<(OutgoingRequest, RequestOptions), String> {
    let headers = Fields::new();
    for (name, value) in request.headers().entries() {
        if name.starts_with("x-") || PASSED.contains(&name.as_str()) {
            headers.append(&name, &value).map_err(|error| format!("{name}: {error:?}"))?;
        }
    }
    let outgoing = OutgoingRequest::new(headers);
    let url = query.decoded("url");
    let path = match url.split_once("://") {
        None => url.as_str(),
        Some((scheme, rest)) => {
            let scheme = match scheme {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                other => Scheme::Other(other.to_owned()),
            };
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            outgoing.set_scheme(Some(&scheme)).map_err(|()| "scheme refused")?;
            outgoing.set_authority(Some(authority)).map_err(|()| "authority refused")?;
            path
        }
    };
    if !path.is_empty() {
        outgoing.set_path_with_query(Some(path)).map_err(|()| "path refused")?;
    }
    let method = query.get("method").map_or_else(|| request.method(), |name| Method::Other(name.to_owned()));
    outgoing.set_method(&method).map_err(|()| "method refused")?;
    let options = RequestOptions::new();
    let limit = |name| query.get(name).and_then(|ms| ms.parse::<u64>().ok()).map(|ms| ms * 1_000_000);
    options.set_connect_timeout(limit("connect")).map_err(|()| "connect refused")?;
    options.set_first_byte_timeout(limit("first")).map_err(|()| "first refused")?;
    options.set_between_bytes_timeout(limit("between")).map_err(|()| "between refused")?;
    Ok((outgoing, options))
}

/// The request's body on its way.
struct Up {
    input: InputStream,
    output: OutputStream,
}

/// The response's body on its way.
struct Down {
    input: InputStream,
    incoming: IncomingBody,
    body: Body,
    _response: IncomingResponse,
}

impl Up {
    fn subscribe(&self) -> Pollable {
        match self.output.check_write() {
            Ok(0) => self.output.subscribe(),
            _ => self.input.subscribe(),
        }
    }

    /// Moves a piece; false when nothing more can be moved.
    fn step(&self) -> bool {
        match self.output.check_write() {
            Ok(0) => true,
            Ok(most) => self.output.splice(&self.input, most.min(PIECE)).is_ok(),
            Err(_) => false,
        }
    }
}

fn exchange(
    mut up: Option<(Up, OutgoingBody)>,
    pending: FutureIncomingResponse,
    reply: Reply,
) -> Result<(), Failure> {
    let mut reply = Some(reply);
    let mut down: Option<Down> = None;
    loop {
        let sending = up.as_ref().map(|(up, _)| up.subscribe());
        let receiving = down.as_ref().map_or_else(|| pending.subscribe(), |down| down.input.subscribe());
        let mut waits = vec![&receiving];
        waits.extend(&sending);
        let ready = poll(&waits);
        drop(waits);
        drop((receiving, sending));
        if ready.contains(&1) && up.as_ref().is_some_and(|(up, _)| !up.step()) {
            if let Some((up, body)) = up.take() {
                drop(up);
                // A server that has answered already may not want the rest.
                let _ = OutgoingBody::finish(body, None);
            }
        }
        if !ready.contains(&0) {
            continue;
        }
        match (&mut down, reply.take()) {
            (None, Some(reply)) => match pending.get() {
                Some(Ok(Ok(response))) => down = Some(begin(response, reply)?),
                Some(Ok(Err(code))) => return reply.text(502, &format!("{code:?}\n")),
                Some(Err(())) | None => return Err(Failure::Host),
            },
            (Some(receiving), _) => match receiving.body.splice(&receiving.input, PIECE) {
                Ok(()) => {}
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(error)) => {
                    let code: Option<ErrorCode> = http_error_code(&error);
                    eprintln!("the response broke off: {code:?}");
                    return Err(Failure::Stream);
                }
            },
            (None, None) => return Err(Failure::Host),
        }
    }
    let Some(Down { input, incoming, body, _response: response }) = down else { return Err(Failure::Host) };
    drop(input);
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let trailers = match trailers.get() {
        Some(Ok(Ok(trailers))) => trailers,
        _ => None,
    };
    drop(response);
    // The fields belong to the host: a copy is what may be sent.
    body.finish_with(trailers.map(|fields| fields.clone()))
}

fn begin(response: IncomingResponse, reply: Reply) -> Result<Down, Failure> {
    let headers = response.headers().entries().into_iter().filter(|(name, _)| name.starts_with("x-"));
    let body = reply.start_with(response.status(), headers.collect())?;
    let incoming = response.consume().map_err(|()| Failure::Host)?;
    let input = incoming.stream().map_err(|()| Failure::Host)?;
    Ok(Down { input, incoming, body, _response: response })
}

//! One outbound GET: its status and body become the response; a refusal becomes 502 and its reason.

use crate::exchange::{Failure, Reply};
use wasi::http::outgoing_handler;
use wasi::http::types::{ErrorCode, Fields, IncomingResponse, OutgoingRequest, Scheme};

pub fn fetch(reply: Reply, url: &str) -> Result<(), Failure> {
    match get(url) {
        Ok(response) => {
            let incoming = response.consume().map_err(|()| Failure::Host)?;
            let mut body = reply.start(response.status())?;
            body.splice_all(&incoming)?;
            body.finish()
        }
        Err(reason) => reply.text(502, &format!("{reason}\n")),
    }
}

fn get(url: &str) -> Result<IncomingResponse, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(format!("not a URL with http or https: {url}")),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme refused")?;
    request.set_authority(Some(authority)).map_err(|()| format!("authority refused: {authority}"))?;
    let path = if path.is_empty() { "/" } else { path };
    request.set_path_with_query(Some(path)).map_err(|()| format!("path refused: {path}"))?;

    let pending = outgoing_handler::handle(request, None).map_err(reason)?;
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(response)) => response.map_err(reason),
        Some(Err(())) | None => Err("the response was taken before".to_owned()),
    }
}

fn reason(error: ErrorCode) -> String {
    format!("{error:?}")
}

//! A static file server: answers GET and HEAD with the files that the manifest mounts at `/`.
//!
//! A folder answers with its `index.html`. A path can't leave the mounted files: every part of it
//! is checked here, and the host gives the guest no other files anyway.

mod path;

use std::fs::{self, File};
use std::io::{self, Read};
use wasi::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Site;

impl wasi::exports::http::incoming_handler::Guest for Site {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let answer = answer(&request);
        let with_body = !matches!(request.method(), Method::Head);
        // An error here means that the caller is gone: there is nobody to tell.
        let _ = send(answer, with_body, outparam);
    }
}

/// What to say, before anything is sent.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    content: Content,
}

enum Content {
    Text(&'static str),
    File(File),
}

fn answer(request: &IncomingRequest) -> Answer {
    if !matches!(request.method(), Method::Get | Method::Head) {
        let mut refusal = text(405, "only GET and HEAD\n");
        refusal.headers.push(("allow", "GET, HEAD".to_owned()));
        return refusal;
    }
    let uri = request.path_with_query().unwrap_or_default();
    match path::to_file(below_route(request, &uri)) {
        Some(path) => file(path).unwrap_or_else(|_| text(404, "not found\n")),
        None => text(404, "not found\n"),
    }
}

/// The path below the component's route where the host says so, else the whole path.
fn below_route(request: &IncomingRequest, uri: &str) -> String {
    let headers = request.headers();
    match headers.get(&"spin-path-info".to_owned()).first() {
        Some(rest) => String::from_utf8_lossy(rest).into_owned(),
        None => uri.split('?').next().unwrap_or_default().to_owned(),
    }
}

fn file(mut path: String) -> io::Result<Answer> {
    if fs::metadata(&path)?.is_dir() {
        path.push_str("/index.html");
    }
    let file = File::open(&path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let headers =
        vec![("content-type", path::content_type(&path).to_owned()), ("content-length", about.len().to_string())];
    Ok(Answer { status: 200, headers, content: Content::File(file) })
}

fn text(status: u16, text: &'static str) -> Answer {
    let headers =
        vec![("content-type", "text/plain; charset=utf-8".to_owned()), ("content-length", text.len().to_string())];
    Answer { status, headers, content: Content::Text(text) }
}

fn send(answer: Answer, with_body: bool, outparam: ResponseOutparam) -> Option<()> {
    let headers: Vec<(String, Vec<u8>)> =
        answer.headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&headers).ok()?);
    response.set_status_code(answer.status).ok()?;
    let body = response.body().ok()?;
    ResponseOutparam::set(outparam, Ok(response));

    if with_body {
        let stream = body.write().ok()?;
        let mut block = [0; 4096]; // the most that one call sends
        let mut content: Box<dyn Read> = match answer.content {
            Content::Text(text) => Box::new(text.as_bytes()),
            Content::File(file) => Box::new(file),
        };
        loop {
            match content.read(&mut block).ok()? {
                0 => break,
                length => stream.blocking_write_and_flush(block.get(..length)?).ok()?,
            }
        }
    }
    OutgoingBody::finish(body, None).ok()
}

wasi::http::proxy::export!(Site);

//! Misuse of `wasi:http`: each path in another way.

use wasi::cli::exit::exit;
use wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

/// Does what the rest of the path `way` says.
pub fn misuse(request: &IncomingRequest, way: &str, outparam: ResponseOutparam) {
    match way {
        "set-twice" => set_twice(outparam),
        "error" => ResponseOutparam::set(outparam, Err(ErrorCode::InternalError(Some("odd".to_owned())))),
        "never-set" => drop(outparam),
        "no-handle" => drop(unsafe { Fields::from_handle(9999) }),
        "other-handle" => drop(unsafe { Fields::from_handle(outparam.handle()) }),
        "body-before-stream" => body_before_stream(outparam),
        "request-body-before-stream" => request_body_before_stream(request),
        "no-permit" => no_permit(outparam),
        "short" => with_length(outparam, "10", b"short", true),
        "long" => with_length(outparam, "3", b"too long", true),
        "half" => with_length(outparam, "", b"half", false),
        "forgotten" => forgotten(outparam),
        "response-dropped" => drop(OutgoingResponse::new(Fields::new()).body()),
        "kept-request-body" => kept_request_body(request, outparam),
        "exits-after" => {
            answer(outparam, "odd\n");
            exit(Ok(()));
        }
        "exits-before" => exit(Ok(())),
        "exits-within" => {
            let body = respond(outparam, Fields::new());
            write(&body, b"half");
            exit(Ok(()));
        }
        "told" => answer(outparam, &told(request)),
        _ => answer(outparam, "odd\n"),
    }
}

/// What the host says to what it must refuse.
fn told(request: &IncomingRequest) -> String {
    let mut told = Vec::new();
    let mut say = |what: &str, said: String| told.push(format!("{what}: {said}"));
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "host", "a b", "", "a\nb"] {
        say(&format!("header {name:?}"), format!("{:?}", Fields::new().append(&name.to_owned(), &b"x".to_vec())));
    }
    say("value", format!("{:?}", Fields::new().append(&"a".to_owned(), &b"x\r\nb: y".to_vec())));
    say("request's headers", format!("{:?}", request.headers().append(&"a".to_owned(), &b"x".to_vec())));
    let response = OutgoingResponse::new(Fields::new());
    for status in [0, 99, 1000, u16::MAX] {
        say(&format!("status {status}"), format!("{:?}", response.set_status_code(status)));
    }
    say("response's headers", format!("{:?}", response.headers().append(&"a".to_owned(), &b"x".to_vec())));
    let body = response.body();
    say("second body", format!("{}", response.body().is_err()));
    if let Ok(body) = body {
        let stream = body.write();
        say("second write", format!("{}", body.write().is_err()));
        drop(stream);
    }
    let body = request.consume();
    say("second consume", format!("{}", request.consume().is_err()));
    if let Ok(body) = body {
        let stream = body.stream();
        say("second stream", format!("{}", body.stream().is_err()));
        drop(stream);
        // Nobody has read the body.
        let trailers = IncomingBody::finish(body);
        trailers.subscribe().block();
        let got = trailers.get();
        say("trailers", format!("{}", matches!(got, Some(Ok(Ok(None))))));
        say("second trailers", format!("{}", matches!(trailers.get(), Some(Err(())))));
    }
    told.join("\n") + "\n"
}

fn respond(outparam: ResponseOutparam, fields: Fields) -> OutgoingBody {
    let response = OutgoingResponse::new(fields);
    let body = response.body().unwrap();
    ResponseOutparam::set(outparam, Ok(response));
    body
}

fn write(body: &OutgoingBody, bytes: &[u8]) {
    let stream = body.write().unwrap();
    for piece in bytes.chunks(4096) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
}

fn answer(outparam: ResponseOutparam, text: &str) {
    let body = respond(outparam, Fields::new());
    write(&body, text.as_bytes());
    let _told = OutgoingBody::finish(body, None);
}

fn set_twice(outparam: ResponseOutparam) {
    let again = unsafe { ResponseOutparam::from_handle(outparam.handle()) };
    answer(outparam, "first\n");
    answer(again, "second\n");
}

fn body_before_stream(outparam: ResponseOutparam) {
    let body = respond(outparam, Fields::new());
    let stream = body.write().unwrap();
    drop(body);
    drop(stream);
}

fn request_body_before_stream(request: &IncomingRequest) {
    let body = request.consume().unwrap();
    let stream = body.stream().unwrap();
    drop(body);
    drop(stream);
}

/// Writes without asking how much may be written.
fn no_permit(outparam: ResponseOutparam) {
    let body = respond(outparam, Fields::new());
    let stream = body.write().unwrap();
    let _written = stream.write(&[0; 1 << 20]);
}

fn with_length(outparam: ResponseOutparam, length: &str, bytes: &[u8], finish: bool) {
    let fields = Fields::new();
    if !length.is_empty() {
        fields.append(&"content-length".to_owned(), &length.as_bytes().to_vec()).unwrap();
    }
    let body = respond(outparam, fields);
    write(&body, bytes);
    if finish {
        let _told = OutgoingBody::finish(body, None);
    }
}

/// Returns with everything open.
fn forgotten(outparam: ResponseOutparam) {
    let body = respond(outparam, Fields::new());
    let stream = body.write().unwrap();
    let _written = stream.blocking_write_and_flush(b"begun");
    std::mem::forget((body, stream));
}

/// Answers, and returns with the request's body open and unread.
fn kept_request_body(request: &IncomingRequest, outparam: ResponseOutparam) {
    let body = request.consume().unwrap();
    let stream = body.stream().unwrap();
    answer(outparam, "odd\n");
    std::mem::forget((body, stream));
}

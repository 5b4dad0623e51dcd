//! A component as Spin 2.0 ran them: the Spin SDK 2.2, `wasi:http` of the draft 2023-10-18. What each path does is listed in
//! `../../../README.md`.

use futures::{SinkExt, StreamExt};
use spin_sdk::http::{Fields, IncomingRequest, OutgoingResponse, Request, Response, ResponseOutparam};
use spin_sdk::http_component;

#[http_component]
async fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let uri = request.path_with_query().unwrap_or_default();
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let argument = query.split_once('=').map_or("", |(_, value)| value);
    match path {
        "/" => answer(outparam, 200, "Hello from October 2023\n").await,
        "/headers" => answer(outparam, 200, &listing(&request, &uri)).await,
        "/env" => {
            let lines: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
            answer(outparam, 200, &lines.concat()).await;
        }
        "/file" => match std::fs::read_to_string(argument) {
            Ok(text) => answer(outparam, 200, &text).await,
            Err(error) => answer(outparam, 404, &format!("{error}\n")).await,
        },
        "/clock" => {
            let passed = std::time::Instant::now().elapsed().as_secs() == 0
                && std::time::SystemTime::now() > std::time::UNIX_EPOCH;
            answer(outparam, if passed { 200 } else { 500 }, "").await;
        }
        "/status" => answer(outparam, argument.parse().unwrap_or(200), "").await,
        "/echo" => echo(request, outparam).await,
        "/fetch" => {
            let request = Request::get(argument).build();
            match spin_sdk::http::send::<_, Response>(request).await {
                Ok(response) => {
                    let body = String::from_utf8_lossy(response.body()).into_owned();
                    answer(outparam, *response.status(), &body).await;
                }
                Err(error) => answer(outparam, 502, &format!("{error:?}\n")).await,
            }
        }
        "/log" => {
            println!("stdout: {argument}");
            eprintln!("stderr: {argument}");
            answer(outparam, 200, "logged\n").await;
        }
        "/forbidden" => {
            let headers = Fields::new(&[("connection".to_owned(), b"close".to_vec()), ("x-fine".to_owned(), b"1".to_vec())]);
            outparam.set_with_body(OutgoingResponse::new(200, &headers), Vec::new()).await.unwrap();
        }
        "/panic" => panic!("asked to panic"),
        _ => answer(outparam, 404, "not found\n").await,
    }
}

async fn answer(outparam: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::new(&[("content-type".to_owned(), b"text/plain".to_vec())]);
    let response = OutgoingResponse::new(status, &headers);
    // A caller that has gone away is no error.
    let _ = outparam.set_with_body(response, text.as_bytes().to_vec()).await;
}

/// First line `METHOD uri`, then one line a header.
fn listing(request: &IncomingRequest, uri: &str) -> String {
    let mut lines = format!("{} {uri}\n", request.method());
    for (name, value) in request.headers().entries() {
        lines.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    lines
}

/// Sends the request's body back as it arrives.
async fn echo(request: IncomingRequest, outparam: ResponseOutparam) {
    let response = OutgoingResponse::new(200, &Fields::new(&[]));
    let mut to = response.take_body();
    outparam.set(response);
    let mut from = request.into_body_stream();
    while let Some(Ok(chunk)) = from.next().await {
        if to.send(chunk).await.is_err() {
            return;
        }
    }
}

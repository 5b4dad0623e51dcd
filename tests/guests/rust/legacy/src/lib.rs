//! A guest of the legacy Spin HTTP ABI with Rust's standard library: environment, files, logs.
//! What each path does is listed in `../../README.md`.

mod abi;

use abi::{Request, Response};
use std::{env, fs, io};

fn respond(request: &Request) -> Response {
    let path = path_of(request);
    match path {
        "/" => hello(),
        "/env" => environment(),
        "/write" => write(),
        "/stdout" => log(&request.uri),
        "/echo" => Response { status: 200, headers: Vec::new(), body: request.body.clone() },
        "/panic" => panic!("asked to panic"),
        _ => match path.strip_prefix("/files/") {
            Some(file) => read(file),
            None => plain(404, "not found\n"),
        },
    }
}

/// The path below the component's route; without a route header, the path of the URI.
fn path_of(request: &Request) -> &str {
    let header =
        |wanted: &str| request.headers.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.as_str());
    let rest = header("spin-path-info");
    if !rest.is_empty() {
        return rest;
    }
    if header("spin-matched-route").ends_with("/...") {
        return "/";
    }
    request.uri.split('?').next().unwrap_or("/")
}

fn plain(status: u16, body: impl Into<String>) -> Response {
    Response {
        status,
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: body.into().into_bytes(),
    }
}

fn hello() -> Response {
    let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    plain(200, format!("{greeting} from legacy Rust\n"))
}

fn environment() -> Response {
    let mut lines: Vec<String> = env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort();
    plain(200, lines.concat())
}

fn read(file: &str) -> Response {
    match fs::read(format!("/{file}")) {
        Ok(body) => Response { status: 200, headers: Vec::new(), body },
        Err(error) if error.kind() == io::ErrorKind::NotFound => plain(404, format!("{error}\n")),
        Err(error) => plain(403, format!("{error}\n")),
    }
}

fn write() -> Response {
    match fs::write("/written.txt", "written by the guest\n") {
        Ok(()) => plain(200, "written\n"),
        Err(error) => plain(403, format!("{error}\n")),
    }
}

fn log(uri: &str) -> Response {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    println!("a line on stdout: {query}");
    eprintln!("a line on stderr: {query}");
    plain(200, "logged\n")
}

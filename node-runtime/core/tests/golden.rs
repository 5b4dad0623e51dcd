//! What the router, the injected headers and Wagi make of their inputs, written down in files of `golden/`.
//!
//! A line of such a file is an input, and lines that begin with `=> ` are what comes of it. A test computes the latter
//! anew; where something differs, it prints the file as it would be now.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, fmt::Write as _};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use manifest::{Pattern, Route, Target};
use node_runtime_core::{
    headers::{RouteHeaders, drop_reserved},
    router::Router,
    wagi::{self, WagiRequest},
};

/// Compares `golden` with what `answer` says to each of its inputs.
fn check(golden: &str, mut answer: impl FnMut(&str) -> Vec<String>) {
    let mut now = String::new();
    for line in golden.lines().filter(|line| !line.starts_with("=> ")) {
        writeln!(now, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            for line in answer(line) {
                writeln!(now, "{}", format!("=> {line}").trim_end()).unwrap();
            }
        }
    }
    let normal: String = golden.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert!(now == normal, "the golden file would be now:\n{now}");
}

fn route(path: &str) -> Route {
    let target = Target::Static { status: 200, headers: BTreeMap::new(), body: String::new() };
    Route { pattern: Pattern::Path(path.to_owned()), target }
}

/// An application's routes, as lines `base PATH` and `routes PATH PATH ...` give them.
#[derive(Default)]
struct Routes {
    base: String,
    routes: Vec<Route>,
}

impl Routes {
    /// Takes a line that is about routes; the warnings are what comes of it.
    fn take(&mut self, line: &str) -> Option<Vec<String>> {
        if let Some(base) = line.strip_prefix("base ") {
            base.clone_into(&mut self.base);
            return Some(Vec::new());
        }
        self.routes = line.strip_prefix("routes ")?.split(' ').map(route).collect();
        let (_, warnings) = Router::new(&self.base, &self.routes);
        Some(warnings.iter().map(ToString::to_string).collect())
    }

    fn router(&self) -> Router {
        Router::new(&self.base, &self.routes).0
    }
}

#[test]
fn paths_find_their_routes() {
    let mut routes = Routes::default();
    check(include_str!("golden/routes.txt"), |line| {
        if let Some(warnings) = routes.take(line) {
            return warnings;
        }
        let router = routes.router();
        let Some(found) = router.find(line) else { return vec!["nothing".to_owned()] };
        let mut answer = format!("{} info `{}`", found.path.matched, found.path_info);
        for (name, value) in found.path.names.iter().zip(&found.captures) {
            write!(answer, " {name}=`{value}`").unwrap();
        }
        vec![answer]
    });
}

#[test]
fn guests_are_told_their_route_in_headers() {
    let mut routes = Routes::default();
    check(include_str!("golden/headers.txt"), |line| {
        if let Some(warnings) = routes.take(line) {
            return warnings;
        }
        let (uri, forged) = line.split_once(' ').unwrap_or((line, ""));
        let mut headers = HeaderMap::new();
        for name in forged.split_whitespace() {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("forged"));
        }
        drop_reserved(&mut headers);
        let router = routes.router();
        let uri: Uri = uri.parse().unwrap();
        let found = router.find(uri.path()).unwrap();
        let client = HeaderValue::from_static("10.0.0.1:4000");
        RouteHeaders::new(found.path).inject(&mut headers, &found, &format!("http://example.com{uri}"), &client);
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        lines.sort();
        lines
    });
}

/// `text` with `\n`, `\r`, `\t`, `\\` and `\xNN` for what they stand for.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, if byte == b'\\' { bytes.next() } else { None }) {
            (_, Some(b'n')) => b'\n',
            (_, Some(b'r')) => b'\r',
            (_, Some(b't')) => b'\t',
            (_, Some(b'x')) => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            (byte, _) => byte,
        });
    }
    out
}

#[test]
fn what_a_program_prints_becomes_a_response() {
    check(include_str!("golden/wagi-responses.txt"), |line| {
        let output = unescaped(line);
        let head = match wagi::response_head(&output) {
            Ok(head) => head,
            Err(error) => return vec![format!("{} `{}` ({error})", error.status().as_u16(), error.body())],
        };
        let mut lines = vec![format!("{} `{}`", head.status.as_u16(), output[head.body_at..].escape_ascii())];
        lines.extend(head.headers.iter().map(|(name, value)| format!("{name}: {}", value.as_bytes().escape_ascii())));
        if head.skipped > 0 {
            lines.push(format!("{} skipped", head.skipped));
        }
        lines
    });
}

#[test]
fn a_request_becomes_arguments_and_environment() {
    let mut routes = Routes::default();
    let mut headers = HeaderMap::new();
    let mut template = String::new();
    check(include_str!("golden/wagi-requests.txt"), |line| {
        if let Some(warnings) = routes.take(line) {
            return warnings;
        }
        if let Some(argv) = line.strip_prefix("argv ") {
            argv.clone_into(&mut template);
            return Vec::new();
        }
        if let Some(header) = line.strip_prefix("header ") {
            let (name, value) = header.split_once(": ").unwrap_or_else(|| panic!("`{header}` is no header"));
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(&unescaped(value)).unwrap());
            return Vec::new();
        }
        let (method, url) = line.split_once(' ').unwrap();
        let url: Uri = url.parse().unwrap();
        let (method, authority) = (method.parse::<Method>().unwrap(), url.authority().unwrap().as_str());
        let router = routes.router();
        let found = router.find(url.path()).unwrap();
        let path: Uri = url.path_and_query().unwrap().as_str().parse().unwrap();
        let request = WagiRequest {
            method: &method,
            uri: &path,
            headers: &headers,
            authority,
            full_url: &url.to_string(),
            secure: url.scheme_str() == Some("https"),
            client: "[2001:db8::1]:4000".parse().unwrap(),
            body_size: 5,
            found: &found,
        };
        let own = [("MINE".to_owned(), "yes".to_owned()), ("REQUEST_METHOD".to_owned(), "mine".to_owned())];
        let arguments = wagi::arguments(&template, &request).into_iter().map(|argument| format!("[{argument}]"));
        let environment = wagi::environment(&request, &own);
        let lines = arguments.chain(environment.into_iter().map(|(name, value)| format!("{name}={value}")));
        let lines = lines.collect();
        headers.clear();
        lines
    });
}

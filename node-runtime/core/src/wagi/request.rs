//! From a request to a program's arguments and environment.

use std::{collections::BTreeMap, net::SocketAddr};

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use percent_encoding::percent_decode_str;

use crate::router::Match;

/// What the environment and the arguments are made of.
#[derive(Debug, Clone, Copy)]
pub struct WagiRequest<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Its target.
    pub uri: &'a Uri,
    /// Its headers, without those that a caller must not set.
    pub headers: &'a HeaderMap,
    /// `host` or `host:port`, as the caller addressed it.
    pub authority: &'a str,
    /// The whole URL.
    pub full_url: &'a str,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The caller.
    pub client: SocketAddr,
    /// How many bytes the body has.
    pub body_size: usize,
    /// The route.
    pub found: &'a Match<'a>,
}

/// The arguments: `template` with `${SCRIPT_NAME}` (the request's path) and `${ARGS}` (its query, with spaces for `&`) filled
/// in, then cut at each space.
#[must_use]
pub fn arguments(template: &str, request: &WagiRequest<'_>) -> Vec<String> {
    let arguments = request.uri.query().unwrap_or_default().replace('&', " ");
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    // One pass, so that what a caller sends is never taken for a template.
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let known = [("${SCRIPT_NAME}", request.uri.path()), ("${ARGS}", arguments.as_str())];
        let Some((name, value)) = known.into_iter().find(|(name, _)| after.starts_with(name)) else {
            text.push_str("${");
            rest = after.get(2..).unwrap_or_default();
            continue;
        };
        text.push_str(value);
        rest = after.get(name.len()..).unwrap_or_default();
    }
    text.push_str(rest);
    text.split(' ').map(str::to_owned).collect()
}

/// The environment: the component's own, then the request, which wins. Names are sorted and appear once.
#[must_use]
pub fn environment(request: &WagiRequest<'_>, own: &[(String, String)]) -> Vec<(String, String)> {
    let mut all: BTreeMap<String, String> = own.iter().cloned().collect();
    headers(request.headers, &mut all);
    let path = request.found.path;
    let script = if path.wildcard { path.matched.rsplit_once('/').map_or("", |(stem, _)| stem) } else { &path.matched };
    let (server, port) = server(request.authority, request.secure);
    let client = request.client.ip().to_string();
    let content_type = request.headers.get(header::CONTENT_TYPE).map(value_text).unwrap_or_default();
    let decoded = percent_decode_str(request.found.path_info).decode_utf8_lossy().into_owned();
    let fixed = [
        ("AUTH_TYPE", String::new()),
        ("REMOTE_USER", String::new()),
        ("CONTENT_LENGTH", request.body_size.to_string()),
        ("CONTENT_TYPE", content_type),
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("SERVER_SOFTWARE", "WAGI/1".to_owned()),
        ("SERVER_PROTOCOL", "HTTP/1.1".to_owned()),
        ("QUERY_STRING", request.uri.query().unwrap_or_default().to_owned()),
        ("REQUEST_METHOD", request.method.to_string()),
        ("REMOTE_ADDR", client.clone()),
        ("REMOTE_HOST", client),
        ("SCRIPT_NAME", script.to_owned()),
        ("X_RAW_PATH_INFO", request.found.path_info.to_owned()),
        ("PATH_INFO", request.found.path_info.to_owned()),
        ("PATH_TRANSLATED", decoded),
        ("SERVER_NAME", server),
        ("SERVER_PORT", port),
        ("X_FULL_URL", request.full_url.to_owned()),
        ("X_MATCHED_ROUTE", path.matched.clone()),
        ("X_BASE_PATH", path.base.clone()),
        ("X_RAW_COMPONENT_ROUTE", path.raw.clone()),
        ("X_COMPONENT_ROUTE", path.component.clone()),
        ("X_CLIENT_ADDR", request.client.to_string()),
    ];
    all.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
    for (name, value) in path.names.iter().zip(&request.found.captures) {
        all.insert(format!("X_PATH_MATCH_{}", variable(name)), (*value).to_owned());
    }
    // A NUL would end the variable early for the program.
    all.into_iter().filter(|(name, value)| !name.contains(['=', '\0']) && !value.contains('\0')).collect()
}

/// `HTTP_...` for each header; a repeated one is joined as HTTP joins it (cookies: RFC 6265, 5.4). Where `x-a` and `x_a` would
/// become the same variable, it is that of `x-a`: proxies set such names, and callers must not replace them.
fn headers(headers: &HeaderMap, all: &mut BTreeMap<String, String>) {
    let (underscored, usual): (Vec<_>, Vec<_>) = headers.keys().partition(|name| name.as_str().contains('_'));
    for name in underscored.into_iter().chain(usual) {
        if matches!(name.as_str(), "authorization" | "connection" | "proxy") {
            continue;
        }
        let values: Vec<String> = headers.get_all(name).iter().map(value_text).collect();
        let separator = if name == header::COOKIE { "; " } else { ", " };
        all.insert(format!("HTTP_{}", variable(name.as_str())), values.join(separator));
    }
}

/// A name as programs expect it.
fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn value_text(value: &HeaderValue) -> String {
    std::str::from_utf8(value.as_bytes()).unwrap_or("CORRUPT VALUE").to_owned()
}

/// The server's name and port; an IPv6 address keeps its brackets (RFC 3875, 4.1.14).
fn server(authority: &str, secure: bool) -> (String, String) {
    let after = authority.rfind(']').map_or(0, |end| end + 1);
    let colon = authority.get(after..).and_then(|rest| rest.find(':')).map(|colon| after + colon);
    let port = colon.and_then(|colon| authority.get(colon + 1..)).filter(|port| !port.is_empty());
    let name = colon.and_then(|colon| authority.get(..colon)).unwrap_or(authority);
    (name.to_owned(), port.unwrap_or(if secure { "443" } else { "80" }).to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use manifest::{Pattern, Route, Target};
    use proptest::prelude::*;

    use super::*;
    use crate::router::Router;

    /// What `act` makes of a request for `uri` to `route`.
    fn with_request<T>(
        route: &str,
        uri: &str,
        headers: &[(&str, &[u8])],
        act: impl FnOnce(&WagiRequest<'_>) -> T,
    ) -> T {
        let target = Target::Static { status: 200, headers: BTreeMap::new(), body: String::new() };
        let (router, _) = Router::new("/", &[Route { pattern: Pattern::Path(route.to_owned()), target }]);
        let uri: Uri = uri.parse().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        act(&WagiRequest {
            method: &Method::POST,
            uri: &uri,
            headers: &map,
            authority: "example.com:3000",
            full_url: "http://example.com:3000/",
            secure: false,
            client: "10.0.0.1:4000".parse().unwrap(),
            body_size: 5,
            found: &router.find(uri.path()).unwrap(),
        })
    }

    fn variables(route: &str, uri: &str, headers: &[(&str, &[u8])]) -> BTreeMap<String, String> {
        with_request(route, uri, headers, |request| environment(request, &[]).into_iter().collect())
    }

    #[test]
    fn arguments_are_the_path_and_the_query() {
        let made = |template| with_request("/...", "/test?abc=def&g=h", &[], |request| arguments(template, request));
        assert_eq!(made("${SCRIPT_NAME} ${ARGS}"), ["/test", "abc=def", "g=h"]);
        assert_eq!(made("fixed  ${OTHER} ${ARGS}"), ["fixed", "", "${OTHER}", "abc=def", "g=h"]);
    }

    #[test]
    fn a_query_is_never_taken_for_a_template() {
        let made = with_request("/...", "/a?$%7BSCRIPT_NAME%7D", &[], |request| arguments("${ARGS}", request));
        assert_eq!(made, ["$%7BSCRIPT_NAME%7D"]);
    }

    #[test]
    fn the_environment_is_that_of_cgi_and_wagi() {
        let all = variables("/foo/...", "/foo/b%20r?x=1", &[("content-type", b"text/a"), ("accept", b"*/*")]);
        let expected = [
            ("CONTENT_LENGTH", "5"),
            ("CONTENT_TYPE", "text/a"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("HTTP_ACCEPT", "*/*"),
            ("PATH_INFO", "/b%20r"),
            ("PATH_TRANSLATED", "/b r"),
            ("QUERY_STRING", "x=1"),
            ("REMOTE_ADDR", "10.0.0.1"),
            ("REQUEST_METHOD", "POST"),
            ("SCRIPT_NAME", "/foo"),
            ("SERVER_NAME", "example.com"),
            ("SERVER_PORT", "3000"),
            ("X_CLIENT_ADDR", "10.0.0.1:4000"),
            ("X_COMPONENT_ROUTE", "/foo"),
            ("X_MATCHED_ROUTE", "/foo/..."),
            ("X_RAW_PATH_INFO", "/b%20r"),
        ];
        for (name, value) in expected {
            assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn secrets_and_traps_are_not_passed_on_as_variables() {
        let headers: &[(&str, &[u8])] = &[("authorization", b"x"), ("connection", b"x"), ("proxy", b"http://evil")];
        let all = variables("/", "/", headers);
        assert!(!all.keys().any(|name| name.starts_with("HTTP_")), "{all:?}");
    }

    #[test]
    fn repeated_headers_are_joined_and_what_is_no_text_is_said_to_be_corrupt() {
        let headers: &[(&str, &[u8])] =
            &[("x-a", b"1"), ("x-a", b"2"), ("cookie", b"a=1"), ("cookie", b"b=2"), ("x-b", b"\xff")];
        let all = variables("/", "/", headers);
        assert_eq!((all["HTTP_X_A"].as_str(), all["HTTP_COOKIE"].as_str()), ("1, 2", "a=1; b=2"));
        assert_eq!(all["HTTP_X_B"], "CORRUPT VALUE");
    }

    #[test]
    fn the_request_beats_the_component_s_own_variables() {
        let own = [("REQUEST_METHOD".to_owned(), "x".to_owned()), ("MINE".to_owned(), "y".to_owned())];
        let all: BTreeMap<_, _> =
            with_request("/", "/", &[], |request| environment(request, &own).into_iter().collect());
        assert_eq!((all["REQUEST_METHOD"].as_str(), all["MINE"].as_str()), ("POST", "y"));
    }

    #[test]
    fn named_segments_become_variables() {
        assert_eq!(variables("/u/:user-id", "/u/7", &[])["X_PATH_MATCH_USER_ID"], "7");
    }

    #[test]
    fn server_name_and_port_are_those_of_the_authority() {
        let of = |authority, secure| server(authority, secure);
        assert_eq!(of("h", false), ("h".to_owned(), "80".to_owned()));
        assert_eq!(of("h", true), ("h".to_owned(), "443".to_owned()));
        assert_eq!(of("[::1]:81", false), ("[::1]".to_owned(), "81".to_owned()));
        assert_eq!(of("[::1]", false), ("[::1]".to_owned(), "80".to_owned()));
    }

    proptest! {
        #[test]
        fn any_request_has_an_environment_that_a_program_can_read(
            path in "(/[a-z%.~]{0,4}){1,3}", query in "[a-z&=%${}]{0,12}", template in ".{0,20}",
            name in "[a-z_-]{1,8}", value in prop::collection::vec(0x20_u8..=0xff, 0..8),
        ) {
            let value: Vec<u8> = value.into_iter().filter(|byte| *byte != 0x7f).collect();
            let uri = format!("{path}?{query}");
            prop_assume!(uri.parse::<Uri>().is_ok());
            let headers: &[(&str, &[u8])] = &[(&name, &value)];
            let (all, arguments) = with_request("/...", &uri, headers, |request| {
                (environment(request, &[]), arguments(&template, request))
            });
            prop_assert!(all.iter().all(|(name, value)| !name.contains(['=', '\0']) && !value.contains('\0')));
            prop_assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(!arguments.is_empty());
        }
    }
}

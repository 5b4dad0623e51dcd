//! The headers that tell a Spin guest about its route: `spin-full-url` and the rest.
//!
//! A caller cannot forge them: whatever begins with `spin-` is dropped from its request first.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::router::{Match, RoutePath};

/// What belongs to the platform.
const PREFIX: &str = "spin-";

/// The headers of one route, as far as they are the same for every request. Made once, when the route is loaded.
#[derive(Debug, Clone)]
pub struct RouteHeaders {
    matched_route: HeaderValue,
    base_path: HeaderValue,
    raw_component_route: HeaderValue,
    component_route: HeaderValue,
    /// One per named segment; `None` where its name cannot be part of a header.
    captures: Vec<Option<HeaderName>>,
}

impl RouteHeaders {
    /// The headers of the route with this path.
    #[must_use]
    pub fn new(path: &RoutePath) -> Self {
        let capture = |name: &String| {
            let name = name.to_ascii_lowercase().replace('_', "-");
            HeaderName::try_from(format!("spin-path-match-{name}")).ok()
        };
        Self {
            matched_route: text(&path.matched),
            base_path: text(&path.base),
            raw_component_route: text(&path.raw),
            component_route: text(&path.component),
            captures: path.names.iter().map(capture).collect(),
        }
    }

    /// The route as the manifest has it.
    #[must_use]
    pub fn raw_component_route(&self) -> &HeaderValue {
        &self.raw_component_route
    }

    /// Adds the headers of one request. `client` is the caller's `address:port`.
    pub fn inject(&self, headers: &mut HeaderMap, found: &Match<'_>, full_url: &str, client: &HeaderValue) {
        headers.reserve(7 + self.captures.len());
        headers.insert(HeaderName::from_static("spin-full-url"), text(full_url));
        headers.insert(HeaderName::from_static("spin-path-info"), text(found.path_info));
        headers.insert(HeaderName::from_static("spin-matched-route"), self.matched_route.clone());
        headers.insert(HeaderName::from_static("spin-base-path"), self.base_path.clone());
        headers.insert(HeaderName::from_static("spin-raw-component-route"), self.raw_component_route.clone());
        headers.insert(HeaderName::from_static("spin-component-route"), self.component_route.clone());
        headers.insert(HeaderName::from_static("spin-client-addr"), client.clone());
        for (name, value) in self.captures.iter().zip(&found.captures) {
            if let Some(name) = name {
                headers.insert(name.clone(), text(value));
            }
        }
    }
}

/// Drops the headers that only the platform may set.
pub fn drop_reserved(headers: &mut HeaderMap) {
    let reserved = |headers: &HeaderMap| headers.keys().find(|name| name.as_str().starts_with(PREFIX)).cloned();
    while let Some(name) = reserved(headers) {
        headers.remove(&name);
    }
}

/// Any text as a header's value: what HTTP does not allow in one is percent-encoded.
#[must_use]
pub fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).or_else(|_| HeaderValue::from_bytes(text.as_bytes())).unwrap_or_else(|_| {
        let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::CONTROLS).to_string();
        // Nothing is left that is not allowed; an empty value is what remains to say otherwise.
        HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}

#[cfg(test)]
mod tests {
    use manifest::{Pattern, Route, Target};
    use proptest::prelude::*;

    use super::*;
    use crate::router::Router;

    fn injected(base: &str, route: &str, path: &str, mut headers: HeaderMap) -> HeaderMap {
        let target = Target::Static { status: 200, headers: std::collections::BTreeMap::new(), body: String::new() };
        let (router, _) = Router::new(base, &[Route { pattern: Pattern::Path(route.to_owned()), target }]);
        let found = router.find(path).unwrap();
        drop_reserved(&mut headers);
        let client = HeaderValue::from_static("127.0.0.1:5000");
        RouteHeaders::new(found.path).inject(&mut headers, &found, &format!("https://host{path}?x"), &client);
        headers
    }

    #[test]
    fn the_injected_headers_are_those_of_spin_s_table() {
        let headers = injected("/base", "/foo/...", "/base/foo/bar", HeaderMap::new());
        let expected = [
            ("spin-full-url", "https://host/base/foo/bar?x"),
            ("spin-path-info", "/bar"),
            ("spin-matched-route", "/base/foo/..."),
            ("spin-base-path", "/base"),
            ("spin-raw-component-route", "/foo/..."),
            ("spin-component-route", "/foo"),
            ("spin-client-addr", "127.0.0.1:5000"),
        ];
        assert_eq!(headers.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(headers[name], value, "{name}");
        }
    }

    #[test]
    fn named_segments_become_headers() {
        let headers = injected("/", "/u/:User_Id/:bad name", "/u/7/8", HeaderMap::new());
        assert_eq!(headers["spin-path-match-user-id"], "7");
        assert_eq!(headers["spin-base-path"], "/");
        assert_eq!(headers.len(), 8);
    }

    #[test]
    fn a_caller_cannot_forge_them() {
        let mut forged = HeaderMap::new();
        for name in ["spin-full-url", "spin-path-match-x", "Spin-Anything", "spin-full-url"] {
            forged.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("evil"));
        }
        forged.insert("x-spin-like", HeaderValue::from_static("fine"));
        let headers = injected("/", "/...", "/a", forged);
        assert_eq!(headers["x-spin-like"], "fine");
        assert!(headers.iter().all(|(_, value)| value != "evil"), "{headers:?}");
    }

    #[test]
    fn a_route_that_is_no_header_value_is_encoded() {
        assert_eq!(text("/a\nb"), "/a%0Ab");
        assert_eq!(text("/ä").as_bytes(), "/ä".as_bytes());
    }

    proptest! {
        #[test]
        fn whatever_a_caller_and_a_route_say_the_guest_is_told_the_truth(
            route in "(/(:[!-~é]{0,5}|[a-z.*%]{0,5})){1,4}(/\\.\\.\\.)?", path in "(/[!-.0-~é]{0,6}){1,5}",
            forged in prop::collection::vec("[sS]pin-[a-z-]{1,12}", 0..4),
        ) {
            let mut headers = HeaderMap::new();
            for name in &forged {
                headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("forged"));
            }
            drop_reserved(&mut headers);
            prop_assert!(headers.is_empty());
            let target = Target::Static { status: 200, headers: std::collections::BTreeMap::new(), body: String::new() };
            let (router, _) = Router::new("/", &[Route { pattern: Pattern::Path(route), target }]);
            if let Some(found) = router.find(&path) {
                let client = HeaderValue::from_static("127.0.0.1:5000");
                RouteHeaders::new(found.path).inject(&mut headers, &found, &path, &client);
                prop_assert!(headers.len() >= 7);
                prop_assert_eq!(&headers["spin-path-info"], &text(found.path_info));
            }
        }

        #[test]
        fn any_text_becomes_a_value(any in ".{0,20}") {
            let value = text(&any);
            prop_assert!(value.as_bytes() == any.as_bytes() || !any.chars().all(|c| !c.is_control() || c == '\t'));
        }
    }
}

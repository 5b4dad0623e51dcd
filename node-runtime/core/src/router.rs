//! [`Router`]: which route answers a path.
//!
//! Rules (Spin's, of 0.9 and later): routes are below the application's base; segments are compared from the left, where a
//! literal beats a named segment (`:id`), which beats a trailing wildcard (`/...`, also written `/*`); so an exact route
//! beats any other, and the longest wildcard wins. One slash at the end of a path does not matter for matching, but is
//! part of what a wildcard matched. Of duplicates the last wins, with a warning. `/.well-known/spin/` is reserved.
//!
//! Promise: a lookup costs what the path's depth costs, whatever the number of routes: it walks a tree of segments, and finds
//! the next one by its hash. Only a literal beside a named segment makes it look in two places.
//!
//! Absent on purpose: decoding and normalising. Paths are matched as they were sent, so `%2f` never separates segments, and
//! empty segments, `.` and `..` are segments like others.

use std::fmt;

use manifest::{Pattern, Route};

/// How many segments a route may have. The tree is walked recursively, and nobody's routes come near.
const DEPTH_LIMIT: usize = 128;

/// Where Spin's built-in answers are.
pub const RESERVED: &str = "/.well-known/spin/";

/// Finds the route for a path.
#[derive(Debug, Clone, Default)]
pub struct Router {
    root: Node,
    /// One per route of the application; `None` for private ones.
    paths: Vec<Option<RoutePath>>,
}

/// A route's path in the forms that guests are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePath {
    /// With the base, as `/base/foo/...`.
    pub matched: String,
    /// The base, as `/base`; `/` if there is none.
    pub base: String,
    /// Without the base, as `/foo/...`.
    pub raw: String,
    /// Without the base and the wildcard, as `/foo`.
    pub component: String,
    /// Whether it ends with a wildcard.
    pub wildcard: bool,
    /// The names of its named segments, in order.
    pub names: Vec<String>,
}

/// The answer to a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match<'a> {
    /// The index of the route in [`manifest::Application::routes`].
    pub route: usize,
    /// The route's path.
    pub path: &'a RoutePath,
    /// What the wildcard matched, with its leading `/`; empty without one.
    pub path_info: &'a str,
    /// What the named segments matched, in the order of [`RoutePath::names`].
    pub captures: Vec<&'a str>,
}

/// Something about an application's routes that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteWarning {
    /// Two routes match the same paths; the later one wins.
    Duplicate {
        /// The one that never answers.
        loser: usize,
        /// The one that does.
        winner: usize,
        /// The path of the one that never answers.
        shadowed: String,
        /// The path of the one that does.
        path: String,
    },
    /// The route has more segments than any route may have, so it never answers.
    TooDeep {
        /// Which.
        route: usize,
    },
    /// The route is in the reserved space, so it never answers.
    Reserved {
        /// Which.
        route: usize,
        /// Its path.
        path: String,
    },
}

impl fmt::Display for RouteWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { loser, winner, shadowed, path } => {
                write!(
                    f,
                    "routes {loser}, `{shadowed}`, and {winner}, `{path}`, match the same paths: only the last one answers"
                )
            }
            Self::TooDeep { route } => {
                write!(f, "route {route} never answers: it has more than {DEPTH_LIMIT} segments")
            }
            Self::Reserved { route, path } => {
                write!(f, "route {route}, `{path}`, never answers: `{RESERVED}` belongs to the platform")
            }
        }
    }
}

#[expect(clippy::disallowed_types, reason = "never iterated, and the cost of a lookup must not grow with the routes")]
type Literals = std::collections::HashMap<Box<str>, Node>;

#[derive(Debug, Clone, Default)]
struct Node {
    literals: Literals,
    named: Option<Box<Self>>,
    exact: Option<usize>,
    wildcard: Option<usize>,
}

impl Router {
    /// A router for `routes` below `base`.
    #[must_use]
    pub fn new(base: &str, routes: &[Route]) -> (Self, Vec<RouteWarning>) {
        let mut router = Self::default();
        let mut warnings = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let path = match &route.pattern {
                Pattern::Path(raw) => Some(RoutePath::new(base, raw)),
                Pattern::Private => None,
            };
            if let Some(path) = &path {
                warnings.extend(router.insert(path, index));
            }
            router.paths.push(path);
        }
        (router, warnings)
    }

    /// Puts a route into the tree.
    fn insert(&mut self, path: &RoutePath, route: usize) -> Vec<RouteWarning> {
        let mut warnings = Vec::new();
        if path.matched.starts_with(RESERVED) {
            warnings.push(RouteWarning::Reserved { route, path: path.matched.clone() });
        }
        if path.segments().nth(DEPTH_LIMIT).is_some() {
            warnings.push(RouteWarning::TooDeep { route });
        } else if let Some(loser) = self.root.insert(path, route) {
            let shadowed = self.paths.get(loser).and_then(Option::as_ref).map(|path| path.matched.clone());
            let (shadowed, path) = (shadowed.unwrap_or_default(), path.matched.clone());
            warnings.push(RouteWarning::Duplicate { loser, winner: route, shadowed, path });
        }
        warnings
    }

    /// The route for `path`, which is a request's path without its query.
    #[must_use]
    pub fn find<'a>(&'a self, path: &'a str) -> Option<Match<'a>> {
        if !path.starts_with('/') {
            return None;
        }
        let mut lookup = Lookup::of(path);
        let (route, rest) = self.root.find(&mut lookup, 0)?;
        let known = self.paths.get(route)?.as_ref()?;
        Some(Match { route, path: known, path_info: path.get(rest..).unwrap_or_default(), captures: lookup.captures })
    }

    /// The path of each route of the application, in its order; `None` for private ones.
    #[must_use]
    pub fn paths(&self) -> &[Option<RoutePath>] {
        &self.paths
    }
}

impl RoutePath {
    fn new(base: &str, raw: &str) -> Self {
        let base = base.trim_end_matches('/');
        let slash = if raw.starts_with('/') { "" } else { "/" };
        let raw = format!("{slash}{raw}");
        let stem = raw.strip_suffix("/...").or_else(|| raw.strip_suffix("/*"));
        let component = stem.unwrap_or(&raw).to_owned();
        let wildcard = stem.is_some();
        let base_slash = if base.starts_with('/') || base.is_empty() { "" } else { "/" };
        let mut path = Self {
            matched: format!("{base_slash}{base}{raw}"),
            base: if base.is_empty() { "/".to_owned() } else { format!("{base_slash}{base}") },
            raw,
            component,
            wildcard,
            names: Vec::new(),
        };
        path.names = path.segments().filter_map(named).map(str::to_owned).collect();
        path
    }

    /// The segments before the wildcard, base included.
    fn segments(&self) -> impl Iterator<Item = &str> {
        let stem = if self.wildcard {
            self.matched.rsplit_once('/').map_or("", |(stem, _)| stem)
        } else {
            self.matched.strip_suffix('/').unwrap_or(&self.matched)
        };
        stem.strip_prefix('/').into_iter().flat_map(|stem| stem.split('/'))
    }
}

/// The name of a named segment.
fn named(segment: &str) -> Option<&str> {
    segment.strip_prefix(':').filter(|name| !name.is_empty())
}

/// A path on its way through the tree.
struct Lookup<'a> {
    path: &'a str,
    /// Where what must match ends: before a slash at the end.
    end: usize,
    captures: Vec<&'a str>,
    /// How many nodes were looked at.
    visited: usize,
}

impl<'a> Lookup<'a> {
    fn of(path: &'a str) -> Self {
        let end = path.len() - usize::from(path.ends_with('/'));
        Self { path, end, captures: Vec::new(), visited: 0 }
    }
}

impl Node {
    /// Puts a route where it belongs; returns the one that was there.
    fn insert(&mut self, path: &RoutePath, route: usize) -> Option<usize> {
        let mut node = self;
        for segment in path.segments() {
            node = match named(segment) {
                Some(_) => node.named.get_or_insert_default(),
                None => node.literals.entry(segment.into()).or_default(),
            };
        }
        let place = if path.wildcard { &mut node.wildcard } else { &mut node.exact };
        place.replace(route)
    }

    /// The best route below this node for the path from `at` on, and where what its wildcard matched begins. Never deeper
    /// than the deepest route.
    fn find(&self, lookup: &mut Lookup<'_>, at: usize) -> Option<(usize, usize)> {
        lookup.visited += 1;
        let path = lookup.path;
        let wildcard = self.wildcard.map(|route| (route, at));
        if at >= lookup.end {
            return self.exact.map(|route| (route, path.len())).or(wildcard);
        }
        let rest = path.get(at + 1..lookup.end)?;
        let segment = rest.split('/').next()?;
        let next = at + 1 + segment.len();
        if let Some(found) = self.literals.get(segment).and_then(|node| node.find(lookup, next)) {
            return Some(found);
        }
        if let Some(node) = self.named.as_ref().filter(|_| !segment.is_empty()) {
            lookup.captures.push(segment);
            if let Some(found) = node.find(lookup, next) {
                return Some(found);
            }
            lookup.captures.pop();
        }
        wildcard
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use manifest::Target;
    use proptest::prelude::*;

    use super::*;

    fn routes(patterns: &[&str]) -> Vec<Route> {
        let target = Target::Static { status: 200, headers: BTreeMap::new(), body: String::new() };
        patterns.iter().map(|p| Route { pattern: Pattern::Path((*p).to_owned()), target: target.clone() }).collect()
    }

    /// Which of `patterns` answers `path`, and with which path info.
    fn answer<'a>(base: &str, patterns: &[&'a str], path: &str) -> Option<(&'a str, String)> {
        let (router, _) = Router::new(base, &routes(patterns));
        router.find(path).map(|found| (patterns[found.route], found.path_info.to_owned()))
    }

    #[test]
    fn a_wildcard_matches_its_prefix_and_everything_below_but_nothing_beside() {
        let found = |path| answer("/", &["/foo/..."], path).map(|(_, info)| info);
        assert_eq!(found("/foo").as_deref(), Some(""));
        assert_eq!(found("/foo/").as_deref(), Some("/"));
        assert_eq!(found("/foo/bar").as_deref(), Some("/bar"));
        assert_eq!(found("/foo/bar/").as_deref(), Some("/bar/"));
        assert_eq!(found("/foo//").as_deref(), Some("//"));
        assert_eq!(found("/foobar"), None);
        assert_eq!(found("/"), None);
    }

    #[test]
    fn the_root_wildcard_matches_every_path() {
        for path in ["/", "/a", "/a/b/", "//"] {
            assert_eq!(answer("/", &["/..."], path), Some(("/...", path.to_owned())));
        }
        assert_eq!(answer("/", &["/*"], "/a"), Some(("/*", "/a".to_owned())));
        assert_eq!(answer("/", &["/..."], "*"), None);
    }

    #[test]
    fn exact_beats_named_beats_wildcard_and_the_longest_wildcard_wins() {
        let all = ["/...", "/a/...", "/a/:x", "/a/b"];
        let winner = |path| answer("/", &all, path).unwrap().0;
        assert_eq!(winner("/a/b"), "/a/b");
        assert_eq!(winner("/a/b/"), "/a/b");
        assert_eq!(winner("/a/c"), "/a/:x");
        assert_eq!(winner("/a/c/d"), "/a/...");
        assert_eq!(winner("/a"), "/a/...");
        assert_eq!(winner("/c"), "/...");
    }

    #[test]
    fn a_dead_end_behind_a_literal_falls_back_to_named_segments_and_wildcards() {
        assert_eq!(answer("/", &["/a/b/c", "/:x/b/d"], "/a/b/d").unwrap().0, "/:x/b/d");
        assert_eq!(answer("/", &["/a/b/c", "/..."], "/a/b/x").unwrap(), ("/...", "/a/b/x".to_owned()));
    }

    #[test]
    fn named_segments_are_captured_and_never_empty() {
        let (router, _) = Router::new("/", &routes(&["/u/:user/p/:post/..."]));
        let found = router.find("/u/7/p/x%2fy/z").unwrap();
        assert_eq!(found.path.names, ["user", "post"]);
        assert_eq!(found.captures, ["7", "x%2fy"]);
        assert_eq!(found.path_info, "/z");
        assert_eq!(router.find("/u//p/x"), None);
    }

    #[test]
    fn the_base_is_part_of_what_matches_and_of_what_guests_are_told() {
        let (router, _) = Router::new("/base/", &routes(&["/foo/...", "/"]));
        let found = router.find("/base/foo/bar").unwrap();
        assert_eq!(
            (found.path.matched.as_str(), found.path.base.as_str(), found.path.raw.as_str()),
            ("/base/foo/...", "/base", "/foo/...")
        );
        assert_eq!((found.path.component.as_str(), found.path_info), ("/foo", "/bar"));
        assert_eq!(router.find("/base").unwrap().route, 1);
        assert_eq!(router.find("/base/").unwrap().route, 1);
        assert_eq!(router.find("/foo/bar"), None);
    }

    #[test]
    fn of_duplicates_the_last_wins_with_a_warning() {
        for (first, last) in [("/a/:x", "/a/:y/"), ("/a/*", "/a/..."), ("/a", "/a/"), ("/:a/b/...", "/:c/b/*")] {
            let (router, warnings) = Router::new("/", &routes(&[first, last, "/b"]));
            let path = first.replace([':', '*', '.'], "");
            assert_eq!(router.find(path.trim_end_matches('/')).unwrap().route, 1, "{first}");
            assert_eq!(
                warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
                [format!("routes 0, `{first}`, and 1, `{last}`, match the same paths: only the last one answers")]
            );
        }
    }

    #[test]
    fn a_route_in_the_reserved_space_is_warned_about() {
        let (_, warnings) = Router::new("/", &routes(&["/.well-known/spin/health"]));
        assert!(matches!(&warnings[..], [RouteWarning::Reserved { route: 0, .. }]), "{warnings:?}");
        assert!(warnings[0].to_string().contains("never answers"));
    }

    /// How many nodes a lookup looks at.
    fn visited(patterns: &[String], path: &str) -> usize {
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        let (router, _) = Router::new("/", &routes(&patterns));
        let mut lookup = Lookup::of(path);
        router.root.find(&mut lookup, 0).unwrap();
        lookup.visited
    }

    #[test]
    fn a_lookup_looks_at_as_many_nodes_with_one_route_as_with_a_thousand() {
        let one = ["/api/v1/items/...".to_owned()];
        let beside =
            (0..1000).flat_map(|n| [format!("/api/v1/other-{n}"), format!("/api/v{n}/x/..."), format!("/{n}/...")]);
        let thousand: Vec<String> = beside.chain(one.clone()).collect();
        for path in ["/api/v1/items", "/api/v1/items/7", "/api/v1/items/7/8/9/10/11"] {
            assert_eq!((visited(&one, path), visited(&thousand, path)), (4, 4), "{path}");
        }
        assert_eq!(visited(&["/:a/:b".to_owned()], "/x/y"), 3);
    }

    #[test]
    fn a_route_without_end_is_warned_about_and_a_path_without_end_is_fine() {
        let deep = "/x".repeat(100_000);
        let (router, warnings) = Router::new("/", &routes(&[&deep, "/..."]));
        assert_eq!(warnings, [RouteWarning::TooDeep { route: 0 }]);
        assert_eq!(router.find(&deep).unwrap().route, 1);
        let (router, _) = Router::new("/", &routes(&["/:x/:y/..."]));
        assert_eq!(router.find(&deep).unwrap().path_info.len(), deep.len() - 4);
    }

    #[test]
    fn private_routes_answer_no_path() {
        let mut all = routes(&["/a"]);
        all[0].pattern = Pattern::Private;
        let (router, warnings) = Router::new("/", &all);
        assert_eq!((router.find("/a"), warnings), (None, vec![]));
    }

    /// How well a pattern matches, smaller is better: per segment 0 literal, 1 named, 2 wildcard.
    fn rank(pattern: &str, path: &str) -> Option<Vec<u8>> {
        let parts = |text: &str| -> Vec<String> {
            let text = text.strip_suffix('/').unwrap_or(text);
            text.split('/').skip(1).map(str::to_owned).collect()
        };
        let (stem, wildcard) = pattern.strip_suffix("/...").map_or((pattern, false), |stem| (stem, true));
        // A stem has no slash at its end to ignore.
        let stem = if wildcard { parts(&format!("{stem}/")) } else { parts(stem) };
        let path = parts(path);
        if path.len() < stem.len() || !wildcard && path.len() != stem.len() {
            return None;
        }
        let mut rank = Vec::new();
        for (want, have) in stem.iter().zip(&path) {
            rank.push(match want.strip_prefix(':') {
                Some(_) if !have.is_empty() => 1,
                Some(_) => return None,
                None if want == have => 0,
                None => return None,
            });
        }
        rank.push(if wildcard { 2 } else { 0 });
        Some(rank)
    }

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![Just("a"), Just("b"), Just(":x"), Just(":y")];
        (prop::collection::vec(segment, 0..4), prop_oneof![Just(""), Just("/"), Just("/...")])
            .prop_map(|(segments, end)| segments.iter().map(|s| format!("/{s}")).collect::<String>() + end)
            .prop_map(|pattern| if pattern.is_empty() { "/".to_owned() } else { pattern })
    }

    proptest! {
        #[test]
        fn any_routes_and_any_path_are_looked_up_without_a_panic(
            base in "(/|[/a-z%.]{0,6})",
            patterns in prop::collection::vec("[/a:.*%é]{0,12}", 0..8),
            path in "(/[/a:.*%é ?]{0,12}|.{0,12})",
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let (router, _) = Router::new(&base, &routes(&patterns));
            if let Some(found) = router.find(&path) {
                prop_assert!(path.ends_with(found.path_info));
                prop_assert_eq!(found.captures.len(), found.path.names.len());
                prop_assert!(found.captures.iter().all(|capture| !capture.is_empty() && !capture.contains('/')));
            }
        }

        #[test]
        fn router_agrees_with_a_naive_scan(
            patterns in prop::collection::vec(pattern(), 0..12),
            segments in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c"), Just("")], 0..5),
            slash in any::<bool>(),
        ) {
            let mut path: String = segments.iter().map(|s| format!("/{s}")).collect();
            if slash || path.is_empty() {
                path.push('/');
            }
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let naive = patterns
                .iter()
                .enumerate()
                .filter_map(|(index, pattern)| rank(pattern, &path).map(|rank| (rank, usize::MAX - index)))
                .min()
                .map(|(_, inverse)| usize::MAX - inverse);
            let (router, _) = Router::new("/", &routes(&patterns));
            prop_assert_eq!(router.find(&path).map(|found| found.route), naive, "{:?} {}", patterns, path);
        }
    }
}

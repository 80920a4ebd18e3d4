//! The routes of one virtual host by their paths, so that a request is held against few of them.
//!
//! The index only narrows down: whether a route matches is asked of the route itself, and of those
//! that do the first in order wins, as in a scan.

use crate::xds::{PathMatch, Route};
use std::sync::Arc;

/// So many routes are scanned as fast as found.
const SCANNED: usize = 16;

/// Finds the routes whose path may match.
#[derive(Clone, Debug)]
pub(crate) struct RouteIndex {
    paths: Paths,
    /// Of the routes that take any case, in lower case.
    caseless: Paths,
}

impl RouteIndex {
    /// `None` where a scan does as well.
    pub(crate) fn build(routes: &[Arc<Route>]) -> Option<RouteIndex> {
        if routes.len() <= SCANNED {
            return None;
        }
        let (mut paths, mut caseless) = (Vec::new(), Vec::new());
        for (position, route) in (0..).zip(routes) {
            let (text, exact) = match &route.matches.path {
                PathMatch::Exact(text) => (text, true),
                PathMatch::Prefix(text) | PathMatch::SeparatedPrefix(text) => (text, false),
                PathMatch::Regex(regex) => {
                    paths.push((regex.literal_prefix(), position, false));
                    continue;
                }
            };
            let text = text.as_bytes();
            if route.matches.case_sensitive {
                paths.push((text.into(), position, exact));
            } else {
                caseless.push((text.to_ascii_lowercase().into(), position, exact));
            }
        }
        Some(RouteIndex {
            paths: Paths::new(paths),
            caseless: Paths::new(caseless),
        })
    }

    /// The number of the first of `routes` that `matches`, which is asked of every route before it
    /// that `path` leads to; `path` is without query.
    pub(crate) fn first(
        &self,
        routes: &[Arc<Route>],
        path: &str,
        mut matches: impl FnMut(usize, &Route) -> bool,
    ) -> Option<usize> {
        let mut first = routes.len() as u32;
        let mut consider = |positions: &[u32]| {
            let found = positions
                .iter()
                .take_while(|&&at| at < first)
                .find(|&&at| matches(at as usize, &routes[at as usize]));
            first = found.copied().unwrap_or(first);
        };
        self.paths.visit(path.as_bytes(), &mut consider);
        if !self.caseless.0.is_empty() {
            self.caseless
                .visit(&path.as_bytes().to_ascii_lowercase(), &mut consider);
        }
        Some(first as usize).filter(|&first| first < routes.len())
    }
}

/// Texts in alphabetical order. What a path begins with is then found by one binary search: the
/// last entry not after the path, or entries that this one begins with.
#[derive(Clone, Debug, Default)]
struct Paths(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    text: Box<[u8]>,
    /// Routes of this very path, in order.
    exact: Vec<u32>,
    /// Routes of the paths that begin so, in order.
    prefix: Vec<u32>,
    /// The longest other entry that `text` begins with.
    parent: Option<u32>,
}

impl Paths {
    /// From texts, the positions of their routes, and whether they are whole paths.
    fn new(mut listed: Vec<(Box<[u8]>, u32, bool)>) -> Paths {
        listed.sort_unstable();
        let mut paths = Paths::default();
        for (text, position, exact) in listed {
            if paths.0.last().is_none_or(|last| last.text != text) {
                let parent = paths.longest(&text);
                paths.0.push(Entry {
                    text,
                    exact: Vec::new(),
                    prefix: Vec::new(),
                    parent,
                });
            }
            if let Some(entry) = paths.0.last_mut() {
                let routes = if exact {
                    &mut entry.exact
                } else {
                    &mut entry.prefix
                };
                routes.push(position);
            }
        }
        paths
    }

    /// The longest entry that `path` begins with.
    fn longest(&self, path: &[u8]) -> Option<u32> {
        let after = self.0.partition_point(|entry| *entry.text <= *path);
        let mut at = after.checked_sub(1)? as u32;
        while !path.starts_with(&self.0[at as usize].text) {
            at = self.0[at as usize].parent?;
        }
        Some(at)
    }

    /// The positions of the routes that `path` may match: the most specific first, which spares
    /// most of the others.
    fn visit(&self, path: &[u8], consider: &mut impl FnMut(&[u32])) {
        let mut next = self.longest(path);
        while let Some(at) = next {
            let entry = &self.0[at as usize];
            if entry.text.len() == path.len() {
                consider(&entry.exact);
            }
            consider(&entry.prefix);
            next = entry.parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Headers, RequestHead};
    use crate::router::matching::{matches, path_of};
    use crate::xds::*;
    use proptest::prelude::*;

    /// Few pieces, so that paths meet.
    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec!["/", "a", "A", "b", "/a", "é"]),
            0..6,
        )
        .prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    fn path_match() -> impl Strategy<Value = PathMatch> {
        let regexes = vec![
            "/a.*",
            "/.",
            ".*b",
            "/a/?",
            "/(a|ab)",
            "(?i)/A.?",
            "/a+|/b",
            "/é.*|/è",
        ];
        prop_oneof![
            path().prop_map(|text| PathMatch::Exact(text.into())),
            path().prop_map(|text| PathMatch::Prefix(text.into())),
            Just(PathMatch::Prefix("".into())),
            path().prop_map(|text| PathMatch::SeparatedPrefix(text.into())),
            prop::sample::select(regexes)
                .prop_map(|source| PathMatch::Regex(Regex::new(source).unwrap())),
        ]
    }

    fn value_match() -> impl Strategy<Value = ValueMatch> {
        prop_oneof![
            any::<bool>().prop_map(ValueMatch::Present),
            prop::sample::select(vec!["1", "2"])
                .prop_map(|v| ValueMatch::String(StringMatch::Exact(v.into()))),
        ]
    }

    prop_compose! {
        fn route_match()(
            path in path_match(),
            case_sensitive in prop::bool::weighted(0.7),
            header in prop::option::weighted(0.3, (value_match(), any::<bool>(), any::<bool>())),
            query in prop::option::weighted(0.2, value_match()),
            share in prop::option::weighted(0.2, 0..100u32),
        ) -> RouteMatch {
            let headers = header.map(|(value, invert, treat_missing_as_empty)| HeaderMatch {
                name: "h".into(),
                value,
                invert,
                treat_missing_as_empty,
            });
            RouteMatch {
                path,
                case_sensitive,
                headers: headers.into_iter().collect(),
                query: query
                    .map(|value| QueryMatch { name: "q".into(), value })
                    .into_iter()
                    .collect(),
                fraction: share.map(|numerator| Fraction { numerator, denominator: 100 }),
                claims: Vec::new(),
            }
        }
    }

    fn head(path: &str) -> RequestHead {
        RequestHead {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "a".into(),
            path: path.into(),
            headers: Headers::default(),
            id: None,
        }
    }

    prop_compose! {
        fn request()(
            path in path(),
            query in prop::sample::select(vec!["", "?q=1", "?q=2&q=1", "#q"]),
            header in prop::option::of(prop::sample::select(vec!["1", "2"])),
            stream_value in 0..100u64,
        ) -> (RequestHead, u64) {
            let mut head = head(&format!("{path}{query}"));
            if let Some(value) = header {
                head.headers.append("h".into(), value.as_bytes());
            }
            (head, stream_value)
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            route_matches in prop::collection::vec(route_match(), SCANNED + 1..60),
            requests in prop::collection::vec(request(), 1..20),
        ) {
            let status = |position| RouteAction::DirectResponse { status: position, body: "".into() };
            let routes: Vec<Arc<Route>> = (0..)
                .zip(route_matches)
                .map(|(position, matches)| Arc::new(Route::new(matches, status(position))))
                .collect();
            let index = RouteIndex::build(&routes).unwrap();
            for (head, stream_value) in requests {
                let path = path_of(&head.path);
                let holds = |route: &Route| {
                    matches(&route.matches, path, &head)
                        && route.matches.fraction.is_none_or(|share| share.holds(stream_value))
                };
                let found = index.first(&routes, path, |_, route| holds(route));
                prop_assert_eq!(found, routes.iter().position(|route| holds(route)));
            }
        }
    }

    #[test]
    fn asks_only_the_routes_that_the_path_leads_to() {
        let text = |n: u32| format!("/team-{}/service-{n}", n % 7);
        let paths = (0..999).map(|n| match n % 3 {
            0 => PathMatch::Exact(text(n).into()),
            1 => PathMatch::SeparatedPrefix(text(n).into()),
            _ => PathMatch::Regex(Regex::new(&(text(n) + "(/.*)?")).unwrap()),
        });
        let all = PathMatch::Prefix("/".into());
        let routes: Vec<Arc<Route>> = paths
            .chain([all])
            .map(|path| {
                let matches = RouteMatch {
                    path,
                    ..RouteMatch::default()
                };
                let action = RouteAction::DirectResponse {
                    status: 200,
                    body: "".into(),
                };
                Arc::new(Route::new(matches, action))
            })
            .collect();
        let index = RouteIndex::build(&routes).unwrap();
        for n in 0..999 {
            let asked = std::cell::Cell::new(0);
            let path = text(n);
            let found = index.first(&routes, &path, |_, route| {
                asked.set(asked.get() + 1);
                matches(&route.matches, &path, &head(&path))
            });
            assert_eq!(found, Some(n as usize), "{path}");
            // Also those of /service-9 and /service-99, for example; never "/".
            assert!(asked.get() <= 3, "{path}: {} routes asked", asked.get());
        }
    }
}

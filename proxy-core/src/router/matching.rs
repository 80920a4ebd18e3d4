//! Does a route match a request?

use crate::head::{Headers, RequestHead, ResponseHead};
use crate::xds::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch};

/// A condition of a route that a request does not meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unmet<'m> {
    Path,
    Header(&'m HeaderMatch),
    Query(&'m QueryMatch),
}

/// Whether every condition on the head holds; `path` is the head's without query (see [`path_of`]).
pub fn matches(matcher: &RouteMatch, path: &str, head: &RequestHead) -> bool {
    unmet(matcher, path, head).is_none()
}

/// The first condition on the head that does not hold, in Envoy's order.
pub fn unmet<'m>(matcher: &'m RouteMatch, path: &str, head: &RequestHead) -> Option<Unmet<'m>> {
    if !path_matches(matcher, path) {
        return Some(Unmet::Path);
    }
    let mut headers = matcher.headers.iter();
    if let Some(header) = headers.find(|header| !request_header_matches(header, head)) {
        return Some(Unmet::Header(header));
    }
    let mut query = matcher.query.iter();
    let parameter = query.find(|parameter| !query_matches(parameter, &head.path))?;
    Some(Unmet::Query(parameter))
}

/// The path without query and fragment.
pub fn path_of(path: &str) -> &str {
    let end = path.bytes().position(|byte| matches!(byte, b'?' | b'#'));
    end.map_or(path, |end| &path[..end])
}

fn path_matches(matcher: &RouteMatch, path: &str) -> bool {
    let same = |a: &str, b: &str| {
        if matcher.case_sensitive {
            a == b
        } else {
            a.eq_ignore_ascii_case(b)
        }
    };
    let starts = |want: &str| {
        path.get(..want.len())
            .is_some_and(|start| same(start, want))
    };
    match &matcher.path {
        PathMatch::Exact(want) => same(path, want),
        PathMatch::Prefix(want) => starts(want),
        PathMatch::SeparatedPrefix(want) => {
            starts(want) && matches!(path.as_bytes().get(want.len()), None | Some(b'/'))
        }
        PathMatch::Regex(regex) => regex.is_full_match(path.as_bytes()),
    }
}

/// Whether a condition on a header, or on a pseudo-header, holds for a request.
pub(crate) fn request_header_matches(matcher: &HeaderMatch, head: &RequestHead) -> bool {
    let pseudo = match &*matcher.name {
        ":method" => Some(&head.method),
        ":authority" => Some(&head.authority),
        ":scheme" => Some(&head.scheme),
        ":path" => Some(&head.path),
        _ => None,
    };
    if let Some(value) = pseudo {
        return value_matches(&matcher.value, Some(value.as_bytes())) != matcher.invert;
    }
    lines_match(matcher, &head.headers)
}

/// Whether a condition on a header, or on `:status`, holds for a response.
pub(crate) fn response_header_matches(matcher: &HeaderMatch, head: &ResponseHead) -> bool {
    if &*matcher.name == ":status" {
        let status = head.status.to_string();
        return value_matches(&matcher.value, Some(status.as_bytes())) != matcher.invert;
    }
    lines_match(matcher, &head.headers)
}

fn lines_match(matcher: &HeaderMatch, headers: &Headers) -> bool {
    let mut lines = headers.all(&matcher.name).peekable();
    if lines.peek().is_none() {
        // A missing header fails even an inverted match, unless it is absence that is asked for.
        return match &matcher.value {
            ValueMatch::Present(present) => *present == matcher.invert,
            ValueMatch::String(_) => {
                matcher.treat_missing_as_empty
                    && value_matches(&matcher.value, Some(b"")) != matcher.invert
            }
        };
    }
    lines.any(|line| value_matches(&matcher.value, Some(line))) != matcher.invert
}

fn value_matches(matcher: &ValueMatch, value: Option<&[u8]>) -> bool {
    match (matcher, value) {
        (ValueMatch::Present(present), value) => *present == value.is_some(),
        (ValueMatch::String(matcher), Some(value)) => matcher.matches(value),
        (ValueMatch::String(_), None) => false,
    }
}

fn query_matches(matcher: &QueryMatch, path: &str) -> bool {
    let value = query_value(path, &matcher.name);
    value_matches(&matcher.value, value.map(str::as_bytes))
}

/// The first value of query parameter `name`, as written (not percent-decoded).
pub fn query_value<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    let query = query.split('#').next().unwrap_or(query);
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

impl From<StringMatch> for ValueMatch {
    fn from(matcher: StringMatch) -> ValueMatch {
        ValueMatch::String(matcher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::Regex;

    fn head(path: &str, headers: &[(&str, &str)]) -> RequestHead {
        let mut lines = Headers::default();
        for (name, value) in headers {
            lines.append((*name).into(), value.as_bytes());
        }
        RequestHead {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "Reviews:9080".into(),
            path: path.into(),
            headers: lines,
            id: None,
        }
    }

    fn by_path(path: PathMatch, case_sensitive: bool) -> RouteMatch {
        RouteMatch {
            path,
            case_sensitive,
            ..RouteMatch::default()
        }
    }

    #[test]
    fn paths() {
        let regex = PathMatch::Regex(Regex::new("/v[12]/.*").unwrap());
        let table: &[(RouteMatch, &str, bool)] = &[
            (
                by_path(PathMatch::Prefix("/foo".into()), true),
                "/foobar?x=1",
                true,
            ),
            (
                by_path(PathMatch::Prefix("/foo".into()), true),
                "/FOO",
                false,
            ),
            (
                by_path(PathMatch::Prefix("/foo".into()), false),
                "/FOO/x",
                true,
            ),
            (
                by_path(PathMatch::Exact("/foo".into()), true),
                "/foo?q#f",
                true,
            ),
            (
                by_path(PathMatch::Exact("/foo".into()), true),
                "/foo/",
                false,
            ),
            (
                by_path(PathMatch::SeparatedPrefix("/p".into()), true),
                "/p",
                true,
            ),
            (
                by_path(PathMatch::SeparatedPrefix("/p".into()), true),
                "/p/q",
                true,
            ),
            (
                by_path(PathMatch::SeparatedPrefix("/p".into()), true),
                "/pq",
                false,
            ),
            (by_path(regex.clone(), true), "/v1/x?y", true),
            (by_path(regex.clone(), true), "/v1", false),
            (by_path(regex, true), "/a/v1/x", false),
        ];
        for (matcher, path, want) in table {
            assert_eq!(
                matches(matcher, path_of(path), &head(path, &[])),
                *want,
                "{matcher:?} {path}"
            );
        }
    }

    fn by_header(name: &str, value: ValueMatch, invert: bool, missing_empty: bool) -> RouteMatch {
        let header = HeaderMatch {
            name: name.into(),
            value,
            invert,
            treat_missing_as_empty: missing_empty,
        };
        RouteMatch {
            headers: vec![header],
            ..RouteMatch::default()
        }
    }

    #[test]
    fn headers() {
        let jason = || ValueMatch::String(StringMatch::Exact("jason".into()));
        let any = || ValueMatch::String(StringMatch::Regex(Regex::new(".*").unwrap()));
        let present = head("/", &[("end-user", "x"), ("end-user", "jason")]);
        let absent = head("/", &[]);
        let table = [
            (by_header("end-user", jason(), false, false), &present, true), // any line
            (by_header("end-user", jason(), true, false), &present, false),
            (by_header("end-user", jason(), false, false), &absent, false),
            (by_header("end-user", jason(), true, false), &absent, false), // missing fails even inverted
            (by_header("end-user", jason(), true, true), &absent, true),
            (by_header("end-user", any(), true, true), &absent, false),
            (by_header("end-user", any(), false, false), &absent, false),
            (
                by_header("end-user", ValueMatch::Present(true), false, false),
                &present,
                true,
            ),
            (
                by_header("end-user", ValueMatch::Present(true), true, false),
                &absent,
                true,
            ),
            (
                by_header("end-user", ValueMatch::Present(false), false, false),
                &absent,
                true,
            ),
            (
                by_header(
                    ":authority",
                    ValueMatch::String(StringMatch::Exact("Reviews:9080".into())),
                    false,
                    false,
                ),
                &absent,
                true,
            ),
            (
                by_header(
                    ":method",
                    ValueMatch::String(StringMatch::Exact("get".into())),
                    false,
                    false,
                ),
                &absent,
                false,
            ),
        ];
        for (matcher, head, want) in table {
            assert_eq!(matches(&matcher, "/", head), want, "{matcher:?} {head:?}");
        }
    }

    #[test]
    fn query_parameters() {
        let by = |name: &str, value| RouteMatch {
            query: vec![QueryMatch {
                name: name.into(),
                value,
            }],
            ..RouteMatch::default()
        };
        let v1 = || ValueMatch::String(StringMatch::Exact("1".into()));
        for (matcher, path, want) in [
            (by("v", v1()), "/?a=2&v=1", true),
            (by("v", v1()), "/?v=2&v=1", false), // the first counts
            (by("v", v1()), "/", false),
            (by("v", ValueMatch::Present(true)), "/?v", true),
            (by("v", ValueMatch::Present(true)), "/?vv=1", false),
            (by("v", ValueMatch::Present(false)), "/?vv=1", true),
        ] {
            assert_eq!(matches(&matcher, "/", &head(path, &[])), want, "{path}");
        }
    }
}

//! What a route does to the heads that pass: rewrites, header changes, redirects.

use super::format::{Context, formatted};
use super::matching::path_of;
use super::{Decision, Matched};
use crate::contract::Opened;
use crate::head::{Headers, RequestHead, ResponseHead};
use crate::xds::{
    HeaderMutations, Name, PathMatch, PathRewrite, Redirect, RedirectPath, Route, RouteAction,
    WeightedCluster,
};
use std::borrow::Cow;
use std::sync::Arc;

/// The head that goes upstream: the same one if nothing changes it. Of `levels` the most specific
/// is applied first, so that the outer ones have the last word.
pub(crate) fn upstream_head(
    head: &Arc<RequestHead>,
    levels: [&HeaderMutations; 3],
    route: &Route,
    entry: &WeightedCluster,
    opened: &Opened,
) -> Arc<RequestHead> {
    let RouteAction::Forward(forward) = &route.action else {
        return Arc::clone(head);
    };
    let unchanged = levels.iter().all(|m| m.is_empty())
        && forward.host_rewrite.is_none()
        && entry.host_rewrite.is_none()
        && forward.path_rewrite == PathRewrite::None;
    if unchanged {
        return Arc::clone(head);
    }
    let mut changed = RequestHead {
        id: None,
        ..(**head).clone()
    };
    for (level, mutations) in levels.into_iter().enumerate() {
        remove(&mut changed.headers, mutations);
        let context = Context {
            request: &changed,
            response: None,
            response_code: 0,
            opened,
            cluster: Some(&entry.cluster),
            route: &route.name,
        };
        let values = values(mutations, &context);
        add(&mut changed.headers, mutations, &values);
        // The entry's host is there for all that follows, and leaves no trace of the one before.
        if let (0, Some(authority)) = (level, &entry.host_rewrite) {
            changed.authority = Arc::clone(authority);
        }
    }
    if let Some(authority) = &forward.host_rewrite {
        let before = std::mem::replace(&mut changed.authority, Arc::clone(authority));
        changed
            .headers
            .set("x-envoy-original-host".into(), before.as_bytes());
    }
    let path = rewritten_path(&head.path, &route.matches.path, &forward.path_rewrite);
    if let Some(path) = path {
        changed
            .headers
            .set("x-envoy-original-path".into(), head.path.as_bytes());
        changed.path = path.into();
    }
    Arc::new(changed)
}

/// The response as the client gets it, if the route changes it. `request`: as it was when the
/// response was made; `entry`: the chosen cluster; `response_code`: of an upstream's answer.
pub fn response_head(
    head: &Arc<ResponseHead>,
    response_code: u16,
    matched: &Matched,
    entry: Option<&WeightedCluster>,
    request: &RequestHead,
    opened: &Opened,
) -> Arc<ResponseHead> {
    let levels = [
        entry.map(|e| &e.response_headers),
        Some(&matched.route.response_headers),
        Some(&matched.response_headers),
    ];
    if levels.iter().flatten().all(|m| m.is_empty()) {
        return Arc::clone(head);
    }
    let mut changed = (**head).clone();
    for mutations in levels.into_iter().flatten() {
        remove(&mut changed.headers, mutations);
        let context = Context {
            request,
            response: Some(&changed),
            response_code,
            opened,
            cluster: entry.map(|entry| &*entry.cluster),
            route: &matched.route.name,
        };
        let values = values(mutations, &context);
        add(&mut changed.headers, mutations, &values);
    }
    Arc::new(changed)
}

/// The head of a filter's own answer with the headers that the filter adds.
pub(crate) fn head_of_filter(
    head: &ResponseHead,
    mutations: &HeaderMutations,
    decision: &Decision,
    opened: &Opened,
) -> Arc<ResponseHead> {
    let mut changed = head.clone();
    let context = Context {
        request: &decision.head,
        response: Some(head),
        response_code: 0,
        opened,
        cluster: None,
        route: decision.route().map_or("", |route| &route.name),
    };
    let values = values(mutations, &context);
    add(&mut changed.headers, mutations, &values);
    Arc::new(changed)
}

fn remove(headers: &mut Headers, mutations: &HeaderMutations) {
    for name in &mutations.remove {
        headers.remove(name);
    }
}

/// All values of a level see the headers as they are before any is added.
fn values<'m>(mutations: &'m HeaderMutations, context: &Context<'_>) -> Vec<Cow<'m, [u8]>> {
    let add = mutations.add.iter();
    add.map(|header| formatted(&header.value, context))
        .collect()
}

/// Overwrites, then appends; empty values are left out.
fn add(headers: &mut Headers, mutations: &HeaderMutations, values: &[Cow<'_, [u8]>]) {
    for append in [false, true] {
        for (header, value) in mutations.add.iter().zip(values) {
            if header.append != append || value.is_empty() {
                continue;
            }
            if !append {
                // The new line stands at the end.
                headers.remove(&header.name);
            }
            headers.append(Arc::clone(&header.name), value);
        }
    }
}

fn rewritten_path(path: &str, matched: &PathMatch, rewrite: &PathRewrite) -> Option<String> {
    match rewrite {
        PathRewrite::None => None,
        PathRewrite::Prefix(by) => Some(replace_matched(path, matched, by)),
        PathRewrite::Regex {
            pattern,
            substitution,
        } => {
            let bare = path_of(path);
            Some(format!(
                "{}{}",
                pattern.replace_all(bare, substitution),
                &path[bare.len()..]
            ))
        }
    }
}

/// The matched prefix (or the whole path of an exact or regex match) replaced; the query stays.
fn replace_matched(path: &str, matched: &PathMatch, by: &str) -> String {
    let bare = path_of(path);
    let matched_len = match matched {
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => prefix.len(),
        PathMatch::Exact(_) | PathMatch::Regex(_) => bare.len(),
    };
    format!("{by}{}", &path[matched_len.min(path.len())..])
}

/// Where a redirect points.
pub fn redirect_location(redirect: &Redirect, route: &Route, head: &RequestHead) -> String {
    let scheme = redirect.scheme.as_ref().unwrap_or(&head.scheme);
    let host = match &redirect.host {
        // Taken as it is: not even a port of its own gives way to another one.
        Some(host) => host,
        None => host_of_request(head, scheme, redirect.port),
    };
    let port = redirect
        .port
        .map_or(String::new(), |port| format!(":{port}"));
    let path = match &redirect.path {
        RedirectPath::Keep => head.path.to_string(),
        RedirectPath::Prefix(by) => replace_matched(&head.path, &route.matches.path, by),
        RedirectPath::Replace(path) if path.contains('?') => path.to_string(),
        RedirectPath::Replace(path) => {
            let query = head.path.find('?').map_or("", |at| &head.path[at..]);
            format!("{path}{query}")
        }
    };
    format!("{scheme}://{host}{port}{path}")
}

/// Where a direct response says that the thing is: at the request's own address.
pub(crate) fn location_of_direct_response(status: u16, head: &RequestHead) -> Option<Name> {
    if status != 201 && !(300..400).contains(&status) {
        return None;
    }
    Some(format!("{}://{}{}", head.scheme, head.authority, head.path).into())
}

/// The host a redirect keeps: without its port where that is replaced, or was the default one of a
/// scheme that changes.
fn host_of_request<'a>(head: &'a RequestHead, scheme: &str, port: Option<u16>) -> &'a str {
    let authority = &*head.authority;
    let colon = match authority.starts_with('[') {
        true => authority.rfind("]:").map(|at| at + 1),
        false => authority.rfind(':'),
    };
    let Some((host, old_port)) = colon.map(|at| authority.split_at(at)) else {
        return authority;
    };
    let proto = super::forwarded_proto(head);
    let default = match proto {
        b"https" => Some(":443"),
        b"http" => Some(":80"),
        _ => None,
    };
    if port.is_some() || (scheme.as_bytes() != proto && Some(old_port) == default) {
        host
    } else {
        authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Direction;
    use crate::ids::DownstreamId;
    use crate::xds::{Forward, HeaderValue, Regex, RouteMatch};

    fn opened() -> Opened {
        Opened {
            downstream: DownstreamId {
                index: 0,
                generation: 0,
            },
            peer: "127.0.0.1:1".parse().unwrap(),
            original_dst: "127.0.0.1:2".parse().unwrap(),
            direction: Direction::Outbound,
            tls: None,
            protocol: crate::contract::Protocol::Http1,
        }
    }

    /// Envoy 1.40's answer: values see the headers from before the level adds any.
    #[test]
    fn values_are_worked_out_first() {
        let header = |name: &str, value: &str, append| HeaderValue {
            name: name.into(),
            value: value.into(),
            append,
        };
        let level = HeaderMutations {
            remove: vec!["x-gone".into()],
            add: vec![
                header("a", "%REQ(x-in)%", true),
                header("b", "%REQ(x-gone)%", true),
                header("x-in", "over%REQ(x-in)%", false),
                header("c", "%REQ(x-in)%", true),
            ],
        };
        let outer = HeaderMutations {
            remove: vec![],
            add: vec![header("d", "%REQ(x-in)%", true)],
        };
        let mut request = (*head("/")).clone();
        request.headers = Headers::default();
        request.headers.append("x-in".into(), b"hello");
        request.headers.append("x-gone".into(), b"1");
        let forward = Forward::to("c".into());
        let route = route(PathMatch::Prefix("/".into()), forward.clone());
        let none = HeaderMutations::default();
        let levels = [&none, &level, &outer];
        let entry = &forward.clusters[0];
        let up = upstream_head(&Arc::new(request), levels, &route, entry, &opened());
        let lines: Vec<(&str, &str)> = up
            .headers
            .0
            .iter()
            .map(|(name, value)| (&**name, std::str::from_utf8(value.as_bytes()).unwrap()))
            .collect();
        let want = [
            ("x-in", "overhello"),
            ("a", "hello"),
            ("c", "hello"),
            ("d", "overhello"),
        ];
        assert_eq!(lines, want);
    }

    fn head(path: &str) -> Arc<RequestHead> {
        let mut headers = Headers::default();
        headers.append("x-old".into(), b"1");
        Arc::new(RequestHead {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "a.example:80".into(),
            path: path.into(),
            headers,
            id: None,
        })
    }

    fn route(path: PathMatch, forward: Forward) -> Route {
        let matches = RouteMatch {
            path,
            ..RouteMatch::default()
        };
        Route {
            request_headers: HeaderMutations {
                remove: vec!["x-old".into()],
                add: vec![HeaderValue {
                    name: "x-new".into(),
                    value: "r".into(),
                    append: false,
                }],
            },
            ..Route::new(matches, RouteAction::Forward(forward))
        }
    }

    #[test]
    fn rewrites_keep_the_query_and_tell_the_old_path() {
        let forward = Forward {
            path_rewrite: PathRewrite::Prefix("/v2".into()),
            host_rewrite: Some("b".into()),
            ..Forward::to("c".into())
        };
        let route = route(PathMatch::Prefix("/v1".into()), forward.clone());
        let none = HeaderMutations::default();
        let up = upstream_head(
            &head("/v1/x?q=1"),
            [&none, &route.request_headers, &none],
            &route,
            &forward.clusters[0],
            &opened(),
        );
        assert_eq!((&*up.path, &*up.authority), ("/v2/x?q=1", "b"));
        assert_eq!(
            up.headers.get("x-envoy-original-path"),
            Some(&b"/v1/x?q=1"[..])
        );
        assert_eq!(up.headers.get("x-old"), None);
        assert_eq!(up.headers.get("x-new"), Some(&b"r"[..]));
    }

    /// Envoy 1.40's answer.
    #[test]
    fn the_host_of_a_weighted_entry_leaves_no_trace() {
        for (of_route, host, original) in [
            (None, "entry", None),
            (Some("route".into()), "route", Some(&b"entry"[..])),
        ] {
            let mut forward = Forward {
                host_rewrite: of_route,
                ..Forward::to("c".into())
            };
            forward.clusters[0].host_rewrite = Some("entry".into());
            let route = route(PathMatch::Prefix("/".into()), forward.clone());
            let none = HeaderMutations::default();
            let entry = &forward.clusters[0];
            let up = upstream_head(&head("/"), [&none; 3], &route, entry, &opened());
            assert_eq!(&*up.authority, host);
            assert_eq!(up.headers.get("x-envoy-original-host"), original);
        }
    }

    #[test]
    fn regex_rewrite_replaces_every_match_by_re2_groups() {
        let rewrite = PathRewrite::Regex {
            pattern: Regex::new("a(b+)").unwrap(),
            substitution: "<\\1>".into(),
        };
        let path = rewritten_path("/ab/abb?ab", &PathMatch::Prefix("/".into()), &rewrite);
        assert_eq!(path.as_deref(), Some("/<b>/<bb>?ab"));
    }

    /// Envoy 1.40's answers.
    #[test]
    fn redirects() {
        let route = route(PathMatch::Prefix("/v1".into()), Forward::to("c".into()));
        let redirect = |scheme: Option<&str>, host: Option<&str>, port, path| Redirect {
            status: 301,
            scheme: scheme.map(Into::into),
            host: host.map(Into::into),
            port,
            path,
        };
        use RedirectPath::{Keep, Prefix, Replace};
        let https = Some("https");
        for (authority, redirect, want) in [
            (
                "a:80",
                redirect(https, None, None, Keep),
                "https://a/v1/x?q=1",
            ),
            (
                "a:443",
                redirect(https, None, None, Keep),
                "https://a:443/v1/x?q=1",
            ),
            (
                "a:8080",
                redirect(https, None, None, Keep),
                "https://a:8080/v1/x?q=1",
            ),
            (
                "[::1]",
                redirect(https, None, None, Keep),
                "https://[::1]/v1/x?q=1",
            ),
            (
                "[::1]:80",
                redirect(https, None, None, Keep),
                "https://[::1]/v1/x?q=1",
            ),
            (
                "[::1]:9",
                redirect(https, None, None, Keep),
                "https://[::1]:9/v1/x?q=1",
            ),
            (
                "a:80",
                redirect(Some("http"), None, None, Keep),
                "http://a:80/v1/x?q=1",
            ),
            (
                "a",
                redirect(None, None, Some(80), Keep),
                "http://a:80/v1/x?q=1",
            ),
            (
                "a:80",
                redirect(https, None, Some(443), Keep),
                "https://a:443/v1/x?q=1",
            ),
            (
                "[::1]",
                redirect(None, None, Some(80), Keep),
                "http://[::1]:80/v1/x?q=1",
            ),
            (
                "[::1]:9",
                redirect(None, None, Some(443), Keep),
                "http://[::1]:443/v1/x?q=1",
            ),
            (
                "a",
                redirect(https, Some("b:80"), None, Keep),
                "https://b:80/v1/x?q=1",
            ),
            (
                "a",
                redirect(None, Some("b:99"), Some(8080), Keep),
                "http://b:99:8080/v1/x?q=1",
            ),
            (
                "a",
                redirect(None, Some("[::1]"), Some(8080), Keep),
                "http://[::1]:8080/v1/x?q=1",
            ),
            (
                "a",
                redirect(None, None, None, Prefix("/v2".into())),
                "http://a/v2/x?q=1",
            ),
            (
                "a",
                redirect(None, None, None, Replace("/p".into())),
                "http://a/p?q=1",
            ),
            (
                "a",
                redirect(None, None, None, Replace("/p?z".into())),
                "http://a/p?z",
            ),
            (
                "a",
                redirect(None, None, None, Replace("/p#f".into())),
                "http://a/p#f?q=1",
            ),
        ] {
            let mut head = RequestHead {
                authority: authority.into(),
                ..(*head("/v1/x?q=1")).clone()
            };
            head.headers.set("x-forwarded-proto".into(), b"http");
            assert_eq!(redirect_location(&redirect, &route, &head), want);
        }
    }
}

//! What a route table makes of an input, and whether that is what was expected.

use super::read::{Assertion, Field, Input};
use crate::route_configuration::HeaderMatcher;
use crate::route_configuration::proto::shown_duration;
use proxy_core::contract::{Direction, Opened, Protocol};
use proxy_core::head::{Headers, RequestHead, ResponseHead};
use proxy_core::ids::DownstreamId;
use proxy_core::router::{
    Matched, Outcome, Stream, matches, path_of, redirect_location, response_head, route_as_it_is,
    weighted_choice,
};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    HeaderMatch, PathMatch, RedirectPath, Route, RouteAction, RouteMatch, RouteTable,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// What became of an input. Texts are empty where there is none.
#[derive(Debug)]
pub(super) struct Answer {
    cluster: String,
    virtual_host: String,
    redirect: String,
    redirect_code: u64,
    /// Of the route, if it forwards.
    timeout: Option<Nanos>,
    /// As it goes upstream, or is sent elsewhere.
    pub(super) request: RequestHead,
    response: Headers,
    pub(super) taken: Option<Taken>,
}

/// The route that took it.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// Numbers of the virtual host and of the route in it.
    pub(super) host: usize,
    pub(super) number: usize,
    pub(super) route: Arc<Route>,
    /// Of its clusters, if it forwards.
    pub(super) cluster: Option<usize>,
}

/// Everything but virtual clusters, which the data plane does not know.
pub(super) fn ask(table: &RouteTable, input: &Input) -> Answer {
    let opened = opened();
    let head = Arc::new(input.head.clone());
    let stream = Stream {
        opened: &opened,
        secure: input.ssl,
        value: input.random_value,
    };
    let decision = route_as_it_is(table, &head, stream, Some(&input.metadata));
    let mut answer = Answer {
        cluster: String::new(),
        virtual_host: String::new(),
        redirect: String::new(),
        redirect_code: 0,
        timeout: None,
        request: input.head.clone(),
        response: input.response_headers.clone(),
        taken: None,
    };
    match &decision.outcome {
        Outcome::TlsRequired { location, .. } => {
            answer.redirect = location.to_string();
            answer.redirect_code = 301;
        }
        Outcome::Matched(matched) => {
            answer.matched(matched, input, &opened);
            answer.taken = taken(table, input, matched);
        }
        _ => {}
    }
    answer
}

/// The tool's own: a client on this machine.
fn opened() -> Opened {
    Opened {
        downstream: DownstreamId {
            index: 0,
            generation: 0,
        },
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        original_dst: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
        direction: Direction::Gateway,
        tls: None,
        protocol: Protocol::Http1,
    }
}

fn taken(table: &RouteTable, input: &Input, matched: &Matched) -> Option<Taken> {
    let route = &matched.route;
    let is_it = |one: &Arc<Route>| Arc::ptr_eq(one, route);
    let mut hosts = table.virtual_hosts.iter().enumerate();
    let (host, number) =
        hosts.find_map(|(at, host)| Some((at, host.routes.iter().position(is_it)?)))?;
    let cluster = match &route.action {
        RouteAction::Forward(_) => Some(picked(matched, input)),
        _ => None,
    };
    Some(Taken {
        host,
        number,
        route: Arc::clone(route),
        cluster,
    })
}

/// The number of the cluster that the random value picks.
fn picked(matched: &Matched, input: &Input) -> usize {
    match &matched.route.action {
        RouteAction::Forward(forward) => {
            weighted_choice(&forward.clusters, matched.total_weight, input.random_value)
        }
        _ => 0,
    }
}

impl Answer {
    fn matched(&mut self, matched: &Matched, input: &Input, opened: &Opened) {
        let route = &matched.route;
        let mut entry = None;
        let mut code = 0;
        match &route.action {
            RouteAction::Forward(forward) => {
                let at = picked(matched, input);
                let cluster = &forward.clusters[at];
                self.cluster = cluster.cluster.to_string();
                self.virtual_host = matched.virtual_host.to_string();
                self.timeout = Some(forward.timeout.unwrap_or_default());
                if let Some(upstream) = matched.upstream_heads.get(at) {
                    self.request = (**upstream).clone();
                }
                entry = Some(cluster);
                code = 200;
            }
            RouteAction::Redirect(redirect) => {
                self.redirect = redirect_location(redirect, route, &input.head);
                self.redirect_code = u64::from(redirect.status);
                if let RedirectPath::Prefix(_) = redirect.path {
                    self.rewrite_path();
                }
                self.local_reply(redirect.status, "");
            }
            RouteAction::DirectResponse { status, body } => {
                // To the tool it is a redirect to where it was asked.
                let RequestHead {
                    scheme,
                    authority,
                    path,
                    ..
                } = &input.head;
                self.redirect = format!("{scheme}://{authority}{path}");
                self.redirect_code = u64::from(*status);
                self.local_reply(*status, body);
            }
        }
        let head = Arc::new(ResponseHead {
            status: code,
            headers: self.response.clone(),
        });
        let changed = response_head(&head, code, matched, entry, &self.request, opened);
        self.response = changed.headers.clone();
    }

    /// The path of the request becomes that of the redirect.
    fn rewrite_path(&mut self) {
        let rest = self.redirect.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        let before = std::mem::replace(&mut self.request.path, path.into());
        let original = before.as_bytes();
        self.request
            .headers
            .set("x-envoy-original-path".into(), original);
    }

    /// A redirect without the query of the request.
    pub(super) fn strip_query(&mut self) {
        let end = self.redirect.find('?').unwrap_or(self.redirect.len());
        self.redirect.truncate(end);
    }

    fn local_reply(&mut self, status: u16, body: &str) {
        let status = status.to_string();
        self.response.append(":status".into(), status.as_bytes());
        if !body.is_empty() {
            let length = body.len().to_string();
            self.response
                .append("content-length".into(), length.as_bytes());
            self.response.append("content-type".into(), b"text/plain");
        }
    }

    /// What is wrong, in the words of the tool; `None`: it holds.
    pub(super) fn problem(&self, assertion: &Assertion, virtual_cluster: &str) -> Option<String> {
        match assertion {
            Assertion::Text(field, want) => {
                differs(want, self.text(*field, virtual_cluster), field.name())
            }
            Assertion::RedirectCode(want) => differs(
                &want.to_string(),
                &self.redirect_code.to_string(),
                "code_redirect",
            ),
            Assertion::Timeout(want) => {
                let got = self.timeout.map(shown_duration).unwrap_or_default();
                differs(&shown_duration(*want), &got, "timeout")
            }
            Assertion::RequestHeader(matcher) => {
                header_problem(&self.request, matcher, "request_header_matches")
            }
            Assertion::ResponseHeader(matcher) => {
                header_problem(&self.response(), matcher, "response_header_matches")
            }
            Assertion::RequestField(name, want) => {
                let got = value(&self.request, name).unwrap_or_default();
                differs(want, &got, "request_header_fields")
            }
            Assertion::ResponseField(name, want) => {
                let got = value(&self.response(), name).unwrap_or_default();
                differs(want, &got, "response_header_fields")
            }
        }
    }

    fn text<'a>(&'a self, field: Field, virtual_cluster: &'a str) -> &'a str {
        let forwards = !self.cluster.is_empty();
        match field {
            Field::ClusterName => &self.cluster,
            Field::VirtualClusterName => virtual_cluster,
            Field::VirtualHostName => &self.virtual_host,
            Field::PathRedirect => &self.redirect,
            Field::PathRewrite if forwards => &self.request.path,
            Field::HostRewrite if forwards => &self.request.authority,
            Field::PathRewrite | Field::HostRewrite => "",
        }
    }

    /// The response as a head that header matchers can be held against.
    fn response(&self) -> RequestHead {
        RequestHead {
            headers: self.response.clone(),
            ..self.request.clone()
        }
    }
}

fn differs(want: &str, got: &str, kind: &str) -> Option<String> {
    (want != got).then(|| format!("expected: [{want}], actual: [{got}], test type: {kind}"))
}

fn header_problem(head: &RequestHead, header: &HeaderMatcher, kind: &str) -> Option<String> {
    if holds(head, header) {
        return None;
    }
    let (name, field) = (&header.matcher.name, header.field);
    let got = value(head, name).unwrap_or_else(|| "NULL".to_owned());
    let inverted = header.matcher.invert;
    Some(match &header.exact {
        _ if field == "present_match" => format!(
            "expected: [has({name}):{}], actual: [has({name}):{inverted}], test type: {kind}.{field}",
            !inverted
        ),
        Some(want) => {
            let not = if inverted { "NOT " } else { "" };
            format!(
                "expected: [{name}: {want}], actual: {not}[{name}: {got}], test type: {kind}.{field}"
            )
        }
        None => format!("actual: [{name}: {got}], test type: {kind}.{field}"),
    })
}

fn holds(head: &RequestHead, header: &HeaderMatcher) -> bool {
    let name = &header.matcher.name;
    if let Some((start, end)) = header.range {
        let number = value(head, name).and_then(|value| value.parse().ok());
        return match number {
            Some(number) => (start..end).contains(&number) != header.matcher.invert,
            None => false,
        };
    }
    let mut head = head.clone();
    // Envoy keeps several lines of some headers as one.
    if head.headers.all(name).nth(1).is_some() {
        let joined = value(&head, name).unwrap_or_default();
        head.headers.append(name.clone(), joined.as_bytes());
    }
    all_hold(&head, std::slice::from_ref(&header.matcher))
}

/// Whether every matcher holds.
pub(super) fn all_hold(head: &RequestHead, headers: &[HeaderMatch]) -> bool {
    let matcher = RouteMatch {
        path: PathMatch::Prefix("".into()),
        headers: headers.to_vec(),
        ..RouteMatch::default()
    };
    matches(&matcher, path_of(&head.path), head)
}

/// All lines of a header, or what a pseudo-header stands for.
fn value(head: &RequestHead, name: &str) -> Option<String> {
    let pseudo = match name {
        ":path" => &head.path,
        ":authority" | "host" => &head.authority,
        ":method" => &head.method,
        ":scheme" => &head.scheme,
        _ => {
            let lines = head.headers.all(name);
            let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
            return (!lines.is_empty()).then(|| lines.join(","));
        }
    };
    Some(pseudo.to_string())
}

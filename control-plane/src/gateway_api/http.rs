//! HTTPRoutes and GRPCRoutes to the rules of VirtualServices.

use super::backends::{Found, find, weight};
use super::filters::Filters;
use super::known::{Known, Problem};
use super::route::{Route, RouteKind, Rule};
use crate::config::{HttpAction, HttpMatch, HttpRoute, MirrorTo, RouteDestination, Static};
use crate::object::Object;
use proxy_core::xds::{ConfigRef, Name, PathMatch, PathRewrite, RouteMatch};
use std::cmp::Reverse;

/// What became of the rules of a route.
pub(crate) struct Converted<T> {
    pub(crate) rules: Vec<T>,
    pub(crate) problem: Option<Problem>,
}

impl<T> Converted<T> {
    pub(crate) fn refused(problem: Problem) -> Converted<T> {
        Converted {
            rules: Vec::new(),
            problem: Some(problem),
        }
    }
}

/// One rule for each match. `in_mesh`: for clients of the mesh, not for gateways.
pub(crate) fn http_rules(
    known: &Known<'_>,
    object: &Object,
    route: &Route,
    in_mesh: bool,
) -> Converted<HttpRoute> {
    let mut converted = Converted {
        rules: Vec::new(),
        problem: None,
    };
    for (at, rule) in route.rules.iter().enumerate() {
        let (http, problem) = match http_rule(known, object, route.kind, at, rule, !in_mesh) {
            Ok(made) => made,
            Err(problem) => return Converted::refused(problem),
        };
        converted.problem = problem.or(converted.problem);
        match rule.matches.is_empty() {
            true => converted.rules.push(http),
            false => converted
                .rules
                .extend(rule.matches.iter().map(|one| HttpRoute {
                    matches: vec![one.clone()],
                    ..http.clone()
                })),
        }
    }
    converted
}

/// The rule without its matches.
fn http_rule(
    known: &Known<'_>,
    object: &Object,
    kind: RouteKind,
    at: usize,
    rule: &Rule,
    granting: bool,
) -> Result<(HttpRoute, Option<Problem>), Problem> {
    let reference = &object.reference;
    let own = &reference.namespace;
    let filters = &rule.filters;
    if let Some(message) = &filters.invalid {
        return Err(Problem::new("InvalidFilter", message.clone()));
    }
    let (mirrors, mirror_problem) = mirrors(known, filters, kind, own, granting)?;
    let mut problem = None;
    let action = match (&filters.redirect, weight(&rule.backends)) {
        // Every request to nobody is an error of the server.
        (None, 0) => HttpAction::DirectResponse {
            status: 500,
            body: "".into(),
        },
        (redirect, _) => {
            let (destinations, found) = destinations(known, rule, kind, own, granting)?;
            problem = found;
            match redirect {
                Some(redirect) => redirect.clone(),
                None => HttpAction::Route(destinations),
            }
        }
    };
    let mut retries = rule.retries.clone();
    let mut timeout = rule.timeout;
    match (&mut retries, rule.backend_timeout) {
        (Some(retries), Some(limit)) => retries.per_try_timeout = Some(limit),
        (None, Some(limit)) => timeout = Some(limit),
        (_, None) => {}
    }
    let name: Name = match &rule.name {
        Some(name) => name.clone(),
        None => format!("{own}.{}.{at}", reference.name).into(),
    };
    let http = HttpRoute {
        name,
        span: rule.span.clone(),
        origin: Some(ConfigRef {
            line: rule.span.line(),
            ..object.origin()
        }),
        matches: Vec::new(),
        action,
        path_rewrite: filters.path_rewrite.clone().unwrap_or(PathRewrite::None),
        authority_rewrite: filters.authority_rewrite.clone(),
        timeout,
        retries,
        fault: None,
        cors: filters.cors.clone(),
        mirrors,
        headers: filters.headers.clone(),
    };
    Ok((http, joined(problem, mirror_problem)))
}

/// Mirrors that cannot be reached are left out of an HTTPRoute; a GRPCRoute is refused for them.
fn mirrors(
    known: &Known<'_>,
    filters: &Filters,
    kind: RouteKind,
    own: &Name,
    granting: bool,
) -> Result<(Vec<MirrorTo>, Option<Problem>), Problem> {
    let mut mirrors = Vec::new();
    let mut found = None;
    for (backend, fraction_ppm) in &filters.mirrors {
        match find(known, backend, kind, own, granting) {
            Found::There(_, None) if *fraction_ppm == 0 => {}
            Found::There(destination, None) => mirrors.push(MirrorTo {
                destination,
                fraction_ppm: *fraction_ppm,
            }),
            Found::There(_, Some(problem)) | Found::Refused(problem) => match kind {
                RouteKind::Http => found = Some(problem),
                _ => return Err(problem),
            },
        }
    }
    Ok((mirrors, found))
}

fn joined(first: Option<Problem>, second: Option<Problem>) -> Option<Problem> {
    match (first, second) {
        (Some(mut first), Some(second)) => {
            first.message.push_str(&format!("; {}", second.message));
            Some(first)
        }
        (first, second) => first.or(second),
    }
}

/// Those with a weight. What cannot be reached stays, as a destination that answers with an error.
pub(crate) fn destinations(
    known: &Known<'_>,
    rule: &Rule,
    kind: RouteKind,
    own: &Name,
    granting: bool,
) -> Result<(Vec<RouteDestination>, Option<Problem>), Problem> {
    let mut made = Vec::new();
    let mut problem = None;
    for backend in rule.backends.iter().filter(|backend| backend.weight > 0) {
        let (destination, found) = match find(known, backend, kind, own, granting) {
            Found::There(destination, found) => (destination, found),
            Found::Refused(problem) => return Err(problem),
        };
        problem = found.or(problem);
        let filters = &backend.filters;
        if let Some(message) = &filters.invalid {
            return Err(Problem::new("InvalidFilter", message.clone()));
        }
        if let Some(kind) = &filters.beyond_headers {
            let message = format!("unsupported filter type \"{kind}\"");
            return Err(Problem::new("InvalidFilter", message));
        }
        made.push(RouteDestination {
            destination,
            weight: backend.weight,
            headers: filters.headers.clone(),
        });
    }
    Ok((made, problem))
}

/// By specificity: exact paths, prefixes, expressions; longer before shorter; with a method; with
/// more headers; with more query parameters. Those without a match come last.
pub(crate) fn sort(rules: &mut [HttpRoute]) {
    rules.sort_by_key(|rule| {
        let Some(one) = rule.matches.first() else {
            return (true, Reverse((0, 0, false, 0, 0)));
        };
        let request = &one.request;
        let (rank, length) = match &request.path {
            _ if !one.has_uri => (0, 0),
            PathMatch::Regex(regex) => (1, regex.source().len()),
            PathMatch::Prefix(text) | PathMatch::SeparatedPrefix(text) => (2, text.len()),
            PathMatch::Exact(text) => (3, text.len()),
        };
        let pseudo = request.headers.iter();
        let pseudo = pseudo.filter(|header| header.name.starts_with(':')).count();
        let headers = request.headers.len() - pseudo;
        let key = (rank, length, pseudo > 0, headers, request.query.len());
        (false, Reverse(key))
    });
}

/// The same rules for one port only.
pub(crate) fn at_port(rules: &[HttpRoute], port: u16) -> Vec<HttpRoute> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        if rule.matches.is_empty() {
            rule.matches.push(HttpMatch {
                name: None,
                span: None,
                statics: Static::default(),
                has_uri: false,
                request: RouteMatch::default(),
            });
        }
        for one in &mut rule.matches {
            one.statics.port = Some(port);
        }
    }
    rules
}

//! What the ingress proxy of 2017 did with an Ingress: the rules of the service that it names say to
//! which version its requests go.

use super::super::PodIndex;
use super::super::scope::Scope;
use super::routes;
use crate::config::DataPlane;
use proxy_core::xds::{HeaderMatch, Name, PathMatch, Route, RouteAction, StringMatch, ValueMatch};
use std::cmp::Reverse;
use std::sync::Arc;

/// The routes made of an Ingress, each taken apart by the rules of 2017 for its service, if there are
/// any. Pilot sorted them, exact paths first, then longer prefixes; Linkerd took the path of the Ingress,
/// then the rules by precedence.
pub(in super::super) fn unfolded(
    scope: &Scope<'_>,
    pods: &PodIndex,
    of_ingress: Vec<Arc<Route>>,
) -> Vec<Arc<Route>> {
    let mut any = false;
    let mut unfolded = Vec::new();
    for route in &of_ingress {
        match of_service(scope, pods, route) {
            Some(of_rules) => {
                any = true;
                unfolded.extend(of_rules.iter().filter_map(|rule| within(route, rule)));
            }
            None => unfolded.push(Arc::clone(route)),
        }
    }
    if any {
        for route in &mut unfolded {
            as_prefix(route);
        }
        if scope.mesh.rules.of_2017.data_plane() == DataPlane::Envoy2017 {
            unfolded.sort_by_key(|route| by_path(route));
        }
    }
    unfolded
}

/// The routes of 2017 of the service that a route goes to.
fn of_service(scope: &Scope<'_>, pods: &PodIndex, route: &Route) -> Option<Vec<Arc<Route>>> {
    let RouteAction::Forward(forward) = &route.action else {
        return None;
    };
    let (port, host) = match forward
        .clusters
        .first()?
        .cluster
        .split('|')
        .collect::<Vec<_>>()[..]
    {
        ["outbound", port, "", host] => (port.parse().ok()?, host),
        _ => return None,
    };
    let service = scope.service(host)?;
    routes(scope, service, service.port(port)?, pods)
}

/// The requests of both; `None`: no path is of both. A longer prefix of the Ingress replaces that of the
/// rule, for its rewrite too.
fn within(of_ingress: &Route, of_rule: &Arc<Route>) -> Option<Arc<Route>> {
    let (outer, inner) = (&of_ingress.matches.path, &of_rule.matches.path);
    let mut headers = of_rule.matches.headers.clone();
    let path = match (prefix(outer), prefix(inner)) {
        (Some(a), Some(b)) if b.starts_with(&**a) => inner,
        (Some(a), Some(b)) if a.starts_with(&**b) => outer,
        (Some(a), None) if matches!(inner, PathMatch::Regex(_)) => {
            headers.push(path_begins_with(a));
            inner
        }
        (None, None) if is_of(outer, inner) => outer,
        (Some(a), None) if exact(inner)?.starts_with(&**a) => inner,
        (None, Some(b)) if exact(outer)?.starts_with(&**b) => outer,
        (None, None) if exact(outer)? == exact(inner)? => inner,
        _ => return None,
    };
    let mut route = Route::clone(of_rule);
    route.matches.path = path.clone();
    route.matches.headers = headers;
    // Where the Ingress says what the rules of the service do not.
    if &*route.name == "default" {
        route.origin.clone_from(&of_ingress.origin);
    }
    Some(Arc::new(route))
}

/// Whether an exact path is one of an expression.
fn is_of(path: &PathMatch, of: &PathMatch) -> bool {
    match (path, of) {
        (PathMatch::Exact(path), PathMatch::Regex(regex)) => regex.is_full_match(path.as_bytes()),
        _ => false,
    }
}

/// What no path of a route can say beside its expression.
fn path_begins_with(prefix: &Name) -> HeaderMatch {
    HeaderMatch {
        name: ":path".into(),
        value: ValueMatch::String(StringMatch::Prefix(prefix.clone())),
        invert: false,
        treat_missing_as_empty: false,
    }
}

/// Paths were not told apart by their parts then.
fn as_prefix(route: &mut Arc<Route>) {
    if let PathMatch::SeparatedPrefix(prefix) = &route.matches.path {
        let path = PathMatch::Prefix(prefix.clone());
        Arc::make_mut(route).matches.path = path;
    }
}

fn prefix(path: &PathMatch) -> Option<&Name> {
    match path {
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => Some(prefix),
        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
    }
}

fn exact(path: &PathMatch) -> Option<&Name> {
    match path {
        PathMatch::Exact(path) => Some(path),
        _ => None,
    }
}

fn by_path(route: &Route) -> (bool, Option<Name>, Reverse<Option<Name>>) {
    let path = &route.matches.path;
    let first = exact(path).cloned();
    (first.is_none(), first, Reverse(prefix(path).cloned()))
}

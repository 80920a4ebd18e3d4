//! The requests for one host: which route takes them, before and after.

use control_plane::Request;
use proxy_core::xds::{HttpConnectionManager, Name, Route, RouteAction, RouteMatch, VirtualHost};
use request_set::{Authorities, Condition, Domain, Overlap, Paths, Place, Undecided, Witness};
use std::sync::Arc;

/// Requests that one route of each side takes; `None`: no route does.
pub(crate) struct Pair {
    pub(crate) old: Option<usize>,
    pub(crate) new: Option<usize>,
    /// One of them, or why it is not known whether there are any.
    pub(crate) example: Result<Witness, String>,
}

/// The requests that are asked about.
pub(crate) fn domain(managers: &[&HttpConnectionManager], authorities: Authorities) -> Domain {
    let mut paths = Paths {
        normalized: false,
        merged: false,
        unescaped_slashes: false,
    };
    // Those that neither side changes.
    for of in managers.iter().map(|manager| Paths::of(manager)) {
        paths.normalized |= of.normalized;
        paths.merged |= of.merged;
        paths.unescaped_slashes |= of.unescaped_slashes;
    }
    Domain {
        paths,
        authorities,
        ..Domain::default()
    }
}

/// Every pair that some request gets to and that is `wanted`.
pub(crate) fn pairs(
    old: &[Arc<Route>],
    new: &[Arc<Route>],
    domain: &Domain,
    mut wanted: impl FnMut(Option<usize>, Option<usize>) -> bool,
) -> Vec<Pair> {
    let conditions = |routes: &'_ [Arc<Route>]| -> Vec<RouteMatch> {
        routes.iter().map(|route| route.matches.clone()).collect()
    };
    let (before, after) = (conditions(old), conditions(new));
    let before: Vec<Condition<'_>> = before.iter().map(Condition::of).collect();
    let after: Vec<Condition<'_>> = after.iter().map(Condition::of).collect();
    let found = request_set::overlaps(&before, &after, domain, &mut wanted);
    let pair = |overlap: Overlap| Pair {
        old: overlap.old,
        new: overlap.new,
        example: overlap.example.map_err(|why| reason(&why)),
    };
    found.into_iter().map(pair).collect()
}

fn reason(why: &Undecided) -> String {
    match why {
        Undecided::Combinations => "the matches can be combined in too many ways".to_owned(),
        Undecided::Further => {
            "there are too many pairs of matches: nothing is known of this one and those after it"
                .to_owned()
        }
        Undecided::Place(place) => {
            let place = match place {
                Place::Path => "paths".to_owned(),
                Place::Method => "methods".to_owned(),
                Place::Scheme => "schemes".to_owned(),
                Place::Authority => "hosts".to_owned(),
                Place::Header(name) => format!("header {name}"),
                Place::Query(name) => format!("query parameter {name}"),
                Place::Claim(path) => format!("claim {}", path.join(".")),
                Place::Chance | Place::Given(_) => "the share of requests".to_owned(),
            };
            format!("the matches on {place} are too many or too large together")
        }
    }
}

/// Puts what tells a witness from other requests into `request`.
pub(crate) fn fill(request: &mut Request, witness: &Witness, issuer: Option<&Name>) {
    request.method = witness.method.to_string();
    request.path = witness.path.to_string();
    request.authority = witness.authority.to_string();
    let headers = witness.headers.iter();
    request.headers = headers
        .map(|(name, value)| (name.to_string(), latin1(value)))
        .collect();
    if !witness.claims.is_empty() {
        let mut claims = witness.claims();
        if let (Some(issuer), Some(claims)) = (issuer, claims.as_object_mut()) {
            claims.entry("iss").or_insert_with(|| (**issuer).into());
        }
        let token = format!("Bearer {claims}");
        request.headers.push(("authorization".to_owned(), token));
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The clusters that a route sends requests to, or copies of them.
pub(crate) fn clusters_of(route: &Route) -> impl Iterator<Item = &Name> {
    let forward = match &route.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => None,
    };
    let targets = forward.into_iter().flat_map(|forward| &forward.clusters);
    let mirrors = forward.into_iter().flat_map(|forward| &forward.mirrors);
    let mirrors = mirrors.map(|mirror| &mirror.cluster);
    targets.map(|target| &target.cluster).chain(mirrors)
}

/// Alike but for names, which nothing goes by, and origins.
pub(crate) fn same_host(a: &VirtualHost, b: &VirtualHost) -> bool {
    let VirtualHost {
        name: _,
        domains: _,
        routes,
        require_tls,
        request_headers,
        response_headers,
        include_attempt_count,
        local_rate_limit,
        rate_limits,
    } = a;
    *require_tls == b.require_tls
        && *request_headers == b.request_headers
        && *response_headers == b.response_headers
        && *include_attempt_count == b.include_attempt_count
        && *local_rate_limit == b.local_rate_limit
        && *rate_limits == b.rate_limits
        && routes.len() == b.routes.len()
        && routes.iter().zip(&b.routes).all(|(a, b)| same_route(a, b))
}

/// The same in all that decides.
fn same_route(a: &Route, b: &Route) -> bool {
    let Route {
        name: _,
        matches,
        action,
        request_headers,
        response_headers,
        fault,
        cors,
        local_rate_limit,
        origin: _,
    } = a;
    *matches == b.matches
        && *action == b.action
        && *request_headers == b.request_headers
        && *response_headers == b.response_headers
        && *fault == b.fault
        && *cors == b.cors
        && *local_rate_limit == b.local_rate_limit
        // Values of headers may name it.
        && (a.name == b.name || !names_itself(a))
}

fn names_itself(route: &Route) -> bool {
    let mutations = [&route.request_headers, &route.response_headers];
    let mut values = mutations.into_iter().flat_map(|one| &one.add);
    values.any(|header| header.value.contains("%ROUTE_NAME%"))
}

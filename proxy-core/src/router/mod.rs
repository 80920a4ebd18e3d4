//! Routing: from a request head to a virtual host, a route, and the head that goes upstream.

mod cors;
mod domains;
mod external;
mod format;
pub(crate) mod hash;
mod listeners;
mod matching;
mod path;
mod rate_limit;
mod rbac;
mod rewrite;
mod routes;
mod timeouts;
mod token;

pub use cors::Cors;
use external::external;
pub(crate) use external::forwarded_proto;
pub use listeners::{ChainChoice, find_chain, has_overlapping_chains};
pub use matching::{Unmet, matches, path_of, query_value, unmet};
pub(crate) use matching::{request_header_matches, response_header_matches};
pub use rate_limit::{LimitOwner, Limited};
pub use rbac::{RequestSubject, Subject};
pub(crate) use rewrite::{head_of_filter, location_of_direct_response, upstream_head};
pub use rewrite::{redirect_location, response_head};
pub use timeouts::Timeouts;
pub use token::{Token, TokenProblem};

use crate::contract::Opened;
use crate::head::RequestHead;
use crate::ids::ClusterId;
use crate::time::Nanos;
use crate::xds::{
    Forward, HeaderMutations, HttpConnectionManager, LocalRateLimit, Mixer, Name, Route,
    RouteAction, RouteTable, VirtualHost, WeightedCluster,
};
use domains::Domains;
use path::Normalized;
use rate_limit::{Limits, look_at_the_connection};
use routes::RouteIndex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What routing made of one request head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// As received, with its path normalised and without the headers that only internal clients may
    /// send.
    pub head: Arc<RequestHead>,
    pub table: Name,
    pub outcome: Outcome,
    /// The proxy's own answers take the form of gRPC.
    pub grpc: bool,
    /// Of a stream without any progress; `None`: no limit. Of bodies nothing is known but their end:
    /// a response on its way counts as progress all along, a request on its way does not.
    pub stream_idle_timeout: Option<Nanos>,
    /// Of the whole stream; `None`: no limit.
    pub max_stream_duration: Option<Nanos>,
    /// The local rate limits that can refuse it, in their order.
    pub limits: Vec<Limited>,
    /// Who is asked about it, and told of its end.
    #[serde(default)]
    pub mixer: Option<Arc<Mixer>>,
    pub token: Token,
    /// RBAC filters are asked, about the connection too.
    pub guarded: bool,
    /// Another stream with the same head may be decided otherwise: the stream's random value had a
    /// say, or its connection.
    pub one_off: bool,
}

/// What routing has to know of a stream besides its head.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    pub opened: &'a Opened,
    /// The client came by TLS.
    pub secure: bool,
    /// The stream's one random value, for routes that take a fraction of the streams.
    pub value: u64,
}

/// How routing ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The path could not be normalised: 400.
    BadPath,
    /// The client is sent to the path without escaped slashes: 307.
    EscapedPath {
        location: Name,
    },
    /// No virtual host takes the host: 404.
    NoVirtualHost,
    /// The virtual host has no matching route: 404.
    NoRoute {
        virtual_host: Name,
    },
    /// Plain text to a virtual host that requires TLS: 301.
    TlsRequired {
        virtual_host: Name,
        location: Name,
    },
    Matched(Box<Matched>),
}

/// A matched route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matched {
    pub virtual_host: Name,
    pub route: Arc<Route>,
    /// The virtual host's own changes to responses.
    pub response_headers: HeaderMutations,
    pub include_attempt_count: bool,
    /// The head for each weighted cluster, in order; empty unless the route forwards.
    pub upstream_heads: Vec<Arc<RequestHead>>,
    pub total_weight: u64,
    pub timeouts: Timeouts,
    /// Of the CORS filter, which acts on routes that forward.
    pub cors: Option<Box<Cors>>,
    /// Those clusters as the worker knows them; filled in by the worker.
    pub cluster_ids: Vec<Option<ClusterId>>,
}

impl Decision {
    fn before_routing(table: &RouteTable, head: Arc<RequestHead>) -> Decision {
        Decision {
            head,
            table: Arc::clone(&table.name),
            outcome: Outcome::BadPath,
            grpc: false,
            stream_idle_timeout: None,
            max_stream_duration: None,
            limits: Vec::new(),
            mixer: None,
            token: Token::Absent,
            guarded: false,
            one_off: false,
        }
    }

    /// The matched route, if any.
    pub fn route(&self) -> Option<&Arc<Route>> {
        match &self.outcome {
            Outcome::Matched(matched) => Some(&matched.route),
            _ => None,
        }
    }

    /// The matched route and its action, if it forwards.
    pub(crate) fn forward(&self) -> Option<(&Matched, &Forward)> {
        match &self.outcome {
            Outcome::Matched(matched) => match &matched.route.action {
                RouteAction::Forward(forward) => Some((matched, forward)),
                RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => None,
            },
            _ => None,
        }
    }

    /// The virtual host reached, if any.
    pub fn virtual_host(&self) -> Option<&Name> {
        match &self.outcome {
            Outcome::Matched(matched) => Some(&matched.virtual_host),
            Outcome::NoRoute { virtual_host } | Outcome::TlsRequired { virtual_host, .. } => {
                Some(virtual_host)
            }
            Outcome::BadPath | Outcome::EscapedPath { .. } | Outcome::NoVirtualHost => None,
        }
    }
}

impl RouteTable {
    /// The virtual host that `authority` selects.
    pub fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        Some(&self.virtual_hosts[self.host_number(authority)?])
    }

    /// The virtual host for `head`, and the first of its routes that matches. `stream_value`: the
    /// stream's one random value, for routes that take a fraction of the streams.
    pub fn find(&self, head: &RequestHead, stream_value: u64) -> Option<Found<'_>> {
        self.find_for(head, stream_value, None)
    }

    fn find_for(
        &self,
        head: &RequestHead,
        stream_value: u64,
        claims: Option<&serde_json::Value>,
    ) -> Option<Found<'_>> {
        let number = self.host_number(&head.authority)?;
        let host = &self.virtual_hosts[number];
        let path = path_of(&head.path);
        let routes = &host.routes;
        let mut first_by_chance = usize::MAX;
        let mut holds = |number, route: &Route| {
            matches(&route.matches, path, head)
                && route
                    .matches
                    .claims
                    .iter()
                    .all(|claim| claim.matches(claims))
                && route.matches.fraction.is_none_or(|fraction| {
                    first_by_chance = first_by_chance.min(number);
                    fraction.holds(stream_value)
                })
        };
        let number = match &self.index().routes[number] {
            None => (0..routes.len()).find(|&number| holds(number, &routes[number])),
            Some(index) => index.first(routes, path, holds),
        };
        Some(Found {
            host,
            route: number.map(|number| (number, &routes[number])),
            by_chance: first_by_chance <= number.unwrap_or(routes.len()),
        })
    }

    fn host_number(&self, authority: &str) -> Option<usize> {
        let domains = &self.index().domains;
        Some(domains.find(authority, self.ignore_port_in_host)? as usize)
    }

    fn index(&self) -> &TableIndex {
        self.index.get_or_init(|| TableIndex::build(self))
    }
}

/// What a table has for a request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub host: &'a VirtualHost,
    /// The first route that matches, with its number.
    pub route: Option<(usize, &'a Arc<Route>)>,
    /// The stream's random value had a say.
    pub by_chance: bool,
}

/// What finds the virtual hosts and routes of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableIndex {
    domains: Arc<Domains>,
    /// Of each virtual host with many routes.
    routes: Vec<Option<Arc<RouteIndex>>>,
}

impl TableIndex {
    fn build(table: &RouteTable) -> TableIndex {
        let hosts = &table.virtual_hosts;
        TableIndex {
            domains: Arc::new(Domains::build(hosts)),
            routes: hosts
                .iter()
                .map(|host| RouteIndex::build(&host.routes).map(Arc::new))
                .collect(),
        }
    }

    /// For new routes of the virtual host of that number.
    pub(crate) fn renew(&mut self, number: usize, routes: &[Arc<Route>]) {
        self.routes[number] = RouteIndex::build(routes).map(Arc::new);
    }
}

/// Routes `head` through `table`.
pub fn route(
    table: &RouteTable,
    manager: &HttpConnectionManager,
    head: &Arc<RequestHead>,
    stream: Stream<'_>,
) -> Decision {
    let mut decision = Decision::before_routing(table, external(manager, head, stream));
    decision.grpc = is_grpc(head);
    decision.stream_idle_timeout = limit(manager.stream_idle_timeout);
    decision.guarded = !manager.rbac.is_empty();
    match path::clean(manager, &decision.head.path) {
        Normalized::Unchanged => {}
        Normalized::Changed(path) => {
            decision.head = Arc::new(RequestHead {
                path: path.into(),
                id: None,
                ..(*decision.head).clone()
            });
        }
        Normalized::Redirect(location) => {
            decision.outcome = Outcome::EscapedPath {
                location: location.into(),
            };
            return decision;
        }
        Normalized::Refused => return decision,
    }
    let first = table.find(&decision.head, stream.value);
    let mut found = first;
    if let Some(jwt) = &manager.jwt {
        (decision.token, decision.head) = jwt.authenticate(&decision.head);
        let claims = decision.token.claims();
        if jwt.clear_route_cache && claims.is_some() {
            found = table.find_for(&decision.head, stream.value, claims);
        }
    }
    if !manager.local_rate_limits.is_empty() {
        let limits = Limits {
            manager,
            head: &decision.head,
            opened: stream.opened,
        };
        decision.limits = limits.of(first, found);
        let of_one = |found| look_at_the_connection(&decision.limits, found);
        decision.one_off = of_one(first) || of_one(found) || first.is_some_and(|f| f.by_chance);
    }
    decision.outcome = outcome(found, stream, &mut decision);
    if decision.forward().is_some() {
        decision.mixer.clone_from(&manager.mixer);
    }
    decision
}

/// Routes `head` as it is, without what a connection manager does before: no path is normalised, no
/// header taken away or added. So Envoy's route table check tool asks a table. `metadata`: what filters
/// know of the stream, in place of the claims of a token.
pub fn route_as_it_is(
    table: &RouteTable,
    head: &Arc<RequestHead>,
    stream: Stream<'_>,
    metadata: Option<&serde_json::Value>,
) -> Decision {
    let mut decision = Decision::before_routing(table, Arc::clone(head));
    decision.grpc = is_grpc(head);
    let found = table.find_for(head, stream.value, metadata);
    decision.outcome = outcome(found, stream, &mut decision);
    decision
}

fn outcome(found: Option<Found<'_>>, stream: Stream<'_>, decision: &mut Decision) -> Outcome {
    match found {
        None => Outcome::NoVirtualHost,
        Some(found) if found.host.require_tls && forwarded_proto(&decision.head) != b"https" => {
            Outcome::TlsRequired {
                virtual_host: Arc::clone(&found.host.name),
                location: tls_location(&decision.head),
            }
        }
        Some(found) => route_within(&found, stream, decision),
    }
}

fn tls_location(head: &RequestHead) -> Name {
    format!("https://{}{}", head.authority, head.path).into()
}

fn route_within(found: &Found<'_>, stream: Stream<'_>, decision: &mut Decision) -> Outcome {
    let (host, head) = (found.host, &decision.head);
    let virtual_host = Arc::clone(&host.name);
    decision.one_off |= found.by_chance;
    let Some((_, route)) = found.route else {
        return Outcome::NoRoute { virtual_host };
    };
    let mut matched = Matched {
        virtual_host,
        route: Arc::clone(route),
        response_headers: host.response_headers.clone(),
        include_attempt_count: host.include_attempt_count,
        upstream_heads: Vec::new(),
        total_weight: 0,
        timeouts: Timeouts::default(),
        cors: None,
        cluster_ids: Vec::new(),
    };
    if let RouteAction::Forward(forward) = &route.action {
        let policy = route.cors.as_ref();
        matched.cors = policy.and_then(|policy| cors::cors(policy, head).map(Box::new));
        for entry in &forward.clusters {
            let levels = [
                &entry.request_headers,
                &route.request_headers,
                &host.request_headers,
            ];
            decision.one_off |= levels.iter().any(|level| names_the_connection(level));
            let upstream = upstream_head(head, levels, route, entry, stream.opened);
            matched.upstream_heads.push(upstream);
        }
        let weights = forward.clusters.iter().map(|entry| u64::from(entry.weight));
        matched.total_weight = weights.sum();
        matched.timeouts = Timeouts::of(forward, head, decision.grpc);
        if forward.idle_timeout.is_some() {
            decision.stream_idle_timeout = limit(forward.idle_timeout);
        }
        decision.max_stream_duration = limit(forward.max_stream_duration);
    }
    Outcome::Matched(Box::new(matched))
}

fn names_the_connection(mutations: &HeaderMutations) -> bool {
    let mut values = mutations.add.iter();
    values.any(|header| header.value.contains("%DOWNSTREAM_"))
}

/// Why a table cannot be taken over: a header value with an operator that is none, or that cannot be
/// answered.
pub fn refusal(table: &RouteTable) -> Option<String> {
    table.virtual_hosts.iter().find_map(|host| {
        let of_routes = host.routes.iter().flat_map(|route| {
            let entries = match &route.action {
                RouteAction::Forward(forward) => &forward.clusters[..],
                RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => &[],
            };
            let of_entries = entries
                .iter()
                .flat_map(|entry| [&entry.request_headers, &entry.response_headers]);
            of_entries
                .chain([&route.request_headers, &route.response_headers])
                .chain(of_limit(&route.local_rate_limit))
        });
        let mut mutations = of_routes
            .chain([&host.request_headers, &host.response_headers])
            .chain(of_limit(&host.local_rate_limit));
        let why = mutations.find_map(refusal_of_headers)?;
        Some(format!("virtual host {}: {why}", host.name))
    })
}

fn of_limit(limit: &Option<Arc<LocalRateLimit>>) -> Option<&HeaderMutations> {
    limit.as_ref().map(|limit| &limit.response_headers)
}

/// The same of the filters of a connection manager.
pub(crate) fn refusal_of_manager(manager: &HttpConnectionManager) -> Option<String> {
    let mut filters = manager.local_rate_limits.iter();
    let why = filters.find_map(|filter| refusal_of_headers(&filter.config.response_headers))?;
    Some(format!("local rate limit: {why}"))
}

fn refusal_of_headers(mutations: &HeaderMutations) -> Option<String> {
    mutations.add.iter().find_map(|header| {
        let why = format::refusal(&header.value)?;
        Some(format!("value of header {}: {why}", header.name))
    })
}

/// Zero says that there is no limit.
fn limit(timeout: Option<Nanos>) -> Option<Nanos> {
    timeout.filter(|&timeout| timeout != Nanos::ZERO)
}

/// Envoy `Grpc::Common::isGrpcRequestHeaders`.
fn is_grpc(head: &RequestHead) -> bool {
    head.headers
        .get("content-type")
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// Which weighted cluster the stream's random value picks: the first whose cumulative weight
/// exceeds the value modulo the total (Envoy `weighted_cluster_specifier.cc`).
pub fn weighted_choice(
    clusters: &[WeightedCluster],
    total_weight: u64,
    stream_value: u64,
) -> usize {
    if clusters.len() == 1 {
        return 0;
    }
    let target = stream_value % total_weight.max(1);
    let mut sum = 0;
    for (at, entry) in clusters.iter().enumerate() {
        sum += u64::from(entry.weight);
        if sum > target {
            return at;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_split_the_stream_value() {
        let clusters: Vec<WeightedCluster> = [("a", 90), ("b", 0), ("c", 10)]
            .iter()
            .map(|(n, w)| WeightedCluster::new((*n).into(), *w))
            .collect();
        let counts = (0..1000).fold([0; 3], |mut counts, v| {
            counts[weighted_choice(&clusters, 100, v)] += 1;
            counts
        });
        assert_eq!(counts, [900, 0, 100]);
    }
}

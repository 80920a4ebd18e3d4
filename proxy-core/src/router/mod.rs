//! Routing: from a request head to a virtual host, a route, and the head that goes upstream.

mod domains;
pub(crate) mod hash;
mod listeners;
mod matching;
mod path;
mod rewrite;
mod routes;

pub use listeners::{ChainChoice, find_chain};
pub use matching::{matches, path_of};
pub(crate) use rewrite::upstream_head;
pub use rewrite::{redirect_location, response_head};

use crate::head::RequestHead;
use crate::ids::ClusterId;
use crate::xds::{
    HeaderMutations, HttpConnectionManager, Name, Route, RouteAction, RouteTable, VirtualHost,
    WeightedCluster,
};
use domains::Domains;
use routes::RouteIndex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What routing made of one request head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// As received, with its path normalised.
    pub head: Arc<RequestHead>,
    pub table: Name,
    pub outcome: Outcome,
}

/// How routing ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The path could not be normalised: 400.
    BadPath,
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
    /// Those clusters as the worker knows them; filled in by the worker.
    pub cluster_ids: Vec<Option<ClusterId>>,
}

impl Decision {
    /// The matched route, if any.
    pub fn route(&self) -> Option<&Arc<Route>> {
        match &self.outcome {
            Outcome::Matched(matched) => Some(&matched.route),
            _ => None,
        }
    }

    /// Whether attempts carry `x-envoy-attempt-count`.
    pub(crate) fn announces_attempts(&self) -> bool {
        matches!(&self.outcome, Outcome::Matched(matched) if matched.include_attempt_count)
    }

    /// The virtual host reached, if any.
    pub fn virtual_host(&self) -> Option<&Name> {
        match &self.outcome {
            Outcome::Matched(matched) => Some(&matched.virtual_host),
            Outcome::NoRoute { virtual_host } | Outcome::TlsRequired { virtual_host, .. } => {
                Some(virtual_host)
            }
            Outcome::BadPath | Outcome::NoVirtualHost => None,
        }
    }
}

impl RouteTable {
    /// The virtual host that `authority` selects.
    pub fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        Some(&self.virtual_hosts[self.host_number(authority)?])
    }

    /// The virtual host for `head`, and the first of its routes that matches.
    pub fn find(&self, head: &RequestHead) -> Option<(&VirtualHost, Option<&Arc<Route>>)> {
        let number = self.host_number(&head.authority)?;
        let host = &self.virtual_hosts[number];
        let path = path_of(&head.path);
        let routes = &host.routes;
        let holds = |_, route: &Route| matches(&route.matches, path, head);
        let number = match &self.index().routes[number] {
            None => (0..routes.len()).find(|&number| holds(number, &routes[number])),
            Some(index) => index.first(routes, path, holds),
        };
        Some((host, number.map(|number| &routes[number])))
    }

    fn host_number(&self, authority: &str) -> Option<usize> {
        let domains = &self.index().domains;
        Some(domains.find(authority, self.ignore_port_in_host)? as usize)
    }

    fn index(&self) -> &TableIndex {
        self.index.get_or_init(|| TableIndex::build(self))
    }
}

/// What finds the virtual hosts and routes of a table.
#[derive(Clone, Debug)]
pub(crate) struct TableIndex {
    domains: Domains,
    /// Of each virtual host with many routes.
    routes: Vec<Option<RouteIndex>>,
}

impl TableIndex {
    fn build(table: &RouteTable) -> TableIndex {
        let hosts = &table.virtual_hosts;
        TableIndex {
            domains: Domains::build(hosts),
            routes: hosts
                .iter()
                .map(|host| RouteIndex::build(&host.routes))
                .collect(),
        }
    }
}

/// Routes `head` through `table`. `secure`: the client came by TLS.
pub fn route(
    table: &RouteTable,
    manager: &HttpConnectionManager,
    head: &Arc<RequestHead>,
    secure: bool,
) -> Decision {
    let done = |head: &Arc<RequestHead>, outcome| Decision {
        head: Arc::clone(head),
        table: Arc::clone(&table.name),
        outcome,
    };
    let Some(head) = normalized(manager, head) else {
        return done(head, Outcome::BadPath);
    };
    let Some((host, route)) = table.find(&head) else {
        return done(&head, Outcome::NoVirtualHost);
    };
    let virtual_host = Arc::clone(&host.name);
    if host.require_tls && !secure {
        let authority = head
            .authority
            .strip_suffix(":80")
            .unwrap_or(&head.authority);
        let location = format!("https://{authority}{}", head.path).into();
        return done(
            &head,
            Outcome::TlsRequired {
                virtual_host,
                location,
            },
        );
    }
    let Some(route) = route else {
        return done(&head, Outcome::NoRoute { virtual_host });
    };
    let (upstream_heads, total_weight) = match &route.action {
        RouteAction::Forward(forward) => (
            forward
                .clusters
                .iter()
                .map(|entry| upstream_head(&head, host, route, forward, entry))
                .collect(),
            forward
                .clusters
                .iter()
                .map(|entry| u64::from(entry.weight))
                .sum(),
        ),
        RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => (Vec::new(), 0),
    };
    let matched = Matched {
        virtual_host,
        route: Arc::clone(route),
        response_headers: host.response_headers.clone(),
        include_attempt_count: host.include_attempt_count,
        upstream_heads,
        total_weight,
        cluster_ids: Vec::new(),
    };
    done(&head, Outcome::Matched(Box::new(matched)))
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

fn normalized(
    manager: &HttpConnectionManager,
    head: &Arc<RequestHead>,
) -> Option<Arc<RequestHead>> {
    if head.path.contains('#') {
        return None;
    }
    let plain = (!manager.normalize_path || path::is_plain(&head.path))
        && (!manager.merge_slashes || !head.path.contains("//"));
    if plain {
        return Some(Arc::clone(head));
    }
    let mut path = head.path.to_string();
    if manager.normalize_path {
        path = path::normalize(&path)?;
    }
    if manager.merge_slashes {
        path = path::merge_slashes(&path);
    }
    if *path == *head.path {
        return Some(Arc::clone(head));
    }
    Some(Arc::new(RequestHead {
        path: path.into(),
        ..(**head).clone()
    }))
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

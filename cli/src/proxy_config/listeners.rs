//! Listeners and their filter chains.

use super::{lines, routes};
use crate::args::{ListenerFilter, ListenerType};
use export::Resources;
use proxy_core::xds::{
    FilterChain, FilterChainMatch, Listener, Name, NetworkFilter, RouteAction, RouteSource,
    RouteTable, TcpProxy,
};
use serde_json::Value;

/// What istioctl calls these lists of application protocols.
const PROTOCOLS: [(&str, &[&str]); 4] = [
    ("HTTP", &["http/1.0", "http/1.1", "h2c"]),
    (
        "HTTP TLS",
        &[
            "http/1.0",
            "http/1.1",
            "h2c",
            "istio-http/1.0",
            "istio-http/1.1",
            "istio-h2",
        ],
    ),
    (
        "Istio HTTP Plain",
        &["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"],
    ),
    ("TCP TLS", &["istio-peer-exchange", "istio"]),
];

const BLACK_HOLE: &str = "BlackHoleCluster";

pub(super) fn table(resources: &Resources<'_>, filter: &ListenerFilter, verbose: bool) -> String {
    let mut rows = Vec::new();
    for listener in chosen(resources, filter) {
        let chains = listener.chains().map(|chain| {
            let matches = condition(&chain.matches, verbose);
            (matches, destination(chain, verbose))
        });
        let mut chains: Vec<_> = chains.collect();
        chains.sort_by(|(_, a), (_, b)| b.cmp(a));
        rows.extend(
            chains
                .into_iter()
                .map(|(matches, to)| [address(listener), listener.port.to_string(), matches, to]),
        );
    }
    lines(["ADDRESSES", "PORT", "MATCH", "DESTINATION"], rows)
}

pub(super) fn json(resources: &Resources<'_>, filter: &ListenerFilter) -> Value {
    let chosen = chosen(resources, filter).into_iter();
    let values = chosen.map(|one| export::dump::listener(one, resources.is_bound(one)));
    values.collect()
}

/// By port, address and type, as istioctl has them.
fn chosen<'r>(resources: &Resources<'r>, filter: &ListenerFilter) -> Vec<&'r Listener> {
    let address_fits = |one: &Listener| {
        let wanted = filter.address.map(|wanted| wanted.to_string());
        wanted.is_none_or(|wanted| wanted == address(one))
    };
    let listeners = resources.listeners.iter().map(|one| &**one);
    let mut chosen: Vec<&Listener> = listeners
        .filter(|one| filter.port.is_none_or(|port| port == one.port))
        .filter(|one| filter.kind.is_none_or(|kind| kind == speaks(one)))
        .filter(|one| address_fits(one))
        .collect();
    chosen.sort_by_cached_key(|one| (one.port, address(one), speaks(one)));
    chosen
}

fn address(listener: &Listener) -> String {
    let address = listener.address.map(|ip| ip.to_string());
    address.unwrap_or_else(|| "0.0.0.0".to_owned())
}

fn speaks(listener: &Listener) -> ListenerType {
    let (mut http, mut tcp) = (false, false);
    for chain in listener.chains() {
        match &chain.filter {
            NetworkFilter::Http(_) => http = true,
            NetworkFilter::Tcp(proxy) => tcp |= !is_black_hole(proxy),
        }
    }
    match (http, tcp) {
        (true, false) => ListenerType::Http,
        (true, true) => ListenerType::HttpAndTcp,
        (false, true) => ListenerType::Tcp,
        (false, false) => ListenerType::Unknown,
    }
}

fn is_black_hole(proxy: &TcpProxy) -> bool {
    proxy.clusters.iter().any(|(name, _)| &**name == BLACK_HOLE)
}

fn condition(matches: &FilterChainMatch, verbose: bool) -> String {
    let mut parts = Vec::new();
    if !matches.server_names.is_empty() {
        parts.push(format!("SNI: {}", matches.server_names.join(",")));
    }
    if let Some(transport) = &matches.transport_protocol {
        parts.push(format!("Trans: {transport}"));
    }
    let protocols = &matches.application_protocols;
    if !protocols.is_empty() {
        let same = |known: &[&str]| protocols.iter().map(|p| &**p).eq(known.iter().copied());
        let known = PROTOCOLS.iter().find(|(_, known)| same(known) && !verbose);
        parts.push(match known {
            Some((name, _)) => format!("App: {name}"),
            None => format!("App: {}", protocols.join(",")),
        });
    }
    let port = matches.destination_port.map(|port| format!(":{port}"));
    let ranges = matches.prefix_ranges.iter();
    let ranges: Vec<String> = ranges
        .map(|(ip, length)| format!("{ip}/{length}"))
        .collect();
    match (ranges.is_empty(), port) {
        (true, None) => {}
        (true, Some(port)) => parts.push(format!("Addr: *{port}")),
        (false, port) => {
            let port = port.unwrap_or_default();
            parts.push(format!("Addr: {}{port}", ranges.join(",")));
        }
    }
    match parts.is_empty() {
        true => "ALL".to_owned(),
        false => parts.join("; "),
    }
}

fn destination(chain: &FilterChain, verbose: bool) -> String {
    match &chain.filter {
        NetworkFilter::Http(manager) => match &manager.routes {
            RouteSource::Rds(name) => format!("Route: {name}"),
            RouteSource::Inline(table) => inline(table),
        },
        NetworkFilter::Tcp(proxy) if is_black_hole(proxy) && !verbose => {
            "Non-HTTP/Non-TCP".to_owned()
        }
        NetworkFilter::Tcp(proxy) => match &proxy.clusters[..] {
            [(only, _)] => cluster(only),
            several => {
                let shares = several
                    .iter()
                    .map(|(name, weight)| format!("{name} ({weight})"));
                format!("Cluster: {}", shares.collect::<Vec<_>>().join(", "))
            }
        },
    }
}

/// Clusters that Istio adds say what they are.
fn cluster(name: &Name) -> String {
    match name.contains("Cluster") {
        true => name.to_string(),
        false => format!("Cluster: {name}"),
    }
}

/// Routes within a connection manager: just the cluster, if all goes there.
fn inline(table: &RouteTable) -> String {
    if let [host] = &table.virtual_hosts[..]
        && let [domain] = &host.domains[..]
        && let [route] = &host.routes[..]
        && let RouteAction::Forward(forward) = &route.action
        && let [only] = &forward.clusters[..]
        && (&**domain, &*routes::path(&route.matches)) == ("*", "/*")
    {
        return cluster(&only.cluster);
    }
    let hosts = table.virtual_hosts.iter().map(|host| {
        let paths = host.routes.iter().map(|route| routes::path(&route.matches));
        let paths = paths.collect::<Vec<_>>().join(", ");
        match &host.domains[..] {
            [domain] if &**domain == "*" => paths,
            domains => format!("{} {paths}", domains.join("/")),
        }
    });
    format!("Inline Route: {}", hosts.collect::<Vec<_>>().join("; "))
}

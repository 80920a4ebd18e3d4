//! Listeners, filter chains and the connection manager.

use crate::rate_limit::{LOCAL_RATE_LIMIT, local_rate_limit};
use crate::route::route_table;
use crate::{Message, duration, rbac, typed};
use proxy_core::xds::{
    EscapedSlashes, FilterChain, FilterChainMatch, FilterPlace, HttpConnectionManager, Listener,
    NetworkFilter, RouteSource, TcpProxy, TlsInspector,
};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// `envoy.config.listener.v3.Listener`. Chains that terminate TLS are written without their
/// transport socket, since certificates are not modelled: see [`crate::left_out`]. `bound`: the
/// listener takes connections itself; otherwise they are handed to it.
pub fn listener(listener: &Listener, bound: bool) -> Value {
    let mut message = Message::default();
    message.set("name", &*listener.name);
    let ip = listener
        .address
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = json!({ "address": ip.to_string(), "port_value": listener.port });
    message.set("address", json!({ "socket_address": address }));
    if !bound {
        message.set("bind_to_port", false);
    }
    message.set_flag("use_original_dst", listener.use_original_dst);
    message.set_list(
        "filter_chains",
        listener.filter_chains.iter().map(filter_chain),
    );
    let default = listener.default_filter_chain.as_ref();
    message.set_some("default_filter_chain", default.map(filter_chain));
    message.set_list("listener_filters", inspectors(listener));
    message.into()
}

/// The listener filters that the chains' conditions rely on.
fn inspectors(listener: &Listener) -> impl Iterator<Item = Value> {
    let chains = &listener.filter_chains;
    let any = |condition: fn(&FilterChainMatch) -> bool| {
        chains.iter().any(|chain| condition(&chain.matches))
    };
    let tls = any(|m| !m.server_names.is_empty() || m.transport_protocol.is_some());
    let http = any(|m| !m.application_protocols.is_empty());
    let filter = |name: &str, message: &str| {
        json!({
            "name": format!("envoy.filters.listener.{name}"),
            "typed_config": typed(&format!("envoy.extensions.filters.listener.{message}"), json!({})),
        })
    };
    let tls_inspector = || {
        let mut inspector = filter("tls_inspector", "tls_inspector.v3.TlsInspector");
        match &listener.tls_inspector {
            TlsInspector::AllPortsBut(ports) if !ports.is_empty() => {
                inspector["filter_disabled"] = any_port(ports);
            }
            TlsInspector::Only(ports) => {
                inspector["filter_disabled"] = match &ports[..] {
                    [] => json!({ "any_match": true }),
                    ports => json!({ "not_match": any_port(ports) }),
                };
            }
            TlsInspector::AllPorts | TlsInspector::AllPortsBut(_) => {}
        }
        inspector
    };
    [
        (tls || http).then(tls_inspector),
        http.then(|| filter("http_inspector", "http_inspector.v3.HttpInspector")),
    ]
    .into_iter()
    .flatten()
}

/// `envoy.config.listener.v3.ListenerFilterChainMatchPredicate`.
fn any_port(ports: &[u16]) -> Value {
    let rule = |port: &u16| {
        let range = json!({ "start": port, "end": u32::from(*port) + 1 });
        json!({ "destination_port_range": range })
    };
    match ports {
        [only] => rule(only),
        several => {
            let rules: Vec<Value> = several.iter().map(rule).collect();
            json!({ "or_match": { "rules": rules } })
        }
    }
}

fn filter_chain(chain: &FilterChain) -> Value {
    let mut message = Message::default();
    if !chain.name.is_empty() {
        message.set("name", &*chain.name);
    }
    let matches = chain_match(&chain.matches);
    if matches.as_object().is_some_and(|fields| !fields.is_empty()) {
        message.set("filter_chain_match", matches);
    }
    let filter = match &chain.filter {
        NetworkFilter::Http(manager) => json!({
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager(manager, chain),
        }),
        NetworkFilter::Tcp(proxy) => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": tcp_proxy(proxy),
        }),
    };
    let network = chain.rbac.iter().map(rbac::network_filter);
    message.set_list("filters", network.chain([filter]));
    message.into()
}

fn chain_match(matches: &FilterChainMatch) -> Value {
    let mut message = Message::default();
    message.set_some("destination_port", matches.destination_port);
    message.set_list(
        "prefix_ranges",
        matches
            .prefix_ranges
            .iter()
            .map(|(ip, length)| json!({ "address_prefix": ip.to_string(), "prefix_len": length })),
    );
    let texts = |list: &[proxy_core::xds::Name]| -> Vec<Value> {
        list.iter().map(|text| json!(**text)).collect()
    };
    message.set_list("server_names", texts(&matches.server_names));
    message.set_some("transport_protocol", matches.transport_protocol.as_deref());
    message.set_list(
        "application_protocols",
        texts(&matches.application_protocols),
    );
    message.into()
}

fn connection_manager(manager: &HttpConnectionManager, chain: &FilterChain) -> Value {
    let mut message = Message::default();
    let prefix = if chain.name.is_empty() {
        "http"
    } else {
        &*chain.name
    };
    message.set("stat_prefix", prefix);
    match &manager.routes {
        RouteSource::Rds(name) => {
            let ads = json!({
                "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3",
            });
            let source = json!({ "route_config_name": **name, "config_source": ads });
            message.set("rds", source);
        }
        RouteSource::Inline(table) => message.set("route_config", route_table(table)),
    }
    message.set("normalize_path", manager.normalize_path);
    message.set_flag("merge_slashes", manager.merge_slashes);
    let action = match manager.escaped_slashes {
        EscapedSlashes::Keep => "KEEP_UNCHANGED",
        EscapedSlashes::Reject => "REJECT_REQUEST",
        EscapedSlashes::UnescapeAndRedirect => "UNESCAPE_AND_REDIRECT",
        EscapedSlashes::UnescapeAndForward => "UNESCAPE_AND_FORWARD",
    };
    message.set("path_with_escaped_slashes_action", action);
    let idle = manager.stream_idle_timeout.unwrap_or_default();
    message.set("stream_idle_timeout", duration(idle));
    message.set("use_remote_address", manager.use_remote_address);
    message.set("http_filters", http_filters(manager));
    typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        message.into(),
    )
}

/// Access control, fault, CORS, router: in Istio's order, with local rate limits among them.
fn http_filters(manager: &HttpConnectionManager) -> Vec<Value> {
    let filter = |name: &str, message: &str| {
        let config = typed(
            &format!("envoy.extensions.filters.http.{message}"),
            json!({}),
        );
        json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": config })
    };
    let limits = |place: FilterPlace| {
        let all = manager.local_rate_limits.iter();
        all.filter(move |limit| limit.place == place)
            .map(|limit| json!({ "name": LOCAL_RATE_LIMIT, "typed_config": local_rate_limit(&limit.config) }))
    };
    let mut filters: Vec<Value> = limits(FilterPlace::First).collect();
    filters.extend(limits(FilterPlace::BeforeRbac));
    filters.extend(manager.rbac.iter().map(rbac::http_filter));
    filters.extend(limits(FilterPlace::BeforeFault));
    filters.push(filter("fault", "fault.v3.HTTPFault"));
    filters.extend(limits(FilterPlace::BeforeCors));
    filters.push(filter("cors", "cors.v3.Cors"));
    filters.extend(limits(FilterPlace::BeforeRouter));
    filters.push(filter("router", "router.v3.Router"));
    filters
}

fn tcp_proxy(proxy: &TcpProxy) -> Value {
    let mut message = Message::default();
    match &proxy.clusters[..] {
        [(only, _)] => {
            message.set("stat_prefix", &**only);
            message.set("cluster", &**only);
        }
        several => {
            message.set("stat_prefix", "weighted");
            let clusters = several
                .iter()
                .map(|(name, weight)| json!({ "name": **name, "weight": weight }));
            let clusters: Vec<Value> = clusters.collect();
            message.set("weighted_clusters", json!({ "clusters": clusters }));
        }
    }
    typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        message.into(),
    )
}

//! Resources as a proxy that has them shows them (Envoy's `config_dump`): with what else Istio sends
//! along, the objects that they come from and how connections are secured. Which certificates those
//! take is not modelled, so that a proxy cannot be started from this form.

use crate::cluster::inline_assignment;
use crate::{Resources, Unsupported, bootstrap, load_assignment, typed};
use proxy_core::xds::{
    Cluster, ConfigRef, FilterChain, HttpProtocol, Listener, NetworkFilter, RouteSource,
    RouteTable, Transport,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// `envoy.config.cluster.v3.Cluster`.
///
/// # Errors
/// The policy is none of Envoy's.
pub fn cluster(cluster: &Cluster) -> Result<Value, Unsupported> {
    let mut value = crate::cluster(cluster)?;
    set_origin(&mut value, cluster.origin.as_ref());
    // A DestinationRule may state another name; it is not kept.
    let sni = cluster.name.replace('|', "_.");
    match &cluster.transport {
        Transport::Plaintext => {}
        Transport::AutoMutualTls => {
            value["transport_socket_matches"] = json!([
                {
                    "name": "tlsMode-istio",
                    "match": { "tlsMode": "istio" },
                    "transport_socket": upstream_tls(&alpn(cluster, true), Some(&sni)),
                },
                {
                    "name": "tlsMode-disabled",
                    "match": {},
                    "transport_socket": raw_buffer(),
                },
            ]);
        }
        Transport::IstioMutualTls => {
            value["transport_socket"] = upstream_tls(&alpn(cluster, true), Some(&sni));
        }
        Transport::Tls { sni } => {
            value["transport_socket"] = upstream_tls(&alpn(cluster, false), sni.as_deref());
        }
    }
    Ok(value)
}

/// The protocols that the proxy offers when it connects.
fn alpn(cluster: &Cluster, in_mesh: bool) -> Vec<&'static str> {
    let mesh: &[&str] = match in_mesh {
        true => &["istio-peer-exchange", "istio"],
        false => &[],
    };
    let http2 = (cluster.http_protocol == HttpProtocol::Http2).then_some("h2");
    mesh.iter().copied().chain(http2).collect()
}

fn upstream_tls(alpn: &[&str], sni: Option<&str>) -> Value {
    let mut context = json!({ "common_tls_context": {} });
    if !alpn.is_empty() {
        context["common_tls_context"]["alpn_protocols"] = json!(alpn);
    }
    if let Some(sni) = sni {
        context["sni"] = json!(sni);
    }
    tls("UpstreamTlsContext", context)
}

fn tls(message: &str, context: Value) -> Value {
    let message = format!("envoy.extensions.transport_sockets.tls.v3.{message}");
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": typed(&message, context) })
}

fn raw_buffer() -> Value {
    let message = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    json!({ "name": "envoy.transport_sockets.raw_buffer", "typed_config": typed(message, json!({})) })
}

/// `envoy.config.listener.v3.Listener`; for `bound` see [`Resources::is_bound`].
pub fn listener(listener: &Listener, bound: bool) -> Value {
    let mut value = crate::listener(listener, bound);
    let secure = |chain: &FilterChain, value: &mut Value| {
        if chain.terminates_tls {
            value["transport_socket"] = tls("DownstreamTlsContext", json!({}));
        }
    };
    let values = value["filter_chains"].as_array_mut().into_iter().flatten();
    for (chain, value) in listener.filter_chains.iter().zip(values) {
        secure(chain, value);
    }
    if let Some(chain) = &listener.default_filter_chain {
        secure(chain, &mut value["default_filter_chain"]);
    }
    value
}

/// `envoy.config.route.v3.RouteConfiguration`.
pub fn route_table(table: &RouteTable) -> Value {
    let mut value = crate::route_table(table);
    let values = value["virtual_hosts"].as_array_mut().into_iter().flatten();
    for (host, value) in table.virtual_hosts.iter().zip(values) {
        let values = value["routes"].as_array_mut().into_iter().flatten();
        for (route, value) in host.routes.iter().zip(values) {
            set_origin(value, route.origin.as_ref());
        }
    }
    value
}

/// The metadata by which Istio says what a resource comes from.
fn set_origin(value: &mut Value, origin: Option<&ConfigRef>) {
    let Some(origin) = origin else {
        return;
    };
    let kind = match &*origin.kind {
        "DestinationRule" => "destination-rule",
        "VirtualService" => "virtual-service",
        _ => return,
    };
    let config = format!(
        "/apis/networking.istio.io/v1/namespaces/{}/{kind}/{}",
        origin.namespace, origin.name
    );
    value["metadata"] = json!({ "filter_metadata": { "istio": { "config": config } } });
}

impl<'r> Resources<'r> {
    /// The route tables within connection managers, each once.
    pub fn inline_routes(&self) -> Vec<&'r Arc<RouteTable>> {
        let mut tables: Vec<&'r Arc<RouteTable>> = Vec::new();
        for chain in self.listeners.iter().flat_map(|one| one.chains()) {
            if let NetworkFilter::Http(manager) = &chain.filter
                && let RouteSource::Inline(table) = &manager.routes
                && !tables.contains(&table)
            {
                tables.push(table);
            }
        }
        tables
    }

    /// The load assignments within clusters, as JSON.
    pub fn inline_endpoints(&self) -> impl Iterator<Item = Value> + use<'r> {
        let clusters = self.clusters.iter();
        clusters.filter_map(|one| inline_assignment(one))
    }
}

/// `envoy.admin.v3.ConfigDump`, with the endpoints (`include_eds`).
///
/// # Errors
/// What Envoy has no word for, all of it.
pub fn config_dump(resources: &Resources<'_>) -> Result<Value, Vec<Unsupported>> {
    let clusters = bootstrap::all(resources.clusters.iter().map(|one| cluster(one)))?;
    let listeners = resources.listeners.iter().map(|one| {
        let value = listener(one, resources.is_bound(one));
        let value = typed("envoy.config.listener.v3.Listener", value);
        json!({ "name": *one.name, "active_state": { "listener": value } })
    });
    let endpoints = |values| {
        entries(
            "endpoint_config",
            "endpoint.v3.ClusterLoadAssignment",
            values,
        )
    };
    let routes = |values| entries("route_config", "route.v3.RouteConfiguration", values);
    let sections = [
        (
            "ClustersConfigDump",
            json!({ "dynamic_active_clusters": entries("cluster", "cluster.v3.Cluster", clusters) }),
        ),
        (
            "EndpointsConfigDump",
            json!({
                "dynamic_endpoint_configs":
                    endpoints(resources.endpoints.iter().map(|one| load_assignment(one)).collect()),
                "static_endpoint_configs": endpoints(resources.inline_endpoints().collect()),
            }),
        ),
        (
            "ListenersConfigDump",
            json!({ "dynamic_listeners": listeners.collect::<Vec<_>>() }),
        ),
        (
            "RoutesConfigDump",
            json!({
                "dynamic_route_configs":
                    routes(resources.routes.iter().map(|one| route_table(one)).collect()),
                "static_route_configs":
                    routes(resources.inline_routes().into_iter().map(|one| route_table(one)).collect()),
            }),
        ),
    ];
    let sections =
        sections.map(|(message, fields)| typed(&format!("envoy.admin.v3.{message}"), fields));
    Ok(json!({ "configs": sections }))
}

/// Resources of one type in a list of a dump.
fn entries(key: &str, message: &str, values: Vec<Value>) -> Vec<Value> {
    let message = format!("envoy.config.{message}");
    let values = values.into_iter();
    values
        .map(|value| json!({ key: typed(&message, value) }))
        .collect()
}

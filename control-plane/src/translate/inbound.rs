//! What a sidecar does with connections to its own application.

use super::clusters::{apply_pool, passthrough, to_original_destination};
use super::endpoints::PodIndex;
use super::inbound_ports::{self, Port};
use super::of_2017::TIMEOUT;
use super::patches::Patches;
use super::routes::plain_route;
use super::scope::Imported;
use super::{Mesh, guard, mixer, tcp};
use crate::config::{DataPlane, MutualTls, PatchContext};
use crate::model::{ProxyIdentity, Resources};
use crate::protocol::Protocol;
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Cluster, ConfigRef, Discovery, Endpoint, FilterChain, FilterChainMatch, Forward,
    HttpConnectionManager, HttpProtocol, Listener, LoadAssignment, LocalityEndpoints, Name,
    NetworkFilter, RetryOn, RetryPolicy, RouteSource, RouteTable, TlsInspector, VirtualHost,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

const MUTUAL: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// The inbound listener and clusters of `proxy`.
pub(crate) fn resources(
    mesh: &Mesh,
    imported: &Imported,
    proxy: &ProxyIdentity,
    pods: &PodIndex,
) -> Resources {
    let ports = inbound_ports::of(mesh, imported, proxy, pods);
    let workload = (&*proxy.namespace, &proxy.labels);
    let patches = Patches::of_sidecar(mesh, workload, PatchContext::SidecarInbound);
    let mut clusters = Vec::new();
    let mut chains = vec![FilterChain {
        name: "virtualInbound-blackhole".into(),
        ..tcp::chain(
            FilterChainMatch {
                destination_port: Some(15006),
                ..FilterChainMatch::default()
            },
            vec![("BlackHoleCluster".into(), 1)],
        )
    }];
    let catch_all = Handlers {
        http_name: "virtualInbound-catchall-http".into(),
        tcp_name: "virtualInbound".into(),
        port: None,
        cluster: "InboundPassthroughCluster".into(),
        table: patches.patched(table(
            mesh,
            "InboundPassthroughCluster",
            0,
            None,
            Protocol::Auto,
        )),
    };
    let authentication = &mesh.rules.authentication;
    let mode = |port| authentication.of_port(&proxy.namespace, &proxy.labels, port);
    catch_all.add_chains(Protocol::Auto, mode(None), &mut chains);
    for port in authentication.ports(&proxy.namespace, &proxy.labels) {
        if !ports.contains_key(&port) {
            let handlers = Handlers {
                port: Some(port),
                ..catch_all.clone()
            };
            handlers.add_chains(Protocol::Auto, mode(Some(port)), &mut chains);
        }
    }
    let timeout = mesh.config.connect_timeout;
    for (target, port) in &ports {
        let cluster: Name = format!("inbound|{target}||").into();
        clusters.push(to_port(&cluster, port, timeout));
        let handlers = Handlers {
            http_name: port.listener.clone(),
            tcp_name: port.listener.clone(),
            port: Some(*target),
            table: patches.patched(table(
                mesh,
                &cluster,
                port.service_port,
                Some(&port.origin),
                port.protocol,
            )),
            cluster,
        };
        handlers.add_chains(port.protocol, mode(Some(*target)), &mut chains);
    }
    clusters.push(Cluster {
        connect_timeout: timeout,
        ..passthrough("InboundPassthroughCluster")
    });
    // All but the first, which passes nothing on.
    guard(&mut chains[1..], mesh, proxy.kind, workload);
    mixer::ask_at_ports(&mut chains, &mesh.config, &ports);
    let mut listener = Listener {
        name: "virtualInbound".into(),
        address: None,
        port: 15006,
        tls_inspector: inspected(&chains),
        filter_chains: chains,
        default_filter_chain: None,
        use_original_dst: false,
    };
    patches.patch_listener(&mut listener);
    Resources {
        clusters: clusters.into_iter().map(Arc::new).collect(),
        listeners: vec![Arc::new(listener)],
        ..Resources::default()
    }
}

/// To a port of the application.
fn to_port(name: &Name, port: &Port, connect_timeout: Nanos) -> Cluster {
    let to = match port.endpoint {
        None => to_original_destination(name),
        Some(address) => to_application(name, address),
    };
    let mut cluster = Cluster {
        http_protocol: match port.protocol {
            protocol if protocol.is_http2() => HttpProtocol::Http2,
            Protocol::Auto => HttpProtocol::UseDownstream,
            _ => HttpProtocol::Http1,
        },
        origin: Some(port.rule.as_ref().unwrap_or(&port.origin).clone()),
        connect_timeout,
        ..to
    };
    if let Some(pool) = &port.pool {
        apply_pool(&mut cluster, pool);
    }
    cluster
}

fn to_application(cluster: &Name, address: SocketAddr) -> Cluster {
    let locality = LocalityEndpoints {
        locality: "".into(),
        priority: 0,
        weight: 1,
        endpoints: vec![Endpoint::new(address)],
    };
    let assignment = LoadAssignment::new(cluster.clone(), vec![locality]);
    Cluster::new(cluster.clone(), Discovery::Static(assignment))
}

/// TLS is looked for where a chain asks for it: at a port with chains of its own, one of those;
/// elsewhere, one of those for all ports.
fn inspected(chains: &[FilterChain]) -> TlsInspector {
    let mut by_port: BTreeMap<Option<u16>, bool> = BTreeMap::new();
    for chain in chains {
        let asks = chain.matches.transport_protocol.as_deref() == Some("tls");
        *by_port.entry(chain.matches.destination_port).or_default() |= asks;
    }
    let elsewhere = by_port.remove(&None).unwrap_or(false);
    let others = by_port.into_iter().filter(|(_, asks)| *asks != elsewhere);
    let ports: Vec<u16> = others.filter_map(|(port, _)| port).collect();
    match elsewhere {
        true => TlsInspector::AllPortsBut(ports),
        false => TlsInspector::Only(ports),
    }
}

/// The routes of one inbound cluster: everything to the application, tried again if it closed the
/// connection before it saw the request.
fn table(
    mesh: &Mesh,
    cluster: &str,
    service_port: u16,
    origin: Option<&ConfigRef>,
    protocol: Protocol,
) -> Arc<RouteTable> {
    let retry = RetryPolicy {
        retry_on: RetryOn::RESET_BEFORE_REQUEST,
        avoid_previous_hosts: false,
        host_selection_retry_max_attempts: 1,
        ..super::routes::default_retries()
    };
    let of_2017 = mesh.rules.of_2017.stated();
    let forward = Forward {
        // Pilot of 2017 said nothing of it, and Envoy's default was the same here as where it is called.
        timeout: of_2017
            .filter(|of| *of == DataPlane::Envoy2017)
            .map(|_| TIMEOUT),
        retry: (!protocol.is_grpc() && of_2017.is_none()).then_some(retry),
        ..Forward::to(cluster.into())
    };
    let host = VirtualHost {
        name: format!("inbound|http|{service_port}").into(),
        domains: vec!["*".into()],
        routes: vec![Arc::new(plain_route("default", forward, origin.cloned()))],
        ..VirtualHost::default()
    };
    Arc::new(RouteTable::new(cluster.into(), vec![host], false))
}

/// How connections to one port are handled.
#[derive(Clone)]
struct Handlers {
    http_name: Name,
    tcp_name: Name,
    port: Option<u16>,
    cluster: Name,
    table: Arc<RouteTable>,
}

impl Handlers {
    fn add_chains(&self, protocol: Protocol, mode: MutualTls, chains: &mut Vec<FilterChain>) {
        let http_mutual = &MUTUAL[2..];
        let tcp_mutual = ["istio-peer-exchange", "istio"];
        let plain_http = ["http/1.1", "h2c"];
        let auto = protocol == Protocol::Auto;
        chains.extend(match mode {
            MutualTls::Permissive if protocol.is_http() => vec![
                self.http("tls", &MUTUAL, true),
                self.http("raw_buffer", &[], false),
            ],
            MutualTls::Permissive if auto => vec![
                self.http("tls", http_mutual, true),
                self.http("raw_buffer", &plain_http, false),
                self.tcp("tls", &tcp_mutual, true),
                self.tcp("raw_buffer", &[], false),
                self.tcp("tls", &[], false),
            ],
            MutualTls::Permissive => vec![
                self.tcp("tls", &MUTUAL, true),
                self.tcp("tls", &[], false),
                self.tcp("raw_buffer", &[], false),
            ],
            MutualTls::Strict if protocol.is_http() => vec![self.http("tls", &[], true)],
            MutualTls::Strict if auto => vec![
                self.http("tls", http_mutual, true),
                self.tcp("tls", &[], true),
            ],
            MutualTls::Strict => vec![self.tcp("tls", &[], true)],
            MutualTls::Disable if protocol.is_http() => {
                vec![self.http("raw_buffer", &[], false)]
            }
            MutualTls::Disable if auto => vec![
                self.http("raw_buffer", &plain_http, false),
                self.tcp("raw_buffer", &[], false),
            ],
            MutualTls::Disable => vec![self.tcp("raw_buffer", &[], false)],
        });
    }

    fn matches(&self, transport: &str, protocols: &[&str]) -> FilterChainMatch {
        FilterChainMatch {
            destination_port: self.port,
            transport_protocol: Some(transport.into()),
            application_protocols: protocols.iter().map(|name| Name::from(*name)).collect(),
            ..FilterChainMatch::default()
        }
    }

    fn http(&self, transport: &str, protocols: &[&str], terminates_tls: bool) -> FilterChain {
        FilterChain {
            name: self.http_name.clone(),
            matches: self.matches(transport, protocols),
            terminates_tls,
            rbac: Vec::new(),
            filter: NetworkFilter::Http(HttpConnectionManager::new(RouteSource::Inline(
                Arc::clone(&self.table),
            ))),
        }
    }

    fn tcp(&self, transport: &str, protocols: &[&str], terminates_tls: bool) -> FilterChain {
        FilterChain {
            name: self.tcp_name.clone(),
            terminates_tls,
            ..tcp::chain(
                self.matches(transport, protocols),
                vec![(self.cluster.clone(), 1)],
            )
        }
    }
}

//! Listeners for what the application sends.

use super::endpoints::{EndpointSource, PodIndex};
use super::virtual_hosts::{of_port, own_table, shared_table};
use super::{Scope, tcp};
use crate::protocol::Protocol;
use crate::registry::{Service, ServicePort};
use proxy_core::xds::{
    FilterChain, FilterChainMatch, HttpConnectionManager, Listener, Name, NetworkFilter,
    RouteSource, RouteTable, TlsInspector, VirtualHost,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Address (`None`: every one) and port to the chains found so far.
type Chains = BTreeMap<(Option<IpAddr>, u16), Vec<FilterChain>>;

/// The outbound listeners and their route tables.
pub(crate) fn listeners(
    scope: &Scope<'_>,
    pods: &PodIndex,
) -> (Vec<Arc<Listener>>, Vec<Arc<RouteTable>>) {
    let mut chains = Chains::new();
    let mut http_ports = BTreeSet::new();
    let mut own_tables: Vec<(Arc<Service>, u16)> = Vec::new();
    for service in &scope.services {
        for port in &service.ports {
            match port.protocol {
                Protocol::Udp => {}
                protocol if protocol.is_http() => {
                    http_ports.insert(port.number);
                    let table = port.number.to_string().into();
                    add(&mut chains, None, port.number, manager_chain(table));
                }
                protocol => {
                    add_connections(scope, &mut chains, service, port, pods);
                    let own = protocol == Protocol::Auto
                        && (service.address.is_some() || service.headless());
                    if own
                        && !own_tables
                            .iter()
                            .any(|(s, p)| s.host == service.host && *p == port.number)
                    {
                        own_tables.push((Arc::clone(service), port.number));
                    }
                }
            }
        }
    }
    let mut listeners: Vec<Arc<Listener>> = chains
        .into_iter()
        .map(|((address, port), chains)| Arc::new(finished(scope, address, port, chains)))
        .collect();
    listeners.push(Arc::new(virtual_outbound(scope)));
    (listeners, tables(scope, &http_ports, &own_tables))
}

fn tables(
    scope: &Scope<'_>,
    http_ports: &BTreeSet<u16>,
    own_tables: &[(Arc<Service>, u16)],
) -> Vec<Arc<RouteTable>> {
    let own_ports = own_tables.iter().map(|(_, port)| *port);
    let ports: BTreeSet<u16> = http_ports.iter().copied().chain(own_ports).collect();
    let mut tables = Vec::new();
    for port in ports {
        let hosts: Vec<VirtualHost> = of_port(scope, port);
        if http_ports.contains(&port) {
            tables.push(Arc::new(shared_table(scope, port, &hosts)));
        }
        let own = own_tables.iter().filter(|(_, p)| *p == port);
        tables.extend(
            own.filter_map(|(s, p)| own_table(s, *p, &hosts))
                .map(Arc::new),
        );
    }
    tables
}

/// A chain whose match is there already is dropped.
fn add(chains: &mut Chains, address: Option<IpAddr>, port: u16, chain: FilterChain) {
    let list = chains.entry((address, port)).or_default();
    if !list.iter().any(|earlier| earlier.matches == chain.matches) {
        list.push(chain);
    }
}

fn manager_chain(table: Name) -> FilterChain {
    FilterChain {
        name: "".into(),
        matches: FilterChainMatch {
            transport_protocol: Some("raw_buffer".into()),
            application_protocols: vec!["http/1.1".into(), "h2c".into()],
            ..FilterChainMatch::default()
        },
        terminates_tls: false,
        rbac: Vec::new(),
        filter: NetworkFilter::Http(HttpConnectionManager::new(RouteSource::Rds(table))),
    }
}

/// The chains of a port that is not always HTTP.
fn add_connections(
    scope: &Scope<'_>,
    chains: &mut Chains,
    service: &Arc<Service>,
    port: &ServicePort,
    pods: &PodIndex,
) {
    let plain = |names| tcp::service_chains(scope, service, port, None, names);
    let both = |chains: &mut Chains, address: Option<IpAddr>| {
        if port.protocol == Protocol::Auto {
            let table = format!("{}:{}", service.host, port.number);
            add(chains, address, port.number, manager_chain(table.into()));
        }
    };
    match &service.address {
        Some(address) => match address.prefix {
            None => {
                let ip = address.ip;
                for chain in plain(Vec::new()) {
                    add(chains, Some(ip), port.number, chain);
                }
                both(chains, Some(ip));
            }
            Some(length) => {
                let names = match port.protocol.is_tls() {
                    true => vec![service.host.clone()],
                    false => Vec::new(),
                };
                let network = Some((address.ip, length));
                for chain in tcp::service_chains(scope, service, port, network, names) {
                    add(chains, None, port.number, chain);
                }
            }
        },
        None if service.headless() => {
            let source = EndpointSource::new(service, port, "");
            for ip in source.addresses(pods) {
                for chain in plain(Vec::new()) {
                    add(chains, Some(ip), port.number, chain);
                }
                both(chains, Some(ip));
            }
        }
        None => {
            let names = match port.protocol.is_tls() {
                true => vec![service.host.clone()],
                false => Vec::new(),
            };
            for chain in plain(names) {
                add(chains, None, port.number, chain);
            }
        }
    }
}

/// A chain without conditions becomes the default; else unknown traffic passes through, or not.
fn finished(
    scope: &Scope<'_>,
    address: Option<IpAddr>,
    port: u16,
    mut chains: Vec<FilterChain>,
) -> Listener {
    let unconditional = chains
        .iter()
        .position(|chain| chain.matches == FilterChainMatch::default());
    let default_filter_chain = match unconditional {
        Some(_) if chains.len() == 1 => None,
        Some(at) => Some(chains.remove(at)),
        None => Some(FilterChain {
            name: "PassthroughFilterChain".into(),
            ..tcp::chain(FilterChainMatch::default(), vec![(unknown(scope), 1)])
        }),
    };
    let text = address.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
    Listener {
        name: format!("{text}_{port}").into(),
        address,
        port,
        filter_chains: chains,
        default_filter_chain,
        use_original_dst: false,
        tls_inspector: TlsInspector::AllPorts,
    }
}

/// Where connections to unknown addresses go.
fn unknown(scope: &Scope<'_>) -> Name {
    match scope.registry_only() {
        true => "BlackHoleCluster".into(),
        false => "PassthroughCluster".into(),
    }
}

fn virtual_outbound(scope: &Scope<'_>) -> Listener {
    let loops = FilterChainMatch {
        destination_port: Some(15001),
        ..FilterChainMatch::default()
    };
    Listener {
        name: "virtualOutbound".into(),
        address: None,
        port: 15001,
        filter_chains: vec![
            FilterChain {
                name: "virtualOutbound-blackhole".into(),
                ..tcp::chain(loops, vec![("BlackHoleCluster".into(), 1)])
            },
            FilterChain {
                name: "virtualOutbound-catchall-tcp".into(),
                ..tcp::chain(FilterChainMatch::default(), vec![(unknown(scope), 1)])
            },
        ],
        default_filter_chain: None,
        use_original_dst: true,
        tls_inspector: TlsInspector::AllPorts,
    }
}

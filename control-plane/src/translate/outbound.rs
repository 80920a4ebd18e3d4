//! Listeners for what the application sends.

use super::endpoints::{EndpointSource, PodIndex};
use super::patches::Patches;
use super::scope::{Egress, Scope};
use super::virtual_hosts::{of_port, other_names, own_table, shared_table};
use super::{mixer, tcp};
use crate::config::PatchContext;
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
    let mut found = Found {
        scope,
        pods,
        chains: Chains::new(),
        claimed: BTreeSet::new(),
        http_ports: BTreeSet::new(),
        own_tables: Vec::new(),
    };
    for egress in &scope.view.egress {
        if egress.port.is_none() {
            found.claimed = found.chains.keys().copied().collect();
        }
        for service in &*egress.services {
            for port in &service.ports {
                match &egress.port {
                    None => found.add_port(egress, service, port),
                    Some(own) => {
                        let as_listened = ServicePort {
                            name: own.name.clone(),
                            protocol: own.protocol,
                            ..port.clone()
                        };
                        found.add_port(egress, service, &as_listened);
                    }
                }
            }
        }
    }
    let mut listeners: Vec<Arc<Listener>> = found
        .chains
        .into_iter()
        .map(|((address, port), chains)| Arc::new(finished(scope, address, port, chains)))
        .collect();
    listeners.push(Arc::new(virtual_outbound(scope)));
    let workload = (&*scope.namespace, &scope.labels);
    let patches = Patches::of_sidecar(scope.mesh, workload, PatchContext::SidecarOutbound);
    for listener in &mut listeners {
        let listener = Arc::make_mut(listener);
        mixer::report_at_client(listener, &scope.mesh.config);
        patches.patch_listener(listener);
    }
    let tables = tables(scope, pods, &found.http_ports, &found.own_tables).into_iter();
    (
        listeners,
        tables.map(|table| patches.patched(table)).collect(),
    )
}

fn tables(
    scope: &Scope<'_>,
    pods: &PodIndex,
    http_ports: &BTreeSet<u16>,
    own_tables: &[(Arc<Service>, u16)],
) -> Vec<Arc<RouteTable>> {
    let own_ports = own_tables.iter().map(|(_, port)| *port);
    let ports: BTreeSet<u16> = http_ports.iter().copied().chain(own_ports).collect();
    let mut tables = Vec::new();
    for port in ports {
        let hosts: Vec<VirtualHost> = of_port(scope, port, pods);
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

/// What the listeners are made from.
struct Found<'s> {
    scope: &'s Scope<'s>,
    pods: &'s PodIndex,
    chains: Chains,
    /// By listeners with a port of their own, so that others leave them alone.
    claimed: BTreeSet<(Option<IpAddr>, u16)>,
    /// With a table that all services of the port share.
    http_ports: BTreeSet<u16>,
    /// With a table for one service.
    own_tables: Vec<(Arc<Service>, u16)>,
}

impl Found<'_> {
    /// A chain whose match is there already is dropped.
    fn add(&mut self, address: Option<IpAddr>, port: u16, chain: FilterChain) {
        let list = self.chains.entry((address, port)).or_default();
        if !list.iter().any(|earlier| earlier.matches == chain.matches) {
            list.push(chain);
        }
    }

    fn add_port(&mut self, egress: &Egress, service: &Arc<Service>, port: &ServicePort) {
        match port.protocol {
            _ if service.alias_of.is_some() => {}
            Protocol::Udp => {}
            protocol if protocol.is_http() => {
                if self.claimed.contains(&(egress.bind, port.number)) {
                    return;
                }
                self.http_ports.insert(port.number);
                let matches = match egress.bind {
                    None => detected(),
                    Some(_) => FilterChainMatch::default(),
                };
                let table = port.number.to_string().into();
                self.add(egress.bind, port.number, manager_chain(table, matches));
            }
            _ => self.add_connections(egress, service, port),
        }
    }

    /// The chains of a port that is not always HTTP.
    fn add_connections(&mut self, egress: &Egress, service: &Arc<Service>, port: &ServicePort) {
        let names = match port.protocol.is_tls() {
            true => server_names(self.scope, service),
            false => Vec::new(),
        };
        let mut own_address = Vec::new();
        let mut network = None;
        match (&service.address, egress.bind) {
            (_, Some(bind)) => own_address.push(bind),
            (Some(address), None) => match address.prefix {
                None => own_address.push(address.ip),
                Some(length) => network = Some((address.ip, length)),
            },
            (None, None) if service.is_at_its_endpoints() && egress.port.is_none() => {
                let source = EndpointSource::new(service, port, "");
                own_address = source.addresses(self.pods);
                if own_address.is_empty() {
                    return;
                }
            }
            (None, None) => {}
        }
        let scope = self.scope;
        let claimed = |address| self.claimed.contains(&(address, port.number));
        if own_address.is_empty() {
            if claimed(None) {
                return;
            }
            for chain in tcp::service_chains(scope, egress, service, port, network, names) {
                self.add(None, port.number, chain);
            }
            if port.protocol == Protocol::Auto {
                self.http_ports.insert(port.number);
                let table = port.number.to_string().into();
                self.add(None, port.number, manager_chain(table, detected()));
            }
            return;
        }
        own_address.retain(|address| !claimed(Some(*address)));
        if own_address.is_empty() {
            return;
        }
        let chains = tcp::service_chains(scope, egress, service, port, None, Vec::new());
        for address in own_address {
            for chain in &chains {
                self.add(Some(address), port.number, chain.clone());
            }
            if port.protocol == Protocol::Auto {
                let table = format!("{}:{}", service.host, port.number);
                let chain = manager_chain(table.into(), detected());
                self.add(Some(address), port.number, chain);
            }
        }
        self.add_own_table(service, port);
    }

    fn add_own_table(&mut self, service: &Arc<Service>, port: &ServicePort) {
        let known = |(other, number): &(Arc<Service>, u16)| {
            other.host == service.host && *number == port.number
        };
        if port.protocol == Protocol::Auto && !self.own_tables.iter().any(known) {
            self.own_tables.push((Arc::clone(service), port.number));
        }
    }
}

/// Its host, and every form of its other names.
fn server_names(scope: &Scope<'_>, service: &Service) -> Vec<Name> {
    let mut names = vec![service.host.clone()];
    for alias in &service.aliases {
        names.push(alias.clone());
        names.extend(other_names(scope, alias));
    }
    names
}

/// For whatever looks like HTTP.
fn detected() -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: Some("raw_buffer".into()),
        application_protocols: vec!["http/1.1".into(), "h2c".into()],
        ..FilterChainMatch::default()
    }
}

fn manager_chain(table: Name, matches: FilterChainMatch) -> FilterChain {
    FilterChain {
        name: "".into(),
        matches,
        terminates_tls: false,
        rbac: Vec::new(),
        filter: NetworkFilter::Http(HttpConnectionManager::new(RouteSource::Rds(table))),
    }
}

/// A chain without conditions becomes the default; else unknown traffic passes through, or not.
fn finished(
    scope: &Scope<'_>,
    address: Option<IpAddr>,
    port: u16,
    mut chains: Vec<FilterChain>,
) -> Listener {
    scope.mesh.config.path_normalization.apply(&mut chains);
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

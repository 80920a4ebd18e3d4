//! Filter chains of TCP and TLS ports.

use super::cluster_name;
use super::routes::{RouteContext, destination_cluster};
use super::scope::{Egress, Scope};
use crate::config::{Destination, L4Match, L4Route, Static, has_labels};
use crate::names::overlap;
use crate::registry::{Service, ServicePort};
use crate::rules::VirtualServiceRule;
use proxy_core::xds::{FilterChain, FilterChainMatch, Name, NetworkFilter, TcpProxy};
use std::net::IpAddr;

/// A chain that passes bytes on.
pub(crate) fn chain(matches: FilterChainMatch, clusters: Vec<(Name, u32)>) -> FilterChain {
    FilterChain {
        name: "".into(),
        matches,
        terminates_tls: false,
        rbac: Vec::new(),
        filter: NetworkFilter::Tcp(TcpProxy { clusters }),
    }
}

/// The chains of one TCP, TLS or auto-detect port of a service. `subnet`: of a service whose address
/// is a network.
pub(crate) fn service_chains(
    scope: &Scope<'_>,
    egress: &Egress,
    service: &Service,
    port: &ServicePort,
    subnet: Option<(IpAddr, u8)>,
    names: Vec<Name>,
) -> Vec<FilterChain> {
    let rules = egress.virtual_services.iter();
    let rules = rules.filter(|rule| rule.hosts.iter().any(|host| overlap(host, &service.host)));
    let own_ranges: Vec<(IpAddr, u8)> = subnet.into_iter().collect();
    let mut chains: Vec<FilterChain> = Vec::new();
    let context = RouteContext {
        scope,
        gateways: &["mesh".into()],
        port: port.number,
        tls: false,
    };
    for rule in rules {
        if port.protocol.is_tls() {
            tls_chains(&context, rule, &own_ranges, &mut chains);
        } else if tcp_chains(&context, rule, &own_ranges, &mut chains) {
            return chains;
        }
    }
    if chains.is_empty() || !port.protocol.is_tls() {
        let number = match &service.ports[..] {
            [single] => single.number,
            _ => port.number,
        };
        let matches = FilterChainMatch {
            prefix_ranges: own_ranges,
            server_names: names,
            ..FilterChainMatch::default()
        };
        let cluster = cluster_name(number, "", &service.host);
        chains.push(chain(matches, vec![(cluster, 1)]));
    }
    chains
}

fn tls_chains(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
    own_ranges: &[(IpAddr, u8)],
    chains: &mut Vec<FilterChain>,
) {
    for tls in &rule.spec().tls {
        for one in tls
            .matches
            .iter()
            .filter(|one| applies(context, rule, &one.statics))
        {
            let matches = FilterChainMatch {
                server_names: one.sni_hosts.clone(),
                prefix_ranges: match one.destination_subnets.is_empty() {
                    true => own_ranges.to_vec(),
                    false => one.destination_subnets.clone(),
                },
                ..FilterChainMatch::default()
            };
            if !chains.iter().any(|chain| chain.matches == matches) {
                chains.push(chain(matches, clusters(context, rule, tls)));
            }
        }
    }
}

/// Whether a rule took everything, so that no later one is asked.
fn tcp_chains(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
    own_ranges: &[(IpAddr, u8)],
    chains: &mut Vec<FilterChain>,
) -> bool {
    for tcp in &rule.spec().tcp {
        let matching: Vec<&L4Match> = tcp
            .matches
            .iter()
            .filter(|one| applies(context, rule, &one.statics))
            .collect();
        let takes_all = tcp.matches.is_empty()
            || matching
                .iter()
                .any(|one| one.destination_subnets.is_empty());
        for one in &matching {
            if !one.destination_subnets.is_empty() {
                let matches = FilterChainMatch {
                    prefix_ranges: one.destination_subnets.clone(),
                    ..FilterChainMatch::default()
                };
                chains.push(chain(matches, clusters(context, rule, tcp)));
            }
        }
        if takes_all {
            let matches = FilterChainMatch {
                prefix_ranges: own_ranges.to_vec(),
                ..FilterChainMatch::default()
            };
            chains.push(chain(matches, clusters(context, rule, tcp)));
            return true;
        }
    }
    false
}

/// Unlike in HTTP, conditions on the source hold beside named gateways.
fn applies(context: &RouteContext<'_, '_>, rule: &VirtualServiceRule, statics: &Static) -> bool {
    let namespace = statics.source_namespace.as_ref();
    (statics.gateways.is_empty() || context.is_named(rule, statics))
        && statics.port.is_none_or(|port| port == context.port)
        && has_labels(&context.scope.labels, &statics.source_labels)
        && namespace.is_none_or(|name| *name == context.scope.namespace)
}

/// Where a rule sends connections.
pub(crate) fn clusters(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
    l4: &L4Route,
) -> Vec<(Name, u32)> {
    let name = |to: &Destination| destination_cluster(context, rule, to, true);
    match &l4.route[..] {
        [(single, _)] => vec![(name(single), 1)],
        several => several
            .iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(to, weight)| (name(to), *weight))
            .collect(),
    }
}

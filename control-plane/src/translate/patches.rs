//! The patches of EnvoyFilters, on what was made for a proxy (Istio
//! `pilot/pkg/networking/core/envoyfilter`).

use super::Mesh;
use crate::config::{
    ActionMatch, Change, HttpFilter, Insertion, Labels, ListenerMatch, Merged, Patch, PatchContext,
    TableMatch,
};
use proxy_core::xds::{
    FilterChain, FilterPlace, HttpConnectionManager, Listener, LocalRateLimit,
    LocalRateLimitFilter, NetworkFilter, Route, RouteAction, RouteTable, VirtualHost,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The ports of Gateways by the port that the pod listens on.
pub(super) type GatewayPorts = BTreeMap<u16, BTreeSet<u16>>;

/// The patches for one side of a proxy, in the order in which they are applied.
pub(super) struct Patches<'m> {
    patches: Vec<&'m Patch>,
    gateway_ports: Option<GatewayPorts>,
}

impl<'m> Patches<'m> {
    /// For a sidecar.
    pub(super) fn of_sidecar(
        mesh: &'m Mesh,
        workload: (&'m str, &'m Labels),
        side: PatchContext,
    ) -> Patches<'m> {
        Patches {
            patches: patches(mesh, workload, side),
            gateway_ports: None,
        }
    }

    pub(super) fn of_gateway(
        mesh: &'m Mesh,
        workload: (&'m str, &'m Labels),
        ports: GatewayPorts,
    ) -> Patches<'m> {
        Patches {
            patches: patches(mesh, workload, PatchContext::Gateway),
            gateway_ports: Some(ports),
        }
    }

    /// Patches the connection managers of a listener.
    pub(super) fn patch_listener(&self, listener: &mut Listener) {
        let virtual_one = matches!(&*listener.name, "virtualInbound" | "virtualOutbound");
        for patch in &self.patches {
            let Change::Filter {
                matches,
                at,
                config,
            } = &patch.change
            else {
                continue;
            };
            let named = is_or_unstated(&matches.name, &listener.name);
            if !named || !virtual_one && matches.port.is_some_and(|port| port != listener.port) {
                continue;
            }
            for chain in listener.chains_mut() {
                let matched = chain_matches(matches, chain, virtual_one);
                if let (NetworkFilter::Http(manager), true) = (&mut chain.filter, matched) {
                    insert(manager, *at, config);
                }
            }
        }
    }

    /// The table after the patches: itself if there are none for it.
    pub(super) fn patched(&self, table: Arc<RouteTable>) -> Arc<RouteTable> {
        let of_table: Vec<_> = self
            .patches
            .iter()
            .filter_map(|patch| match &patch.change {
                Change::Table {
                    matches,
                    routes,
                    merged,
                } if self.table_matches(matches, &table.name) => Some((matches, *routes, merged)),
                _ => None,
            })
            .collect();
        if of_table.is_empty() {
            return table;
        }
        let mut hosts = table.virtual_hosts.clone();
        for host in &mut hosts {
            for (matches, routes, merged) in &of_table {
                if !host_matches(matches, host) {
                    continue;
                }
                let host = Arc::make_mut(host);
                match routes {
                    false => merge_into_host(host, merged),
                    true => merge_into_routes(host, matches, merged),
                }
            }
        }
        let name = Arc::clone(&table.name);
        Arc::new(RouteTable::sharing(name, hosts, table.ignore_port_in_host))
    }

    fn table_matches(&self, matches: &TableMatch, table: &str) -> bool {
        if !is_or_unstated(&matches.name, table) {
            return false;
        }
        let Some(ports) = &self.gateway_ports else {
            // Of `inbound|PORT||` and of `PORT`, but not of `HOST:PORT`.
            let number = table.strip_prefix("inbound|");
            let number = number.map_or(table, |rest| rest.trim_end_matches('|'));
            return matches.port.is_none_or(|port| number.parse() == Ok(port));
        };
        let parts: Vec<&str> = table.split('.').collect();
        let (port, port_name, gateway) = match parts[..] {
            ["https", port, name, gateway, namespace] => {
                (port, name, format!("{namespace}/{gateway}"))
            }
            [_, port, ..] => (port, "", String::new()),
            _ => return false,
        };
        let at_port = |wanted: u16| {
            let port = port.parse().unwrap_or(0);
            match ports.get(&port) {
                Some(of_gateways) => of_gateways.contains(&wanted),
                None => port == wanted,
            }
        };
        is_or_unstated(&matches.port_name, port_name)
            && is_or_unstated(&matches.gateway, &gateway)
            && matches.port.is_none_or(at_port)
    }
}

fn patches<'m>(
    mesh: &'m Mesh,
    (namespace, labels): (&'m str, &'m Labels),
    side: PatchContext,
) -> Vec<&'m Patch> {
    let all = mesh.rules.patches_for(namespace, labels);
    all.filter(|patch| patch.context == PatchContext::Any || patch.context == side)
        .collect()
}

fn is_or_unstated(wanted: &Option<Arc<str>>, name: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == name)
}

fn chain_matches(wanted: &ListenerMatch, chain: &FilterChain, virtual_one: bool) -> bool {
    let of_chain = &chain.matches;
    let protocols = &of_chain.application_protocols;
    let mut wanted_protocols = wanted.application_protocols.iter();
    let mut ports = wanted.destination_port.into_iter();
    // What listeners for all ports have of the port stands in their chains.
    let listeners_port = wanted.port.filter(|_| virtual_one);
    is_or_unstated(&wanted.chain, &chain.name)
        && wanted
            .sni
            .iter()
            .all(|sni| of_chain.server_names.contains(sni))
        && wanted
            .transport_protocol
            .as_ref()
            .is_none_or(|transport| of_chain.transport_protocol.as_ref() == Some(transport))
        && wanted_protocols.all(|protocol| protocols.contains(protocol))
        && ports.all(|port| of_chain.destination_port == Some(port))
        && listeners_port.is_none_or(|port| of_chain.destination_port == Some(port))
}

/// Puts a filter at its place, if that is in the chain.
fn insert(manager: &mut HttpConnectionManager, at: Insertion, config: &Arc<LocalRateLimit>) {
    let filter = |place| LocalRateLimitFilter {
        place,
        config: Arc::clone(config),
    };
    let filters = &mut manager.local_rate_limits;
    let (guarded, jwt) = (!manager.rbac.is_empty(), manager.jwt.is_some());
    let known = |wanted: HttpFilter| match wanted {
        HttpFilter::Jwt => jwt,
        HttpFilter::Rbac => guarded,
        HttpFilter::MetadataExchange => !manager.use_remote_address,
        _ => true,
    };
    use FilterPlace::{BeforeCors, BeforeFault, BeforeRbac, BeforeRouter, First};
    // A place, and whether before or after what stands there already.
    let (place, before) = match at {
        Insertion::First => (First, true),
        Insertion::Before(other) | Insertion::After(other) if !known(other) => return,
        Insertion::Before(HttpFilter::LocalRateLimit)
        | Insertion::After(HttpFilter::LocalRateLimit) => {
            let Some(other) = filters.first() else { return };
            let number = usize::from(at == Insertion::After(HttpFilter::LocalRateLimit));
            return filters.insert(number, filter(other.place));
        }
        Insertion::Before(other) => match other {
            HttpFilter::MetadataExchange => (First, true),
            HttpFilter::Jwt => (First, false),
            HttpFilter::Rbac => (BeforeRbac, false),
            HttpFilter::BeforeFault | HttpFilter::Fault => (BeforeFault, false),
            HttpFilter::Cors => (BeforeCors, false),
            HttpFilter::AfterCors => (BeforeRouter, true),
            HttpFilter::Router | HttpFilter::LocalRateLimit => (BeforeRouter, false),
        },
        Insertion::After(other) => match other {
            HttpFilter::MetadataExchange => (First, false),
            HttpFilter::Jwt => (BeforeRbac, true),
            HttpFilter::Rbac => (BeforeFault, true),
            HttpFilter::BeforeFault => (BeforeFault, false),
            HttpFilter::Fault => (BeforeCors, true),
            HttpFilter::Cors | HttpFilter::AfterCors => (BeforeRouter, true),
            HttpFilter::Router | HttpFilter::LocalRateLimit => (BeforeRouter, false),
        },
    };
    let at = match before {
        true => filters.partition_point(|other| other.place < place),
        false => filters.partition_point(|other| other.place <= place),
    };
    filters.insert(at, filter(place));
}

fn host_matches(matches: &TableMatch, host: &VirtualHost) -> bool {
    let domain = &matches.domain;
    is_or_unstated(&matches.virtual_host, &host.name)
        && domain.iter().all(|domain| host.domains.contains(domain))
}

fn route_matches(matches: &TableMatch, route: &Route) -> bool {
    let action = match &route.action {
        RouteAction::Forward(_) => ActionMatch::Route,
        RouteAction::Redirect(_) => ActionMatch::Redirect,
        RouteAction::DirectResponse { .. } => ActionMatch::DirectResponse,
    };
    is_or_unstated(&matches.route, &route.name)
        && matches.action.is_none_or(|wanted| wanted == action)
}

fn merge_into_host(host: &mut VirtualHost, merged: &Merged) {
    if merged.limit.is_some() {
        host.local_rate_limit.clone_from(&merged.limit);
    }
    host.rate_limits.extend(merged.rate_limits.iter().cloned());
}

fn merge_into_routes(host: &mut VirtualHost, matches: &TableMatch, merged: &Merged) {
    for route in &mut host.routes {
        if !route_matches(matches, route) {
            continue;
        }
        let route = Arc::make_mut(route);
        if merged.limit.is_some() {
            route.local_rate_limit.clone_from(&merged.limit);
        }
        if let RouteAction::Forward(forward) = &mut route.action {
            forward
                .rate_limits
                .extend(merged.rate_limits.iter().cloned());
        }
    }
}

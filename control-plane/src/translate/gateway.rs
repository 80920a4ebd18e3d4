//! Listeners and route tables of gateways.

use super::patches::{GatewayPorts, Patches};
use super::routes::{RouteContext, is_catch_all, of_virtual_service};
use super::scope::Scope;
use super::{PodIndex, guard, mixer, of_2017, tcp};
use crate::config::{BoundTo, Named, Semantics, Server, ServerTls, Static, has_labels};
use crate::names::{by_specificity, is_within};
use crate::registry::Service;
use crate::rules::{GatewayRule, VirtualServiceRule};
use proxy_core::xds::{
    FilterChain, FilterChainMatch, HttpConnectionManager, Listener, Name, NetworkFilter, Route,
    RouteSource, RouteTable, TlsInspector, VirtualHost,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A server and the Gateway it belongs to.
#[derive(Clone, Copy)]
struct Bound<'a> {
    gateway: &'a GatewayRule,
    server: &'a Server,
}

impl<'a> Bound<'a> {
    /// For the routes of the server.
    fn context<'m>(&self, scope: &'a Scope<'m>) -> RouteContext<'a, 'm> {
        RouteContext {
            scope,
            gateways: std::slice::from_ref(&self.gateway.id),
            port: self.server.port,
            tls: self.server.tls.is_some() || self.server.https_redirect,
        }
    }

    fn routes(&self, scope: &Scope<'_>, rule: &VirtualServiceRule) -> Vec<Arc<Route>> {
        of_virtual_service(&self.context(scope), rule)
    }
}

/// The servers of one port that the pod listens on.
#[derive(Default)]
struct PortServers<'a> {
    plain: Vec<Bound<'a>>,
    tls: Vec<Bound<'a>>,
    tcp: Vec<Bound<'a>>,
    tls_hosts: BTreeSet<String>,
}

/// The listeners of a gateway pod and their route tables.
pub(crate) fn listeners(
    scope: &Scope<'_>,
    pods: &PodIndex,
) -> (Vec<Arc<Listener>>, Vec<Arc<RouteTable>>) {
    let mut listeners = Vec::new();
    let mut tables = Vec::new();
    let servers = merged(scope);
    let workload = (&*scope.namespace, &scope.labels);
    let patches = Patches::of_gateway(scope.mesh, workload, gateway_ports(&servers));
    for ((port, bind), servers) in servers {
        let suffix = bind
            .as_ref()
            .map(|bind| format!(".{bind}"))
            .unwrap_or_default();
        let mut chains = Vec::new();
        for bound in &servers.tls {
            tls_chains((scope, pods), bound, &suffix, &mut chains, &mut tables);
        }
        if !servers.plain.is_empty() {
            let name: Name = format!("http.{port}{suffix}").into();
            chains.push(manager_chain(&name, FilterChainMatch::default(), false));
            tables.push(Arc::new(route_table(scope, pods, name, &servers.plain)));
        }
        for bound in &servers.tcp {
            chains.extend(tcp_chain(scope, bound, FilterChainMatch::default(), false));
        }
        if chains.is_empty() {
            continue;
        }
        guard(&mut chains, scope.mesh, scope.kind, workload);
        mixer::ask_at_gateway(&mut chains, &scope.mesh.config);
        let address: Option<IpAddr> = bind.as_ref().and_then(|bind| bind.parse().ok());
        let address = address.filter(|ip| !ip.is_unspecified());
        let text = address.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
        let mut listener = Listener {
            name: format!("{text}_{port}").into(),
            address,
            port,
            filter_chains: chains,
            default_filter_chain: None,
            use_original_dst: false,
            tls_inspector: TlsInspector::AllPorts,
        };
        patches.patch_listener(&mut listener);
        listeners.push(Arc::new(listener));
    }
    let tables = tables.into_iter();
    (
        listeners,
        tables.map(|table| patches.patched(table)).collect(),
    )
}

fn gateway_ports(servers: &BTreeMap<(u16, Option<Name>), PortServers<'_>>) -> GatewayPorts {
    let mut ports = GatewayPorts::new();
    for ((port, _), of_port) in servers {
        let all = [&of_port.plain, &of_port.tls, &of_port.tcp];
        let numbers = all.into_iter().flatten().map(|bound| bound.server.port);
        ports.entry(*port).or_default().extend(numbers);
    }
    ports
}

/// The servers for this pod, oldest Gateway first, by the port that it listens on. On a port that
/// began as plain text only HTTP joins; a server with TLS settings that names a host of the port again
/// is skipped.
fn merged<'a>(scope: &'a Scope<'_>) -> BTreeMap<(u16, Option<Name>), PortServers<'a>> {
    let mut ports: BTreeMap<(u16, Option<Name>), PortServers<'a>> = BTreeMap::new();
    for gateway in gateways(scope) {
        for server in &gateway.spec().servers {
            let bound = Bound { gateway, server };
            for port in listening_ports(scope, gateway, server.port) {
                let key = (port, server.bind.clone());
                join(ports.entry(key).or_default(), bound);
            }
        }
    }
    ports
}

/// Adds a server to those of its port.
fn join<'a>(servers: &mut PortServers<'a>, bound: Bound<'a>) {
    let server = bound.server;
    // A redirect counts as TLS settings.
    if server.tls.is_some() || server.https_redirect {
        let full = |host: &Named| full_host(bound.gateway, &host.text);
        let hosts: Vec<String> = server.hosts.iter().map(full).collect();
        if hosts.iter().any(|host| servers.tls_hosts.contains(host)) {
            return;
        }
        servers.tls_hosts.extend(hosts);
    }
    let plain_first = !servers.plain.is_empty() || !servers.tcp.is_empty();
    if server.is_plain_http() {
        if servers.tcp.is_empty() {
            servers.plain.push(bound);
        }
    } else if plain_first {
    } else if server.tls.is_some() {
        servers.tls.push(bound);
    } else if servers.tls.is_empty() {
        servers.tcp.push(bound);
    }
}

/// The Gateways for this pod. One whose pods the controller makes keeps Gateways of Istio's own from
/// other namespaces off them.
fn gateways<'a>(scope: &'a Scope<'_>) -> Vec<&'a GatewayRule> {
    let all = scope.mesh.rules.gateways.iter();
    let mut found: Vec<&GatewayRule> = all
        .filter(|gateway| match &gateway.spec().bound_to {
            None => has_labels(&scope.labels, &gateway.spec().selector),
            Some(bound) => services_before(scope, bound).next().is_some(),
        })
        .collect();
    let is_managed = |gateway: &&&GatewayRule| {
        let bound = gateway.spec().bound_to.as_ref();
        bound.is_some_and(|to| to.managed)
    };
    let managed = found.iter().filter(is_managed);
    let managed: BTreeSet<Name> = managed.map(|gateway| gateway.namespace().clone()).collect();
    found.retain(|gateway| {
        let bound = gateway.spec().bound_to.is_some();
        managed.is_empty() || bound || managed.contains(gateway.namespace())
    });
    found
}

/// The Services that `bound` names and that this pod is behind.
fn services_before<'s>(
    scope: &'s Scope<'_>,
    bound: &'s BoundTo,
) -> impl Iterator<Item = &'s Arc<Service>> {
    let hosts = bound.services.iter();
    let services = hosts.flat_map(|host| scope.mesh.registry.with_host(host));
    services.filter(|service| service.namespace == bound.namespace && scope.is_before(service))
}

/// Where the pod listens for a port of a Gateway: one that is bound to Services means a port of
/// theirs.
fn listening_ports(scope: &Scope<'_>, gateway: &GatewayRule, port: u16) -> BTreeSet<u16> {
    let Some(bound) = &gateway.spec().bound_to else {
        return BTreeSet::from([target_port(scope, port)]);
    };
    let services = services_before(scope, bound);
    services
        .filter_map(|service| scope.target_of(service, port))
        .collect()
}

/// `./` is the Gateway's namespace, `*/` is every one.
fn full_host(gateway: &GatewayRule, host: &str) -> String {
    match host.split_once('/') {
        Some((".", host)) => format!("{}/{host}", gateway.namespace()),
        Some(("*", host)) => host.to_owned(),
        _ => host.to_owned(),
    }
}

fn without_namespace(host: &str) -> &str {
    host.split_once('/').map_or(host, |(_, host)| host)
}

/// The pod's port behind a port of the Services that select it, else that port itself.
fn target_port(scope: &Scope<'_>, port: u16) -> u16 {
    let services = scope.mesh.registry.services.iter();
    services
        .filter(|service| scope.is_before(service))
        .filter(|service| !service.keeps_gateway_ports())
        .find_map(|service| scope.target_of(service, port))
        .unwrap_or(port)
}

/// The VirtualServices of a server and the hosts they share with it.
fn bound_rules<'s>(
    scope: &'s Scope<'_>,
    bound: &Bound<'_>,
) -> Vec<(&'s Arc<VirtualServiceRule>, Vec<Name>)> {
    let rules = scope
        .view
        .egress
        .iter()
        .flat_map(|all| &all.virtual_services);
    rules
        .filter(|rule| rule.gateways.contains(&bound.gateway.id))
        .filter_map(|rule| {
            let hosts = shared_hosts(bound, rule);
            (!hosts.is_empty()).then_some((rule, hosts))
        })
        .collect()
}

/// Of each pair the narrower name.
fn shared_hosts(bound: &Bound<'_>, rule: &VirtualServiceRule) -> Vec<Name> {
    let mut shared: Vec<Name> = Vec::new();
    for host in &bound.server.hosts {
        let host = match host.text.split_once('/') {
            None => &*host.text,
            Some(("*", host)) => host,
            Some((".", host)) if bound.gateway.namespace() == rule.namespace() => host,
            Some((namespace, host)) if *namespace == **rule.namespace() => host,
            Some(_) => continue,
        };
        let host = host.to_ascii_lowercase();
        for of_rule in &rule.hosts {
            let narrower: Name = match (is_within(&host, of_rule), is_within(of_rule, &host)) {
                (true, _) => host.as_str().into(),
                (false, true) => of_rule.clone(),
                (false, false) => continue,
            };
            if !shared.contains(&narrower) {
                shared.push(narrower);
            }
        }
    }
    shared
}

/// The table that plain-text servers of one port share, or that of one HTTPS server.
fn route_table(
    scope: &Scope<'_>,
    pods: &PodIndex,
    name: Name,
    servers: &[Bound<'_>],
) -> RouteTable {
    let mut hosts: BTreeMap<Name, VirtualHost> = BTreeMap::new();
    let mut known: BTreeMap<(Name, usize), Vec<Arc<Route>>> = BTreeMap::new();
    for bound in servers {
        let port = bound.server.port;
        let new_host = |host: &Name| VirtualHost {
            name: format!("{host}:{port}").into(),
            domains: vec![host.clone()],
            include_attempt_count: true,
            ..VirtualHost::default()
        };
        for (rule, shared) in bound_rules(scope, bound) {
            // Servers of one Gateway share the routes made for the first of them.
            let key = (bound.gateway.id.clone(), Arc::as_ptr(rule) as usize);
            let routes = known
                .entry(key)
                .or_insert_with(|| match rule.spec().semantics {
                    Semantics::Ingress => of_2017::unfolded(scope, pods, bound.routes(scope, rule)),
                    _ => bound.routes(scope, rule),
                });
            if routes.is_empty() {
                continue;
            }
            for host in &shared {
                let entry = hosts.entry(host.clone()).or_insert_with(|| new_host(host));
                entry.routes.extend(routes.iter().cloned());
                entry.require_tls |= bound.server.https_redirect;
            }
        }
        if bound.server.https_redirect {
            for host in &bound.server.hosts {
                let host: Name = full_host(bound.gateway, &host.text).into();
                let entry = hosts.entry(host.clone()).or_insert_with(|| new_host(&host));
                entry.require_tls = true;
            }
        }
    }
    let mut hosts = match (hosts.is_empty(), servers.first()) {
        (true, Some(first)) => vec![black_hole(first.server.port)],
        _ => collapsed(hosts),
    };
    for host in &mut hosts {
        host.routes
            .sort_by_key(|route| is_catch_all(&route.matches));
    }
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    RouteTable::new(name, hosts, true)
}

fn black_hole(port: u16) -> VirtualHost {
    VirtualHost {
        name: format!("blackhole:{port}").into(),
        domains: vec!["*".into()],
        ..VirtualHost::default()
    }
}

/// Hosts with the same routes become one, called after the most specific.
fn collapsed(hosts: BTreeMap<Name, VirtualHost>) -> Vec<VirtualHost> {
    let mut names: Vec<&Name> = hosts.keys().collect();
    names.sort_by(|a, b| by_specificity(a, b));
    let mut kept: Vec<VirtualHost> = Vec::new();
    for host in names.into_iter().filter_map(|name| hosts.get(name)) {
        let same = kept.iter_mut().find(|other| {
            other.require_tls == host.require_tls
                && other.routes.len() == host.routes.len()
                && other
                    .routes
                    .iter()
                    .zip(&host.routes)
                    .all(|(a, b)| Arc::ptr_eq(a, b))
        });
        match same {
            Some(other) => other.domains.extend(host.domains.iter().cloned()),
            None => kept.push(host.clone()),
        }
    }
    kept
}

fn manager_chain(table: &Name, matches: FilterChainMatch, terminates_tls: bool) -> FilterChain {
    FilterChain {
        name: "".into(),
        matches,
        terminates_tls,
        rbac: Vec::new(),
        filter: NetworkFilter::Http(HttpConnectionManager {
            use_remote_address: true,
            ..HttpConnectionManager::new(RouteSource::Rds(table.clone()))
        }),
    }
}

fn tls_chains(
    (scope, pods): (&Scope<'_>, &PodIndex),
    bound: &Bound<'_>,
    suffix: &str,
    chains: &mut Vec<FilterChain>,
    tables: &mut Vec<Arc<RouteTable>>,
) {
    let server = bound.server;
    let matches = server_names(server);
    if server.routes_http() {
        let name: Name = format!(
            "https.{}.{}.{}.{}{suffix}",
            server.port,
            server.port_name,
            bound.gateway.name(),
            bound.gateway.namespace()
        )
        .into();
        chains.push(manager_chain(&name, matches, true));
        tables.push(Arc::new(route_table(scope, pods, name, &[*bound])));
    } else if server.tls == Some(ServerTls::Terminate) {
        chains.extend(tcp_chain(scope, bound, matches, true));
    } else {
        passthrough_chains(scope, bound, chains);
    }
}

fn server_names(server: &Server) -> FilterChainMatch {
    let mut names: Vec<Name> = server
        .hosts
        .iter()
        .map(|host| without_namespace(&host.text).into())
        .collect();
    names.sort();
    if names.iter().any(|name| &**name == "*") {
        names.clear();
    }
    FilterChainMatch {
        server_names: names,
        ..FilterChainMatch::default()
    }
}

/// Only port and gateways are looked at.
fn applies(context: &RouteContext<'_, '_>, rule: &VirtualServiceRule, statics: &Static) -> bool {
    (statics.gateways.is_empty() || context.is_named(rule, statics))
        && statics.port.is_none_or(|port| port == context.port)
}

/// The first VirtualService with a TCP rule that applies has it all, or one made from a TLSRoute, where
/// the listener ends TLS.
fn tcp_chain(
    scope: &Scope<'_>,
    bound: &Bound<'_>,
    matches: FilterChainMatch,
    terminates_tls: bool,
) -> Option<FilterChain> {
    let context = bound.context(scope);
    bound_rules(scope, bound).into_iter().find_map(|(rule, _)| {
        let spec = rule.spec();
        let tls = match spec.semantics {
            Semantics::TlsRoute => spec.tls.iter(),
            _ => [].iter(),
        };
        let tcp = spec.tcp.iter().chain(tls).find(|tcp| {
            let mut matches = tcp.matches.iter();
            tcp.matches.is_empty() || matches.any(|one| applies(&context, rule, &one.statics))
        })?;
        Some(FilterChain {
            terminates_tls,
            ..tcp::chain(matches.clone(), tcp::clusters(&context, rule, tcp))
        })
    })
}

fn passthrough_chains(scope: &Scope<'_>, bound: &Bound<'_>, chains: &mut Vec<FilterChain>) {
    let context = bound.context(scope);
    for (rule, _) in bound_rules(scope, bound) {
        for tls in &rule.spec().tls {
            for one in tls
                .matches
                .iter()
                .filter(|one| applies(&context, rule, &one.statics))
            {
                let every = one.sni_hosts.iter().any(|name| &**name == "*");
                let repeats = chains.iter().any(|chain| {
                    let names = &chain.matches.server_names;
                    (every && names.is_empty())
                        || names.iter().any(|name| one.sni_hosts.contains(name))
                });
                if !repeats {
                    let matches = FilterChainMatch {
                        server_names: match every {
                            true => Vec::new(),
                            false => one.sni_hosts.clone(),
                        },
                        ..FilterChainMatch::default()
                    };
                    chains.push(tcp::chain(matches, tcp::clusters(&context, rule, tls)));
                }
            }
        }
    }
}

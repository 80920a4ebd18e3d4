//! The virtual hosts of sidecar route tables.

use super::routes::{default_route, in_mesh, plain_route};
use super::scope::{Egress, Scope};
use super::{PodIndex, of_2017};
use crate::config::DataPlane;
use crate::names::{is_wildcard, is_within, service_of_host};
use crate::registry::{Service, ServicePort};
use crate::rules::VirtualServiceRule;
use proxy_core::time::Nanos;
use proxy_core::xds::{Forward, Name, Route, RouteAction, RouteMatch, RouteTable, VirtualHost};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Hosts and services that share a list of routes.
struct Group {
    /// Literal hosts, which no service of the port has.
    hosts: Vec<Name>,
    services: Vec<Arc<Service>>,
    routes: Vec<Arc<Route>>,
}

/// The virtual hosts of `port`, without the one for unknown hosts, by name.
pub(crate) fn of_port(scope: &Scope<'_>, port: u16, pods: &PodIndex) -> Vec<VirtualHost> {
    let Some(egress) = scope.egress_at(port) else {
        return Vec::new();
    };
    let mut services: BTreeMap<&Name, (&Arc<Service>, &ServicePort)> = BTreeMap::new();
    for service in &*egress.services {
        if let Some(found) = service.port(port) {
            services.insert(&service.host, (service, found));
        }
    }
    let mut groups = Vec::new();
    for rule in &egress.virtual_services {
        groups.extend(group(scope, egress, rule, &services, port));
    }
    for group in &groups {
        for service in &group.services {
            services.remove(&service.host);
        }
    }
    services
        .retain(|_, (service, port)| service.alias_of.is_none() && port.protocol.is_http_or_auto());
    for (service, port) in services.into_values() {
        groups.push(Group {
            hosts: Vec::new(),
            services: vec![Arc::clone(service)],
            routes: of_2017::routes(scope, service, port, pods)
                .unwrap_or_else(|| vec![default_route(scope, service, port)]),
        });
    }
    let mut hosts = virtual_hosts(scope, groups, port);
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    hosts
}

/// What `rule` does at `port`: with services of that port it takes all its other hosts along; at
/// port 80 it acts in any case.
fn group(
    scope: &Scope<'_>,
    egress: &Egress,
    rule: &Arc<VirtualServiceRule>,
    services: &BTreeMap<&Name, (&Arc<Service>, &ServicePort)>,
    port: u16,
) -> Option<Group> {
    if rule.http().is_empty() {
        return None;
    }
    let mut hosts = Vec::new();
    let mut found: Vec<Arc<Service>> = Vec::new();
    for host in rule.hosts.iter().filter(|host| !is_wildcard(host)) {
        match services.get(host) {
            Some((service, _)) => found.push(Arc::clone(service)),
            None => hosts.push(host.clone()),
        }
    }
    let of_gateway_api = rule.of_gateway_api();
    for pattern in rule.hosts.iter().filter(|host| is_wildcard(host)) {
        let mut any = false;
        if of_gateway_api {
            hosts.push(pattern.clone());
            continue;
        }
        for (host, (service, _)) in services.iter().filter(|(host, _)| is_within(host, pattern)) {
            any = true;
            if egress.owns(rule, host) && !found.iter().any(|s| s.host == service.host) {
                found.push(Arc::clone(service));
            }
        }
        if !any {
            hosts.push(pattern.clone());
        }
    }
    // Routes of the Gateway API are for clients of their own namespace, or services of it.
    let concerned = |service: &Arc<Service>| {
        service.namespace == *rule.namespace() || scope.namespace == *rule.namespace()
    };
    if of_gateway_api && !found.iter().any(concerned) {
        return None;
    }
    // Services of the port that speak something else are neither routed nor literal hosts.
    found.retain(|service| {
        let found = service.port(port);
        found.is_some_and(|port| port.protocol.is_http_or_auto())
    });
    if found.is_empty() && port != 80 {
        return None;
    }
    let routes = in_mesh(scope, port, rule);
    (!routes.is_empty()).then_some(Group {
        hosts,
        services: found,
        routes,
    })
}

/// Names and domains are given once; the first to claim one keeps it.
fn virtual_hosts(scope: &Scope<'_>, groups: Vec<Group>, port: u16) -> Vec<VirtualHost> {
    let full_names: BTreeSet<Name> = groups
        .iter()
        .flat_map(|group| group.services.iter().map(|service| service.host.clone()))
        .collect();
    let mut names: BTreeSet<Name> = BTreeSet::new();
    let mut taken: BTreeSet<Name> = BTreeSet::new();
    let mut hosts = Vec::new();
    let mut add = |host: &Name, domains: Domains, routes: &[Arc<Route>]| {
        let name: Name = format!("{host}:{port}").into();
        if !names.insert(name.clone()) {
            return;
        }
        let Domains { all, short } = domains;
        let mut domains = all;
        domains.retain(|domain| {
            let foreign = short.contains(domain) && full_names.contains(domain);
            !foreign && taken.insert(domain.clone())
        });
        if !domains.is_empty() {
            hosts.push(VirtualHost {
                name,
                domains,
                routes: routes.to_vec(),
                include_attempt_count: true,
                ..VirtualHost::default()
            });
        }
    };
    for group in &groups {
        for host in &group.hosts {
            let literal = Domains {
                all: vec![host.clone()],
                short: Vec::new(),
            };
            add(host, literal, &group.routes);
        }
        for service in &group.services {
            add(&service.host, domains(scope, service), &group.routes);
        }
    }
    hosts
}

struct Domains {
    all: Vec<Name>,
    /// Those that are short for the full name.
    short: Vec<Name>,
}

/// Every name by which an application may call `service`, lower case.
fn domains(scope: &Scope<'_>, service: &Service) -> Domains {
    let mut all: Vec<Name> = Vec::new();
    let mut short: Vec<Name> = Vec::new();
    for host in std::iter::once(&service.host).chain(&service.aliases) {
        let others = other_names(scope, host);
        all.push(host.clone());
        all.extend(others.iter().cloned());
        // The first only ends with a dot.
        short.extend(others.into_iter().skip(1));
    }
    if service.headless() {
        let wild: Vec<Name> = all.iter().map(|name| format!("*.{name}").into()).collect();
        all.extend(wild);
    }
    all.extend(service.address.iter().map(|address| {
        let text = address.text.to_ascii_lowercase();
        match address.ip.is_ipv6() {
            true => format!("[{text}]").into(),
            false => Name::from(text),
        }
    }));
    Domains { all, short }
}

/// What `host` may be called beside its own name, with a dot at the end first.
pub(crate) fn other_names(scope: &Scope<'_>, host: &Name) -> Vec<Name> {
    let mut names: Vec<Name> = vec![format!("{host}.").into()];
    // Istio goes by the host, whatever defined it.
    if let Some((name, namespace)) = service_of_host(host) {
        let of_namespace = format!("{name}.{namespace}");
        let of_services = format!("{name}.{namespace}.svc");
        let texts = match *scope.namespace == *namespace {
            true => vec![name.to_string(), of_services, of_namespace],
            false => vec![of_namespace, of_services],
        };
        names.extend(texts.into_iter().map(Name::from));
    }
    names
}

/// The virtual host that takes every other host.
fn catch_all(scope: &Scope<'_>) -> VirtualHost {
    let (name, route) = match scope.registry_only() {
        false => {
            let forward = Forward {
                max_grpc_timeout: Some(Nanos::ZERO),
                ..Forward::to("PassthroughCluster".into())
            };
            ("allow_any", plain_route("allow_any", forward, None))
        }
        true => (
            "block_all",
            Route {
                name: "block_all".into(),
                ..Route::new(
                    RouteMatch::default(),
                    RouteAction::DirectResponse {
                        status: 502,
                        body: "".into(),
                    },
                )
            },
        ),
    };
    VirtualHost {
        name: name.into(),
        domains: vec!["*".into()],
        routes: vec![Arc::new(route)],
        include_attempt_count: true,
        ..VirtualHost::default()
    }
}

/// The table shared by all HTTP services of `port`.
pub(crate) fn shared_table(scope: &Scope<'_>, port: u16, hosts: &[VirtualHost]) -> RouteTable {
    let mut hosts = hosts.to_vec();
    let every = |host: &VirtualHost| host.domains.iter().any(|domain| &**domain == "*");
    // Envoy of 2017 had no answer for unknown hosts but a 404.
    if scope.mesh.rules.of_2017.stated() != Some(DataPlane::Envoy2017) && !hosts.iter().any(every) {
        hosts.push(catch_all(scope));
    }
    RouteTable::new(port.to_string().into(), hosts, true)
}

/// The table of one auto-detect port: its virtual host takes every name.
pub(crate) fn own_table(service: &Service, port: u16, hosts: &[VirtualHost]) -> Option<RouteTable> {
    let name: Name = format!("{}:{port}", service.host).into();
    let mut host = hosts.iter().find(|host| host.name == name)?.clone();
    host.domains = vec!["*".into()];
    Some(RouteTable::new(name, vec![host], true))
}

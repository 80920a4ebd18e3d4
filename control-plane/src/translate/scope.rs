//! What proxies with one key see: the services and rules that their Sidecar imports.

use super::{Mesh, ScopeKey};
use crate::config::{
    ConsistentHash, EgressHost, EgressListener, OutboundTrafficMode, Sidecar, SidecarPort,
};
use crate::model::ProxyKind;
use crate::names::{by_specificity, is_wildcard, is_within, overlap};
use crate::registry::{Service, ServicePort};
use crate::rules::{Policy, VirtualServiceRule};
use proxy_core::xds::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What proxies with one key see.
pub(crate) struct Scope<'m> {
    pub(crate) mesh: &'m Mesh,
    pub(crate) kind: ProxyKind,
    pub(crate) namespace: Name,
    pub(crate) labels: Vec<(Name, Name)>,
    listed_ip: Option<IpAddr>,
    pub(crate) outbound_traffic_policy: OutboundTrafficMode,
    /// In order; only the last one may be for all the ports that the others do not have.
    pub(crate) egress: Vec<Egress>,
    /// Everything that has clusters. ServiceEntries that pool the ports of a host stand here one by
    /// one.
    pub(crate) services: Vec<Arc<Service>>,
    /// The one that is meant by a host, with all the ports that it has in this scope.
    pub(crate) by_host: BTreeMap<Name, Arc<Service>>,
}

/// What one egress listener of a Sidecar imports. A gateway has a single one, with everything.
pub(crate) struct Egress {
    /// `None`: every port that no other listener has.
    pub(crate) port: Option<SidecarPort>,
    pub(crate) bind: Option<IpAddr>,
    /// Exported to the namespace by name first, then those of everybody; oldest first. With only the
    /// listener's port, if it has one.
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) virtual_services: Vec<Arc<VirtualServiceRule>>,
    /// The VirtualService with the most specific wildcard for a host without one of its own.
    pub(crate) wildcard_owner: BTreeMap<Name, Arc<VirtualServiceRule>>,
}

impl<'m> Scope<'m> {
    pub(crate) fn new(mesh: &'m Mesh, key: &ScopeKey) -> Scope<'m> {
        let sidecar = key.sidecar.map(|at| mesh.rules.sidecar(at));
        let stated = sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy);
        let namespace = &key.namespace;
        let visible = mesh.registry.visible_in(namespace);
        let rules = mesh.rules.virtual_services_for(namespace);
        let egress = match key.kind {
            ProxyKind::Gateway => vec![Egress {
                port: None,
                bind: None,
                services: visible,
                virtual_services: rules.into_iter().cloned().collect(),
                wildcard_owner: BTreeMap::new(),
            }],
            ProxyKind::Sidecar | ProxyKind::None => egress(sidecar, namespace, &visible, &rules),
        };
        let mut scope = Scope {
            mesh,
            kind: key.kind,
            namespace: namespace.clone(),
            labels: key.labels.clone(),
            listed_ip: key.listed_ip,
            outbound_traffic_policy: stated.unwrap_or(mesh.config.outbound_traffic_policy),
            egress: Vec::new(),
            services: Vec::new(),
            by_host: BTreeMap::new(),
        };
        for egress in &egress {
            scope.import(egress);
        }
        scope.egress = egress;
        scope
    }

    /// The listener that takes requests to `port`.
    pub(crate) fn egress_at(&self, port: u16) -> Option<&Egress> {
        let takes = |egress: &&Egress| egress.port.as_ref().is_none_or(|p| p.number == port);
        self.egress.iter().find(takes)
    }

    /// Whether the proxy is before an endpoint of `service`.
    pub(crate) fn is_before(&self, service: &Service) -> bool {
        service.is_of(&self.namespace, &self.labels, self.listed_ip)
    }

    pub(crate) fn policy(&self, service: &Service) -> Option<&Arc<Policy>> {
        self.mesh
            .rules
            .policy_for(&self.namespace, &self.labels, service)
    }

    /// What requests to `service` are hashed by. Unlike the balancer itself it is not replaced by
    /// settings that hash nothing: the most specific level that hashes counts.
    pub(crate) fn consistent_hash(
        &self,
        service: &Service,
        subset: Option<&str>,
        port: Option<u16>,
    ) -> Option<ConsistentHash> {
        let policy = self.policy(service)?;
        let subset = subset.and_then(|name| policy.subsets.iter().find(|s| &*s.name.text == name));
        let levels = [
            subset.and_then(|subset| subset.policy.as_ref()),
            policy.policy.as_ref(),
        ];
        levels
            .into_iter()
            .flatten()
            .find_map(|level| level.hash_at(port))
    }

    pub(crate) fn registry_only(&self) -> bool {
        self.outbound_traffic_policy == OutboundTrafficMode::RegistryOnly
    }

    /// Adds what `egress` imports, then what its VirtualServices send to.
    fn import(&mut self, egress: &Egress) {
        for service in &egress.services {
            self.add(service);
        }
        if self.kind == ProxyKind::Gateway {
            return;
        }
        for rule in &egress.virtual_services {
            let mut named: BTreeMap<Name, Vec<Option<u16>>> = BTreeMap::new();
            for (host, port) in rule.destinations_from(&self.namespace) {
                named.entry(host).or_default().push(port);
            }
            for (host, ports) in named {
                let found = self.mesh.registry.destination(&host, &self.namespace);
                let trimmed = found.and_then(|service| match &egress.port {
                    Some(port) => with_ports(service, |p| p.number == port.number),
                    // A destination without a port may mean any.
                    None if ports.contains(&None) => Some(Arc::clone(service)),
                    None => with_ports(service, |p| ports.contains(&Some(p.number))),
                });
                if let Some(service) = trimmed {
                    self.add(&service);
                }
            }
        }
    }

    /// The first definition of a host stays, but for a ServiceEntry before a Service; ServiceEntries
    /// that are alike, and parts of one service, pool their ports.
    fn add(&mut self, service: &Arc<Service>) {
        let Some(known) = self.by_host.get_mut(&service.host) else {
            self.by_host
                .insert(service.host.clone(), Arc::clone(service));
            self.services.push(Arc::clone(service));
            return;
        };
        match (known.kubernetes, service.kubernetes) {
            (true, false) => {}
            (false, true) => {
                *known = Arc::clone(service);
                self.services.retain(|other| other.host != service.host);
                self.services.push(Arc::clone(service));
            }
            _ if !pools(known, service) => {}
            _ => {
                let new = |port: &&ServicePort| known.port(port.number).is_none();
                let more: Vec<ServicePort> = service.ports.iter().filter(new).cloned().collect();
                if !more.is_empty() {
                    Arc::make_mut(known).ports.extend(more);
                    self.services.push(Arc::clone(service));
                }
            }
        }
    }
}

fn pools(known: &Service, other: &Service) -> bool {
    known.namespace == other.namespace
        && known.discovery == other.discovery
        && known.labels == other.labels
        && known.selector == other.selector
        && known.export_to == other.export_to
}

/// `service` with the ports that are `wanted`; `None` if it has none of them.
fn with_ports(
    service: &Arc<Service>,
    wanted: impl Fn(&ServicePort) -> bool,
) -> Option<Arc<Service>> {
    if service.ports.iter().all(&wanted) {
        return Some(Arc::clone(service));
    }
    let mut trimmed = Service::clone(service);
    trimmed.ports.retain(wanted);
    (!trimmed.ports.is_empty()).then(|| Arc::new(trimmed))
}

fn egress(
    sidecar: Option<&Sidecar>,
    namespace: &Name,
    services: &[Arc<Service>],
    rules: &[&Arc<VirtualServiceRule>],
) -> Vec<Egress> {
    let everything = EgressListener {
        port: None,
        bind: None,
        hosts: vec![EgressHost {
            excluded: false,
            namespace: "*".into(),
            host: "*".into(),
        }],
    };
    let listeners = match sidecar {
        Some(sidecar) if !sidecar.egress.is_empty() => &sidecar.egress[..],
        _ => std::slice::from_ref(&everything),
    };
    let of = |listener: &EgressListener| {
        let imports = Imports::new(&listener.hosts, namespace);
        let services = imported_services(listener, &imports, namespace, services);
        let in_mesh = rules.iter().filter(|rule| rule.spec().in_mesh());
        let virtual_services: Vec<Arc<VirtualServiceRule>> = in_mesh
            .filter(|rule| imports.rule(rule))
            .map(|rule| Arc::clone(rule))
            .collect();
        Egress {
            port: listener.port.clone(),
            bind: listener.bind,
            wildcard_owner: wildcard_owners(&virtual_services, &services),
            services,
            virtual_services,
        }
    };
    listeners.iter().map(of).collect()
}

/// The `hosts` of an egress listener, by namespace (`*`: any).
struct Imports<'l> {
    by_namespace: BTreeMap<&'l str, Hosts<'l>>,
}

#[derive(Default)]
struct Hosts<'l> {
    exact: BTreeSet<&'l str>,
    wildcards: Vec<&'l str>,
    excluded: Vec<&'l str>,
}

impl Hosts<'_> {
    fn service(&self, host: &str) -> bool {
        let mut wildcards = self.wildcards.iter();
        self.exact.contains(host) || wildcards.any(|pattern| is_within(host, pattern))
    }

    /// Either may be the wider one.
    fn rule(&self, host: &str) -> bool {
        let wide = is_wildcard(host);
        let mut exact = self.exact.iter();
        let mut wildcards = self.wildcards.iter();
        self.exact.contains(host)
            || wildcards.any(|pattern| overlap(host, pattern))
            || (wide && exact.any(|name| overlap(host, name)))
    }
}

impl<'l> Imports<'l> {
    fn new(hosts: &'l [EgressHost], own: &'l str) -> Imports<'l> {
        let mut by_namespace: BTreeMap<&str, Hosts<'_>> = BTreeMap::new();
        for host in hosts {
            let namespace = match &*host.namespace {
                "." => own,
                other => other,
            };
            let hosts = by_namespace.entry(namespace).or_default();
            match () {
                () if host.excluded => hosts.excluded.push(&host.host),
                () if is_wildcard(&host.host) => hosts.wildcards.push(&host.host),
                () => {
                    hosts.exact.insert(&host.host);
                }
            }
        }
        Imports { by_namespace }
    }

    /// Those that name `namespace`, and those that name every one.
    fn of(&self, namespace: &str) -> impl Iterator<Item = &Hosts<'l>> + Clone {
        let own = self.by_namespace.get(namespace);
        own.into_iter().chain(self.by_namespace.get("*"))
    }

    fn excludes(&self, namespace: &str, host: &str) -> bool {
        let mut excluded = self.of(namespace).flat_map(|hosts| &hosts.excluded);
        excluded.any(|pattern| is_within(host, pattern))
    }

    fn service(&self, service: &Service) -> bool {
        let (namespace, host) = (&service.namespace, &service.host);
        !self.excludes(namespace, host) && self.of(namespace).any(|hosts| hosts.service(host))
    }

    /// One of its hosts is enough.
    fn rule(&self, rule: &VirtualServiceRule) -> bool {
        let namespace = rule.namespace();
        let imported = |hosts: &Hosts<'_>, host: &Name| match rule.of_gateway_api() {
            // Its hosts are those of services.
            true => hosts.service(host),
            false => hosts.rule(host),
        };
        rule.hosts.iter().any(|host| {
            let mut hosts = self.of(namespace);
            hosts.any(|hosts| imported(hosts, host)) && !self.excludes(namespace, host)
        })
    }
}

/// Of several definitions of a host those of one namespace: the proxy's own, else that of a
/// Kubernetes Service, else the first.
fn imported_services(
    listener: &EgressListener,
    imports: &Imports<'_>,
    namespace: &Name,
    services: &[Arc<Service>],
) -> Vec<Arc<Service>> {
    let mut imported: Vec<Arc<Service>> = services
        .iter()
        .filter(|service| imports.service(service))
        .filter_map(|service| match &listener.port {
            Some(port) => with_ports(service, |p| p.number == port.number),
            None => Some(Arc::clone(service)),
        })
        .collect();
    let mut chosen: BTreeMap<Name, Arc<Service>> = BTreeMap::new();
    for service in &imported {
        let Some(known) = chosen.get_mut(&service.host) else {
            chosen.insert(service.host.clone(), Arc::clone(service));
            continue;
        };
        let kubernetes = service.kubernetes && !known.kubernetes;
        if service.namespace == *namespace || (kubernetes && known.namespace != *namespace) {
            *known = Arc::clone(service);
        }
    }
    imported.retain(|service| {
        let chosen = chosen.get(&service.host);
        chosen.is_some_and(|chosen| chosen.namespace == service.namespace)
    });
    imported
}

/// For each host without an exact VirtualService: the one with the most specific wildcard.
fn wildcard_owners(
    rules: &[Arc<VirtualServiceRule>],
    services: &[Arc<Service>],
) -> BTreeMap<Name, Arc<VirtualServiceRule>> {
    let named = || {
        rules
            .iter()
            .flat_map(|rule| rule.hosts.iter().map(move |host| (host, rule)))
    };
    let mut patterns: Vec<(&Name, &Arc<VirtualServiceRule>)> =
        named().filter(|(host, _)| is_wildcard(host)).collect();
    if patterns.is_empty() {
        return BTreeMap::new();
    }
    patterns.sort_by(|(a, _), (b, _)| by_specificity(a, b));
    let exact: BTreeSet<&Name> = named()
        .map(|(host, _)| host)
        .filter(|host| !is_wildcard(host))
        .collect();
    services
        .iter()
        .map(|service| &service.host)
        .filter(|host| !exact.contains(host))
        .filter_map(|host| {
            let mut matching = patterns.iter();
            let found = matching.find(|(pattern, _)| is_within(host, pattern))?;
            Some((host.clone(), Arc::clone(found.1)))
        })
        .collect()
}

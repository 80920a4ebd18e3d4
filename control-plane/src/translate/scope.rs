//! What proxies with one key see: the services and rules that their Sidecar imports.

use super::{Mesh, ScopeKey};
use crate::config::{
    ConsistentHash, DataPlane, EgressHost, EgressListener, OutboundTrafficMode, Sidecar,
    SidecarPort,
};
use crate::kubernetes::Target;
use crate::model::ProxyKind;
use crate::names::{by_specificity, is_wildcard, is_within, overlap};
use crate::policies::Policy;
use crate::registry::{Service, ServicePort, named_port};
use crate::rules::VirtualServiceRule;
use proxy_core::xds::Name;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Translation for proxies with one key.
pub(crate) struct Scope<'m> {
    pub(crate) mesh: &'m Mesh,
    pub(crate) kind: ProxyKind,
    pub(crate) namespace: Name,
    pub(crate) labels: Vec<(Name, Name)>,
    listed_ip: Option<IpAddr>,
    container_ports: Vec<(Name, u16)>,
    pub(crate) view: Arc<View>,
}

/// What they see.
#[derive(Clone, Debug)]
pub(crate) struct View {
    outbound_traffic_policy: OutboundTrafficMode,
    /// In order; only the last one may be for all the ports that the others do not have.
    pub(crate) egress: Vec<Egress>,
    pub(crate) imported: Arc<Imported>,
}

/// The services of all egress listeners, and those that their rules send to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Imported {
    /// Everything that has clusters. ServiceEntries that pool the ports of a host stand here one by
    /// one, each with ports of its own.
    pub(crate) services: Vec<Arc<Service>>,
    /// The one that is meant by a host, with all the ports that it has in this scope.
    pub(crate) by_host: FxHashMap<Name, Arc<Service>>,
}

/// What one egress listener of a Sidecar imports. A gateway has a single one, with everything.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    /// `None`: every port that no other listener has.
    pub(crate) port: Option<SidecarPort>,
    pub(crate) bind: Option<IpAddr>,
    /// Exported to the namespace by name first, then those of everybody; oldest first. With only the
    /// listener's port, if it has one.
    pub(crate) services: Arc<Vec<Arc<Service>>>,
    pub(crate) virtual_services: Vec<Arc<VirtualServiceRule>>,
    /// The number of the VirtualService with the most specific wildcard, for a host without one of
    /// its own.
    wildcard_owner: Arc<BTreeMap<Name, usize>>,
}

impl Egress {
    /// Whether `rule` has the most specific wildcard for `host`, which has no rule of its own.
    pub(crate) fn owns(&self, rule: &Arc<VirtualServiceRule>, host: &Name) -> bool {
        let owner = self.wildcard_owner.get(host);
        owner.is_some_and(|at| Arc::ptr_eq(&self.virtual_services[*at], rule))
    }
}

impl View {
    /// Of all egress listeners.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.egress.iter().flat_map(|egress| &*egress.services)
    }

    /// With `is` in the place of `was`.
    pub(crate) fn with_rule(
        &self,
        was: &Arc<VirtualServiceRule>,
        is: &Arc<VirtualServiceRule>,
    ) -> View {
        let mut view = self.clone();
        for egress in &mut view.egress {
            let mut rules = egress.virtual_services.iter_mut();
            if let Some(rule) = rules.find(|rule| Arc::ptr_eq(rule, was)) {
                *rule = Arc::clone(is);
            }
        }
        view
    }
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
                services: Arc::new(visible),
                virtual_services: rules.into_iter().cloned().collect(),
                wildcard_owner: Arc::default(),
            }],
            _ => egress(sidecar, namespace, &visible, &rules),
        };
        let mut imported = Imported::default();
        for egress in &egress {
            for service in &*egress.services {
                imported.add(service);
            }
            if key.kind != ProxyKind::Gateway {
                imported.add_destinations(mesh, namespace, egress);
            }
        }
        let view = View {
            outbound_traffic_policy: stated.unwrap_or(mesh.config.outbound_traffic_policy),
            egress,
            imported: Arc::new(imported),
        };
        Scope::of(mesh, key, Arc::new(view))
    }

    /// With a view that is known.
    pub(crate) fn of(mesh: &'m Mesh, key: &ScopeKey, view: Arc<View>) -> Scope<'m> {
        Scope {
            mesh,
            kind: key.kind,
            namespace: key.namespace.clone(),
            labels: key.labels.clone(),
            listed_ip: key.listed_ip,
            container_ports: key.container_ports.clone(),
            view,
        }
    }

    /// What is meant by a host.
    pub(crate) fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.view.imported.by_host.get(host)
    }

    /// The listener that takes requests to `port`.
    pub(crate) fn egress_at(&self, port: u16) -> Option<&Egress> {
        let takes = |egress: &&Egress| egress.port.as_ref().is_none_or(|p| p.number == port);
        self.view.egress.iter().find(takes)
    }

    /// Whether the proxy is before an endpoint of `service`.
    pub(crate) fn is_before(&self, service: &Service) -> bool {
        service.is_of(&self.namespace, &self.labels, self.listed_ip)
    }

    /// Where a gateway that is behind `service` has that port of it.
    pub(crate) fn target_of(&self, service: &Service, port: u16) -> Option<u16> {
        match &service.port(port)?.target {
            Target::Number(target) => Some(*target),
            Target::Name(name) => named_port(&self.container_ports, name),
        }
    }

    pub(crate) fn policy(&self, service: &Service) -> Option<&Arc<Policy>> {
        self.mesh
            .rules
            .policies
            .of(&self.namespace, &self.labels, service)
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
        match self.mesh.rules.of_2017.stated() {
            Some(data_plane) => data_plane == DataPlane::Envoy2017,
            None => self.view.outbound_traffic_policy == OutboundTrafficMode::RegistryOnly,
        }
    }
}

impl Imported {
    /// Adds what the VirtualServices of `egress` send to.
    fn add_destinations(&mut self, mesh: &Mesh, namespace: &Name, egress: &Egress) {
        for rule in &egress.virtual_services {
            let mut named: BTreeMap<Name, Vec<Option<u16>>> = BTreeMap::new();
            for (host, port) in rule.destinations_from(namespace) {
                named.entry(host).or_default().push(port);
            }
            for (host, ports) in named {
                let Some(found) = mesh.registry.destination(&host, namespace) else {
                    continue;
                };
                let known = self.by_host.get(&host);
                if known.is_some_and(|known| Arc::ptr_eq(known, found)) {
                    continue;
                }
                let trimmed = match &egress.port {
                    Some(port) => with_ports(found, |p| p.number == port.number),
                    // A destination without a port may mean any.
                    None if ports.contains(&None) => Some(Arc::clone(found)),
                    None => with_ports(found, |p| ports.contains(&Some(p.number))),
                };
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
                let new = with_ports(service, |port| known.port(port.number).is_none());
                if let Some(new) = new {
                    let ports = new.ports.iter().cloned();
                    Arc::make_mut(known).ports.extend(ports);
                    self.services.push(new);
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
            wildcard_owner: Arc::new(wildcard_owners(&virtual_services, &services)),
            services: Arc::new(services),
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

    /// With the aliases that are imported by what imports the service itself.
    fn with_aliases(&self, service: Arc<Service>) -> Arc<Service> {
        if service.aliases.is_empty() {
            return service;
        }
        let namespace = service.namespace.clone();
        let mut hosts = self.of(&namespace);
        let hosts = hosts.find(|hosts| hosts.service(&service.host));
        let mut kept = service.aliases.clone();
        kept.retain(|alias| hosts.is_some_and(|hosts| hosts.service(alias)));
        match kept.len() == service.aliases.len() {
            true => service,
            false => Arc::new(Service {
                aliases: kept,
                ..Service::clone(&service)
            }),
        }
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
        .map(|service| imports.with_aliases(service))
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
) -> BTreeMap<Name, usize> {
    let named = || {
        let rules = rules.iter().enumerate();
        rules.flat_map(|(at, rule)| rule.hosts.iter().map(move |host| (host, at)))
    };
    let mut patterns: Vec<(&Name, usize)> = named().filter(|(host, _)| is_wildcard(host)).collect();
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
            Some((host.clone(), found.1))
        })
        .collect()
}

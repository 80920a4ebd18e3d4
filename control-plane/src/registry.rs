//! The service registry: Kubernetes Services and the hosts of ServiceEntries.

mod service;

pub(crate) use service::{
    Address, Service, ServiceDiscovery, ServicePort, named_port, target_port,
};

use crate::config::{
    EgressProtocol, EgressRule, ExportTo, Labels, LocalitySetting, Location, PriorityLabel,
    Resolution, ServiceEntry, WorkloadEntry, has_labels,
};
use crate::kubernetes::{ClusterIp, Distribution, EndpointSubset, KubernetesService, Target};
use crate::model::service_address;
use crate::names::{DOMAIN, service_host};
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::of_2017::egress_rules;
use crate::protocol::Protocol;
use proxy_core::xds::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that has a host name.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    /// Oldest first, then by `NAME.NAMESPACE`.
    pub(crate) services: Vec<Arc<Service>>,
    /// Positions in `services`, in order.
    by_host: BTreeMap<Name, Vec<usize>>,
    /// Those that ServiceEntries list.
    listed: BTreeSet<IpAddr>,
    /// Some service prefers endpoints by where they are.
    pub(crate) prefers_near: bool,
}

impl Registry {
    pub(crate) fn new(objects: &Objects) -> Registry {
        let exports = objects.mesh_config().exports.services;
        let mut services: Vec<Arc<Service>> = Vec::new();
        let mut endpoints = OfServices::new();
        let mut slices = OfServices::new();
        let mut taken = BTreeSet::new();
        let mut workloads = Workloads::new();
        for object in objects.iter() {
            let namespace = &object.reference.namespace;
            match &object.body {
                Body::Endpoints(found) => match found.slice {
                    true => &mut slices,
                    false => &mut endpoints,
                }
                .entry((namespace.clone(), found.service.clone()))
                .or_default()
                .extend(found.subsets.iter().cloned()),
                Body::WorkloadEntry(entry) => {
                    workloads.entry(namespace.clone()).or_default().push(entry);
                }
                Body::Service(service) => {
                    if let ClusterIp::Given(ip) = service.cluster_ip {
                        taken.insert(ip);
                    }
                }
                _ => {}
            }
        }
        // In place of the Endpoints.
        endpoints.append(&mut slices);
        let distribution = |stated: Option<Distribution>, namespace: &str| {
            let of_namespace = || annotated(objects.find("Namespace", "", namespace)?);
            stated.or_else(of_namespace).and_then(near)
        };
        for object in objects.iter() {
            let namespace = &object.reference.namespace;
            match &object.body {
                Body::Service(service) => {
                    let of = (&**object, service);
                    let near = distribution(service.distribution, namespace);
                    let made = from_kubernetes(of, &mut endpoints, &mut taken, &workloads);
                    services.push(Arc::new(Service { near, ..made }));
                }
                Body::ServiceEntry(entry) => {
                    let near = distribution(annotated(object), namespace);
                    from_entry((&**object, entry), near.as_ref(), &mut services, &workloads);
                }
                _ => {}
            }
        }
        for (object, rule) in egress_rules(objects) {
            services.push(Arc::new(from_egress_rule(object, rule)));
        }
        if !exports.is_empty() {
            for service in &mut services {
                let service = Arc::make_mut(service);
                service.export_to = service.export_to.or(&exports, &service.namespace);
            }
        }
        pool(&mut services);
        name_aliases(&mut services);
        let key = |service: &Service| format!("{}.{}", service.name, service.namespace);
        services.sort_by_cached_key(|service| (service.age.clone(), key(service)));
        let mut by_host: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        for (at, service) in services.iter().enumerate() {
            by_host.entry(service.host.clone()).or_default().push(at);
        }
        let listed = services.iter().flat_map(|service| &service.listed);
        let listed = listed.filter_map(|entry| entry.address.text.parse().ok());
        Registry {
            listed: listed.collect(),
            prefers_near: services.iter().any(|service| service.near.is_some()),
            services,
            by_host,
        }
    }

    /// All services with exactly that host, in order.
    pub(crate) fn with_host(&self, host: &str) -> impl Iterator<Item = &Arc<Service>> {
        let found = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        found.iter().map(|at| &self.services[*at])
    }

    /// The one that clients in `namespace` mean by `host`: a definition of their own namespace, else
    /// a Kubernetes Service, else the first.
    pub(crate) fn visible(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let shown = || {
            self.with_host(host)
                .filter(|s| s.export_to.shows(namespace))
        };
        shown()
            .find(|service| *service.namespace == *namespace)
            .or_else(|| shown().find(|service| service.kubernetes))
            .or_else(|| shown().next())
    }

    /// `ip`, if some ServiceEntry lists it as an endpoint.
    pub(crate) fn listed(&self, ip: IpAddr) -> Option<IpAddr> {
        self.listed.contains(&ip).then_some(ip)
    }

    /// The services that clients in `namespace` may see: those that are exported to it by name, then
    /// those of everybody.
    pub(crate) fn visible_in(&self, namespace: &str) -> Vec<Arc<Service>> {
        let shown = || {
            let services = self.services.iter();
            services.filter(|service| service.export_to.shows(namespace))
        };
        let everyone = |service: &&Arc<Service>| service.export_to.is_everyone();
        shown()
            .filter(|service| !everyone(service))
            .chain(shown().filter(everyone))
            .cloned()
            .collect()
    }

    /// What a rule for clients in `namespace` sends to where it names `host`: a service of that
    /// namespace, even a hidden one, else a visible Kubernetes Service, else the oldest visible one.
    pub(crate) fn destination(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let own = |kubernetes: bool| {
            let mut services = self.with_host(host);
            services.find(|s| *s.namespace == *namespace && s.kubernetes == kubernetes)
        };
        let visible = || {
            let services = self.with_host(host);
            services.filter(|service| service.export_to.shows(namespace))
        };
        own(true)
            .or_else(|| own(false))
            .or_else(|| visible().find(|service| service.kubernetes))
            .or_else(|| visible().next())
    }

    /// By any name an application may use, those of other services included.
    pub(crate) fn find_for_client(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let found = self.find_named(host, namespace)?;
        if found.alias_of.is_none() {
            return Some(found);
        }
        let mut services = self.services.iter();
        let meant = services.find(|service| service.aliases.contains(&found.host))?;
        self.visible(&meant.host, namespace)
    }

    fn find_named(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let host = host.to_ascii_lowercase();
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Ok(ip) = bracketed.unwrap_or(&host).parse::<IpAddr>() {
            return self
                .services
                .iter()
                .find(|s| s.address.as_ref().is_some_and(|a| a.ip == ip));
        }
        [
            host.clone(),
            format!("{host}.{namespace}.{DOMAIN}"),
            format!("{host}.{DOMAIN}"),
            format!("{host}.cluster.local"),
        ]
        .iter()
        .find_map(|name| self.visible(name, namespace))
    }

    /// Every host.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &Name> {
        self.by_host.keys()
    }
}

fn from_kubernetes(
    (object, service): (&Object, &KubernetesService),
    endpoints: &mut OfServices,
    taken: &mut BTreeSet<IpAddr>,
    workloads: &Workloads<'_>,
) -> Service {
    let name = object.reference.name.clone();
    let namespace = object.reference.namespace.clone();
    let host = service_host(&name, &namespace);
    let ip = match service.cluster_ip {
        _ if service.external_name.is_some() => None,
        ClusterIp::Given(ip) => Some(ip),
        ClusterIp::Headless => None,
        ClusterIp::Unknown => {
            let mut attempts = (0..).map(|attempt| service_address(&host, attempt));
            attempts.find(|ip| taken.insert(*ip))
        }
    };
    let ports = service.ports.iter().map(|port| ServicePort {
        number: port.number,
        name: port.name.clone(),
        target: port.target.clone(),
        protocol: port.protocol,
    });
    let selects = !service.selector.is_empty() && service.external_name.is_none();
    let selector = selects.then(|| service.selector.clone());
    let endpoint_objects = match selector {
        Some(_) => Vec::new(),
        None => endpoints
            .remove(&(namespace.clone(), name.clone()))
            .unwrap_or_default(),
    };
    Service {
        ports: ports.collect(),
        address: ip.map(|ip| Address {
            text: ip.to_string().into(),
            ip,
            prefix: None,
        }),
        discovery: match (ip, &service.external_name) {
            (None, None) => ServiceDiscovery::Passthrough,
            _ => ServiceDiscovery::Listed,
        },
        listed: match (&selector, ip) {
            (Some(selector), Some(_)) => selected(workloads, &namespace, selector),
            _ => Vec::new(),
        },
        selector,
        pooled: Vec::new(),
        endpoint_objects,
        publishes_unready: service.publishes_unready,
        near: None,
        alias_of: service.external_name.clone(),
        aliases: Vec::new(),
        external: false,
        kubernetes: true,
        export_to: service.export_to.clone(),
        age: object.age.clone(),
        labels: object.labels.clone(),
        origin: object.origin(),
        host,
        namespace,
        name,
    }
}

/// Tells services by which other names they are called, following names of names. What leads to
/// itself is nobody's name.
fn name_aliases(services: &mut [Arc<Service>]) {
    let mut targets: BTreeMap<Name, Name> = BTreeMap::new();
    let mut all: Vec<(Name, Name)> = Vec::new();
    for service in services.iter() {
        if let Some(target) = &service.alias_of {
            targets.insert(service.host.clone(), target.clone());
            all.push((service.namespace.clone(), service.host.clone()));
        }
    }
    all.sort();
    let mut aliases: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
    for (_, alias) in all {
        if let Some(meant) = end_of(&targets, &alias) {
            aliases.entry(meant.clone()).or_default().push(alias);
        }
    }
    for service in services {
        if let Some(names) = aliases.get(&service.host) {
            Arc::make_mut(service).aliases.clone_from(names);
        }
    }
}

/// Where a chain of names ends; `None`: nowhere.
fn end_of<'t>(targets: &'t BTreeMap<Name, Name>, alias: &'t Name) -> Option<&'t Name> {
    let chain = std::iter::successors(Some(alias), |name| targets.get(*name));
    chain
        .take(targets.len() + 1)
        .find(|name| !targets.contains_key(*name))
}

/// What is listed, by namespace and Service.
type OfServices = BTreeMap<(Name, Name), Vec<EndpointSubset>>;

/// What `distribution` means (Istio `GetEffectiveLbSetting`); `None`: what the mesh says.
/// Nodes are not told apart.
fn near(distribution: Distribution) -> Option<LocalitySetting> {
    let labels = [
        "topology.istio.io/network",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.istio.io/subzone",
    ];
    let counts = match distribution {
        Distribution::Any => return None,
        Distribution::PreferSameZone => 3,
        Distribution::PreferSameNode => 4,
    };
    let label = |key: &&str| PriorityLabel {
        key: (*key).into(),
        value: None,
    };
    Some(LocalitySetting {
        failover_priority: labels[..counts].iter().map(label).collect(),
        ..LocalitySetting::default()
    })
}

const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// What an annotation says of the traffic to a service.
fn annotated(object: &Object) -> Option<Distribution> {
    let stated = object
        .document
        .at(&["metadata", "annotations", DISTRIBUTION])?;
    Distribution::of_annotation(stated.as_scalar()?)
}

/// The WorkloadEntries, by namespace.
type Workloads<'a> = BTreeMap<Name, Vec<&'a WorkloadEntry>>;

/// Those that a service of `namespace` selects.
fn selected(workloads: &Workloads<'_>, namespace: &Name, selector: &Labels) -> Vec<WorkloadEntry> {
    let all = workloads.get(namespace).map_or(&[][..], Vec::as_slice);
    all.iter()
        .filter(|entry| !selector.is_empty() && has_labels(&entry.labels, selector))
        .map(|entry| (*entry).clone())
        .collect()
}

fn from_entry(
    (object, entry): (&Object, &ServiceEntry),
    near: Option<&LocalitySetting>,
    services: &mut Vec<Arc<Service>>,
    workloads: &Workloads<'_>,
) {
    let ports: Vec<ServicePort> = entry
        .ports
        .iter()
        .map(|port| ServicePort {
            number: port.number,
            name: port.name.clone(),
            target: Target::Number(port.target),
            protocol: match port.protocol.is_empty() {
                true => Protocol::Auto,
                false => Protocol::parse(&port.protocol).unwrap_or(Protocol::Auto),
            },
        })
        .collect();
    let addresses: Vec<Option<Address>> = match entry.addresses.is_empty() {
        true => vec![None],
        false => entry.addresses.iter().map(address).collect(),
    };
    let listed = match &entry.workload_selector {
        Some(selector) => selected(workloads, &object.reference.namespace, selector),
        None => entry.endpoints.clone(),
    };
    for host in &entry.hosts {
        for address in &addresses {
            services.push(Arc::new(Service {
                host: host.text.to_ascii_lowercase().into(),
                namespace: object.reference.namespace.clone(),
                name: host.text.clone(),
                age: object.age.clone(),
                ports: ports.clone(),
                address: address.clone(),
                discovery: match entry.resolution {
                    Resolution::None => ServiceDiscovery::Passthrough,
                    Resolution::Static => ServiceDiscovery::Listed,
                    Resolution::Dns => ServiceDiscovery::Dns,
                    Resolution::DnsRoundRobin => ServiceDiscovery::DnsRoundRobin,
                },
                selector: entry.workload_selector.clone(),
                listed: listed.clone(),
                pooled: Vec::new(),
                endpoint_objects: Vec::new(),
                publishes_unready: false,
                near: near.cloned(),
                alias_of: None,
                aliases: Vec::new(),
                external: entry.location == Location::External,
                kubernetes: false,
                export_to: entry.export_to.clone(),
                labels: object.labels.clone(),
                origin: object.origin(),
            }));
        }
    }
}

/// A host outside the mesh, at whatever address the client found for it.
fn from_egress_rule(object: &Object, rule: &EgressRule) -> Service {
    let ports = rule.ports.iter().map(|(number, protocol)| ServicePort {
        number: *number,
        name: format!("external-{number}").into(),
        target: Target::Number(*number),
        protocol: match protocol {
            EgressProtocol::Http2 => Protocol::Http2,
            // Applications speak plain HTTP.
            EgressProtocol::Http | EgressProtocol::Https => Protocol::Http,
        },
    });
    Service {
        host: rule.host.text.to_ascii_lowercase().into(),
        namespace: object.reference.namespace.clone(),
        name: rule.host.text.clone(),
        age: object.age.clone(),
        ports: ports.collect(),
        address: None,
        discovery: ServiceDiscovery::Passthrough,
        selector: None,
        listed: Vec::new(),
        pooled: Vec::new(),
        endpoint_objects: Vec::new(),
        publishes_unready: false,
        near: None,
        alias_of: None,
        aliases: Vec::new(),
        external: true,
        kubernetes: false,
        export_to: ExportTo::Unstated,
        labels: Vec::new(),
        origin: object.origin(),
    }
}

/// Endpoints belong to a host and namespace, whichever ServiceEntry lists them.
fn pool(services: &mut [Arc<Service>]) {
    let mut alike: BTreeMap<(Name, Name), Vec<usize>> = BTreeMap::new();
    for (at, service) in services.iter().enumerate() {
        if !service.kubernetes {
            let key = (service.host.clone(), service.namespace.clone());
            alike.entry(key).or_default().push(at);
        }
    }
    for places in alike.into_values().filter(|places| places.len() > 1) {
        let all: Vec<Arc<Service>> = places.iter().map(|at| Arc::clone(&services[*at])).collect();
        for (place, own) in places.iter().zip(&all) {
            let mut seen = BTreeSet::from([&own.origin.name]);
            let others = all.iter().filter(|other| seen.insert(&other.origin.name));
            let pooled: Vec<WorkloadEntry> = others.flat_map(|other| other.named()).collect();
            if !pooled.is_empty() {
                Arc::make_mut(&mut services[*place]).pooled = pooled;
            }
        }
    }
}

/// A whole-length prefix counts as a plain address.
fn address(text: &Name) -> Option<Address> {
    let (ip, length) = crate::config::parse_cidr(text)?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let plain = length == whole;
    Some(Address {
        text: match plain {
            true => ip.to_string().into(),
            false => text.clone(),
        },
        ip,
        prefix: (!plain).then_some(length),
    })
}

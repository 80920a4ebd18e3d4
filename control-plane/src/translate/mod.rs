//! From objects to the resources of one proxy.

mod access;
mod clusters;
mod endpoints;
mod gateway;
mod inbound;
mod localities;
mod outbound;
mod routes;
mod tcp;
mod virtual_hosts;

use access::guard;
pub(crate) use endpoints::PodIndex;

use crate::config::{ConsistentHash, ExportTo, MeshConfig, OutboundTrafficMode};
use crate::model::{ProxyIdentity, ProxyKind, Resources};
use crate::names::by_specificity;
use crate::objects::Objects;
use crate::registry::{Registry, Service};
use crate::rules::{Policy, Rules, VirtualServiceRule};
use endpoints::EndpointSource;
use proxy_core::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The configuration as a whole, indexed for translation.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    pub(crate) registry: Arc<Registry>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) config: MeshConfig,
}

impl Mesh {
    pub(crate) fn new(objects: &Objects) -> Mesh {
        Mesh {
            registry: Arc::clone(objects.registry()),
            rules: Arc::new(Rules::new(objects)),
            config: objects.mesh_config(),
        }
    }

    /// What all proxies with the same key are told alike.
    pub(crate) fn scope_key(&self, proxy: &ProxyIdentity) -> ScopeKey {
        let labels_matter = proxy.kind == ProxyKind::Gateway
            || self.rules.look_at_labels()
            || !self.config.locality.failover_priority.is_empty();
        ScopeKey {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            labels: match labels_matter {
                true => proxy.labels.clone(),
                false => Vec::new(),
            },
            locality: match self.rules.look_at_locality()
                || self.config.locality.distribute.is_some()
            {
                true => proxy.locality.clone(),
                false => "".into(),
            },
        }
    }
}

/// Proxies with the same key share everything but their inbound side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScopeKey {
    pub(crate) kind: ProxyKind,
    pub(crate) namespace: Name,
    pub(crate) labels: Vec<(Name, Name)>,
    /// Empty where it does not matter.
    pub(crate) locality: Name,
}

/// What proxies with the same key share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    pub(crate) clusters: Vec<Arc<Cluster>>,
    /// Where the endpoints of each EDS cluster come from.
    pub(crate) sources: Vec<EndpointSource>,
    pub(crate) endpoints: Vec<Arc<LoadAssignment>>,
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) routes: Vec<Arc<RouteTable>>,
    /// Some listeners follow from the endpoints of headless services.
    pub(crate) listens_on_endpoints: bool,
    /// Some clusters or listeners follow from the pods, not only their endpoints.
    pub(crate) follows_pods: bool,
}

/// Translates for all proxies with that key.
pub(crate) fn shared(mesh: &Mesh, key: &ScopeKey, pods: &PodIndex) -> Shared {
    let scope = Scope::new(mesh, key);
    let made = clusters::outbound(&scope, pods);
    let endpoints = made
        .sources
        .iter()
        .map(|source| Arc::new(source.assignment(pods, &mesh.rules.authentication, key)))
        .collect();
    let (listeners, routes) = match key.kind {
        ProxyKind::Gateway => gateway::listeners(&scope),
        ProxyKind::Sidecar | ProxyKind::None => outbound::listeners(&scope, pods),
    };
    let listens_on_endpoints = key.kind != ProxyKind::Gateway
        && scope.services.iter().any(|service| {
            service.headless() && service.ports.iter().any(|port| !port.protocol.is_http())
        });
    Shared {
        clusters: made.clusters,
        sources: made.sources,
        endpoints,
        listeners,
        routes,
        listens_on_endpoints,
        follows_pods: made.follows_pods || listens_on_endpoints,
    }
}

/// What a sidecar is told about connections to its own application.
pub(crate) fn inbound(mesh: &Mesh, proxy: &ProxyIdentity, pods: &PodIndex) -> Resources {
    match proxy.kind {
        ProxyKind::Sidecar => inbound::resources(mesh, proxy, pods),
        ProxyKind::Gateway | ProxyKind::None => Resources::default(),
    }
}

/// Everything `proxy` is told.
pub(crate) fn assemble(shared: &Shared, inbound: &Resources, proxy: &ProxyIdentity) -> Resources {
    let own = |listener: &&Arc<Listener>| listener.address != Some(proxy.ip);
    let headless = shared.listens_on_endpoints;
    Resources {
        clusters: [&shared.clusters[..], &inbound.clusters].concat(),
        endpoints: shared.endpoints.clone(),
        listeners: shared
            .listeners
            .iter()
            .filter(|listener| !headless || own(listener))
            .chain(&inbound.listeners)
            .cloned()
            .collect(),
        routes: [&shared.routes[..], &inbound.routes].concat(),
    }
}

/// What proxies with one key see.
pub(crate) struct Scope<'m> {
    pub(crate) mesh: &'m Mesh,
    pub(crate) kind: ProxyKind,
    pub(crate) namespace: Name,
    pub(crate) labels: Vec<(Name, Name)>,
    /// Exported to the namespace by name first, then those of everybody; oldest first.
    pub(crate) services: Vec<Arc<Service>>,
    /// Hidden services of the own namespace that VirtualServices send to, with the ports they name:
    /// they have clusters and nothing else.
    pub(crate) destinations: Vec<Arc<Service>>,
    /// The one that is meant by a host.
    pub(crate) by_host: BTreeMap<Name, Arc<Service>>,
    pub(crate) virtual_services: Vec<Arc<VirtualServiceRule>>,
    /// The VirtualService with the most specific wildcard for a host without one of its own.
    pub(crate) wildcard_owner: BTreeMap<Name, Arc<VirtualServiceRule>>,
}

impl<'m> Scope<'m> {
    fn new(mesh: &'m Mesh, key: &ScopeKey) -> Scope<'m> {
        let namespace = &key.namespace;
        let mut services: Vec<Arc<Service>> = mesh
            .registry
            .services
            .iter()
            .filter(|service| service.export_to.shows(namespace))
            .cloned()
            .collect();
        services.sort_by_key(|service| service.export_to == ExportTo::Everyone);
        let mut by_host: BTreeMap<Name, Arc<Service>> = services
            .iter()
            .filter_map(|service| {
                let found = mesh.registry.visible(&service.host, namespace)?;
                Some((service.host.clone(), Arc::clone(found)))
            })
            .collect();
        if key.kind != ProxyKind::Gateway {
            // Of several definitions of a host only those beside the one that is meant count.
            services.retain(|service| {
                let chosen = by_host.get(&service.host);
                chosen.is_some_and(|chosen| {
                    chosen.namespace == service.namespace && chosen.kubernetes == service.kubernetes
                })
            });
        }
        let virtual_services: Vec<Arc<VirtualServiceRule>> = mesh
            .rules
            .virtual_services_for(namespace)
            .into_iter()
            .cloned()
            .collect();
        let wildcard_owner = match key.kind {
            ProxyKind::Gateway => BTreeMap::new(),
            _ => wildcard_owners(&virtual_services, &by_host),
        };
        let destinations = match key.kind {
            ProxyKind::Gateway => Vec::new(),
            _ => destinations(&mesh.registry, namespace, &virtual_services, &by_host),
        };
        for service in &destinations {
            by_host.insert(service.host.clone(), Arc::clone(service));
        }
        Scope {
            mesh,
            kind: key.kind,
            namespace: namespace.clone(),
            labels: key.labels.clone(),
            services,
            destinations,
            by_host,
            virtual_services,
            wildcard_owner,
        }
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
        self.mesh.config.outbound_traffic_policy == OutboundTrafficMode::RegistryOnly
    }
}

/// For each host without an exact VirtualService: the one with the most specific wildcard.
fn wildcard_owners(
    rules: &[Arc<VirtualServiceRule>],
    services: &BTreeMap<Name, Arc<Service>>,
) -> BTreeMap<Name, Arc<VirtualServiceRule>> {
    let in_mesh = || rules.iter().filter(|rule| rule.spec().in_mesh());
    let mut patterns: Vec<(&Name, &Arc<VirtualServiceRule>)> = in_mesh()
        .flat_map(|rule| rule.hosts.iter().map(move |host| (host, rule)))
        .filter(|(host, _)| crate::names::is_wildcard(host))
        .collect();
    if patterns.is_empty() {
        return BTreeMap::new();
    }
    patterns.sort_by(|(a, _), (b, _)| by_specificity(a, b));
    let exact: std::collections::BTreeSet<&Name> = in_mesh()
        .flat_map(|rule| &rule.hosts)
        .filter(|host| !crate::names::is_wildcard(host))
        .collect();
    services
        .keys()
        .filter(|host| !exact.contains(host))
        .filter_map(|host| {
            let mut matching = patterns.iter();
            let found = matching.find(|(pattern, _)| crate::names::is_within(host, pattern))?;
            Some((host.clone(), Arc::clone(found.1)))
        })
        .collect()
}

/// The services of `namespace` that it cannot see and that `rules` nevertheless send to.
fn destinations(
    registry: &Registry,
    namespace: &Name,
    rules: &[Arc<VirtualServiceRule>],
    seen: &BTreeMap<Name, Arc<Service>>,
) -> Vec<Arc<Service>> {
    let hidden: Vec<&Arc<Service>> = registry
        .services
        .iter()
        .filter(|service| service.namespace == *namespace && !seen.contains_key(&service.host))
        .collect();
    if hidden.is_empty() {
        return Vec::new();
    }
    let named: Vec<(Name, Option<u16>)> = rules
        .iter()
        .filter(|rule| rule.spec().in_mesh())
        .flat_map(|rule| rule.destinations_from(namespace))
        .collect();
    let trimmed = |service: &Arc<Service>| {
        let of_service = named.iter().filter(|(host, _)| *host == service.host);
        let wanted: Vec<Option<u16>> = of_service.map(|(_, port)| *port).collect();
        let mut trimmed = Service::clone(service);
        // A destination without a port may mean any.
        trimmed
            .ports
            .retain(|port| wanted.contains(&None) || wanted.contains(&Some(port.number)));
        (!wanted.is_empty() && !trimmed.ports.is_empty()).then(|| Arc::new(trimmed))
    };
    hidden.into_iter().filter_map(trimmed).collect()
}

/// Istio's name of a cluster.
pub(crate) fn cluster_name(port: u16, subset: &str, host: &str) -> Name {
    format!("outbound|{port}|{subset}|{host}").into()
}

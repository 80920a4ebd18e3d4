//! From objects to the resources of one proxy.

mod access;
mod clusters;
mod endpoints;
mod gateway;
mod inbound;
mod inbound_ports;
mod localities;
mod outbound;
mod routes;
mod scope;
mod tcp;
mod virtual_hosts;

use access::guard;
pub(crate) use endpoints::PodIndex;

use crate::config::MeshConfig;
use crate::model::{ProxyIdentity, ProxyKind, Resources};
use crate::objects::Objects;
use crate::registry::Registry;
use crate::rules::Rules;
use endpoints::EndpointSource;
use proxy_core::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable};
use scope::Scope;
use std::net::IpAddr;
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
            sidecar: match proxy.kind {
                ProxyKind::Gateway => None,
                ProxyKind::Sidecar | ProxyKind::None => {
                    self.rules.sidecar_for(&proxy.namespace, &proxy.labels)
                }
            },
            listed_ip: match proxy.kind {
                ProxyKind::Gateway => self.registry.listed(proxy.ip),
                ProxyKind::Sidecar | ProxyKind::None => None,
            },
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

    /// What all proxies with the same key are told alike of connections to their applications.
    pub(crate) fn inbound_key(&self, proxy: &ProxyIdentity) -> InboundKey {
        let sidecar = self.rules.sidecar_for(&proxy.namespace, &proxy.labels);
        let own_address = sidecar.is_some_and(|at| self.rules.sidecar(at).names_the_pod());
        InboundKey {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            labels: proxy.labels.clone(),
            ip: match own_address {
                true => Some(proxy.ip),
                false => self.registry.listed(proxy.ip),
            },
        }
    }
}

/// Proxies with the same key share everything but their inbound side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScopeKey {
    pub(crate) kind: ProxyKind,
    pub(crate) namespace: Name,
    /// The Sidecar that applies, by its place among the rules.
    pub(crate) sidecar: Option<usize>,
    pub(crate) labels: Vec<(Name, Name)>,
    /// Of a gateway whose address some ServiceEntry lists.
    pub(crate) listed_ip: Option<IpAddr>,
    /// Empty where it does not matter.
    pub(crate) locality: Name,
}

/// Proxies with the same key share their inbound side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InboundKey {
    kind: ProxyKind,
    namespace: Name,
    labels: Vec<(Name, Name)>,
    /// Where their own address has a say.
    ip: Option<IpAddr>,
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
        && scope
            .egress
            .iter()
            .flat_map(|egress| &egress.services)
            .any(|service| {
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

/// Istio's name of a cluster.
pub(crate) fn cluster_name(port: u16, subset: &str, host: &str) -> Name {
    format!("outbound|{port}|{subset}|{host}").into()
}

//! From objects to the resources of one proxy.

mod access;
mod clusters;
mod endpoints;
mod gateway;
mod inbound;
mod inbound_ports;
mod localities;
mod mixer;
mod node_proxy;
mod of_2017;
mod outbound;
mod patches;
mod routes;
mod scope;
mod shared;
mod tcp;
mod virtual_hosts;

use access::guard;
pub(crate) use endpoints::PodIndex;
pub(crate) use node_proxy::of_router;
pub(crate) use of_2017::{
    PANIC_PERCENT as PANIC_PERCENT_OF_2017, TIMEOUT as TIMEOUT_OF_2017,
    limits as circuit_breakers_of_2017, outliers as outlier_detection_of_2017,
};
pub(crate) use routes::{is_catch_all, match_of, match_of_gateway_api};
pub(crate) use shared::Shared;

use crate::config::MeshConfig;
use crate::model::{ProxyIdentity, ProxyKind, Resources};
use crate::objects::Objects;
use crate::registry::Registry;
use crate::rules::Rules;
use crate::store::Difference;
use proxy_core::xds::Name;
use scope::Imported;
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
            rules: Arc::new(Rules::new(&objects.discovered())),
            config: objects.mesh_config(),
        }
    }

    /// The same after `differences` of VirtualServices and DestinationRules; `None` if there are
    /// others, or if proxies that were told alike may not be any more.
    pub(crate) fn after_rules(
        &self,
        objects: &Objects,
        differences: &[Difference<'_>],
    ) -> Option<Mesh> {
        if !self.config.discovery.is_empty() {
            return None;
        }
        let rules = self.rules.updated(objects, differences)?;
        let alike = rules.look_at_labels() == self.rules.look_at_labels()
            && rules.look_at_locality() == self.rules.look_at_locality();
        alike.then(|| Mesh {
            registry: Arc::clone(&self.registry),
            rules: Arc::new(rules),
            config: self.config.clone(),
        })
    }

    /// What all proxies with the same key are told alike.
    pub(crate) fn scope_key(&self, proxy: &ProxyIdentity, pods: &PodIndex) -> ScopeKey {
        let labels_matter = proxy.kind == ProxyKind::Gateway
            || self.rules.look_at_labels()
            || self.registry.prefers_near
            || !self.config.locality.failover_priority.is_empty();
        ScopeKey {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            sidecar: match proxy.kind {
                ProxyKind::Gateway => None,
                _ => self.rules.sidecar_for(&proxy.namespace, &proxy.labels),
            },
            listed_ip: match proxy.kind {
                ProxyKind::Gateway => self.registry.listed(proxy.ip),
                _ => None,
            },
            container_ports: match proxy.kind {
                ProxyKind::Gateway => pods.container_ports(proxy),
                _ => Vec::new(),
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
    pub(crate) fn inbound_key(&self, proxy: &ProxyIdentity, pods: &PodIndex) -> InboundKey {
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
            container_ports: pods.container_ports(proxy),
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
    /// Of a gateway: what Services that name their target ports mean by them.
    pub(crate) container_ports: Vec<(Name, u16)>,
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
    /// What Services that name their target ports mean by them.
    container_ports: Vec<(Name, u16)>,
}

/// What a sidecar is told about connections to its own application.
pub(crate) fn inbound(
    mesh: &Mesh,
    imported: &Imported,
    proxy: &ProxyIdentity,
    pods: &PodIndex,
) -> Resources {
    match proxy.kind {
        ProxyKind::Sidecar => inbound::resources(mesh, imported, proxy, pods),
        _ => Resources::default(),
    }
}

/// Istio's name of a cluster.
pub(crate) fn cluster_name(port: u16, subset: &str, host: &str) -> Name {
    format!("outbound|{port}|{subset}|{host}").into()
}

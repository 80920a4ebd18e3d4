//! What the control plane tells others about workloads, pods, services and proxies.

use crate::config::label;
use crate::objects::ObjectRef;
use proxy_core::random::{hash_text, mix};
use proxy_core::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable, XdsDelta};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A Deployment, StatefulSet or DaemonSet.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub namespace: Name,
    pub name: Name,
    pub replicas: u32,
    /// Of its pods.
    pub labels: Vec<(Name, Name)>,
    pub service_account: Name,
    /// Of the mesh.
    pub trust_domain: Name,
    pub proxy: ProxyKind,
    pub container_ports: Vec<(Name, u16)>,
    /// `REGION/ZONE`; empty if unknown.
    pub locality: Name,
    /// Of a DaemonSet: where each Node is, by ordinal of the pod on it.
    pub node_localities: Vec<Name>,
}

/// What stands before the application of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    Sidecar,
    /// The pod is the proxy.
    Gateway,
    None,
    /// What the application sends goes through the proxy of its node, as with Linkerd 1.x.
    Node,
    /// The pod is the proxy of its node.
    NodeProxy(Router),
}

/// One of the two proxies in a node's proxy, as Linkerd 1.x ran them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Router {
    /// Takes what the node's applications send, and sends it to the node of its destination.
    Outgoing,
    /// Takes what comes from nodes' proxies, and sends it to pods of its own node.
    Incoming,
}

impl Router {
    /// Where it listens.
    pub fn port(self) -> u16 {
        match self {
            Router::Outgoing => 4140,
            Router::Incoming => 4141,
        }
    }

    /// Linkerd's label of it.
    pub fn label(self) -> &'static str {
        match self {
            Router::Outgoing => "outgoing",
            Router::Incoming => "incoming",
        }
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub namespace: Name,
    pub name: Name,
    pub workload: Name,
    pub ordinal: u32,
    pub labels: Vec<(Name, Name)>,
    pub ip: IpAddr,
    pub container_ports: Vec<(Name, u16)>,
    pub locality: Name,
    pub service_account: Name,
    /// Of the mesh.
    pub trust_domain: Name,
    pub proxy: ProxyKind,
    /// Address of the proxy of its node, where nodes have one.
    pub node_proxy: Option<IpAddr>,
    pub ready: bool,
    pub terminating: bool,
}

impl Workload {
    /// Pod number `ordinal`: name and address follow from namespace, workload and ordinal alone.
    pub fn pod(&self, ordinal: u32) -> Pod {
        let seed = format!("{}/{}/{ordinal}", self.namespace, self.name);
        let of_node = self.node_localities.get(ordinal as usize);
        let found = || of_node.unwrap_or(&self.locality).clone();
        Pod {
            namespace: self.namespace.clone(),
            name: format!("{}-{ordinal}", self.name).into(),
            workload: self.name.clone(),
            ordinal,
            labels: self.labels.clone(),
            ip: pod_address(&seed, 0),
            container_ports: self.container_ports.clone(),
            locality: stated_locality(&self.labels).unwrap_or_else(found),
            service_account: self.service_account.clone(),
            trust_domain: self.trust_domain.clone(),
            proxy: self.proxy,
            node_proxy: None,
            ready: true,
            terminating: false,
        }
    }
}

impl Pod {
    /// The proxies in the pod, as they introduce themselves to the control plane.
    pub fn identities(&self) -> Vec<ProxyIdentity> {
        let router = |router: Router| ProxyIdentity {
            name: format!("{}-{}.{}", self.name, router.label(), self.namespace).into(),
            kind: ProxyKind::NodeProxy(router),
            ..self.identity()
        };
        match self.proxy {
            ProxyKind::None | ProxyKind::Node => Vec::new(),
            ProxyKind::Sidecar | ProxyKind::Gateway => vec![self.identity()],
            ProxyKind::NodeProxy(_) => vec![router(Router::Outgoing), router(Router::Incoming)],
        }
    }

    /// The proxy before the pod's application, as it introduces itself to the control plane.
    pub fn identity(&self) -> ProxyIdentity {
        let mut labels = self.labels.clone();
        for (key, value) in topology_labels(&self.locality) {
            labels.retain(|(own, _)| *own != key);
            labels.push((key, value));
        }
        ProxyIdentity {
            name: format!("{}.{}", self.name, self.namespace).into(),
            kind: self.proxy,
            namespace: self.namespace.clone(),
            labels,
            ip: self.ip,
            locality: self.locality.clone(),
        }
    }

    /// Who it is to others, by its service account: the URI of its certificate (SPIFFE).
    pub fn principal(&self) -> Name {
        let (domain, namespace, account) =
            (&self.trust_domain, &self.namespace, &self.service_account);
        format!("spiffe://{domain}/ns/{namespace}/sa/{account}").into()
    }

    /// Whether clients in the mesh speak Istio's mutual TLS to it.
    pub(crate) fn mutual_tls(&self) -> bool {
        self.proxy == ProxyKind::Sidecar || says_mutual_tls(&self.labels)
    }
}

/// Whether the labels of a pod say that it takes Istio's mutual TLS, as the injector makes them do.
pub(crate) fn says_mutual_tls(labels: &[(Name, Name)]) -> bool {
    let mode = label(labels, "security.istio.io/tlsMode");
    mode.is_some_and(|mode| &**mode == "istio")
}

/// Where the labels of a pod say that it is, whatever its node says. As labels have no slashes, dots
/// stand for them.
pub(crate) fn stated_locality(labels: &[(Name, Name)]) -> Option<Name> {
    let new = label(labels, "topology.istio.io/locality");
    let stated = new.or_else(|| label(labels, "istio-locality"));
    let stated = stated.filter(|locality| !locality.is_empty())?;
    match stated.contains('/') {
        true => Some(stated.clone()),
        false => Some(stated.replace('.', "/").into()),
    }
}

/// What Istio adds to the labels of every workload in a `region/zone/subzone`.
pub(crate) fn topology_labels(locality: &str) -> Vec<(Name, Name)> {
    let keys = [
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.istio.io/subzone",
    ];
    let parts = keys.into_iter().zip(locality.split('/'));
    parts
        .filter(|(_, part)| !part.is_empty())
        .map(|(key, part)| (key.into(), part.into()))
        .collect()
}

/// An address in 10.0.0.0/9 for `seed`; another `attempt` gives another one.
pub(crate) fn pod_address(seed: &str, attempt: u64) -> IpAddr {
    derived_address(seed, attempt, 0x0a00_0000)
}

/// An address in 10.128.0.0/9 for `seed`.
pub(crate) fn service_address(seed: &str, attempt: u64) -> IpAddr {
    derived_address(seed, attempt, 0x0a80_0000)
}

fn derived_address(seed: &str, attempt: u64, network: u32) -> IpAddr {
    const HOSTS: u64 = (1 << 23) - 2;
    let mut hash = hash_text(seed);
    for _ in 0..attempt {
        hash = mix(hash);
    }
    // Neither the network's own address nor its last one.
    let host = 1 + hash % HOSTS;
    IpAddr::V4(Ipv4Addr::from_bits(network | host as u32))
}

/// A Service, or a host of a ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceInfo {
    pub host: Name,
    pub namespace: Name,
    /// `None`: headless, or a ServiceEntry without address.
    pub address: Option<IpAddr>,
    pub ports: Vec<ServicePortInfo>,
    /// Empty: no selector.
    pub selector: Vec<(Name, Name)>,
    /// From a ServiceEntry.
    pub external: bool,
}

/// A port of a [`ServiceInfo`].
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePortInfo {
    pub number: u16,
    pub name: Name,
    /// The port of the pods; a named one as the first workload that has it numbers it.
    pub target: u16,
    pub http: bool,
}

/// A proxy, as the control plane knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyIdentity {
    /// Its pod: `NAME.NAMESPACE`.
    pub name: Name,
    pub kind: ProxyKind,
    pub namespace: Name,
    /// With those of the topology, which Istio adds.
    pub labels: Vec<(Name, Name)>,
    pub ip: IpAddr,
    pub locality: Name,
}

/// Everything one proxy is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    pub clusters: Vec<Arc<Cluster>>,
    pub endpoints: Vec<Arc<LoadAssignment>>,
    pub listeners: Vec<Arc<Listener>>,
    pub routes: Vec<Arc<RouteTable>>,
}

/// What goes to one proxy, in the order CDS, EDS, LDS, RDS; empty types are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    pub proxy: Name,
    pub deltas: Vec<XdsDelta>,
    pub version: u64,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

//! Istio's control plane: configuration, service registry, translation to xDS, pushes.

use proxy_core::time::Nanos;
use proxy_core::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable, XdsDelta};
use source::{Diagnostic, Node, SourceFile};
use std::net::IpAddr;
use std::sync::Arc;

/// The objects of a configuration: Istio's and Kubernetes'. Cheap to clone (objects are shared).
#[derive(Clone, Debug, Default)]
pub struct Objects {}

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// `VirtualService`, `Service`, ...
    pub kind: Name,
    pub namespace: Name,
    pub name: Name,
}

impl Objects {
    /// Every object of every document of `file` (`kind: List` opened up). What cannot be read, is invalid or not supported
    /// is reported with its place; an object with an error is left out.
    pub fn read(_file: &Arc<SourceFile>, _diagnostics: &mut Vec<Diagnostic>) -> Objects {
        unimplemented!()
    }
    /// The same from a parsed document.
    pub fn read_node(_node: &Node, _diagnostics: &mut Vec<Diagnostic>) -> Objects {
        unimplemented!()
    }
    /// `kubectl apply`: adds or replaces. A replaced object keeps its age; a new one without `creationTimestamp` is
    /// younger than all before.
    pub fn apply(&mut self, _other: &Objects) {
        unimplemented!()
    }
    /// `kubectl delete`; false if there is no such object.
    pub fn delete(&mut self, _object: &ObjectRef) -> bool {
        unimplemented!()
    }
    /// `kubectl patch --type merge`; errors are reported, and then nothing changes.
    pub fn patch(
        &mut self,
        _object: &ObjectRef,
        _merge: &Node,
        _diagnostics: &mut Vec<Diagnostic>,
    ) {
        unimplemented!()
    }
    pub fn refs(&self) -> Vec<ObjectRef> {
        unimplemented!()
    }
    /// What names a thing that is not there: hosts no service has, subsets nobody defines, gateways missing,
    /// weights that do not fit; each at its place with the nearest right name.
    pub fn check_references(&self, _diagnostics: &mut Vec<Diagnostic>) {
        unimplemented!()
    }
    pub fn deployments(&self) -> Vec<Workload> {
        unimplemented!()
    }
    pub fn pods(&self) -> Vec<Pod> {
        unimplemented!()
    }
    /// The service that a client in `namespace` reaches by `host` (short, `name.namespace`, full, ServiceEntry host, or cluster IP).
    pub fn service(&self, _host: &str, _namespace: &str) -> Option<ServiceInfo> {
        unimplemented!()
    }
    pub fn services(&self) -> Vec<ServiceInfo> {
        unimplemented!()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub namespace: Name,
    pub name: Name,
    pub replicas: u32,
    /// Of its pods.
    pub labels: Vec<(Name, Name)>,
    pub service_account: Name,
    pub proxy: ProxyKind,
    pub container_ports: Vec<(Name, u16)>,
    pub locality: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    Sidecar,
    Gateway,
    None,
}

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
    pub proxy: ProxyKind,
    pub ready: bool,
    pub terminating: bool,
}

impl Workload {
    /// Pod number `ordinal`: name and address follow from namespace, workload and ordinal alone.
    pub fn pod(&self, _ordinal: u32) -> Pod {
        unimplemented!()
    }
}

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

#[derive(Clone, Debug, PartialEq)]
pub struct ServicePortInfo {
    pub number: u16,
    pub name: Name,
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

/// Timing of pushes.
#[derive(Clone, Debug, PartialEq)]
pub struct PushSettings {
    pub debounce: Nanos,
    pub debounce_max: Nanos,
}

/// What goes to one proxy, in the order CDS, EDS, LDS, RDS; empty types are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    pub proxy: Name,
    pub deltas: Vec<XdsDelta>,
    pub version: u64,
}

/// The control plane as a state machine.
#[derive(Clone, Debug)]
pub struct ControlPlane {}

impl ControlPlane {
    pub fn new(_settings: PushSettings, _objects: Objects, _pods: Vec<Pod>) -> ControlPlane {
        unimplemented!()
    }
    pub fn objects(&self) -> &Objects {
        unimplemented!()
    }
    /// The configuration changed.
    pub fn set_objects(&mut self, _now: Nanos, _objects: Objects) {
        unimplemented!()
    }
    /// A pod is new, ready, not ready, terminating.
    pub fn set_pod(&mut self, _now: Nanos, _pod: Pod) {
        unimplemented!()
    }
    pub fn remove_pod(&mut self, _now: Nanos, _namespace: &str, _name: &str) {
        unimplemented!()
    }
    /// A proxy subscribes: it gets all there is, at once (with the version of the state).
    pub fn connect(&mut self, _now: Nanos, _proxy: ProxyIdentity) -> Push {
        unimplemented!()
    }
    pub fn disconnect(&mut self, _proxy: &str) {
        unimplemented!()
    }
    /// When [`ControlPlane::tick`] is next needed.
    pub fn deadline(&self) -> Option<Nanos> {
        unimplemented!()
    }
    /// The pushes that are due, in order of connection; proxies with nothing new get none.
    pub fn tick(&mut self, _now: Nanos) -> Vec<Push> {
        unimplemented!()
    }
}

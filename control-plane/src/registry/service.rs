//! One service of the registry.

use crate::config::{ExportTo, Labels, LocalitySetting, WorkloadEntry, has_labels, label};
use crate::kubernetes::{EndpointSubset, Target};
use crate::model::{Pod, ServiceInfo, ServicePortInfo};
use crate::object::Age;
use crate::objects::Objects;
use crate::protocol::Protocol;
use proxy_core::xds::{ConfigRef, Name};
use std::net::IpAddr;

/// A Kubernetes Service, or one host of a ServiceEntry with one of its addresses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) host: Name,
    pub(crate) namespace: Name,
    /// A ServiceEntry host is its own service name.
    pub(crate) name: Name,
    pub(crate) age: Age,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) address: Option<Address>,
    pub(crate) discovery: ServiceDiscovery,
    /// `None`: its endpoints are listed.
    pub(crate) selector: Option<Labels>,
    pub(crate) listed: Vec<WorkloadEntry>,
    /// Endpoints of other ServiceEntries with the host in its namespace, with all their ports named.
    pub(crate) pooled: Vec<WorkloadEntry>,
    pub(crate) endpoint_objects: Vec<EndpointSubset>,
    /// Of type ExternalName: the host that it is another name of. Nothing is sent to itself.
    pub(crate) alias_of: Option<Name>,
    /// Hosts that are other names of this one, in order of their namespaces.
    pub(crate) aliases: Vec<Name>,
    /// Its pods are endpoints whether they are ready or not.
    pub(crate) publishes_unready: bool,
    /// Which of its endpoints proxies prefer where no rule says so.
    pub(crate) near: Option<LocalitySetting>,
    /// Outside the mesh (`MESH_EXTERNAL`).
    pub(crate) external: bool,
    pub(crate) kubernetes: bool,
    pub(crate) export_to: ExportTo,
    /// Of the object that it comes from.
    pub(crate) labels: Labels,
    pub(crate) origin: ConfigRef,
}

/// A port of a [`Service`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    pub(crate) name: Name,
    pub(crate) target: Target,
    pub(crate) protocol: Protocol,
}

/// The virtual address of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Address {
    pub(crate) text: Name,
    pub(crate) ip: IpAddr,
    /// Shorter than the address: a network.
    pub(crate) prefix: Option<u8>,
}

/// How the endpoints are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceDiscovery {
    /// The control plane lists them.
    Listed,
    /// Clients connect to them directly: headless, or resolution NONE.
    Passthrough,
    Dns,
    DnsRoundRobin,
}

impl Service {
    /// The port with that number.
    pub(crate) fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// A Kubernetes Service without virtual address.
    pub(crate) fn headless(&self) -> bool {
        self.kubernetes && self.discovery == ServiceDiscovery::Passthrough
    }

    /// Whether some of its endpoints may be pods.
    pub(crate) fn has_pods(&self) -> bool {
        self.selector.is_some() || !self.endpoint_objects.is_empty()
    }

    /// Whether pods of `namespace` with `labels` are its endpoints.
    pub(crate) fn selects(&self, namespace: &str, labels: &[(Name, Name)]) -> bool {
        *self.namespace == *namespace
            && self
                .selector
                .as_ref()
                .is_some_and(|wanted| !wanted.is_empty() && has_labels(labels, wanted))
    }

    /// Whether some Endpoints or EndpointSlice lists `pod` for it.
    pub(crate) fn lists(&self, pod: &Pod) -> bool {
        let subsets = self.endpoint_objects.iter();
        let mut addresses = subsets.flat_map(|subset| &subset.addresses);
        addresses.any(|address| match &address.pod {
            Some((namespace, name)) => *namespace == pod.namespace && *name == pod.name,
            None => address.ip == pod.ip && self.namespace == pod.namespace,
        })
    }

    /// Whether a proxy is before one of its endpoints. `listed_ip`: its address, if some ServiceEntry
    /// lists that.
    pub(crate) fn is_of(
        &self,
        namespace: &str,
        labels: &[(Name, Name)],
        listed_ip: Option<IpAddr>,
    ) -> bool {
        let lists = |ip: IpAddr| {
            let mut entries = self.listed.iter();
            entries.any(|entry| entry.address.text.parse() == Ok(ip))
        };
        self.selects(namespace, labels) || listed_ip.is_some_and(lists)
    }

    /// Its listed endpoints with all their ports.
    pub(super) fn named(&self) -> impl Iterator<Item = WorkloadEntry> {
        self.listed.iter().map(|entry| {
            let port = |port: &ServicePort| {
                let target = match port.target {
                    Target::Number(number) => number,
                    Target::Name(_) => port.number,
                };
                let number = named_port(&entry.ports, &port.name).unwrap_or(target);
                (port.name.clone(), number)
            };
            WorkloadEntry {
                ports: self.ports.iter().map(port).collect(),
                ..entry.clone()
            }
        })
    }

    /// Whether sidecars listen at the addresses of its endpoints, where its port is not HTTP.
    pub(crate) fn is_at_its_endpoints(&self) -> bool {
        self.discovery == ServiceDiscovery::Passthrough
            && self.address.is_none()
            && (self.kubernetes
                || self.selector.is_some()
                || !self.listed.is_empty()
                || !self.pooled.is_empty())
    }

    /// Gateways that its pods are chosen for by label listen on the ports that they name.
    pub(crate) fn keeps_gateway_ports(&self) -> bool {
        let keeps = "experimental.istio.io/disable-gateway-port-translation";
        label(&self.labels, keeps).is_some()
    }

    pub(crate) fn info(&self, objects: &Objects) -> ServiceInfo {
        let ports = self
            .ports
            .iter()
            .filter(|port| port.protocol != Protocol::Udp);
        ServiceInfo {
            host: self.host.clone(),
            namespace: self.namespace.clone(),
            address: self
                .address
                .as_ref()
                .filter(|a| a.prefix.is_none())
                .map(|a| a.ip),
            ports: ports
                .map(|port| ServicePortInfo {
                    number: port.number,
                    name: port.name.clone(),
                    target: self.target_number(port, objects),
                    http: port.protocol.is_http_or_auto(),
                })
                .collect(),
            selector: self.selector.clone().unwrap_or_default(),
            external: !self.kubernetes,
        }
    }

    fn target_number(&self, port: &ServicePort, objects: &Objects) -> u16 {
        match &port.target {
            Target::Number(number) => *number,
            Target::Name(name) => objects
                .deployments()
                .iter()
                .filter(|workload| self.selects(&workload.namespace, &workload.labels))
                .find_map(|workload| named_port(&workload.container_ports, name))
                .unwrap_or(port.number),
        }
    }
}

/// The number of the port called `name`.
pub(crate) fn named_port(ports: &[(Name, u16)], name: &str) -> Option<u16> {
    let found = ports.iter().find(|(port, _)| **port == *name);
    found.map(|(_, number)| *number)
}

/// The port of `pod` that `target` means.
pub(crate) fn target_port(target: &Target, pod: &Pod) -> Option<u16> {
    match target {
        Target::Number(number) => Some(*number),
        Target::Name(name) => named_port(&pod.container_ports, name),
    }
}

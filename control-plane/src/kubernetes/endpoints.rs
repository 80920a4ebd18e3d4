//! Endpoints and EndpointSlice: the addresses of Services without a selector.

use crate::config::label;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};
use std::net::IpAddr;

/// An Endpoints or EndpointSlice object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndpointsObject {
    /// The Service, in the object's namespace.
    pub(crate) service: Name,
    /// An EndpointSlice. Where there are some, Istio does not look at Endpoints.
    pub(crate) slice: bool,
    pub(crate) subsets: Vec<Subset>,
}

/// Addresses that share ports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subset {
    pub(crate) addresses: Vec<ListedAddress>,
    /// By the name of the Service port.
    pub(crate) ports: Vec<(Name, u16)>,
}

/// An address that is listed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListedAddress {
    pub(crate) ip: IpAddr,
    pub(crate) ready: bool,
    /// Namespace and name of the Pod that it is said to be of.
    pub(crate) pod: Option<(Name, Name)>,
}

impl EndpointsObject {
    /// From an Endpoints object; `document` is the whole of it.
    pub(crate) fn read_endpoints(
        document: &Node,
        name: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> EndpointsObject {
        let mut subsets = Vec::new();
        for node in list(document, "subsets") {
            let mut addresses = Vec::new();
            for (key, ready) in [("addresses", true), ("notReadyAddresses", false)] {
                for address in list(node, key) {
                    let ip = address.at(&["ip"]).and_then(Node::as_scalar);
                    if let Some(ip) = address_of(address, ip, diagnostics) {
                        let pod = target(address);
                        addresses.push(ListedAddress { ip, ready, pod });
                    }
                }
            }
            let ports = ports(node, diagnostics);
            subsets.push(Subset { addresses, ports });
        }
        EndpointsObject {
            service: name.clone(),
            slice: false,
            subsets,
        }
    }

    /// From an EndpointSlice; `document` is the whole of it.
    pub(crate) fn read_slice(
        document: &Node,
        labels: &[(Name, Name)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<EndpointsObject> {
        let Some(service) = label(labels, "kubernetes.io/service-name") else {
            let message = "an EndpointSlice needs the label `kubernetes.io/service-name`";
            diagnostics
                .push(Diagnostic::error(message).at(&document.span, "belongs to no Service"));
            return None;
        };
        let mut addresses = Vec::new();
        let mut endpoints = list(document, "endpoints");
        let kind = document.at(&["addressType"]);
        if let Some(node) = kind.filter(|node| node.as_scalar() == Some("FQDN")) {
            let message = "Istio does not use EndpointSlices of type FQDN";
            diagnostics.push(Diagnostic::warning(message).at(&node.span, "left out, as there"));
            endpoints = &[];
        }
        for endpoint in endpoints {
            let condition = |name| endpoint.at(&["conditions", name]).and_then(Node::as_bool);
            let ready = condition("ready") != Some(false);
            // As in Istio, one that is not ready is going unless it says that it is not.
            if !ready && condition("terminating") != Some(false) {
                continue;
            }
            for address in list(endpoint, "addresses") {
                if let Some(ip) = address_of(address, address.as_scalar(), diagnostics) {
                    let pod = target(endpoint);
                    addresses.push(ListedAddress { ip, ready, pod });
                }
            }
        }
        let ports = ports(document, diagnostics);
        Some(EndpointsObject {
            service: service.clone(),
            slice: true,
            subsets: vec![Subset { addresses, ports }],
        })
    }
}

fn list<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    node.at(&[key]).and_then(Node::as_seq).unwrap_or_default()
}

/// The Pod that an endpoint names.
fn target(endpoint: &Node) -> Option<(Name, Name)> {
    let text = |key| endpoint.at(&["targetRef", key]).and_then(Node::as_scalar);
    let pod = (text("namespace")?.into(), text("name")?.into());
    (text("kind") == Some("Pod")).then_some(pod)
}

fn address_of(
    node: &Node,
    text: Option<&str>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<IpAddr> {
    let ip = text.and_then(|text| text.parse().ok());
    if ip.is_none() {
        diagnostics.push(Diagnostic::error("an address is an IP address").at(&node.span, "is not"));
    }
    ip
}

fn ports(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Vec<(Name, u16)> {
    let mut ports = Vec::new();
    for node in list(node, "ports") {
        let Some(mut fields) = Fields::of(node, "a port", diagnostics) else {
            continue;
        };
        let name = fields.text("name").unwrap_or_default();
        fields.required("port");
        let number = fields.integer("port", 1..=65535);
        fields.ignore(&["protocol", "appProtocol"]);
        fields.finish();
        if let Some(number) = number.and_then(|n| u16::try_from(n).ok()) {
            ports.push((name.into(), number));
        }
    }
    ports
}

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
    pub(crate) subsets: Vec<Subset>,
}

/// Addresses that share ports.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subset {
    /// Address, whether it is ready, and its node.
    pub(crate) addresses: Vec<(IpAddr, bool, Option<Name>)>,
    /// By the name of the Service port.
    pub(crate) ports: Vec<(Name, u16)>,
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
                    let node_name = address.at(&["nodeName"]).and_then(Node::as_scalar);
                    if let Some(ip) = address_of(address, ip, diagnostics) {
                        addresses.push((ip, ready, node_name.map(Name::from)));
                    }
                }
            }
            let ports = ports(node, diagnostics);
            subsets.push(Subset { addresses, ports });
        }
        EndpointsObject {
            service: name.clone(),
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
        for endpoint in list(document, "endpoints") {
            let condition = |name| endpoint.at(&["conditions", name]).and_then(Node::as_scalar);
            if condition("terminating") == Some("true") {
                continue;
            }
            let ready = condition("ready") != Some("false");
            let node_name = endpoint.at(&["nodeName"]).and_then(Node::as_scalar);
            for address in list(endpoint, "addresses") {
                if let Some(ip) = address_of(address, address.as_scalar(), diagnostics) {
                    addresses.push((ip, ready, node_name.map(Name::from)));
                }
            }
        }
        let ports = ports(document, diagnostics);
        Some(EndpointsObject {
            service: service.clone(),
            subsets: vec![Subset { addresses, ports }],
        })
    }
}

fn list<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    node.at(&[key]).and_then(Node::as_seq).unwrap_or_default()
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

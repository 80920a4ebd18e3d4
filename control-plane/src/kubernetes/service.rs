//! Service.

use crate::config::{ExportTo, Labels, choice, label, labels};
use crate::protocol::Protocol;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};
use std::net::IpAddr;

/// A Kubernetes Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KubernetesService {
    pub(crate) cluster_ip: ClusterIp,
    pub(crate) ports: Vec<Port>,
    pub(crate) selector: Labels,
    pub(crate) export_to: ExportTo,
    /// Of type ExternalName.
    pub(crate) external_name: Option<Name>,
    /// Its pods are sent to whether they are ready or not.
    pub(crate) publishes_unready: bool,
    /// `None`: not stated.
    pub(crate) distribution: Option<Distribution>,
}

/// Kubernetes `trafficDistribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    Any,
    PreferSameZone,
    PreferSameNode,
}

impl Distribution {
    /// Of the annotation `networking.istio.io/traffic-distribution`, in any case.
    pub(crate) fn of_annotation(text: &str) -> Option<Distribution> {
        Some(match text.to_ascii_lowercase().as_str() {
            "" => return None,
            "preferclose" | "prefersamezone" => Distribution::PreferSameZone,
            "prefersamenode" => Distribution::PreferSameNode,
            _ => Distribution::Any,
        })
    }
}

/// The virtual address of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterIp {
    Given(IpAddr),
    /// `None`: clients connect to the pods.
    Headless,
    /// Not stated.
    Unknown,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) name: Name,
    pub(crate) target: Target,
    pub(crate) protocol: Protocol,
}

/// A `targetPort`: a number, or the name of a container port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Number(u16),
    Name(Name),
}

impl KubernetesService {
    pub(crate) fn read(
        node: &Node,
        annotations: &[(Name, Name)],
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<KubernetesService> {
        let mut fields = Fields::of(node, "a Service", diagnostics)?;
        let ports = fields
            .list("ports")
            .iter()
            .filter_map(|node| Port::read(node, fields.diagnostics))
            .collect();
        let selector = labels(&mut fields, "selector");
        let ip_node = fields.optional("clusterIP");
        let ip_text = fields.text("clusterIP").filter(|text| !text.is_empty());
        let cluster_ip = match (ip_text.as_deref(), ip_node) {
            (Some("None"), _) => ClusterIp::Headless,
            (Some(text), Some(node)) => match text.parse() {
                Ok(ip) => ClusterIp::Given(ip),
                Err(_) => {
                    let message = "`clusterIP` is an IP address or None";
                    let label = format!("found `{text}`");
                    fields
                        .diagnostics
                        .push(Diagnostic::error(message).at(&node.span, label));
                    ClusterIp::Unknown
                }
            },
            _ => ClusterIp::Unknown,
        };
        let external_name = fields.text("externalName").map(Name::from);
        let external_name = external_name.filter(|name| !name.is_empty());
        let is_name = fields.text("type").as_deref() == Some("ExternalName");
        let external_name = external_name.filter(|_| is_name);
        fields.ignore(&[
            "type",
            "clusterIPs",
            "externalName",
            "ipFamilies",
            "ipFamilyPolicy",
            "externalIPs",
            "sessionAffinity",
            "sessionAffinityConfig",
            "externalTrafficPolicy",
            "loadBalancerIP",
            "loadBalancerClass",
            "loadBalancerSourceRanges",
            "allocateLoadBalancerNodePorts",
            "healthCheckNodePort",
        ]);
        if fields.text("internalTrafficPolicy").as_deref() == Some("Local") {
            fields.unsupported(&["internalTrafficPolicy"]);
        }
        let distributions = [
            ("PreferClose", Distribution::PreferSameZone),
            ("PreferSameZone", Distribution::PreferSameZone),
            ("PreferSameNode", Distribution::PreferSameNode),
        ];
        let distribution = choice(&mut fields, "trafficDistribution", &distributions);
        let distribution = distribution.or_else(|| {
            let text = label(annotations, "networking.istio.io/traffic-distribution")?;
            Distribution::of_annotation(text)
        });
        let publishes_unready = fields.boolean("publishNotReadyAddresses").unwrap_or(false);
        fields.finish();
        let exports = label(annotations, "networking.istio.io/exportTo")
            .filter(|value| !value.is_empty())
            .map(|value| value.split(',').map(str::trim).collect::<Vec<_>>());
        Some(KubernetesService {
            cluster_ip,
            ports,
            selector,
            export_to: ExportTo::of(exports.unwrap_or_default().into_iter(), namespace),
            external_name,
            publishes_unready,
            distribution,
        })
    }
}

impl Port {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Port> {
        let mut fields = Fields::of(node, "a port", diagnostics)?;
        fields.required("port");
        let number = fields.integer("port", 1..=65535);
        let number = number.and_then(|n| u16::try_from(n).ok());
        let name = fields.text("name").unwrap_or_default();
        let app_protocol = fields.text("appProtocol");
        let udp = fields.text("protocol").as_deref() == Some("UDP");
        let target = fields.optional("targetPort").and_then(Node::as_scalar);
        fields.ignore(&["nodePort"]);
        fields.finish();
        let number = number?;
        let target = match target {
            None => Target::Number(number),
            Some(text) => match text.parse() {
                Ok(target) => Target::Number(target),
                Err(_) => Target::Name(text.into()),
            },
        };
        let protocol = match udp {
            true => Protocol::Udp,
            false => Protocol::of_port(&name, app_protocol.as_deref(), number),
        };
        Some(Port {
            number,
            name: name.into(),
            target,
            protocol,
        })
    }
}

//! ServiceEntry.

use super::l4_route::read_subnet;
use super::selection::{label, selector};
use super::syntax::{
    demand_of, dns_label, is_http_protocol, is_tls_protocol, partial_wildcard, wildcard_host,
};
use super::workload_entry::Addresses;
use super::{
    ExportTo, Exporter, Labels, Named, WorkloadEntry, choice, named_list, port, protocol, refuse,
    required_named, schema_warning, written,
};
use crate::names::is_wildcard;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// Istio `ServiceEntry`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceEntry {
    pub(crate) hosts: Vec<Named>,
    pub(crate) addresses: Vec<Name>,
    pub(crate) ports: Vec<EntryPort>,
    pub(crate) location: Location,
    pub(crate) resolution: Resolution,
    pub(crate) endpoints: Vec<WorkloadEntry>,
    pub(crate) workload_selector: Option<Labels>,
    pub(crate) export_to: ExportTo,
}

/// Istio `ServicePort`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryPort {
    pub(crate) number: u16,
    pub(crate) name: Name,
    /// As written.
    pub(crate) protocol: Name,
    pub(crate) target: u16,
}

/// Istio `ServiceEntry.Location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    External,
    Internal,
}

/// Istio `ServiceEntry.Resolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    None,
    Static,
    Dns,
    DnsRoundRobin,
}

/// Also what is read as another: dynamic DNS, which is not modelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stated {
    Modelled(Resolution),
    DynamicDns,
}

const RESOLUTIONS: [(&str, Stated); 5] = [
    ("NONE", Stated::Modelled(Resolution::None)),
    ("STATIC", Stated::Modelled(Resolution::Static)),
    ("DNS", Stated::Modelled(Resolution::Dns)),
    (
        "DNS_ROUND_ROBIN",
        Stated::Modelled(Resolution::DnsRoundRobin),
    ),
    ("DYNAMIC_DNS", Stated::DynamicDns),
];

impl ServiceEntry {
    /// `own_labels`: of the object itself.
    pub(crate) fn read(
        node: &Node,
        namespace: &Name,
        own_labels: &[(Name, Name)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<ServiceEntry> {
        let mut fields = Fields::of(node, "a ServiceEntry", diagnostics)?;
        let hosts = named_list(&mut fields, "hosts");
        let addresses = named_list(&mut fields, "addresses");
        let port_nodes = fields.list("ports");
        let ports: Vec<EntryPort> = port_nodes
            .iter()
            .filter_map(|node| EntryPort::read(node, fields.diagnostics))
            .collect();
        check_ports(port_nodes, fields.diagnostics);
        let locations = [
            ("MESH_EXTERNAL", Location::External),
            ("MESH_INTERNAL", Location::Internal),
        ];
        let location = choice(&mut fields, "location", &locations).unwrap_or(Location::External);
        let none = Stated::Modelled(Resolution::None);
        let stated = choice(&mut fields, "resolution", &RESOLUTIONS).unwrap_or(none);
        let resolution = match stated {
            Stated::Modelled(resolution) => resolution,
            Stated::DynamicDns => Resolution::None,
        };
        let workload_selector = selector(&mut fields, "workloadSelector", "labels");
        let mut entry = ServiceEntry {
            hosts,
            addresses: addresses
                .iter()
                .map(|address| address.text.clone())
                .collect(),
            ports,
            location,
            resolution,
            endpoints: Vec::new(),
            workload_selector,
            export_to: ExportTo::read(&mut fields, namespace, Exporter::ServiceEntry),
        };
        entry.endpoints = entry.read_endpoints(&mut fields);
        entry.check_hosts(&mut fields, stated);
        entry.check_addresses(&mut fields, &addresses, stated, own_labels);
        match stated {
            Stated::DynamicDns => entry.check_dynamic(&mut fields, own_labels),
            Stated::Modelled(Resolution::None) => {
                if let (Some(node), true) = (
                    fields.optional("workloadSelector"),
                    entry.workload_selector.is_some(),
                ) {
                    let message = "a ServiceEntry of resolution NONE has no use for a selector";
                    fields
                        .diagnostics
                        .push(schema_warning(message).at(&node.span, "should not be set"));
                }
            }
            Stated::Modelled(_) => {}
        }
        // Certificates are not modelled.
        fields.ignore(&["subjectAltNames"]);
        fields.finish();
        Some(entry)
    }

    fn read_endpoints(&self, fields: &mut Fields<'_, '_>) -> Vec<WorkloadEntry> {
        let nodes = fields.list("endpoints");
        let complaint = match (self.resolution, nodes) {
            (_, []) => None,
            _ if self.workload_selector.is_some() => {
                Some("a ServiceEntry has either `workloadSelector` or `endpoints`")
            }
            (Resolution::None, _) => Some("a ServiceEntry of this resolution has no `endpoints`"),
            (Resolution::DnsRoundRobin, [_, _, ..]) => {
                Some("a ServiceEntry of resolution DNS_ROUND_ROBIN has one endpoint at most")
            }
            _ => None,
        };
        if let (Some(message), Some(last)) = (complaint, nodes.last()) {
            refuse(fields.diagnostics, &last.span, message, "an endpoint");
        }
        if let (Resolution::Dns, [_, second, ..]) = (self.resolution, nodes) {
            let message =
                "several endpoints of a ServiceEntry of resolution DNS are not supported yet";
            let warning = Diagnostic::warning(message);
            let label = "only the first that fits is used";
            fields.diagnostics.push(warning.at(&second.span, label));
        }
        let names: Vec<&Name> = self.ports.iter().map(|port| &port.name).collect();
        let allowed = match self.resolution {
            Resolution::Static => Addresses::OfEndpoint(&names),
            _ => Addresses::OfDnsEndpoint(&names),
        };
        nodes
            .iter()
            .filter_map(|node| WorkloadEntry::read(node, &allowed, fields.diagnostics))
            .collect()
    }

    fn check_hosts(&self, fields: &mut Fields<'_, '_>, stated: Stated) {
        if self.hosts.is_empty() {
            let message = "a ServiceEntry needs at least one host";
            let span = fields.span();
            refuse(fields.diagnostics, span, message, "no `hosts`");
        }
        let resolved = matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        let by_name = resolved && fields.list("endpoints").is_empty();
        for host in &self.hosts {
            let text = &*host.text;
            let verdict = match text {
                "*" => Err("every host".to_owned()),
                _ => wildcard_host(text).and_then(|()| match by_name && is_wildcard(text) {
                    true => Err("without `endpoints` it is looked up itself, so no `*`".to_owned()),
                    false => Ok(()),
                }),
            };
            demand_of(
                fields.diagnostics,
                host,
                "a host of such a ServiceEntry",
                verdict,
            );
            if let (Err(why), false) = (partial_wildcard(text), stated == Stated::DynamicDns) {
                let message = format!("host `{text}` is a partial wildcard");
                fields
                    .diagnostics
                    .push(schema_warning(message).at(&host.span, why));
            }
        }
        let tells_apart =
            |port: &EntryPort| is_http_protocol(&port.protocol) || is_tls_protocol(&port.protocol);
        let opaque = !self.ports.iter().all(tells_apart);
        let passes_through = stated == Stated::Modelled(Resolution::None);
        if let (Some(second), true, false) = (self.hosts.get(1), opaque, passes_through) {
            let message = "several hosts need ports of HTTP or TLS, which name the host";
            refuse(fields.diagnostics, &second.span, message, "a second host");
        }
        let tcp = |port: &EntryPort| {
            let known = ["tcp", "https", "tls", "mongo", "redis", "mysql"];
            known.contains(&port.protocol.to_ascii_lowercase().as_str())
        };
        let shared = resolved && !self.addresses.is_empty() && self.ports.iter().any(tcp);
        if let (Some(second), true) = (self.hosts.get(1), shared) {
            let message = "hosts that share an address cannot be told apart at a TCP port";
            fields
                .diagnostics
                .push(schema_warning(message).at(&second.span, "a second host"));
        }
    }

    fn check_addresses(
        &self,
        fields: &mut Fields<'_, '_>,
        addresses: &[Named],
        stated: Stated,
        own_labels: &[(Name, Name)],
    ) {
        let networks = [Resolution::None, Resolution::Static].map(Stated::Modelled);
        for address in addresses {
            read_subnet(address, fields.diagnostics);
            if address.text.contains('/') && !networks.contains(&stated) {
                let message = "networks go with resolution NONE or STATIC only";
                refuse(fields.diagnostics, &address.span, message, "a network");
            }
        }
        let allocate = label(own_labels, "networking.istio.io/enable-autoallocate-ip");
        let opted_out = allocate.is_some_and(|value| value.eq_ignore_ascii_case("false"));
        let allocated = stated != Stated::Modelled(Resolution::None) && !opted_out;
        if !addresses.is_empty() || allocated {
            return;
        }
        let mut ports = self.ports.iter().zip(fields.list("ports"));
        let tcp = ports.find(|(port, _)| matches!(&*port.protocol, "" | "TCP"));
        if let Some((_, node)) = tcp {
            let message = "a TCP port needs `addresses`, as none is allocated";
            fields
                .diagnostics
                .push(schema_warning(message).at(&node.span, "shares the port's listener"));
        }
    }

    fn check_dynamic(&self, fields: &mut Fields<'_, '_>, own_labels: &[(Name, Name)]) {
        for host in &self.hosts {
            if !is_wildcard(&host.text) {
                let message = "a host of resolution DYNAMIC_DNS is a wildcard";
                refuse(fields.diagnostics, &host.span, message, "a single host");
            }
        }
        if let Some(node) = fields.list("addresses").first() {
            let message = "a ServiceEntry of resolution DYNAMIC_DNS has no `addresses`";
            refuse(fields.diagnostics, &node.span, message, "found by name");
        }
        for (port, node) in self.ports.iter().zip(fields.list("ports")) {
            let known = ["http", "tls", "grpc", "http2"];
            if !known.contains(&port.protocol.to_ascii_lowercase().as_str()) {
                let message = "a port of resolution DYNAMIC_DNS is of HTTP, HTTP2, GRPC or TLS";
                let label = format!("found `{}`", port.protocol);
                refuse(fields.diagnostics, &node.span, message, label);
            }
        }
        let waypoint = label(own_labels, "istio.io/use-waypoint");
        let waypoint = waypoint.is_some_and(|of| !matches!(&*of.to_lowercase(), "" | "none"));
        let place = fields
            .optional("resolution")
            .map_or(fields.span(), |node| &node.span);
        if self.location == Location::Internal && waypoint {
            let message = "DYNAMIC_DNS inside the mesh does not go with a waypoint";
            refuse(
                fields.diagnostics,
                place,
                message,
                "MESH_INTERNAL, `istio.io/use-waypoint`",
            );
        }
        let message = "resolution DYNAMIC_DNS is not supported yet";
        fields
            .diagnostics
            .push(Diagnostic::warning(message).at(place, "taken as NONE"));
    }
}

/// Neither the names nor the numbers of ports may repeat.
fn check_ports(ports: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    for key in ["name", "number"] {
        let value = |port: &Node| port.at(&[key]).and_then(Node::as_scalar).map(str::to_owned);
        for (at, port) in ports.iter().enumerate() {
            let (Some(own), Some(node)) = (value(port), port.at(&[key])) else {
                continue;
            };
            if ports[..at]
                .iter()
                .any(|earlier| value(earlier).as_ref() == Some(&own))
            {
                let message = format!("two ports of a ServiceEntry have the {key} `{own}`");
                refuse(diagnostics, &node.span, message, "the second one");
            }
        }
    }
}

impl EntryPort {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<EntryPort> {
        let mut fields = Fields::of(node, "a port", diagnostics)?;
        fields.required("number");
        let number = port(&mut fields, "number");
        let name = required_named(&mut fields, "name");
        if let Some(name) = &name {
            let verdict = dns_label(&name.text);
            demand_of(fields.diagnostics, name, "the name of a port", verdict);
        }
        let protocol = protocol(&mut fields).unwrap_or_default();
        let target = match fields.optional("targetPort").map(written) {
            Some("0") => None,
            _ => port(&mut fields, "targetPort"),
        };
        fields.finish();
        Some(EntryPort {
            number: number?,
            name: name?.text,
            protocol: protocol.into(),
            target: target.or(number)?,
        })
    }
}

//! ServiceEntry.

use super::{ExportTo, Exporter, Labels, Named, choice, labels, named_list, port, required_named};
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

/// Istio `WorkloadEntry`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkloadEntry {
    pub(crate) address: Named,
    pub(crate) ports: Vec<(Name, u16)>,
    pub(crate) labels: Labels,
    pub(crate) locality: Name,
    pub(crate) weight: u32,
}

impl ServiceEntry {
    pub(crate) fn read(
        node: &Node,
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<ServiceEntry> {
        let mut fields = Fields::of(node, "a ServiceEntry", diagnostics)?;
        fields.required("hosts");
        let hosts = named_list(&mut fields, "hosts");
        let addresses = fields
            .texts("addresses")
            .into_iter()
            .map(Name::from)
            .collect();
        let ports = fields
            .list("ports")
            .iter()
            .filter_map(|node| EntryPort::read(node, fields.diagnostics))
            .collect();
        let location = choice(
            &mut fields,
            "location",
            &[
                ("MESH_EXTERNAL", Location::External),
                ("MESH_INTERNAL", Location::Internal),
            ],
        );
        let resolution = choice(
            &mut fields,
            "resolution",
            &[
                ("NONE", Resolution::None),
                ("STATIC", Resolution::Static),
                ("DNS", Resolution::Dns),
                ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
            ],
        )
        .unwrap_or(Resolution::None);
        let endpoints: Vec<WorkloadEntry> = fields
            .list("endpoints")
            .iter()
            .filter_map(|node| WorkloadEntry::read(node, fields.diagnostics))
            .collect();
        for endpoint in &endpoints {
            check_endpoint(endpoint, resolution, fields.diagnostics);
        }
        let workload_selector = match fields.optional("workloadSelector") {
            Some(node) => {
                let mut inner = Fields::of(node, "a workload selector", fields.diagnostics)?;
                let wanted = labels(&mut inner, "labels");
                inner.finish();
                Some(wanted)
            }
            None => None,
        };
        let export_to = ExportTo::read(&mut fields, namespace, Exporter::ServiceEntry);
        fields.ignore(&["subjectAltNames"]);
        fields.finish();
        Some(ServiceEntry {
            hosts,
            addresses,
            ports,
            location: location.unwrap_or(Location::External),
            resolution,
            endpoints,
            workload_selector,
            export_to,
        })
    }
}

fn check_endpoint(
    endpoint: &WorkloadEntry,
    resolution: Resolution,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let is_ip = endpoint.address.text.parse::<std::net::IpAddr>().is_ok();
    let message = match resolution {
        Resolution::None => "a ServiceEntry of resolution NONE has no endpoints",
        Resolution::Static if !is_ip => "an endpoint of resolution STATIC is an IP address",
        _ => return,
    };
    diagnostics.push(Diagnostic::error(message).at(
        &endpoint.address.span,
        format!("found `{}`", endpoint.address.text),
    ));
}

impl EntryPort {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<EntryPort> {
        let mut fields = Fields::of(node, "a port", diagnostics)?;
        fields.required("number");
        let number = port(&mut fields, "number");
        let name = required_named(&mut fields, "name");
        let protocol = fields.text("protocol").unwrap_or_default().into();
        let target = port(&mut fields, "targetPort");
        fields.finish();
        Some(EntryPort {
            number: number?,
            name: name?.text,
            protocol,
            target: target.or(number)?,
        })
    }
}

impl WorkloadEntry {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<WorkloadEntry> {
        let mut fields = Fields::of(node, "an endpoint", diagnostics)?;
        let address = required_named(&mut fields, "address");
        let mut ports = Vec::new();
        if let Some(node) = fields.optional("ports") {
            let mut inner = Fields::of(node, "the ports of an endpoint", fields.diagnostics)?;
            for entry in inner.rest() {
                match entry.value.value {
                    source::Value::Int(n) if (1..=65535).contains(&n) => {
                        ports.push((entry.key.as_str().into(), n as u16));
                    }
                    _ => inner.diagnostics.push(source::fields::expected(
                        &entry.value,
                        "a port is a number from 1 to 65535",
                    )),
                }
            }
        }
        let labels = labels(&mut fields, "labels");
        let locality = fields.text("locality").unwrap_or_default().into();
        let weight = super::count(&mut fields, "weight").unwrap_or(0).max(1);
        fields.ignore(&["serviceAccount"]);
        fields.unsupported(&["network"]);
        fields.finish();
        Some(WorkloadEntry {
            address: address?,
            ports,
            labels,
            locality,
            weight,
        })
    }
}

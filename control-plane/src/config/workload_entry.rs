//! WorkloadEntry, also as an endpoint of a ServiceEntry, and WorkloadGroup.

use super::selection::{label, valid_labels};
use super::syntax::{demand, demand_of, dns_label, header_name, host_name, unix_socket};
use super::{Labels, Named, choice, count, named, port, refuse, schema_warning};
use crate::model::stated_locality;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Value};
use std::net::IpAddr;

/// Istio `WorkloadEntry`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkloadEntry {
    pub(crate) address: Named,
    pub(crate) ports: Vec<(Name, u16)>,
    pub(crate) labels: Labels,
    pub(crate) locality: Name,
    pub(crate) weight: u32,
    /// It has a proxy that takes Istio's mutual TLS.
    pub(crate) mutual_tls: bool,
}

/// What an address may be, and the ports that may be named.
pub(super) enum Addresses<'a> {
    /// Of a WorkloadEntry that stands by itself.
    Any,
    /// Of a WorkloadGroup: a template may leave it out.
    OfTemplate,
    /// Of an endpoint in a ServiceEntry with these ports: an IP address or a socket.
    OfEndpoint(&'a [&'a Name]),
    /// Of an endpoint whose name is resolved.
    OfDnsEndpoint(&'a [&'a Name]),
}

impl WorkloadEntry {
    /// A WorkloadEntry by itself.
    pub(crate) fn read_object(
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<WorkloadEntry> {
        WorkloadEntry::read(node, &Addresses::Any, diagnostics)
    }

    pub(super) fn read(
        node: &Node,
        allowed: &Addresses<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<WorkloadEntry> {
        let mut fields = Fields::of(node, "a workload's address and labels", diagnostics)?;
        let address = named(&mut fields, "address").filter(|address| !address.text.is_empty());
        let usable = check_address(&mut fields, address.as_ref(), allowed);
        let ports = read_ports(&mut fields, allowed);
        let labels = valid_labels(&mut fields, "labels");
        let locality = fields.text("locality").filter(|text| !text.is_empty());
        let weight = count(&mut fields, "weight").unwrap_or(0).max(1);
        let account = fields.text("serviceAccount");
        let mutual_tls = match label(&labels, "security.istio.io/tlsMode") {
            Some(mode) => &**mode == "istio",
            None => account.is_some_and(|account| !account.is_empty()),
        };
        fields.unsupported(&["network"]);
        fields.finish();
        let stated = || stated_locality(&labels).unwrap_or_default();
        Some(WorkloadEntry {
            address: address.filter(|_| usable)?,
            ports,
            locality: locality.map_or_else(stated, Name::from),
            labels,
            weight,
            mutual_tls,
        })
    }
}

/// Whether anything can be sent there.
fn check_address(
    fields: &mut Fields<'_, '_>,
    address: Option<&Named>,
    allowed: &Addresses<'_>,
) -> bool {
    let span = fields.span();
    let Some(address) = address else {
        match (fields.optional("network"), allowed) {
            (_, Addresses::OfTemplate) => {}
            (Some(_), _) => fields.diagnostics.push(
                schema_warning("a workload without `address`, in another network")
                    .at(span, "reached by that network's gateway"),
            ),
            (None, _) => refuse(
                fields.diagnostics,
                span,
                "a workload needs an `address`",
                "`address` is missing",
            ),
        }
        return false;
    };
    let Some(path) = address.text.strip_prefix("unix://") else {
        let is_ip = address.text.parse::<IpAddr>().is_ok();
        let (what, verdict) = match allowed {
            _ if is_ip => return true,
            Addresses::OfEndpoint(_) => {
                let why = "without DNS, an address is an IP address";
                ("an address of resolution STATIC", Err(why.to_owned()))
            }
            _ => ("an address", host_name(&address.text)),
        };
        demand_of(fields.diagnostics, address, what, verdict);
        return true;
    };
    let verdict = match allowed {
        Addresses::OfDnsEndpoint(_) => Err("only of resolution STATIC".to_owned()),
        _ => unix_socket(path),
    };
    demand_of(fields.diagnostics, address, "a Unix domain socket", verdict);
    if let Some(ports) = fields.optional("ports") {
        let message = "a Unix domain socket has no ports";
        refuse(fields.diagnostics, &ports.span, message, "beside `unix://`");
    }
    if let Addresses::OfEndpoint(names) = allowed
        && names.len() != 1
    {
        let message = "a Unix domain socket serves a ServiceEntry with exactly one port";
        let label = format!("{} ports", names.len());
        refuse(fields.diagnostics, &address.span, message, label);
    }
    fields.diagnostics.push(
        Diagnostic::warning("Unix domain sockets are not supported yet")
            .at(&address.span, "left out here"),
    );
    false
}

fn read_ports(fields: &mut Fields<'_, '_>, allowed: &Addresses<'_>) -> Vec<(Name, u16)> {
    let mut ports = Vec::new();
    let Some(node) = fields.optional("ports") else {
        return ports;
    };
    let Some(mut inner) = Fields::of(node, "the ports of an endpoint", fields.diagnostics) else {
        return ports;
    };
    for entry in inner.rest() {
        let name = entry.key.as_str();
        demand(
            inner.diagnostics,
            (name, &entry.key_span),
            "the name of a port",
            dns_label(name),
        );
        if let Addresses::OfEndpoint(known) | Addresses::OfDnsEndpoint(known) = allowed
            && !known.iter().any(|port| &***port == name)
        {
            let known: Vec<&str> = known.iter().map(|port| &***port).collect();
            inner.diagnostics.push(
                Diagnostic::error(format!("the ServiceEntry has no port `{name}`"))
                    .at(&entry.key_span, "not among `ports`")
                    .nearest(name, known),
            );
        }
        match entry.value.value {
            Value::Int(n) if (1..=65535).contains(&n) => ports.push((name.into(), n as u16)),
            _ => inner.diagnostics.push(source::fields::expected(
                &entry.value,
                "a port is a number from 1 to 65535",
            )),
        }
    }
    ports
}

/// Checks a WorkloadGroup, from which WorkloadEntries are made as machines register: none do here.
pub(crate) fn check_workload_group(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a WorkloadGroup", diagnostics) else {
        return;
    };
    if let Some(node) = fields.required("template") {
        WorkloadEntry::read(node, &Addresses::OfTemplate, fields.diagnostics);
    }
    if let Some(node) = fields.optional("metadata")
        && let Some(mut inner) = Fields::of(node, "metadata", fields.diagnostics)
    {
        valid_labels(&mut inner, "labels");
        inner.ignore(&["annotations"]);
        inner.finish();
    }
    if let Some(node) = fields.optional("probe") {
        check_probe(node, fields.diagnostics);
    }
    fields.finish();
}

const PROBES: [&str; 4] = ["httpGet", "tcpSocket", "exec", "grpc"];

fn check_probe(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a probe", diagnostics) else {
        return;
    };
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        count(&mut fields, key);
    }
    let methods: Vec<(&str, &Node)> = PROBES
        .into_iter()
        .filter_map(|key| Some((key, fields.optional(key)?)))
        .collect();
    match methods[..] {
        [(method, node)] => check_method(method, node, fields.diagnostics),
        _ => {
            let message = format!("a probe has one of {}", PROBES.join(", "));
            let label = format!("has {}", methods.len());
            refuse(fields.diagnostics, &node.span, message, label);
        }
    }
    fields.finish();
}

fn check_method(method: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "the method of a probe", diagnostics) else {
        return;
    };
    match method {
        "exec" => {
            if fields.list("command").is_empty() {
                let message = "a probe by `exec` needs a `command`";
                refuse(fields.diagnostics, &node.span, message, "runs nothing");
            }
            fields.finish();
            return;
        }
        "grpc" => fields.ignore(&["service"]),
        _ => {
            fields.required("port");
            fields.ignore(&["host"]);
        }
    }
    port(&mut fields, "port");
    if method == "httpGet" {
        fields.ignore(&["path"]);
        choice(
            &mut fields,
            "scheme",
            &[("", ()), ("HTTP", ()), ("HTTPS", ())],
        );
        for header in fields.list("httpHeaders") {
            let Some(mut inner) = Fields::of(header, "a header", fields.diagnostics) else {
                continue;
            };
            if let Some(name) = named(&mut inner, "name") {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
                let verdict =
                    header_name(&name.text).and_then(|()| match name.text.chars().all(plain) {
                        true => Ok(()),
                        false => Err("letters, digits and `-`".to_owned()),
                    });
                demand_of(inner.diagnostics, &name, "a header of a probe", verdict);
            }
            inner.ignore(&["value"]);
            inner.finish();
        }
    }
    fields.finish();
}

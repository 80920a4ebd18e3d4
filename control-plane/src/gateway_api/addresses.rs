//! Where a Gateway is reached: the Services that its pods are behind.

use super::known::{Known, Problem};
use super::status::{Conditions, StatusAddress};
use crate::model::Pod;
use crate::registry::Service;
use proxy_core::xds::Name;
use source::Node;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What was found out about the Services of a Gateway.
#[derive(Default)]
pub(crate) struct Addresses {
    /// `HOST:PORT` of those that have endpoints.
    internal: BTreeSet<String>,
    hosts: BTreeSet<Name>,
    /// Of load balancers.
    external: BTreeSet<String>,
    pending: BTreeSet<Name>,
    warnings: BTreeSet<String>,
    unusable: bool,
}

impl Addresses {
    /// Of Services by their hosts, at the ports that listeners have.
    pub(crate) fn find(
        known: &Known<'_>,
        pods: &[Pod],
        namespace: &str,
        services: &[Name],
        ports: &BTreeSet<u16>,
    ) -> Addresses {
        let mut found = Addresses::default();
        for host in services {
            match known.service(host, namespace) {
                Some(service) => found.add(known, pods, service, ports),
                None => {
                    let elsewhere: BTreeSet<String> = known
                        .registry
                        .with_host(host)
                        .map(|service| format!("\"{}\"", service.namespace))
                        .collect();
                    let elsewhere: Vec<String> = elsewhere.into_iter().collect();
                    found.unusable = true;
                    found.warnings.insert(match elsewhere.is_empty() {
                        true => format!("hostname \"{host}\" not found"),
                        false => format!(
                            "hostname \"{host}\" not found in namespace \"{namespace}\", but it \
                             was found in namespace(s) {}",
                            elsewhere.join(", ")
                        ),
                    });
                }
            }
        }
        found
    }

    fn add(&mut self, known: &Known<'_>, pods: &[Pod], service: &Service, ports: &BTreeSet<u16>) {
        let host = &service.host;
        let object = known.find("Service", &service.namespace, &service.name);
        let at = |path: &[&str]| object.and_then(|object| object.document.at(path));
        let ingress = at(&["status", "loadBalancer", "ingress"]).and_then(Node::as_seq);
        let external: Vec<&str> = ingress
            .unwrap_or_default()
            .iter()
            .filter_map(|one| {
                one.at(&["ip"])
                    .or_else(|| one.at(&["hostname"]))?
                    .as_scalar()
            })
            .collect();
        let balanced = at(&["spec", "type"]).and_then(Node::as_scalar) == Some("LoadBalancer");
        let selects = |pod: &&Pod| service.selects(&pod.namespace, &pod.labels);
        let listed = !service.listed.is_empty() || !service.endpoint_objects.is_empty();
        let endpoints = listed || pods.iter().any(|pod| selects(&pod));
        for port in ports {
            match service.port(*port) {
                Some(_) if endpoints => {
                    self.internal.insert(format!("{host}:{port}"));
                    self.hosts.insert(host.clone());
                    self.external
                        .extend(external.iter().map(|&ip| ip.to_owned()));
                    if external.is_empty() && balanced {
                        self.pending.insert(host.clone());
                        self.warnings
                            .insert(format!("address pending for hostname \"{host}\""));
                    }
                }
                _ if !endpoints => {
                    let warning = format!("no instances found for hostname \"{host}\"");
                    self.warnings.insert(warning);
                }
                _ => {
                    self.unusable = true;
                    let warning = format!("port {port} not found for hostname \"{host}\"");
                    self.warnings.insert(warning);
                }
            }
        }
    }

    /// The `Programmed` condition.
    pub(crate) fn programmed(&self, conditions: &mut Conditions, services: &[Name]) {
        let internal = joined(&self.internal);
        let warnings: Vec<&str> = self.warnings.iter().map(String::as_str).collect();
        let warnings = warnings.join("; ");
        if services.is_empty() {
            let message = "Failed to assign to any requested addresses";
            conditions.fail("Programmed", Problem::new("UnsupportedAddress", message));
        } else if !warnings.is_empty() {
            let message = match self.internal.is_empty() {
                false => format!(
                    "Assigned to service(s) {internal}, but failed to assign to all requested \
                     addresses: {warnings}"
                ),
                true => format!("Failed to assign to any requested addresses: {warnings}"),
            };
            let reason = match self.unusable {
                true => "AddressNotUsable",
                false => "AddressNotAssigned",
            };
            conditions.fail("Programmed", Problem::new(reason, message));
        } else {
            let message = match self.internal.is_empty() {
                true => "Resource programmed".to_owned(),
                false => format!("Resource programmed, assigned to service(s) {internal}"),
            };
            conditions.set("Programmed", true, "Programmed", message);
        }
    }

    /// Those that clients use: of load balancers, else the hosts of the Services.
    pub(crate) fn shown(&self) -> Vec<StatusAddress> {
        let hosts = self
            .hosts
            .iter()
            .filter(|host| !self.pending.contains(*host));
        let values: Vec<Name> = match self.external.is_empty() {
            false => self
                .external
                .iter()
                .map(|text| text.as_str().into())
                .collect(),
            true => hosts.cloned().collect(),
        };
        let kind = |value: &str| match value.parse::<IpAddr>() {
            Ok(_) => "IPAddress",
            Err(_) => "Hostname",
        };
        values
            .into_iter()
            .map(|value| StatusAddress {
                kind: kind(&value),
                value,
            })
            .collect()
    }
}

/// `a`, `a and b`, `a, b, and c`.
fn joined(items: &BTreeSet<String>) -> String {
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    match &items[..] {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
    }
}

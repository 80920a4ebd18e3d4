//! The TLS and TCP rules of a VirtualService.

use super::http_match::Static;
use super::http_route::check_weights;
use super::syntax::{demand_of, gateway_bound_host, wildcard_host};
use super::{Destination, Named, count, named_list, schema_warning};
use crate::names::is_within;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span};
use std::net::IpAddr;

/// Istio `TLSRoute` or `TCPRoute`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct L4Route {
    pub(crate) span: Span,
    pub(crate) matches: Vec<L4Match>,
    pub(crate) route: Vec<(Destination, u32)>,
}

/// Istio `TLSMatchAttributes` or `L4MatchAttributes`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct L4Match {
    /// Of TLS only.
    pub(crate) sni_hosts: Vec<Name>,
    pub(crate) destination_subnets: Vec<(IpAddr, u8)>,
    pub(crate) statics: Static,
}

/// Reads the rules of a VirtualService.
pub(super) struct L4Routes<'a> {
    pub(super) hosts: &'a [Named],
    /// `mesh` is among its gateways by name.
    pub(super) mesh: bool,
}

impl L4Routes<'_> {
    /// Those in `tls` or `tcp`.
    pub(super) fn read(&self, fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<L4Route> {
        fields
            .list(key)
            .iter()
            .filter_map(|node| self.route(node, key == "tls", fields.diagnostics))
            .collect()
    }

    fn route(&self, node: &Node, tls: bool, diagnostics: &mut Vec<Diagnostic>) -> Option<L4Route> {
        let what = if tls { "a TLS route" } else { "a TCP route" };
        let mut fields = Fields::of(node, what, diagnostics)?;
        let matches = fields.list("match");
        if tls && matches.is_empty() {
            let message = "a TLS route needs a `match` with `sniHosts`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, "matches nothing"));
        }
        let matches = matches
            .iter()
            .filter_map(|node| self.read_match(node, tls, fields.diagnostics))
            .collect();
        let nodes = fields.list("route");
        if nodes.is_empty() {
            let message = format!("{what} needs a `route`");
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, "goes nowhere"));
        }
        let route: Vec<(Destination, u32)> = nodes
            .iter()
            .filter_map(|node| read_destination(node, fields.diagnostics))
            .collect();
        check_weights(&mut fields, route.iter().map(|(_, weight)| *weight));
        fields.finish();
        Some(L4Route {
            span: node.span.clone(),
            matches,
            route,
        })
    }

    fn read_match(
        &self,
        node: &Node,
        tls: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<L4Match> {
        let what = if tls { "a TLS match" } else { "a TCP match" };
        let mut fields = Fields::of(node, what, diagnostics)?;
        let mut sni_hosts = Vec::new();
        if tls {
            sni_hosts = named_list(&mut fields, "sniHosts");
            if sni_hosts.is_empty() {
                let message = "a TLS match needs `sniHosts`";
                fields
                    .diagnostics
                    .push(Diagnostic::error(message).at(&node.span, "no SNI host"));
            }
            for sni in &sni_hosts {
                self.check_sni(sni, fields.diagnostics);
            }
        }
        let destination_subnets = named_list(&mut fields, "destinationSubnets")
            .iter()
            .filter_map(|subnet| read_subnet(subnet, fields.diagnostics))
            .collect();
        let statics = Static::read(&mut fields);
        fields.ignore(&["sourceSubnet"]);
        fields.finish();
        Some(L4Match {
            sni_hosts: sni_hosts.into_iter().map(|sni| sni.text).collect(),
            destination_subnets,
            statics,
        })
    }

    fn check_sni(&self, sni: &Named, diagnostics: &mut Vec<Diagnostic>) {
        let verdict = match self.mesh {
            true => wildcard_host(&sni.text),
            false => gateway_bound_host(true, &sni.text),
        };
        match verdict {
            Err(_) if sni.text.parse::<IpAddr>().is_ok() => {
                let message = format!("SNI `{}` is an address", sni.text);
                let label = "few clients send such a name";
                diagnostics.push(schema_warning(message).at(&sni.span, label));
            }
            Err(why) => demand_of(diagnostics, sni, "a host", Err(why)),
            Ok(())
                if self
                    .hosts
                    .iter()
                    .any(|host| is_within(&sni.text, &host.text)) => {}
            Ok(()) => {
                let hosts: Vec<&str> = self.hosts.iter().map(|host| &*host.text).collect();
                let message = format!(
                    "SNI `{}` is not of the hosts of the VirtualService",
                    sni.text
                );
                let label = format!("within none of {}", hosts.join(", "));
                diagnostics.push(Diagnostic::error(message).at(&sni.span, label));
            }
        }
    }
}

fn read_destination(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(Destination, u32)> {
    let mut fields = Fields::of(node, "a route", diagnostics)?;
    let to = fields.required("destination");
    let to = to.and_then(|node| Destination::read(node, fields.diagnostics));
    let weight = count(&mut fields, "weight").unwrap_or(0);
    fields.finish();
    Some((to?, weight))
}

/// An address or a network.
pub(super) fn read_subnet(
    subnet: &Named,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(IpAddr, u8)> {
    let parsed = parse_cidr(&subnet.text);
    if parsed.is_none() {
        let message = format!("`{}` is not a network", subnet.text);
        let label = "an address, with or without a prefix length";
        diagnostics.push(Diagnostic::error(message).at(&subnet.span, label));
    }
    parsed
}

/// `ADDRESS` or `ADDRESS/LENGTH`.
pub(crate) fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length.parse().ok().filter(|n| *n <= whole)?,
        None => whole,
    };
    Some((address, length))
}

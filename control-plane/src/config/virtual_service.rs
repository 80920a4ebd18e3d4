//! VirtualService.

use super::http_match::check_gateways;
use super::l4_route::{L4Route, L4Routes};
use super::selection::label;
use super::syntax::{demand_of, gateway_bound_host, is_claim, wildcard_host};
use super::unreachable::warn_of_unreachable;
use super::{Destination, ExportTo, Exporter, HttpAction, HttpRoute, Named, named_list};
use crate::names::overlap;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};
use std::net::IpAddr;

/// Istio `VirtualService`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VirtualService {
    pub(crate) hosts: Vec<Named>,
    /// Empty: `mesh`.
    pub(crate) gateways: Vec<Named>,
    pub(crate) http: Vec<HttpRoute>,
    pub(crate) tls: Vec<L4Route>,
    pub(crate) tcp: Vec<L4Route>,
    pub(crate) export_to: ExportTo,
    pub(crate) semantics: Semantics,
}

/// By whose rules a VirtualService is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Semantics {
    Istio,
    /// Made from an Ingress.
    Ingress,
    /// Made from a route of the Gateway API.
    GatewayApi,
    /// Made from a TLSRoute.
    TlsRoute,
}

impl Semantics {
    /// As Istio marks what it makes.
    pub(crate) fn of(annotations: &[(Name, Name)]) -> Semantics {
        let value = |key| label(annotations, key).map(|value| &**value);
        let parents = value("internal.istio.io/parents").unwrap_or_default();
        match value("internal.istio.io/route-semantics") {
            Some("gateway") if parents.starts_with("TLSRoute/") => Semantics::TlsRoute,
            Some("gateway") => Semantics::GatewayApi,
            _ => Semantics::Istio,
        }
    }
}

impl VirtualService {
    pub(crate) fn read(
        node: &Node,
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<VirtualService> {
        let mut fields = Fields::of(node, "a VirtualService", diagnostics)?;
        let hosts = named_list(&mut fields, "hosts");
        let gateways = named_list(&mut fields, "gateways");
        check_gateways(&gateways, fields.diagnostics);
        let export_to = ExportTo::read(&mut fields, namespace, Exporter::Rule);
        let http_nodes = fields.list("http");
        let http: Vec<HttpRoute> = http_nodes
            .iter()
            .filter_map(|node| HttpRoute::read(node, fields.diagnostics))
            .collect();
        let l4 = L4Routes {
            hosts: &hosts,
            mesh: gateways.iter().any(|name| &*name.text == "mesh"),
        };
        let tls = l4.read(&mut fields, "tls");
        let tcp = l4.read(&mut fields, "tcp");
        if http_nodes.is_empty() && tls.is_empty() && tcp.is_empty() {
            let message = "a VirtualService needs `http`, `tls` or `tcp` rules";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(fields.span(), "does nothing"));
        }
        match hosts.is_empty() {
            true => check_delegate(&mut fields, &http),
            false => check_hosts(&mut fields, &hosts, &gateways),
        }
        if gateways.is_empty() || gateways.iter().any(|name| &*name.text == "mesh") {
            check_claims(http_nodes, fields.diagnostics);
        }
        for key in ["http", "tcp", "tls"] {
            warn_of_unreachable(fields.list(key), key == "http", fields.diagnostics);
        }
        fields.finish();
        Some(VirtualService {
            hosts,
            gateways,
            http,
            tls,
            tcp,
            export_to,
            semantics: Semantics::Istio,
        })
    }

    /// Whether it acts for sidecars.
    pub(crate) fn in_mesh(&self) -> bool {
        self.gateways.is_empty() || self.gateways.iter().any(|name| &*name.text == "mesh")
    }

    /// Every destination of every rule.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let l4 = self.tls.iter().chain(&self.tcp);
        self.http
            .iter()
            .flat_map(HttpRoute::destinations)
            .chain(l4.flat_map(|rule| rule.route.iter().map(|(to, _)| to)))
    }
}

/// A VirtualService without hosts: its rules stand in those of another.
fn check_delegate(fields: &mut Fields<'_, '_>, http: &[HttpRoute]) {
    for key in ["gateways", "tls", "tcp"] {
        if let Some(first) = fields.list(key).first() {
            let message = format!("a VirtualService without hosts, to delegate to, has no `{key}`");
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&first.span, "beside no `hosts`"));
        }
    }
    for rule in http {
        if let HttpAction::Delegate { name, .. } = &rule.action {
            let message = "a VirtualService without hosts does not delegate further";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&name.span, "delegates"));
        }
    }
}

/// As Istio does, the hosts are held against each other only if each is valid.
fn check_hosts(fields: &mut Fields<'_, '_>, hosts: &[Named], gateways: &[Named]) {
    let in_mesh = gateways.is_empty() || gateways.iter().any(|name| &*name.text == "mesh");
    let tls = fields.list("tls");
    let matches = tls.iter().flat_map(|rule| {
        rule.at(&["match"])
            .and_then(Node::as_seq)
            .unwrap_or_default()
    });
    let sni = matches.into_iter().any(|one| {
        let hosts = one.at(&["sniHosts"]).and_then(Node::as_seq);
        hosts.is_some_and(|hosts| !hosts.is_empty())
    });
    let before = fields.diagnostics.len();
    for host in hosts {
        let verdict = match in_mesh {
            true => wildcard_host(&host.text),
            false => gateway_bound_host(sni, &host.text),
        };
        if host.text.parse::<IpAddr>().is_err() {
            demand_of(fields.diagnostics, host, "a host", verdict);
        }
        if &*host.text == "*" && in_mesh {
            fields.diagnostics.push(
                Diagnostic::error("host `*` is for gateways, not for the mesh")
                    .at(&host.span, "every host")
                    .help("name the hosts, or list `gateways` without `mesh`"),
            );
        }
    }
    if fields.diagnostics.len() > before {
        return;
    }
    for (at, host) in hosts.iter().enumerate() {
        let mut earlier = hosts[..at].iter();
        if let Some(other) = earlier.find(|earlier| overlap(&earlier.text, &host.text)) {
            let message = match other.text == host.text {
                true => format!("host `{}` is there twice", host.text),
                false => format!("hosts `{}` and `{}` overlap", other.text, host.text),
            };
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&host.span, "the second one"));
        }
    }
}

/// Claims of tokens are known at gateways only.
fn check_claims(http: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let matches = http.iter().flat_map(|rule| {
        rule.at(&["match"])
            .and_then(Node::as_seq)
            .unwrap_or_default()
    });
    for one in matches {
        let maps = ["headers", "withoutHeaders"].into_iter();
        for map in maps.filter_map(|key| one.at(&[key]).and_then(Node::as_map)) {
            for entry in map.entries.iter().filter(|entry| is_claim(&entry.key)) {
                let message = "requests are routed by the claims of their tokens at gateways only";
                diagnostics.push(
                    Diagnostic::error(message)
                        .at(&entry.key_span, "a VirtualService of the mesh")
                        .help("list `gateways` without `mesh`"),
                );
            }
        }
    }
}

//! VirtualService.

use super::{Destination, ExportTo, HttpRoute, Named, Static, count, labels, named_list, port};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span};
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
    /// Made from a route of the Gateway API.
    GatewayApi,
    /// Made from a TLSRoute.
    TlsRoute,
}

impl Semantics {
    /// As Istio marks what it makes.
    pub(crate) fn of(annotations: &[(Name, Name)]) -> Semantics {
        let value = |key: &str| {
            let found = annotations.iter().find(|(known, _)| **known == *key);
            found.map(|(_, value)| &**value)
        };
        let parents = value("internal.istio.io/parents").unwrap_or_default();
        match value("internal.istio.io/route-semantics") {
            Some("gateway") if parents.starts_with("TLSRoute/") => Semantics::TlsRoute,
            Some("gateway") => Semantics::GatewayApi,
            _ => Semantics::Istio,
        }
    }
}

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

impl VirtualService {
    pub(crate) fn read(
        node: &Node,
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<VirtualService> {
        let mut fields = Fields::of(node, "a VirtualService", diagnostics)?;
        let hosts = named_list(&mut fields, "hosts");
        let gateways = named_list(&mut fields, "gateways");
        let export_to = ExportTo::read(&mut fields, namespace);
        let http_nodes = fields.list("http");
        let http: Vec<HttpRoute> = http_nodes
            .iter()
            .filter_map(|node| HttpRoute::read(node, fields.diagnostics))
            .collect();
        let tls = l4_routes(&mut fields, "tls", "a TLS route");
        let tcp = l4_routes(&mut fields, "tcp", "a TCP route");
        if http_nodes.is_empty() && tls.is_empty() && tcp.is_empty() {
            let message = "a VirtualService needs `http`, `tls` or `tcp` rules";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(fields.span(), "does nothing"));
        }
        check_hosts(&mut fields, &hosts, &gateways);
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

fn check_hosts(fields: &mut Fields<'_, '_>, hosts: &[Named], gateways: &[Named]) {
    let in_mesh = gateways.is_empty() || gateways.iter().any(|name| &*name.text == "mesh");
    for (at, host) in hosts.iter().enumerate() {
        if &*host.text == "*" && in_mesh {
            fields.diagnostics.push(
                Diagnostic::error("host `*` is for gateways, not for the mesh")
                    .at(&host.span, "every host")
                    .help("name the hosts, or list `gateways` without `mesh`"),
            );
        }
        if hosts[..at].iter().any(|earlier| earlier.text == host.text) {
            let message = format!("host `{}` is there twice", host.text);
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&host.span, "the second one"));
        }
    }
}

fn l4_routes(fields: &mut Fields<'_, '_>, key: &'static str, what: &'static str) -> Vec<L4Route> {
    fields
        .list(key)
        .iter()
        .filter_map(|node| l4_route(node, what, fields.diagnostics))
        .collect()
}

fn l4_route(node: &Node, what: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<L4Route> {
    let tls = what == "a TLS route";
    let mut fields = Fields::of(node, what, diagnostics)?;
    if tls {
        fields.required("match");
    }
    let matches = fields
        .list("match")
        .iter()
        .filter_map(|node| l4_match(node, tls, fields.diagnostics))
        .collect();
    fields.required("route");
    let route = fields
        .list("route")
        .iter()
        .filter_map(|node| {
            let mut inner = Fields::of(node, "a route", fields.diagnostics)?;
            let to = inner.required("destination");
            let to = to.and_then(|node| Destination::read(node, inner.diagnostics));
            let weight = count(&mut inner, "weight").unwrap_or(0);
            inner.finish();
            Some((to?, weight))
        })
        .collect();
    fields.finish();
    Some(L4Route {
        span: node.span.clone(),
        matches,
        route,
    })
}

fn l4_match(node: &Node, tls: bool, diagnostics: &mut Vec<Diagnostic>) -> Option<L4Match> {
    let mut fields = Fields::of(
        node,
        if tls { "a TLS match" } else { "a TCP match" },
        diagnostics,
    )?;
    let mut sni_hosts = Vec::new();
    if tls {
        fields.required("sniHosts");
        sni_hosts = fields
            .texts("sniHosts")
            .into_iter()
            .map(Name::from)
            .collect();
    }
    let destination_subnets = named_list(&mut fields, "destinationSubnets")
        .into_iter()
        .filter_map(|subnet| {
            let parsed = parse_cidr(&subnet.text);
            if parsed.is_none() {
                let message = "a subnet is an address with an optional prefix length";
                let label = format!("found `{}`", subnet.text);
                fields
                    .diagnostics
                    .push(Diagnostic::error(message).at(&subnet.span, label));
            }
            parsed
        })
        .collect();
    let statics = Static {
        port: port(&mut fields, "port"),
        gateways: named_list(&mut fields, "gateways"),
        source_labels: labels(&mut fields, "sourceLabels"),
        source_namespace: fields.text("sourceNamespace").map(Name::from),
    };
    fields.ignore(&["sourceSubnet"]);
    fields.finish();
    Some(L4Match {
        sni_hosts,
        destination_subnets,
        statics,
    })
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

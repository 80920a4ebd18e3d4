//! Sidecar.

use super::mesh::read_outbound_policy;
use super::selection::selector;
use super::server_tls::{ServerTlsMode, read_server_tls};
use super::syntax::{
    HostsOf, demand, demand_of, dns_label, host_in_namespace, is_http_protocol, is_tls_protocol,
    unix_socket,
};
use super::{
    ConnectionPool, Labels, Named, OutboundTrafficMode, choice, named_list, port, protocol, refuse,
    schema_warning, written,
};
use crate::protocol::Protocol;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// Istio `Sidecar`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sidecar {
    /// `None`: the whole namespace.
    pub(crate) selector: Option<Labels>,
    /// Empty: as if there were one listener for `*/*`.
    pub(crate) egress: Vec<EgressListener>,
    /// Empty: as the Services of the pod say.
    pub(crate) ingress: Vec<IngressListener>,
    /// `None`: that of the mesh.
    pub(crate) outbound_traffic_policy: Option<OutboundTrafficMode>,
    pub(crate) inbound_connection_pool: Option<ConnectionPool>,
}

/// Istio `IstioEgressListener`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EgressListener {
    /// `None`: every port that no other listener has.
    pub(crate) port: Option<SidecarPort>,
    /// `None`: the addresses of the services.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) hosts: Vec<EgressHost>,
}

/// One of the `hosts` of an egress listener, `NAMESPACE/HOST`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EgressHost {
    /// `~NAMESPACE/HOST`: not these.
    pub(crate) excluded: bool,
    /// `*`: any; `.`: that of the proxy.
    pub(crate) namespace: Name,
    pub(crate) host: Name,
}

/// Istio `SidecarPort`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SidecarPort {
    pub(crate) number: u16,
    pub(crate) name: Name,
    pub(crate) protocol: Protocol,
}

/// Istio `IstioIngressListener`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IngressListener {
    pub(crate) port: SidecarPort,
    /// `None`: every address.
    pub(crate) bind: Option<IpAddr>,
    /// `None`: where the connection was going.
    pub(crate) default_endpoint: Option<SocketAddr>,
    pub(crate) connection_pool: Option<ConnectionPool>,
}

impl Sidecar {
    pub(crate) fn read(
        node: &Node,
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Sidecar> {
        let mut fields = Fields::of(node, "a Sidecar", diagnostics)?;
        let selector = selector(&mut fields, "workloadSelector", "labels");
        let egress_nodes = fields.list("egress");
        let ingress_nodes = fields.list("ingress");
        let egress = egress_nodes
            .iter()
            .filter_map(|node| EgressListener::read(node, namespace, fields.diagnostics))
            .collect();
        let ingress = ingress_nodes
            .iter()
            .filter_map(|node| IngressListener::read(node, fields.diagnostics))
            .collect();
        check_unique(egress_nodes, fields.diagnostics);
        check_unique(ingress_nodes, fields.diagnostics);
        check_catch_all(egress_nodes, fields.diagnostics);
        let policy = fields.optional("outboundTrafficPolicy");
        let outbound_traffic_policy =
            policy.and_then(|node| read_outbound_policy(node, fields.diagnostics));
        let inbound_connection_pool = pool(&mut fields, "inboundConnectionPool");
        let listens = !egress_nodes.is_empty() || !ingress_nodes.is_empty();
        let others = policy.is_some() || fields.optional("inboundConnectionPool").is_some();
        if !listens && !others {
            let message = "a Sidecar needs `egress`, `ingress`, `outboundTrafficPolicy` or \
                           `inboundConnectionPool`";
            refuse(fields.diagnostics, &node.span, message, "says nothing");
        }
        fields.finish();
        Some(Sidecar {
            selector,
            egress,
            ingress,
            outbound_traffic_policy,
            inbound_connection_pool,
        })
    }

    /// Whether connections to some port go to the pod's own address, whichever that is.
    pub(crate) fn names_the_pod(&self) -> bool {
        let mut endpoints = self.ingress.iter().filter_map(|one| one.default_endpoint);
        endpoints.any(|endpoint| endpoint.ip().is_unspecified())
    }

    /// The pool that holds for an inbound port: its listener's, else the one for all.
    pub(crate) fn pool_of(&self, port: u16) -> Option<&ConnectionPool> {
        let mut listeners = self.ingress.iter();
        let own = listeners.find(|listener| listener.port.number == port);
        own.and_then(|listener| listener.connection_pool.as_ref())
            .or(self.inbound_connection_pool.as_ref())
    }
}

/// No two listeners have the same port, or the same Unix domain socket.
fn check_unique(listeners: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let place = |listener: &Node| {
        let number = listener
            .at(&["port"])?
            .at(&["number"])
            .map(|node| written(node).to_owned());
        match number.filter(|number| number != "0") {
            Some(number) => Some(number),
            None => listener.at(&["bind"]).map(|node| written(node).to_owned()),
        }
    };
    for (at, listener) in listeners.iter().enumerate() {
        let own = place(listener);
        if own.is_some() && listeners[..at].iter().any(|earlier| place(earlier) == own) {
            let message = "two listeners of a Sidecar have the same port or socket";
            refuse(diagnostics, &listener.span, message, "the second one");
        }
    }
}

/// One egress listener without port, the last, is for everything else.
fn check_catch_all(egress: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let before_last = egress.iter().rev().skip(1);
    for listener in before_last.filter(|listener| listener.at(&["port"]).is_none()) {
        let message = "only the last egress listener may be without `port`";
        refuse(
            diagnostics,
            &listener.span,
            message,
            "for all ports, but others follow",
        );
    }
}

impl EgressListener {
    fn read(
        node: &Node,
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<EgressListener> {
        let mut fields = Fields::of(node, "an egress listener", diagnostics)?;
        let has_port = fields.optional("port").is_some();
        let bind = bind(&mut fields);
        let port = sidecar_port(&mut fields, bind == Bind::Unix);
        if let (Bind::Unix, true, Some(node)) = (bind, port.is_some(), fields.optional("bind")) {
            let message = "a Unix domain socket has no port number";
            refuse(fields.diagnostics, &node.span, message, "beside a port");
        }
        let hosts = named_list(&mut fields, "hosts");
        if hosts.is_empty() {
            let message = "an egress listener needs at least one host";
            refuse(fields.diagnostics, &node.span, message, "no `hosts`");
        }
        check_hosts(&hosts, namespace, fields.diagnostics);
        let hosts = hosts
            .iter()
            .filter_map(|host| egress_host(&host.text))
            .collect();
        // Where it listens by itself, applications reach it at that address all the same.
        capture_mode(&mut fields);
        let captured = fields
            .optional("captureMode")
            .filter(|mode| written(mode) == "IPTABLES");
        if let (Bind::Unix, Some(mode)) = (bind, captured) {
            let message = "connections to a Unix domain socket cannot be captured";
            refuse(fields.diagnostics, &mode.span, message, "DEFAULT or NONE");
        }
        fields.finish();
        Some(EgressListener {
            port: match has_port {
                true => Some(port?),
                false => None,
            },
            bind: bind.address(),
            hosts,
        })
    }
}

/// Checks the hosts of one listener, and warns of those that others cover.
fn check_hosts(hosts: &[Named], namespace: &Name, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for host in hosts {
        let verdict = host_in_namespace(&host.text, HostsOf::Sidecar);
        demand_of(diagnostics, host, "a host of an egress listener", verdict);
        let Some((of, name)) = host
            .text
            .split_once('/')
            .filter(|(of, _)| !of.starts_with('~'))
        else {
            continue;
        };
        let of = if of == "." { &**namespace } else { of };
        let mut earlier = seen.iter().filter(|(other, _)| *other == of);
        let covered = match name {
            "*" => earlier.next().is_some(),
            _ => earlier.any(|(_, other)| *other == name || *other == "*"),
        };
        if covered {
            let message = format!("host `{}` is imported already", host.text);
            diagnostics.push(schema_warning(message).at(&host.span, "by an earlier host"));
        }
        seen.push((of, name));
    }
    let other = seen.iter().any(|(of, _)| *of != "*");
    if let (true, true, Some(host)) = (seen.contains(&("*", "*")), other, hosts.first()) {
        let message = "`*/*` imports everything, so that other hosts add nothing";
        diagnostics.push(schema_warning(message).at(&host.span, "beside `*/*`"));
    }
}

fn egress_host(text: &str) -> Option<EgressHost> {
    let (namespace, host) = text.split_once('/')?;
    if host.contains('/') {
        return None;
    }
    let excluded = namespace.starts_with('~');
    Some(EgressHost {
        excluded,
        namespace: match namespace.trim_start_matches('~') {
            "" => "*".into(),
            name => name.into(),
        },
        host: host.to_ascii_lowercase().into(),
    })
}

impl IngressListener {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<IngressListener> {
        let mut fields = Fields::of(node, "an ingress listener", diagnostics)?;
        fields.required("port");
        let bind = bind(&mut fields);
        if let (Bind::Unix, Some(node)) = (bind, fields.optional("bind")) {
            let message = "an ingress listener binds to an IP address";
            refuse(fields.diagnostics, &node.span, message, "a socket");
        }
        let port = sidecar_port(&mut fields, false);
        if capture_mode(&mut fields) {
            let message = "an ingress listener that is not captured is not supported yet";
            fields
                .diagnostics
                .push(Diagnostic::warning(message).at(&node.span, "taken as captured"));
        }
        let default_endpoint = default_endpoint(&mut fields);
        let connection_pool = pool(&mut fields, "connectionPool");
        let written = fields
            .optional("port")
            .and_then(|node| node.at(&["protocol"]));
        let protocol = written.and_then(Node::as_scalar).unwrap_or_default();
        let requests = fields
            .optional("connectionPool")
            .and_then(|node| node.at(&["http"]));
        if let (Some(node), false) = (requests, is_http_protocol(protocol)) {
            let message = "HTTP settings have no effect at a port that is not of HTTP";
            let warning = schema_warning(message).at(&node.span, "only `tcp` has an effect");
            fields.diagnostics.push(warning);
        }
        if let Some(node) = fields.optional("tls") {
            check_tls(node, protocol, fields.diagnostics);
        }
        fields.unsupported(&["tls"]);
        fields.finish();
        Some(IngressListener {
            port: port?,
            bind: bind.address(),
            default_endpoint,
            connection_pool,
        })
    }
}

/// What TLS settings a Gateway has, but no ingress listener.
const GATEWAY_ONLY: [&str; 4] = [
    "subjectAltNames",
    "credentialName",
    "credentialNames",
    "tlsCertificates",
];

fn check_tls(node: &Node, protocol: &str, diagnostics: &mut Vec<Diagnostic>) {
    let Some(settings) = read_server_tls(node, diagnostics) else {
        return;
    };
    for key in GATEWAY_ONLY {
        let stated = node.at(&[key]).filter(|value| match value.as_seq() {
            Some(items) => !items.is_empty(),
            None => !written(value).is_empty(),
        });
        if let Some(value) = stated {
            let message = format!("an ingress listener has no `{key}`");
            refuse(diagnostics, &value.span, message, "is for Gateways");
        }
    }
    if settings.https_redirect {
        let message = "an ingress listener does not redirect to HTTPS";
        refuse(diagnostics, &node.span, message, "`httpsRedirect`");
    }
    if matches!(
        settings.mode,
        ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough
    ) {
        let message = "this TLS mode is not for ingress listeners";
        refuse(
            diagnostics,
            &node.span,
            message,
            "ISTIO_MUTUAL or AUTO_PASSTHROUGH",
        );
    }
    if !is_tls_protocol(protocol) {
        let message = "TLS settings go with protocol HTTPS or TLS";
        let label = format!("a port of protocol `{protocol}`");
        refuse(diagnostics, &node.span, message, label);
    }
}

fn pool(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<ConnectionPool> {
    let node = fields.optional(key)?;
    ConnectionPool::read(node, fields.diagnostics)
}

/// `unix`: of a Unix domain socket, which has no number and is not modelled.
fn sidecar_port(fields: &mut Fields<'_, '_>, unix: bool) -> Option<SidecarPort> {
    let node = fields.optional("port")?;
    let mut inner = Fields::of(node, "a port", fields.diagnostics)?;
    let unnumbered = unix
        && inner
            .optional("number")
            .is_none_or(|node| written(node) == "0");
    let mut number = None;
    if !unnumbered {
        inner.required("number");
        number = port(&mut inner, "number");
    }
    let name = inner.text("name").unwrap_or_default();
    if let (Some(node), false) = (inner.optional("name"), name.is_empty()) {
        let verdict = dns_label(&name);
        let place = (name.as_str(), &node.span);
        demand(inner.diagnostics, place, "the name of a port", verdict);
    }
    let text = protocol(&mut inner).unwrap_or_default();
    let protocol = Protocol::parse(&text).unwrap_or(Protocol::Auto);
    if text.eq_ignore_ascii_case("HTTP_PROXY") {
        inner.diagnostics.push(
            Diagnostic::warning("protocol HTTP_PROXY is not supported yet")
                .at(&node.span, "taken as a port that detects its protocol"),
        );
    }
    if let Some(target) = inner
        .optional("targetPort")
        .filter(|node| written(node) != "0")
    {
        let message = "`targetPort` has no effect in a Sidecar";
        refuse(inner.diagnostics, &target.span, message, "leave it out");
    }
    inner.finish();
    Some(SidecarPort {
        number: number?,
        name: name.into(),
        protocol,
    })
}

/// Where a listener listens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bind {
    Anywhere,
    At(IpAddr),
    /// Not modelled.
    Unix,
}

impl Bind {
    fn address(self) -> Option<IpAddr> {
        match self {
            Bind::At(ip) => Some(ip).filter(|ip| !ip.is_unspecified()),
            Bind::Anywhere | Bind::Unix => None,
        }
    }
}

fn bind(fields: &mut Fields<'_, '_>) -> Bind {
    let node = fields.optional("bind");
    let Some(node) = node.filter(|node| node.as_scalar() != Some("")) else {
        return Bind::Anywhere;
    };
    let text = node.as_scalar().unwrap_or_default();
    if text.starts_with("unix://") {
        check_socket(text, node, fields.diagnostics);
        return Bind::Unix;
    }
    match text.parse() {
        Ok(ip) => Bind::At(ip),
        Err(_) => {
            let message = "`bind` is an IP address or `unix://PATH`";
            refuse(
                fields.diagnostics,
                &node.span,
                message,
                format!("found `{text}`"),
            );
            Bind::Anywhere
        }
    }
}

/// Checks `unix://PATH`, and says that it is not modelled.
fn check_socket(text: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let verdict = unix_socket(text.trim_start_matches("unix://"));
    let what = "a Unix domain socket";
    demand(diagnostics, (text, &node.span), what, verdict);
    diagnostics.push(
        Diagnostic::warning("Unix domain sockets are not supported yet")
            .at(&node.span, "has no effect here"),
    );
}

/// Whether it is not captured.
fn capture_mode(fields: &mut Fields<'_, '_>) -> bool {
    let modes = [("DEFAULT", false), ("IPTABLES", false), ("NONE", true)];
    choice(fields, "captureMode", &modes).unwrap_or(false)
}

/// `None`: where the connection was going, which is also what `0.0.0.0` (the pod's own address) means
/// unless its port is another one.
fn default_endpoint(fields: &mut Fields<'_, '_>) -> Option<SocketAddr> {
    let node = fields.optional("defaultEndpoint")?;
    let text = node.as_scalar().unwrap_or_default();
    let hosts = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"];
    let parts = text.rsplit_once(':');
    match parts.map(|(host, port)| (host, port.parse::<NonZeroU16>())) {
        // Istio takes a port without a host for where the connection was going.
        Some(("", Ok(_))) => None,
        Some((host, Ok(_))) if hosts.contains(&host) => text.parse().ok(),
        _ if text.is_empty() => None,
        _ if text.starts_with("unix://") => {
            check_socket(text, node, fields.diagnostics);
            None
        }
        _ => {
            let message = "`defaultEndpoint` is `127.0.0.1:PORT`, `0.0.0.0:PORT` or `unix://PATH`";
            refuse(
                fields.diagnostics,
                &node.span,
                message,
                format!("found `{text}`"),
            );
            None
        }
    }
}

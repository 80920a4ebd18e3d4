//! Sidecar.

use super::{
    ConnectionPool, Labels, OutboundTrafficMode, choice, labels, mesh::read_outbound_policy, named_list, port,
};
use crate::protocol::Protocol;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};
use std::net::{IpAddr, SocketAddr};

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
    /// Listens on a port of its own; connections are not redirected to it.
    pub(crate) binds_to_port: bool,
    /// `None`: where the connection was going.
    pub(crate) default_endpoint: Option<SocketAddr>,
    pub(crate) connection_pool: Option<ConnectionPool>,
}

impl Sidecar {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Sidecar> {
        let mut fields = Fields::of(node, "a Sidecar", diagnostics)?;
        let mut selector = None;
        if let Some(node) = fields.optional("workloadSelector") {
            let mut inner = Fields::of(node, "a workload selector", fields.diagnostics)?;
            selector = Some(labels(&mut inner, "labels"));
            inner.finish();
        }
        let egress = fields
            .list("egress")
            .iter()
            .filter_map(|node| EgressListener::read(node, fields.diagnostics))
            .collect();
        let ingress = fields
            .list("ingress")
            .iter()
            .filter_map(|node| IngressListener::read(node, fields.diagnostics))
            .collect();
        let policy = fields.optional("outboundTrafficPolicy");
        let outbound_traffic_policy =
            policy.and_then(|node| read_outbound_policy(node, fields.diagnostics));
        let inbound_connection_pool = pool(&mut fields, "inboundConnectionPool");
        fields.finish();
        Some(Sidecar {
            selector,
            egress,
            ingress,
            outbound_traffic_policy,
            inbound_connection_pool,
        })
    }

    /// The pool that holds for an inbound port: its listener's, else the one for all.
    pub(crate) fn pool_of(&self, port: u16) -> Option<&ConnectionPool> {
        let mut listeners = self.ingress.iter();
        let own = listeners.find(|listener| listener.port.number == port);
        own.and_then(|listener| listener.connection_pool.as_ref())
            .or(self.inbound_connection_pool.as_ref())
    }
}

impl EgressListener {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<EgressListener> {
        let mut fields = Fields::of(node, "an egress listener", diagnostics)?;
        let port = sidecar_port(&mut fields);
        let bind = bind(&mut fields);
        fields.required("hosts");
        let hosts = named_list(&mut fields, "hosts");
        let hosts = hosts
            .iter()
            .filter_map(|host| {
                let found = egress_host(&host.text);
                if found.is_none() {
                    fields.diagnostics.push(
                        Diagnostic::error("a host of an egress listener is `NAMESPACE/HOST`")
                            .at(&host.span, "no single `/`")
                            .help("`./*` is the proxy's own namespace, `*/*` is every one"),
                    );
                }
                found
            })
            .collect();
        // Where it listens by itself, applications reach it at that address all the same.
        capture_mode(&mut fields);
        fields.finish();
        Some(EgressListener { port, bind, hosts })
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
        let port = sidecar_port(&mut fields);
        let bind = bind(&mut fields);
        let binds_to_port = capture_mode(&mut fields);
        let default_endpoint = default_endpoint(&mut fields);
        let connection_pool = pool(&mut fields, "connectionPool");
        fields.unsupported(&["tls"]);
        fields.finish();
        Some(IngressListener {
            port: port?,
            bind,
            binds_to_port,
            default_endpoint,
            connection_pool,
        })
    }
}

fn pool(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<ConnectionPool> {
    let node = fields.optional(key)?;
    ConnectionPool::read(node, fields.diagnostics)
}

fn sidecar_port(fields: &mut Fields<'_, '_>) -> Option<SidecarPort> {
    let node = fields.optional("port")?;
    let mut inner = Fields::of(node, "a port", fields.diagnostics)?;
    inner.required("number");
    let number = port(&mut inner, "number");
    let name = inner.text("name").unwrap_or_default().into();
    let written = inner.optional("protocol");
    let text = written.and_then(Node::as_scalar).unwrap_or_default();
    let protocol = Protocol::parse(text).unwrap_or(Protocol::Auto);
    if let (Some(node), true) = (written, text.eq_ignore_ascii_case("HTTP_PROXY")) {
        inner.diagnostics.push(
            Diagnostic::warning("protocol HTTP_PROXY is not supported yet")
                .at(&node.span, "taken as a port that detects its protocol"),
        );
    }
    inner.ignore(&["targetPort"]);
    inner.finish();
    Some(SidecarPort {
        number: number?,
        name,
        protocol,
    })
}

fn bind(fields: &mut Fields<'_, '_>) -> Option<IpAddr> {
    let node = fields.optional("bind")?;
    let text = node.as_scalar().unwrap_or_default();
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip).filter(|ip| !ip.is_unspecified()),
        Err(_) if text.is_empty() => None,
        Err(_) if text.starts_with("unix://") || text.starts_with('@') => {
            fields.diagnostics.push(
                Diagnostic::warning("Unix domain sockets are not supported yet")
                    .at(&node.span, "has no effect here"),
            );
            None
        }
        Err(_) => {
            fields.diagnostics.push(
                Diagnostic::error("`bind` is an IP address or `unix://PATH`")
                    .at(&node.span, format!("found `{text}`")),
            );
            None
        }
    }
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
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() || address.ip().is_unspecified() => Some(address),
        _ if text.is_empty() => None,
        _ if text.starts_with("unix://") => {
            fields.diagnostics.push(
                Diagnostic::warning("Unix domain sockets are not supported yet")
                    .at(&node.span, "has no effect here"),
            );
            None
        }
        _ => {
            let want = "`defaultEndpoint` is `127.0.0.1:PORT`, `0.0.0.0:PORT` or `unix://PATH`";
            fields
                .diagnostics
                .push(Diagnostic::error(want).at(&node.span, format!("found `{text}`")));
            None
        }
    }
}

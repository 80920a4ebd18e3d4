//! Gateway.

use super::selection::label;
use super::server_tls::{ServerTls, ServerTlsSettings, read_server_tls};
use super::syntax::{
    HostsOf, demand_of, host_in_namespace, ip_address, is_http_protocol, is_tls_protocol,
    unix_socket,
};
use super::{
    Labels, Named, labels, named, named_list, port, protocol, refuse, required_named,
    schema_warning, written,
};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span};

/// Istio `Gateway`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gateway {
    /// Empty: every gateway pod.
    pub(crate) selector: Labels,
    pub(crate) servers: Vec<Server>,
    /// Made from the Gateway API: binds to the pods of Services instead of by the selector.
    pub(crate) bound_to: Option<BoundTo>,
}

/// The Services whose pods a Gateway is for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BoundTo {
    /// Their hosts.
    pub(crate) services: Vec<Name>,
    /// Of the Services and of their pods.
    pub(crate) namespace: Name,
    /// Istio's controller makes the pods, which take no Gateway of Istio's from elsewhere.
    pub(crate) managed: bool,
}

impl BoundTo {
    /// As Istio marks what it makes.
    pub(crate) fn of(annotations: &[(Name, Name)], namespace: &Name) -> Option<BoundTo> {
        let value = |key| label(annotations, key);
        let services = value("internal.istio.io/gateway-service")?;
        let parent = value("internal.istio.io/parent-namespace");
        let account = value("internal.istio.io/service-account-name");
        Some(BoundTo {
            services: services.split(',').map(Name::from).collect(),
            namespace: parent.unwrap_or(namespace).clone(),
            managed: account.is_some_and(|account| !account.is_empty()),
        })
    }
}

/// Istio `Server`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) port_name: Name,
    /// Upper case.
    pub(crate) protocol: Name,
    pub(crate) bind: Option<Name>,
    pub(crate) hosts: Vec<Named>,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) https_redirect: bool,
}

impl Server {
    /// Whether requests, not connections, are routed.
    pub(crate) fn routes_http(&self) -> bool {
        match &*self.protocol {
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => true,
            "HTTPS" => self.tls == Some(ServerTls::Terminate),
            _ => false,
        }
    }

    /// Plain-text HTTP.
    pub(crate) fn is_plain_http(&self) -> bool {
        matches!(&*self.protocol, "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB")
    }
}

impl Gateway {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Gateway> {
        let mut fields = Fields::of(node, "a Gateway", diagnostics)?;
        let selector = labels(&mut fields, "selector");
        let nodes = fields.list("servers");
        if nodes.is_empty() {
            let message = "a Gateway needs at least one server";
            refuse(fields.diagnostics, &node.span, message, "no `servers`");
        }
        let servers = nodes
            .iter()
            .filter_map(|node| Server::read(node, fields.diagnostics))
            .collect();
        check_names(nodes, fields.diagnostics);
        fields.finish();
        Some(Gateway {
            selector,
            servers,
            bound_to: None,
        })
    }
}

/// The names of the ports must differ.
fn check_names(servers: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let name = |server: &Node| {
        let name = server.at(&["port", "name"]).and_then(Node::as_scalar);
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    };
    for (at, server) in servers.iter().enumerate() {
        let (Some(own), Some(node)) = (name(server), server.at(&["port", "name"])) else {
            continue;
        };
        if servers[..at]
            .iter()
            .any(|earlier| name(earlier).as_ref() == Some(&own))
        {
            let message = format!("two ports of a Gateway have the name `{own}`");
            refuse(diagnostics, &node.span, message, "the second one");
        }
    }
}

/// A port of a server.
struct ServerPort {
    /// `None`: of a Unix domain socket.
    number: Option<u16>,
    name: Name,
    /// As written.
    protocol: String,
}

impl ServerPort {
    fn read(node: &Node, unix: bool, diagnostics: &mut Vec<Diagnostic>) -> Option<ServerPort> {
        let mut fields = Fields::of(node, "a port", diagnostics)?;
        let stated = fields
            .optional("number")
            .filter(|node| written(node) != "0");
        let number = match (stated, unix) {
            (None, true) => None,
            (None, false) => {
                fields.required("number");
                Some(port(&mut fields, "number")?)
            }
            (Some(number), true) => {
                let message = "a Unix domain socket has no port number";
                refuse(
                    fields.diagnostics,
                    &number.span,
                    message,
                    "beside `bind: unix://...`",
                );
                None
            }
            (Some(_), false) => Some(port(&mut fields, "number")?),
        };
        if let Some(target) = fields
            .optional("targetPort")
            .filter(|node| written(node) != "0")
        {
            let message = "`targetPort` has no effect in a Gateway";
            refuse(fields.diagnostics, &target.span, message, "leave it out");
        }
        let name = required_named(&mut fields, "name");
        if name.as_ref().is_some_and(|name| name.text.is_empty()) {
            let message = "a port of a Gateway has a name";
            refuse(fields.diagnostics, &node.span, message, "`name` is empty");
        }
        fields.required("protocol");
        let protocol = protocol(&mut fields);
        if protocol.as_deref() == Some("") {
            let message = "a port of a Gateway has a protocol";
            refuse(
                fields.diagnostics,
                &node.span,
                message,
                "`protocol` is empty",
            );
        }
        fields.finish();
        Some(ServerPort {
            number,
            name: name?.text,
            protocol: protocol?,
        })
    }
}

impl Server {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Server> {
        let mut fields = Fields::of(node, "a server", diagnostics)?;
        let bind = named(&mut fields, "bind").filter(|bind| !bind.text.is_empty());
        let path = bind
            .as_ref()
            .and_then(|bind| bind.text.strip_prefix("unix://"));
        if let Some(bind) = &bind {
            let (what, verdict) = match path {
                Some(path) => ("a Unix domain socket", unix_socket(path)),
                None => ("an address to listen at", ip_address(&bind.text)),
            };
            demand_of(fields.diagnostics, bind, what, verdict);
        }
        let port = fields.required("port");
        let port = port.and_then(|n| ServerPort::read(n, path.is_some(), fields.diagnostics));
        let hosts = named_list(&mut fields, "hosts");
        if hosts.is_empty() {
            let message = "a server needs at least one host";
            refuse(fields.diagnostics, &node.span, message, "no `hosts`");
        }
        for host in &hosts {
            let verdict = host_in_namespace(&host.text, HostsOf::Gateway);
            demand_of(fields.diagnostics, host, "a host of a server", verdict);
        }
        let tls_node = fields.optional("tls");
        let settings = tls_node.and_then(|node| read_server_tls(node, fields.diagnostics));
        if let Some(port) = &port {
            check_tls(
                port,
                tls_node,
                settings.as_ref(),
                fields.span(),
                fields.diagnostics,
            );
        }
        fields.ignore(&["name"]);
        fields.unsupported(&["defaultEndpoint"]);
        let udp = port
            .as_ref()
            .is_some_and(|port| port.protocol.eq_ignore_ascii_case("UDP"));
        if udp || path.is_some() {
            let what = if udp {
                "UDP is"
            } else {
                "Unix domain sockets are"
            };
            let message = format!("{what} not supported yet");
            let label = "the server is left out";
            fields
                .diagnostics
                .push(Diagnostic::warning(message).at(&node.span, label));
        }
        fields.finish();
        let port = port.filter(|_| !udp)?;
        let tls = settings
            .as_ref()
            .map(|tls| match tls.mode.passes_through() {
                true => ServerTls::Passthrough,
                false => ServerTls::Terminate,
            });
        Some(Server {
            port: port.number?,
            port_name: port.name,
            protocol: modelled(&port.protocol).into(),
            bind: bind.map(|bind| bind.text),
            hosts,
            tls: tls.filter(|_| is_tls_protocol(&port.protocol)),
            https_redirect: settings.is_some_and(|tls| tls.https_redirect),
        })
    }
}

/// The protocol that stands for all that are treated alike.
fn modelled(protocol: &str) -> String {
    match protocol.to_ascii_uppercase().as_str() {
        "HTTP_PROXY" => "HTTP".to_owned(),
        "MONGO" | "MYSQL" | "REDIS" => "TCP".to_owned(),
        other => other.to_owned(),
    }
}

/// Holds the TLS settings against the protocol.
fn check_tls(
    port: &ServerPort,
    node: Option<&Node>,
    settings: Option<&ServerTlsSettings>,
    server: &Span,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let (protocol, encrypted) = (&port.protocol, is_tls_protocol(&port.protocol));
    let http = is_http_protocol(protocol);
    let Some(node) = node else {
        if encrypted {
            let message = format!("a server of protocol {protocol} must have TLS settings");
            refuse(diagnostics, server, message, "no `tls`");
        }
        return;
    };
    let Some(settings) = settings else { return };
    if !encrypted {
        let redirects_only = http && settings.mode.passes_through() && !settings.files;
        if !redirects_only {
            let message = format!("a server of protocol {protocol} cannot have TLS settings");
            let label = match http {
                true => "`httpsRedirect` only",
                false => "not encrypted",
            };
            refuse(diagnostics, &node.span, message, label);
        }
    }
    if settings.https_redirect && !http {
        let message = "`httpsRedirect` is for servers of protocol HTTP";
        let label = format!("a server of protocol {protocol}");
        diagnostics.push(schema_warning(message).at(&node.span, label));
    }
}

//! Gateway.

use super::{Labels, Named, choice, labels, named_list, port};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

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
        let value = |key: &str| {
            let found = annotations.iter().find(|(known, _)| **known == *key);
            found.map(|(_, value)| value)
        };
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

/// Istio `ServerTLSSettings.TLSmode`: whether TLS ends at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerTls {
    Terminate,
    Passthrough,
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
        fields.required("servers");
        let servers = fields
            .list("servers")
            .iter()
            .filter_map(|node| Server::read(node, fields.diagnostics))
            .collect();
        fields.finish();
        Some(Gateway {
            selector,
            servers,
            bound_to: None,
        })
    }
}

const PROTOCOLS: [(&str, &str); 9] = [
    ("HTTP", "HTTP"),
    ("HTTPS", "HTTPS"),
    ("HTTP2", "HTTP2"),
    ("GRPC", "GRPC"),
    ("GRPC-WEB", "GRPC-WEB"),
    ("TLS", "TLS"),
    ("TCP", "TCP"),
    ("MONGO", "TCP"),
    ("MYSQL", "TCP"),
];

/// A protocol in any case.
fn protocol(fields: &mut Fields<'_, '_>) -> Option<&'static str> {
    let written = fields.optional("protocol").and_then(Node::as_scalar);
    let known = PROTOCOLS
        .iter()
        .find(|(name, _)| written.is_some_and(|text| name.eq_ignore_ascii_case(text)));
    match known {
        Some((_, protocol)) => Some(*protocol),
        None => choice(fields, "protocol", &PROTOCOLS),
    }
}

impl Server {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Server> {
        let mut fields = Fields::of(node, "a server", diagnostics)?;
        let port_node = fields.required("port")?;
        let mut inner = Fields::of(port_node, "a port", fields.diagnostics)?;
        inner.required("number");
        let number = port(&mut inner, "number");
        let port_name = inner.text("name").unwrap_or_default().into();
        inner.required("protocol");
        let protocol = protocol(&mut inner);
        inner.ignore(&["targetPort"]);
        inner.finish();
        fields.required("hosts");
        let hosts = named_list(&mut fields, "hosts");
        let bind = fields
            .text("bind")
            .filter(|b| !b.is_empty())
            .map(Name::from);
        let tls_node = fields.optional("tls");
        let (mut tls, mut https_redirect) = (None, false);
        if let Some(node) = tls_node {
            let mut inner = Fields::of(node, "server TLS settings", fields.diagnostics)?;
            https_redirect = inner.boolean("httpsRedirect").unwrap_or(false);
            tls = Some(
                choice(
                    &mut inner,
                    "mode",
                    &[
                        ("PASSTHROUGH", ServerTls::Passthrough),
                        ("AUTO_PASSTHROUGH", ServerTls::Passthrough),
                        ("SIMPLE", ServerTls::Terminate),
                        ("MUTUAL", ServerTls::Terminate),
                        ("OPTIONAL_MUTUAL", ServerTls::Terminate),
                        ("ISTIO_MUTUAL", ServerTls::Terminate),
                    ],
                )
                .unwrap_or(ServerTls::Passthrough),
            );
            inner.ignore(&[
                "credentialName",
                "credentialNames",
                "tlsCertificates",
                "serverCertificate",
                "privateKey",
                "caCertificates",
                "caCrl",
                "caCertCredentialName",
                "insecureSkipVerify",
                "subjectAltNames",
                "verifyCertificateSpki",
                "verifyCertificateHash",
                "minProtocolVersion",
                "maxProtocolVersion",
                "cipherSuites",
            ]);
            inner.finish();
        }
        let secure = matches!(protocol, Some("HTTPS" | "TLS"));
        if secure && tls_node.is_none() {
            let message = "a server of protocol HTTPS or TLS needs `tls`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(fields.span(), "no TLS settings"));
        }
        if !secure && !matches!(protocol, Some("TCP")) {
            tls = None;
        }
        fields.ignore(&["name"]);
        fields.unsupported(&["defaultEndpoint"]);
        fields.finish();
        Some(Server {
            port: number?,
            port_name,
            protocol: protocol?.into(),
            bind,
            hosts,
            tls,
            https_redirect,
        })
    }
}

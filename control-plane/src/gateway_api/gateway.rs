//! GatewayClass, Gateway and ListenerSet as typed values.

use super::reference::{GROUP, ObjectReference, ParentRef};
use crate::config::{LabelSelector, Labels, label, labels, named, port, required_named};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span};

/// Gateway API `Gateway`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gateway {
    pub(crate) class: Name,
    pub(crate) listeners: Vec<Listener>,
    /// Type and value.
    pub(crate) addresses: Vec<(AddressType, Name)>,
    pub(crate) infrastructure_labels: Option<Labels>,
    pub(crate) parameters: Option<ObjectReference>,
    /// Who may add listeners by a ListenerSet; `None`: nobody.
    pub(crate) allowed_listeners: Option<Namespaces>,
    pub(crate) frontend: Frontend,
    pub(crate) backend_certificate: Option<ObjectReference>,
    /// What its Service is called (`gateway.istio.io/name-override`).
    pub(crate) name_override: Option<Name>,
}

/// Gateway API `ListenerSet`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenerSet {
    pub(crate) parent: ParentRef,
    pub(crate) listeners: Vec<Listener>,
}

/// The kind of a `GatewaySpecAddress`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AddressType {
    Ip,
    Hostname,
    Other(Name),
}

/// Gateway API `Listener` or `ListenerEntry`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    pub(crate) name: Name,
    pub(crate) span: Span,
    pub(crate) hostname: Option<Name>,
    /// 0: not stated (ListenerSet only).
    pub(crate) port: u16,
    pub(crate) protocol: Name,
    pub(crate) tls: Option<ListenerTls>,
    pub(crate) allowed: Namespaces,
    /// Group and kind; empty: all that the protocol supports.
    pub(crate) kinds: Vec<(Name, Name)>,
}

/// Gateway API `ListenerTLSConfig`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenerTls {
    pub(crate) passthrough: bool,
    pub(crate) certificates: Vec<ObjectReference>,
    pub(crate) options: Labels,
}

/// Gateway API `FromNamespaces` with its selector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Namespaces {
    Same,
    All,
    None,
    /// `None`: without a selector.
    Selector(Option<LabelSelector>),
}

/// What clients of a Gateway have to show (`GatewayTLSConfig.frontend`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frontend {
    pub(crate) default: Option<Validation>,
    pub(crate) ports: Vec<(u16, Option<Validation>)>,
}

/// Gateway API `FrontendTLSValidation`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Validation {
    pub(crate) certificates: Vec<ObjectReference>,
    pub(crate) allow_insecure: bool,
}

/// The controller of a GatewayClass.
pub(crate) fn read_class(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Name> {
    let mut fields = Fields::of(node, "a GatewayClass", diagnostics)?;
    let controller = fields.required_text("controllerName");
    fields.ignore(&["description"]);
    fields.unsupported(&["parametersRef"]);
    fields.finish();
    controller.map(Name::from)
}

impl Gateway {
    pub(crate) fn read(
        node: &Node,
        annotations: &[(Name, Name)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Gateway> {
        let mut fields = Fields::of(node, "a Gateway of the Gateway API", diagnostics)?;
        let class = fields.required_text("gatewayClassName");
        let listeners = read_listeners(&mut fields);
        let addresses = fields.list("addresses").iter();
        let addresses = addresses
            .filter_map(|node| read_address(node, fields.diagnostics))
            .collect();
        let (infrastructure_labels, parameters) = match fields.optional("infrastructure") {
            Some(node) => read_infrastructure(node, fields.diagnostics)?,
            None => (None, None),
        };
        let allowed_listeners = match fields.optional("allowedListeners") {
            None => None,
            Some(node) => {
                let mut inner = Fields::of(node, "the allowed listeners", fields.diagnostics)?;
                let namespaces = inner.optional("namespaces");
                let namespaces = namespaces
                    .and_then(|node| Namespaces::read(node, Namespaces::None, inner.diagnostics));
                inner.finish();
                namespaces
            }
        };
        let (frontend, backend_certificate) = match fields.optional("tls") {
            Some(node) => read_tls(node, fields.diagnostics)?,
            None => (Frontend::default(), None),
        };
        fields.unsupported(&["defaultScope", "backendTLS"]);
        fields.finish();
        Some(Gateway {
            class: class?.into(),
            listeners,
            addresses,
            infrastructure_labels,
            parameters,
            allowed_listeners,
            frontend,
            backend_certificate,
            name_override: label(annotations, "gateway.istio.io/name-override").cloned(),
        })
    }

    /// Whether the controller makes Service and pods; else addresses name a Service that is there.
    pub(crate) fn managed(&self) -> bool {
        matches!(&self.addresses[..], [] | [(AddressType::Ip, _)])
    }
}

/// A `GatewaySpecAddress`.
fn read_address(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(AddressType, Name)> {
    let mut fields = Fields::of(node, "an address", diagnostics)?;
    let kind = match fields.text("type").as_deref() {
        None | Some("IPAddress") => AddressType::Ip,
        Some("Hostname") => AddressType::Hostname,
        Some(other) => AddressType::Other(other.into()),
    };
    let value = fields.text("value").unwrap_or_default();
    fields.finish();
    Some((kind, value.into()))
}

/// Labels, and the parameters as a reference.
type Infrastructure = (Option<Labels>, Option<ObjectReference>);

fn read_infrastructure(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Infrastructure> {
    let mut fields = Fields::of(node, "the infrastructure", diagnostics)?;
    let stated = fields.optional("labels").is_some();
    let own = labels(&mut fields, "labels");
    let parameters = fields.optional("parametersRef");
    let parameters =
        parameters.and_then(|node| ObjectReference::read_node(node, fields.diagnostics));
    fields.ignore(&["annotations"]);
    fields.finish();
    Some((stated.then_some(own), parameters))
}

/// What clients have to show, and what is shown to backends.
fn read_tls(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Frontend, Option<ObjectReference>)> {
    let mut fields = Fields::of(node, "TLS of a Gateway", diagnostics)?;
    let frontend = match fields.optional("frontend") {
        Some(node) => Frontend::read(node, fields.diagnostics)?,
        None => Frontend::default(),
    };
    let mut certificate = None;
    if let Some(node) = fields.optional("backend") {
        let mut backend = Fields::of(node, "TLS to backends", fields.diagnostics)?;
        let reference = backend.optional("clientCertificateRef");
        certificate =
            reference.and_then(|node| ObjectReference::read_node(node, backend.diagnostics));
        backend.finish();
    }
    fields.finish();
    Some((frontend, certificate))
}

impl ListenerSet {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<ListenerSet> {
        let mut fields = Fields::of(node, "a ListenerSet", diagnostics)?;
        let parent = fields.required("parentRef");
        let parent = parent.and_then(|node| ParentRef::read(node, fields.diagnostics));
        let listeners = read_listeners(&mut fields);
        fields.finish();
        Some(ListenerSet {
            parent: parent?,
            listeners,
        })
    }
}

/// Names are given once.
fn read_listeners(fields: &mut Fields<'_, '_>) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for node in fields.list("listeners") {
        let Some(listener) = Listener::read(node, fields.diagnostics) else {
            continue;
        };
        if listeners.iter().any(|other| other.name == listener.name) {
            let message = format!("listener `{}` is there twice", listener.name);
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&listener.span, "the second one"));
        }
        listeners.push(listener);
    }
    listeners
}

impl Listener {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Listener> {
        let mut fields = Fields::of(node, "a listener", diagnostics)?;
        let name = required_named(&mut fields, "name");
        let hostname = named(&mut fields, "hostname").filter(|name| !name.text.is_empty());
        let number = port(&mut fields, "port");
        let protocol = fields.required_text("protocol");
        let tls = fields.optional("tls");
        let tls = tls.and_then(|node| ListenerTls::read(node, fields.diagnostics));
        let (mut allowed, mut kinds) = (Namespaces::Same, Vec::new());
        if let Some(node) = fields.optional("allowedRoutes") {
            let mut inner = Fields::of(node, "the allowed routes", fields.diagnostics)?;
            if let Some(node) = inner.optional("namespaces") {
                allowed = Namespaces::read(node, Namespaces::Same, inner.diagnostics)?;
            }
            for node in inner.list("kinds") {
                let mut kind = Fields::of(node, "a kind of routes", inner.diagnostics)?;
                let group = kind.text("group").unwrap_or_else(|| GROUP.to_owned());
                let name = kind.required_text("kind");
                kind.finish();
                kinds.push((group.into(), name?.into()));
            }
            inner.finish();
        }
        fields.finish();
        Some(Listener {
            name: name?.text,
            span: node.span.clone(),
            hostname: hostname.map(|name| name.text.to_ascii_lowercase().into()),
            port: number.unwrap_or_default(),
            protocol: protocol?.into(),
            tls,
            allowed,
            kinds,
        })
    }
}

impl ListenerTls {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<ListenerTls> {
        let mut fields = Fields::of(node, "TLS of a listener", diagnostics)?;
        let modes = [("Terminate", false), ("Passthrough", true)];
        let passthrough = crate::config::choice(&mut fields, "mode", &modes).unwrap_or(false);
        let certificates = references(&mut fields, "certificateRefs");
        let options = labels(&mut fields, "options");
        // Of versions before the Gateway's own `tls`.
        fields.unsupported(&["frontendValidation"]);
        fields.finish();
        Some(ListenerTls {
            passthrough,
            certificates,
            options,
        })
    }
}

/// A list of references.
pub(crate) fn references(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<ObjectReference> {
    let nodes = fields.list(key).iter();
    nodes
        .filter_map(|node| ObjectReference::read_node(node, fields.diagnostics))
        .collect()
}

type WithSelector = fn(Option<LabelSelector>) -> Namespaces;

impl Namespaces {
    fn read(
        node: &Node,
        default: Namespaces,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Namespaces> {
        let mut fields = Fields::of(node, "allowed namespaces", diagnostics)?;
        let selector = fields.optional("selector");
        let selector = selector.and_then(|node| LabelSelector::read(node, fields.diagnostics));
        let choices: [(&str, WithSelector); 4] = [
            ("Same", |_| Namespaces::Same),
            ("All", |_| Namespaces::All),
            ("None", |_| Namespaces::None),
            ("Selector", Namespaces::Selector),
        ];
        let stated = fields.optional("from").is_some();
        let chosen = crate::config::choice(&mut fields, "from", &choices);
        fields.finish();
        match chosen {
            Some(from) => Some(from(selector)),
            None => (!stated).then_some(default),
        }
    }

    /// Whether a namespace with these labels is among them, as seen from `own`.
    pub(crate) fn admits(&self, own: &str, name: &str, labels: Option<&Labels>) -> bool {
        match self {
            Namespaces::Same => own == name,
            Namespaces::All => true,
            Namespaces::None | Namespaces::Selector(None) => false,
            Namespaces::Selector(Some(selector)) => {
                labels.is_some_and(|labels| selector.matches(name, labels))
            }
        }
    }
}

impl Frontend {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Frontend> {
        let mut fields = Fields::of(node, "TLS of clients", diagnostics)?;
        let default = fields.optional("default");
        let default = default.and_then(|node| Validation::read(node, fields.diagnostics));
        let mut ports = Vec::new();
        for node in fields.list("perPort") {
            let mut inner = Fields::of(node, "TLS of clients of a port", fields.diagnostics)?;
            inner.required("port");
            let number = port(&mut inner, "port");
            let validation = inner.optional("tls");
            let validation = validation.and_then(|node| Validation::read(node, inner.diagnostics));
            inner.finish();
            ports.push((number?, validation));
        }
        fields.finish();
        Some(Frontend { default, ports })
    }

    /// Of clients of a port.
    pub(crate) fn at(&self, port: u16) -> Option<&Validation> {
        match self.ports.iter().find(|(number, _)| *number == port) {
            Some((_, validation)) => validation.as_ref(),
            None => self.default.as_ref(),
        }
    }

    /// Whether some clients may go without a certificate although one is asked for.
    pub(crate) fn insecure(&self) -> bool {
        let ports = self.ports.iter().filter_map(|(_, found)| found.as_ref());
        self.default.iter().chain(ports).any(|v| v.allow_insecure)
    }
}

impl Validation {
    /// `node` holds `validation`.
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Validation> {
        let mut fields = Fields::of(node, "TLS of clients", diagnostics)?;
        let validation = fields.optional("validation").and_then(|node| {
            let mut inner = Fields::of(node, "a validation", fields.diagnostics)?;
            let modes = [("AllowValidOnly", false), ("AllowInsecureFallback", true)];
            let allow_insecure = crate::config::choice(&mut inner, "mode", &modes);
            let certificates = references(&mut inner, "caCertificateRefs");
            inner.finish();
            Some(Validation {
                certificates,
                allow_insecure: allow_insecure.unwrap_or(false),
            })
        });
        fields.finish();
        validation
    }
}

//! Ingress and IngressClass.

use crate::config::label;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span, Value};

/// A Kubernetes Ingress.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ingress {
    /// By the annotation, which counts before `class_name`.
    pub(crate) class_annotation: Option<Name>,
    /// Names an IngressClass.
    pub(crate) class_name: Option<Name>,
    pub(crate) rules: Vec<IngressHost>,
    /// Hosts of each certificate.
    pub(crate) tls: Vec<Vec<Name>>,
    pub(crate) span: Span,
}

/// One rule, of one host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IngressHost {
    /// `*`: any.
    pub(crate) host: Name,
    pub(crate) paths: Vec<IngressPath>,
}

/// Where requests with some path go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IngressPath {
    /// `None`: any path.
    pub(crate) path: Option<IngressMatch>,
    pub(crate) service: Name,
    pub(crate) port: IngressPort,
    pub(crate) span: Span,
}

/// How a path is matched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum IngressMatch {
    Exact(Name),
    Prefix(Name),
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum IngressPort {
    Number(u16),
    Name(Name),
}

impl Ingress {
    /// `annotations`: of the object.
    pub(crate) fn read(
        node: &Node,
        annotations: &[(Name, Name)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Ingress> {
        let mut fields = Fields::of(node, "an Ingress", diagnostics)?;
        let class_name = fields.text("ingressClassName").map(Name::from);
        // The older spelling first.
        for key in ["backend", "defaultBackend"] {
            if let Some(node) = fields.optional(key) {
                let message = format!("Istio does not use the `{key}` of an Ingress");
                let label = "requests that no rule matches get a 404";
                fields
                    .diagnostics
                    .push(Diagnostic::warning(message).at(&node.span, label));
            }
        }
        let rules = fields
            .list("rules")
            .iter()
            .filter_map(|node| IngressHost::read(node, fields.diagnostics))
            .collect();
        let tls = fields
            .list("tls")
            .iter()
            .filter_map(|node| read_tls(node, fields.diagnostics))
            .collect();
        fields.finish();
        Some(Ingress {
            class_annotation: label(annotations, "kubernetes.io/ingress.class").cloned(),
            class_name,
            rules,
            tls,
            span: node.span.clone(),
        })
    }
}

fn read_tls(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Name>> {
    let mut fields = Fields::of(node, "TLS of an Ingress", diagnostics)?;
    let hosts = fields.texts("hosts");
    let secret = fields.text("secretName").filter(|name| !name.is_empty());
    if secret.is_none() {
        let message = "TLS of an Ingress without `secretName` has no effect";
        fields
            .diagnostics
            .push(Diagnostic::warning(message).at(&node.span, "no certificate"));
    }
    fields.finish();
    secret?;
    Some(match hosts.is_empty() {
        true => vec!["*".into()],
        false => hosts.into_iter().map(Name::from).collect(),
    })
}

impl IngressHost {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<IngressHost> {
        let mut fields = Fields::of(node, "a rule of an Ingress", diagnostics)?;
        let host = fields.text("host").filter(|host| !host.is_empty());
        let http = fields.optional("http");
        fields.finish();
        // As in Istio, a rule without paths does nothing.
        let mut inner = Fields::of(http?, "the paths of an Ingress", diagnostics)?;
        let paths = inner
            .list("paths")
            .iter()
            .filter_map(|node| IngressPath::read(node, inner.diagnostics))
            .collect();
        inner.finish();
        Some(IngressHost {
            host: host.map_or("*".into(), Name::from),
            paths,
        })
    }
}

impl IngressPath {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<IngressPath> {
        let mut fields = Fields::of(node, "a path of an Ingress", diagnostics)?;
        let path: Name = fields.text("path").unwrap_or_default().into();
        let path = match fields.text("pathType").as_deref() {
            Some("Exact") => Some(IngressMatch::Exact(path)),
            Some("Prefix") => Some(IngressMatch::Prefix(path)),
            _ => implementation_specific(&path),
        };
        let backend = fields.required("backend");
        let backend = backend.and_then(|node| read_backend(node, fields.diagnostics));
        fields.finish();
        let (service, port) = backend?;
        Some(IngressPath {
            path,
            service,
            port,
            span: node.span.clone(),
        })
    }
}

/// What Istio makes of a path without a type of its own; `None`: any.
fn implementation_specific(path: &Name) -> Option<IngressMatch> {
    if matches!(&**path, "" | "*" | "/*" | ".*") {
        return None;
    }
    let before = path.strip_suffix(".*").or_else(|| path.strip_suffix("/*"));
    Some(match before {
        Some(prefix) => IngressMatch::Prefix(prefix.into()),
        None => IngressMatch::Exact(path.clone()),
    })
}

fn read_backend(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(Name, IngressPort)> {
    let mut fields = Fields::of(node, "a backend", diagnostics)?;
    if fields.optional("serviceName").is_some() || fields.optional("servicePort").is_some() {
        return read_older_backend(fields);
    }
    let service = fields.optional("service");
    if let (Some(node), None) = (fields.optional("resource"), service) {
        let message = "Istio sends requests to Services only";
        let label = "the path is left out";
        fields
            .diagnostics
            .push(Diagnostic::warning(message).at(&node.span, label));
        return None;
    }
    fields.required("service");
    fields.finish();
    let mut inner = Fields::of(service?, "the service of a backend", diagnostics)?;
    let name = inner.required_text("name");
    let port = inner.required("port");
    inner.finish();
    let mut innermost = Fields::of(port?, "a port", diagnostics)?;
    let number = innermost.integer("number", 1..=65535);
    let port_name = innermost.text("name");
    if number.is_none() && port_name.is_none() {
        innermost.required("number");
    }
    innermost.finish();
    let port = match number.and_then(|number| u16::try_from(number).ok()) {
        Some(number) => IngressPort::Number(number),
        None => IngressPort::Name(port_name?.into()),
    };
    Some((name?.into(), port))
}

/// As `extensions/v1beta1` and `networking.k8s.io/v1beta1` spell it.
fn read_older_backend(mut fields: Fields<'_, '_>) -> Option<(Name, IngressPort)> {
    let name = fields.required_text("serviceName");
    let port = fields.required("servicePort");
    let port = port.and_then(|node| match node.value {
        Value::Int(_) => {
            let number = fields.integer("servicePort", 1..=65535)?;
            Some(IngressPort::Number(u16::try_from(number).ok()?))
        }
        _ => Some(IngressPort::Name(fields.text("servicePort")?.into())),
    });
    fields.finish();
    Some((name?.into(), port?))
}

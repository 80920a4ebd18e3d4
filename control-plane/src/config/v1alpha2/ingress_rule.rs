//! IngressRule.

use super::{Condition, ServiceReference, Spelling};
use crate::config::{named, port, refuse};
use proxy_core::xds::{Name, StringMatch};
use source::{Diagnostic, Fields, Node, Span};

/// Istio `IngressRule`: which requests to the ingress proxy go to a service. Its route rules say to
/// which version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IngressRule {
    pub(crate) destination: ServiceReference,
    pub(crate) port: RulePort,
    /// `None`: every host.
    pub(crate) host: Option<Name>,
    /// `None`: every path.
    pub(crate) path: Option<StringMatch>,
    /// There is a secret for TLS.
    pub(crate) tls: bool,
    pub(crate) span: Span,
}

/// A port of the destination.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RulePort {
    Number(u16),
    Name(Name),
}

impl IngressRule {
    pub(crate) fn read(
        node: &Node,
        spelling: Spelling,
        namespace: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<IngressRule> {
        let mut fields = Fields::of(node, "an IngressRule", diagnostics)?;
        let place = fields.required("destination");
        let destination = ServiceReference::read(&mut fields, "destination", spelling, namespace);
        if let (Some(destination), Some(node)) = (&destination, place) {
            destination.without_labels("an IngressRule", node, fields.diagnostics);
        }
        let number = port(&mut fields, "destinationPort");
        let name = named(&mut fields, "destinationPortName");
        if number.is_none() && name.is_none() {
            let message = "an IngressRule needs `destinationPort` or `destinationPortName`";
            refuse(fields.diagnostics, &node.span, message, "which port?");
        }
        let condition = fields.optional("match");
        let condition = condition
            .and_then(|node| Condition::read(node, spelling, namespace, fields.diagnostics));
        let condition = condition.unwrap_or_default();
        check_condition(&condition, fields.diagnostics);
        let tls = fields
            .text("tlsSecret")
            .is_some_and(|name| !name.is_empty());
        // Paths are sorted, whatever these say.
        fields.ignore(&["port", "precedence"]);
        fields.finish();
        let exact = |value: &StringMatch| match value {
            StringMatch::Exact(text) => Some(text.clone()),
            _ => None,
        };
        Some(IngressRule {
            destination: destination?,
            port: match (number, name) {
                (Some(number), _) => RulePort::Number(number),
                (None, name) => RulePort::Name(name?.text),
            },
            host: condition.header("authority").and_then(exact),
            path: condition.header("uri").cloned(),
            tls,
            span: node.span.clone(),
        })
    }
}

/// Pilot left rules out that ask for more than a host and a path.
fn check_condition(condition: &Condition, diagnostics: &mut Vec<Diagnostic>) {
    for (name, value) in &condition.headers {
        let why = match (&*name.text, value) {
            ("authority", StringMatch::Exact(_)) => continue,
            ("uri", StringMatch::Exact(_) | StringMatch::Prefix(_)) => continue,
            ("authority", _) => "a host is `exact`",
            ("uri", _) => "a path is `exact` or `prefix`",
            _ => "only `authority` and `uri` are matched",
        };
        let message = format!("an IngressRule cannot match `{}` so", name.text);
        refuse(diagnostics, &name.span, message, why);
    }
}

//! What is around a rule of 2017.

use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span, nearest};

/// How a rule is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Istio 0.1: `type`, `name` and `spec`; services by full name, `tags`, `httpHeaders`.
    V01,
    /// Istio 0.2: an object of Kubernetes.
    V02,
}

/// Types of Istio 0.1 and the kinds that they became.
const TYPES: [(&str, &str); 3] = [
    ("route-rule", "RouteRule"),
    ("destination-policy", "DestinationPolicy"),
    ("ingress-rule", "IngressRule"),
];

/// A rule of Istio 0.1, without what it says.
pub(crate) struct Envelope<'n> {
    /// As it is called since 0.2.
    pub(crate) kind: &'static str,
    pub(crate) name: Name,
    pub(crate) namespace: Name,
    pub(crate) spec: &'n Node,
}

impl<'n> Envelope<'n> {
    /// Whether a document is a rule of Istio 0.1: it has a `type` where objects have a `kind`.
    pub(crate) fn is_of(document: &Node) -> bool {
        let has = |key: &str| document.at(&[key]).is_some();
        has("type") && !has("kind") && !has("apiVersion")
    }

    /// What messages call it: `KIND NAMESPACE/NAME`.
    pub(crate) fn resource(document: &Node) -> Option<String> {
        let text = |key: &str| document.at(&[key]).and_then(Node::as_scalar);
        let (_, kind) = TYPES.iter().find(|(of, _)| Some(*of) == text("type"))?;
        let namespace = text("namespace").unwrap_or("default");
        Some(format!("{kind} {namespace}/{}", text("name")?))
    }

    pub(crate) fn read(
        document: &'n Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Envelope<'n>> {
        let mut fields = Fields::of(document, "a rule of Istio 0.1", diagnostics)?;
        let place = fields.required("type")?;
        let text = fields.required_text("type")?;
        let name = fields.required_text("name");
        let namespace = fields.text("namespace").filter(|name| !name.is_empty());
        let spec = fields.required("spec");
        fields.finish();
        let known = TYPES.iter().find(|(of, _)| *of == text);
        if known.is_none() {
            diagnostics.push(unknown_type(&text, &place.span));
        }
        Some(Envelope {
            kind: known?.1,
            name: name?.into(),
            namespace: namespace.unwrap_or_else(|| "default".to_owned()).into(),
            spec: spec?,
        })
    }
}

fn unknown_type(text: &str, place: &Span) -> Diagnostic {
    let names = TYPES.iter().map(|(of, _)| *of);
    let help = match nearest(text, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its types are {}", names.collect::<Vec<_>>().join(", ")),
    };
    Diagnostic::error(format!("Istio 0.1 has no type `{text}`"))
        .at(place, "unknown")
        .help(help)
}

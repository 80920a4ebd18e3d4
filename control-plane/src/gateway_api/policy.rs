//! BackendTLSPolicy as a typed value.

use super::reference::ObjectReference;
use crate::config::{Named, label, required_named};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// Gateway API `BackendTLSPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BackendTlsPolicy {
    pub(crate) targets: Vec<Target>,
    /// The name that the server has to prove.
    pub(crate) hostname: Name,
    pub(crate) certificates: Vec<ObjectReference>,
    /// Instead of certificates; Istio knows `System` only.
    pub(crate) well_known: Option<Name>,
    /// By an annotation that tells Istio to leave it alone.
    pub(crate) ignored: bool,
}

/// Gateway API `LocalPolicyTargetReferenceWithSectionName`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) group: Name,
    pub(crate) kind: Name,
    pub(crate) name: Named,
    /// A port by its name.
    pub(crate) section: Option<Name>,
}

impl Target {
    /// Whether both mean the same thing.
    pub(crate) fn same(&self, other: &Target) -> bool {
        self.group == other.group
            && self.kind == other.kind
            && self.name.text == other.name.text
            && self.section == other.section
    }
}

impl BackendTlsPolicy {
    pub(crate) fn read(
        node: &Node,
        annotations: &[(Name, Name)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<BackendTlsPolicy> {
        let mut fields = Fields::of(node, "a BackendTLSPolicy", diagnostics)?;
        fields.required("targetRefs");
        let mut targets = Vec::new();
        for node in fields.list("targetRefs") {
            let mut inner = Fields::of(node, "a targetRef", fields.diagnostics)?;
            let group = inner.text("group").unwrap_or_default();
            let kind = inner.required_text("kind");
            let name = required_named(&mut inner, "name");
            let section = inner.text("sectionName").filter(|name| !name.is_empty());
            inner.finish();
            targets.push(Target {
                group: group.into(),
                kind: kind?.into(),
                name: name?,
                section: section.map(Name::from),
            });
        }
        let validation = fields.required("validation")?;
        let mut inner = Fields::of(validation, "a validation", fields.diagnostics)?;
        let hostname = inner.required_text("hostname");
        let certificates = super::gateway::references(&mut inner, "caCertificateRefs");
        let well_known = inner.text("wellKnownCACertificates");
        // Names are not checked against certificates here.
        inner.ignore(&["subjectAltNames"]);
        inner.finish();
        fields.unsupported(&["options"]);
        fields.finish();
        let ignore = label(annotations, "istio.io/ignore-policy-attachment");
        Some(BackendTlsPolicy {
            targets,
            hostname: hostname?.into(),
            certificates,
            well_known: well_known.map(Name::from),
            ignored: ignore.is_some_and(|value| value.eq_ignore_ascii_case("true")),
        })
    }
}

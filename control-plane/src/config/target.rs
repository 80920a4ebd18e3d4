//! Which workloads a security policy is for.

use super::{Labels, labels};
use proxy_core::xds::Name;
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

/// Label of the pods of a Gateway API gateway: its name.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Group and kind of what a `targetRef` may name.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.istio.io", "ServiceEntry"),
];

/// Istio `selector`, `targetRef`, `targetRefs`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Empty: the whole namespace.
    Workloads(Labels),
    /// Names of the Gateways referred to; Services and waypoints have no proxy here.
    Gateways(Vec<Name>),
}

impl Target {
    /// Reads the three fields, of which one at most is there.
    pub(crate) fn read(fields: &mut Fields<'_, '_>) -> Target {
        let selector = fields.optional("selector");
        let single = fields.optional("targetRef");
        let several = fields.list("targetRefs");
        let refs: Vec<&Node> = single.into_iter().chain(several).collect();
        if let (Some(first), true) = (
            refs.first(),
            selector.is_some() || (single.is_some() && !several.is_empty()),
        ) {
            fields.diagnostics.push(
                Diagnostic::error(
                    "only one of `selector`, `targetRef` and `targetRefs` can be set",
                )
                .at(&first.span, "one too many"),
            );
        }
        if let Some(node) = selector {
            return Target::Workloads(read_selector(node, fields.diagnostics));
        }
        if refs.is_empty() {
            return Target::Workloads(Labels::new());
        }
        let names = refs
            .into_iter()
            .filter_map(|node| read_reference(node, fields.diagnostics));
        Target::Gateways(names.flatten().collect())
    }

    /// Whether a policy with this target in `namespace` is for a workload. Those of the root
    /// namespace are for workloads of every namespace.
    pub(crate) fn covers(
        &self,
        namespace: &str,
        workload_namespace: &str,
        workload_labels: &Labels,
    ) -> bool {
        match self {
            Target::Workloads(selector) => {
                let everywhere = namespace == crate::rules::ROOT_NAMESPACE;
                (everywhere || namespace == workload_namespace)
                    && super::has_labels(workload_labels, selector)
            }
            Target::Gateways(names) => {
                let mut own = workload_labels.iter();
                let gateway = own.find(|(key, _)| &**key == GATEWAY_NAME);
                namespace == workload_namespace
                    && gateway.is_some_and(|(_, gateway)| names.contains(gateway))
            }
        }
    }
}

/// Istio `WorkloadSelector`.
pub(crate) fn read_selector(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Labels {
    let Some(mut fields) = Fields::of(node, "a selector", diagnostics) else {
        return Labels::new();
    };
    let selector = labels(&mut fields, "matchLabels");
    for (key, value) in &selector {
        let wrong = match () {
            () if key.is_empty() => "a label has a name",
            () if key.contains('*') || value.contains('*') => "a selector knows no wildcards",
            () => continue,
        };
        let found = format!("found `{key}: {value}`");
        let diagnostic = Diagnostic::error(wrong).at(&node.span, found);
        fields.diagnostics.push(diagnostic);
    }
    if selector.is_empty() {
        fields.diagnostics.push(
            Diagnostic::warning("a selector without labels")
                .at(&node.span, "selects every workload of the namespace"),
        );
    }
    fields.finish();
    selector
}

/// The Gateway that is meant; `Some(None)`: something else that may be meant.
fn read_reference(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Option<Name>> {
    let mut fields = Fields::of(node, "a target reference", diagnostics)?;
    let name = fields.required_text("name");
    if name.as_deref() == Some("") {
        fields
            .diagnostics
            .push(expected(node, "the target has a name"));
    }
    let group = fields.text("group").unwrap_or_default();
    let kind = fields.text("kind").unwrap_or_default();
    if let Some(node) = fields
        .optional("namespace")
        .filter(|n| n.as_scalar() != Some(""))
    {
        fields.diagnostics.push(
            Diagnostic::error("a policy is in the namespace of its target")
                .at(&node.span, "leave it out"),
        );
    }
    let known = TARGETS.contains(&(
        match &*group {
            "core" => "",
            group => group,
        },
        &kind,
    ));
    if !known {
        let names: Vec<String> = TARGETS
            .iter()
            .map(|(group, kind)| format!("{group}/{kind}"))
            .collect();
        let message = format!("a target is one of {}", names.join(", "));
        let diagnostic = Diagnostic::error(message).at(&node.span, format!("found {group}/{kind}"));
        fields.diagnostics.push(diagnostic);
    }
    fields.finish();
    if known && kind != "Gateway" {
        diagnostics.push(
            Diagnostic::warning(format!("policies for a {kind} are not supported yet")).at(
                &node.span,
                "waypoints are not modelled: it has no effect here",
            ),
        );
    }
    Some(name.filter(|_| kind == "Gateway").map(Name::from))
}

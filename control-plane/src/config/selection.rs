//! Which workloads an object is for: label selectors, `targetRef` and `targetRefs`.

use super::syntax::{demand, label_key, label_value};
use super::{Labels, entries, refuse, schema_warning};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span};

/// Whether `labels` has all of `wanted`.
pub(crate) fn has_labels(labels: &[(Name, Name)], wanted: &[(Name, Name)]) -> bool {
    wanted.iter().all(|pair| labels.contains(pair))
}

/// The value of the label, or annotation, `key`.
pub(crate) fn label<'a>(labels: &'a [(Name, Name)], key: &str) -> Option<&'a Name> {
    let found = labels.iter().find(|(known, _)| **known == *key);
    found.map(|(_, value)| value)
}

/// Labels as they are found; nothing is checked.
pub(crate) fn labels(fields: &mut Fields<'_, '_>, key: &'static str) -> Labels {
    fields
        .text_map(key)
        .into_iter()
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

/// Labels that must be such as Kubernetes has them.
pub(super) fn valid_labels(fields: &mut Fields<'_, '_>, key: &'static str) -> Labels {
    for entry in entries(fields, key) {
        let (name, span) = (entry.key.as_str(), &entry.key_span);
        let what = "the key of a label";
        demand(fields.diagnostics, (name, span), what, label_key(name));
        if let Some(value) = entry.value.as_scalar() {
            let (what, span) = ("the value of a label", &entry.value.span);
            demand(fields.diagnostics, (value, span), what, label_value(value));
        }
    }
    labels(fields, key)
}

/// The selector `selector` (its labels in `key`), if there is one. One without labels is for every
/// workload.
pub(super) fn selector(
    fields: &mut Fields<'_, '_>,
    selector: &'static str,
    key: &'static str,
) -> Option<Labels> {
    let node = fields.optional(selector)?;
    let mut inner = Fields::of(node, "a workload selector", fields.diagnostics)?;
    for entry in entries(&mut inner, key) {
        let value = entry.value.as_scalar().unwrap_or_default();
        let mut complain = |message: &str, span| {
            let label = format!("`{}={value}`", entry.key);
            inner
                .diagnostics
                .push(Diagnostic::error(message).at(span, label));
        };
        if entry.key.is_empty() {
            complain("a label of a selector has a key", &entry.key_span);
        }
        if entry.key.contains('*') {
            complain("a selector knows no wildcards", &entry.key_span);
        }
        if value.contains('*') {
            complain("a selector knows no wildcards", &entry.value.span);
        }
        if value.len() > 63 {
            complain(
                "the value of a label has 63 characters at most",
                &entry.value.span,
            );
        }
    }
    let wanted = labels(&mut inner, key);
    inner.finish();
    if wanted.is_empty() {
        fields.diagnostics.push(
            schema_warning("a workload selector without labels is for every workload")
                .at(&node.span, "no labels"),
        );
    }
    Some(wanted)
}

/// Something a policy is attached to.
pub(super) struct Reference {
    pub(super) kind: String,
    pub(super) name: Name,
    pub(super) span: Span,
}

/// Reads `selector`, `targetRef` and `targetRefs`, of which an object has one at most.
pub(super) fn read_target(fields: &mut Fields<'_, '_>) -> (Option<Labels>, Vec<Reference>) {
    let selected = selector(fields, "selector", "matchLabels");
    let several = fields.list("targetRefs");
    let single = fields.optional("targetRef");
    let one = single.and_then(|node| read_reference(node, fields.diagnostics));
    let references = one.into_iter().chain(read_references(fields)).collect();
    let present: Vec<&Node> = [fields.optional("selector"), single]
        .into_iter()
        .flatten()
        .chain(several.first())
        .collect();
    if let [_, second, ..] = present[..] {
        let message = "`selector`, `targetRef` and `targetRefs` exclude each other";
        refuse(fields.diagnostics, &second.span, message, "a second one");
    }
    (selected, references)
}

/// Reads `targetRefs`.
pub(super) fn read_references(fields: &mut Fields<'_, '_>) -> Vec<Reference> {
    let nodes = fields.list("targetRefs");
    if let Some(node) = nodes.get(TARGETS_MAX) {
        let message = format!("`targetRefs` has {TARGETS_MAX} entries at most");
        let label = format!("{} entries", nodes.len());
        refuse(fields.diagnostics, &node.span, message, label);
    }
    let nodes = nodes.iter();
    nodes
        .filter_map(|node| read_reference(node, fields.diagnostics))
        .collect()
}

const TARGETS_MAX: usize = 16;

/// Group and kind of what a policy can be attached to.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

fn read_reference(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Reference> {
    let mut fields = Fields::of(node, "a target reference", diagnostics)?;
    let group = fields.text("group").unwrap_or_default();
    let kind = fields.required_text("kind");
    let name = fields.required_text("name");
    let namespace = fields.optional("namespace");
    if name.as_deref() == Some("") {
        let message = "a target reference has a name";
        refuse(fields.diagnostics, &node.span, message, "`name` is empty");
    }
    if let Some(node) = namespace.filter(|node| node.as_scalar() != Some("")) {
        let message = "a target is in the object's own namespace";
        refuse(fields.diagnostics, &node.span, message, "cannot be stated");
    }
    let plain = if group == "core" { "" } else { group.as_str() };
    let known = |kind: &String| TARGETS.contains(&(plain, kind.as_str()));
    if let Some(kind) = kind.as_ref().filter(|kind| !known(kind)) {
        let names = TARGETS.map(|(group, kind)| match group {
            "" => kind.to_owned(),
            group => format!("{group}/{kind}"),
        });
        let message = format!("`{group}/{kind}` is nothing that a policy can be attached to");
        let help = format!("one of {}", names.join(", "));
        fields.diagnostics.push(
            Diagnostic::error(message)
                .at(&node.span, "group and kind")
                .help(help),
        );
    }
    fields.finish();
    Some(Reference {
        kind: kind?,
        name: name?.into(),
        span: node.span.clone(),
    })
}

//! Which workloads an object is for: label selectors, `targetRef` and `targetRefs`.

use super::syntax::{demand, label_key, label_value};
use super::{Labels, schema_warning};
use proxy_core::xds::Name;
use source::node::Entry;
use source::{Diagnostic, Fields, Node};

/// Whether `labels` has all of `wanted`.
pub(crate) fn has_labels(labels: &[(Name, Name)], wanted: &[(Name, Name)]) -> bool {
    wanted.iter().all(|pair| labels.contains(pair))
}

/// Labels as they are found; nothing is checked.
pub(crate) fn labels(fields: &mut Fields<'_, '_>, key: &'static str) -> Labels {
    fields
        .text_map(key)
        .into_iter()
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

fn entries<'n>(fields: &mut Fields<'n, '_>, key: &'static str) -> &'n [Entry] {
    let map = fields.optional(key).and_then(Node::as_map);
    map.map_or(&[], |map| &map.entries)
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
        let mut refuse = |message: &str, span| {
            let label = format!("`{}={value}`", entry.key);
            inner
                .diagnostics
                .push(Diagnostic::error(message).at(span, label));
        };
        if entry.key.is_empty() {
            refuse("a label of a selector has a key", &entry.key_span);
        }
        if entry.key.contains('*') {
            refuse("a selector knows no wildcards", &entry.key_span);
        }
        if value.contains('*') {
            refuse("a selector knows no wildcards", &entry.value.span);
        }
        if value.len() > 63 {
            refuse(
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

/// Checks `selector`, `targetRef` and `targetRefs`, of which an object has one at most.
pub(super) fn check_target(fields: &mut Fields<'_, '_>) {
    selector(fields, "selector", "matchLabels");
    let several = fields.list("targetRefs");
    let single = fields.optional("targetRef");
    for node in single.into_iter().chain(several) {
        check_reference(node, fields.diagnostics);
    }
    if several.len() > 16 {
        let message = "`targetRefs` has 16 entries at most";
        let label = format!("{} entries", several.len());
        let at = &several[16].span;
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(at, label));
    }
    let present: Vec<&Node> = [fields.optional("selector"), single]
        .into_iter()
        .flatten()
        .chain(several.first())
        .collect();
    if let [_, second, ..] = present[..] {
        let message = "`selector`, `targetRef` and `targetRefs` exclude each other";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&second.span, "a second one"));
    }
}

/// Group and kind of what a policy can be attached to.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

fn check_reference(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a target reference", diagnostics) else {
        return;
    };
    let group = fields.text("group").unwrap_or_default();
    let kind = fields.required_text("kind").unwrap_or_default();
    let name = fields.required_text("name");
    let namespace = fields.optional("namespace").filter(|node| node.raw != "");
    if name.is_some_and(|name| name.is_empty()) {
        let message = "a target reference has a name";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "`name` is empty"));
    }
    if let Some(node) = namespace {
        let message = "a target is in the object's own namespace";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "cannot be stated"));
    }
    let plain = if group == "core" { "" } else { group.as_str() };
    if !kind.is_empty() && !TARGETS.contains(&(plain, kind.as_str())) {
        let known: Vec<String> = TARGETS
            .iter()
            .map(|(group, kind)| match *group {
                "" => (*kind).to_owned(),
                group => format!("{group}/{kind}"),
            })
            .collect();
        let message = format!("`{group}/{kind}` is nothing that a policy can be attached to");
        let help = format!("one of {}", known.join(", "));
        fields.diagnostics.push(
            Diagnostic::error(message)
                .at(&node.span, "group and kind")
                .help(help),
        );
    }
    fields.finish();
}

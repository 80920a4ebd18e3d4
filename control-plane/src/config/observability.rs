//! Telemetry and ProxyConfig: checked, but without influence on where requests go.

use super::selection::{read_target, selector};
use super::{choice, count, duration, entries, number, refuse, schema_warning, written};
use source::fields::expected;
use source::node::Entry;
use source::{Diagnostic, Fields, Node, Value};

/// Checks a Telemetry.
pub(crate) fn check_telemetry(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a Telemetry", diagnostics) else {
        return;
    };
    read_target(&mut fields);
    let tracing = fields.list("tracing");
    if let Some(second) = tracing.get(1) {
        let message = "multiple tracing is not supported by Istio yet";
        fields
            .diagnostics
            .push(schema_warning(message).at(&second.span, "a second one"));
    }
    for node in tracing.iter().filter(|node| node.value != Value::Null) {
        check_tracing(node, fields.diagnostics);
    }
    for node in present(fields.list("metrics")) {
        check_metrics(node, fields.diagnostics);
    }
    for node in present(fields.list("accessLogging")) {
        if let Some(mut inner) = Fields::of(node, "an access log", fields.diagnostics) {
            check_providers(&mut inner);
        }
    }
    fields.finish();
}

/// Those that are not null.
fn present(items: &[Node]) -> impl Iterator<Item = &Node> {
    items.iter().filter(|node| node.value != Value::Null)
}

fn check_providers(fields: &mut Fields<'_, '_>) {
    for node in fields.list("providers") {
        let name = node.at(&["name"]).and_then(Node::as_scalar);
        if name.is_none_or(str::is_empty) {
            refuse(
                fields.diagnostics,
                &node.span,
                "a provider has a name",
                "no `name`",
            );
        }
    }
}

fn check_tracing(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "tracing", diagnostics) else {
        return;
    };
    if let Some(second) = fields.list("providers").get(1) {
        let message = "multiple providers of traces are not supported by Istio yet";
        fields
            .diagnostics
            .push(schema_warning(message).at(&second.span, "a second one"));
    }
    check_providers(&mut fields);
    number(&mut fields, "randomSamplingPercentage", 0.0, 100.0);
    for entry in entries(&mut fields, "customTags") {
        if entry.key.is_empty() {
            let span = &entry.key_span;
            refuse(fields.diagnostics, span, "a custom tag has a name", "empty");
        }
        check_tag(entry, fields.diagnostics);
    }
}

/// The kinds of a custom tag, and what each must say.
const TAGS: [(&str, &str); 4] = [
    ("literal", "value"),
    ("environment", "name"),
    ("header", "name"),
    ("formatter", "value"),
];

fn check_tag(entry: &Entry, diagnostics: &mut Vec<Diagnostic>) {
    if entry.value.as_map().is_none() {
        diagnostics.push(expected(&entry.value, "a custom tag is a map"));
        return;
    }
    let stated: Vec<_> = TAGS
        .into_iter()
        .filter_map(|(kind, key)| Some((kind, key, entry.value.at(&[kind])?)))
        .collect();
    if let [_, (kind, _, second), ..] = stated[..] {
        let message = "a custom tag is of one kind";
        refuse(
            diagnostics,
            &second.span,
            message,
            format!("`{kind}` as well"),
        );
    }
    for (kind, key, node) in stated {
        if node
            .at(&[key])
            .and_then(Node::as_scalar)
            .is_none_or(str::is_empty)
        {
            let message = format!("a custom tag of kind `{kind}` has a `{key}`");
            refuse(diagnostics, &node.span, message, format!("no `{key}`"));
        }
    }
}

fn check_metrics(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "metrics", diagnostics) else {
        return;
    };
    check_providers(&mut fields);
    duration(&mut fields, "reportingInterval");
    for node in fields.list("overrides") {
        let Some(mut inner) = Fields::of(node, "an override of metrics", fields.diagnostics) else {
            continue;
        };
        for entry in entries(&mut inner, "tagOverrides") {
            check_tag_override(entry, inner.diagnostics);
        }
        let wanted = inner.optional("match");
        let (metric, custom) = match wanted {
            Some(node) => (node.at(&["metric"]), node.at(&["customMetric"])),
            None => (None, None),
        };
        if let (Some(_), Some(node)) = (metric, custom) {
            let message = "a match has either `metric` or `customMetric`";
            refuse(inner.diagnostics, &node.span, message, "beside `metric`");
        }
        if let Some(node) = custom.filter(|node| written(node).is_empty()) {
            let message = "a `customMetric` has a name";
            refuse(inner.diagnostics, &node.span, message, "empty");
        }
    }
}

fn check_tag_override(entry: &Entry, diagnostics: &mut Vec<Diagnostic>) {
    if entry.key.is_empty() {
        let message = "a tag to override has no name";
        diagnostics.push(schema_warning(message).at(&entry.key_span, "empty"));
    }
    let Some(mut fields) = Fields::of(&entry.value, "an override of a tag", diagnostics) else {
        return;
    };
    let operations = [("UPSERT", true), ("REMOVE", false)];
    let sets = choice(&mut fields, "operation", &operations).unwrap_or(true);
    let value = fields
        .optional("value")
        .filter(|node| !written(node).is_empty());
    match (sets, value) {
        (true, None) => {
            let message = "a `value` must be set when operation is UPSERT";
            refuse(fields.diagnostics, &entry.value.span, message, "no `value`");
        }
        (false, Some(value)) => {
            let message = "a `value` is set only when operation is UPSERT";
            refuse(fields.diagnostics, &value.span, message, "beside REMOVE");
        }
        _ => {}
    }
    fields.finish();
}

/// Checks a ProxyConfig.
pub(crate) fn check_proxy_config(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a ProxyConfig", diagnostics) else {
        return;
    };
    selector(&mut fields, "selector", "matchLabels");
    count(&mut fields, "concurrency");
    // A proxy has as many workers as the scenario says.
    fields.unsupported(&["concurrency"]);
    fields.ignore(&["environmentVariables", "image"]);
    fields.finish();
}

//! What Istio's validation demands of the patches of an EnvoyFilter.

use super::envoy_filter_match::CONNECTION_MANAGERS;
use super::{choice, port, refuse, regex, schema_warning, written};
use source::{Diagnostic, Fields, Node};

/// What is patched, and the match that goes with it.
const APPLY_TO: [(&str, Option<&str>); 12] = [
    ("INVALID", None),
    ("LISTENER", Some("listener")),
    ("FILTER_CHAIN", Some("listener")),
    ("NETWORK_FILTER", Some("listener")),
    ("HTTP_FILTER", Some("listener")),
    ("ROUTE_CONFIGURATION", Some("routeConfiguration")),
    ("VIRTUAL_HOST", Some("routeConfiguration")),
    ("HTTP_ROUTE", Some("routeConfiguration")),
    ("CLUSTER", Some("cluster")),
    ("EXTENSION_CONFIG", None),
    ("BOOTSTRAP", None),
    ("LISTENER_FILTER", None),
];
const MATCHES: [&str; 4] = ["listener", "routeConfiguration", "cluster", "waypoint"];
const OPERATIONS: [(&str, &str); 9] = [
    ("INVALID", ""),
    ("MERGE", "MERGE"),
    ("ADD", "ADD"),
    ("REMOVE", "REMOVE"),
    ("INSERT_BEFORE", "INSERT_BEFORE"),
    ("INSERT_AFTER", "INSERT_AFTER"),
    ("INSERT_FIRST", "INSERT_FIRST"),
    ("REPLACE", "REPLACE"),
    ("MERGE_AND_REPLACE_LIST", "MERGE_AND_REPLACE_LIST"),
];
const CONTEXTS: [(&str, bool); 5] = [
    ("ANY", false),
    ("SIDECAR_INBOUND", false),
    ("SIDECAR_OUTBOUND", false),
    ("GATEWAY", false),
    ("WAYPOINT", true),
];

/// Checks one of the `configPatches`.
pub(super) fn check_patch(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a config patch", diagnostics) else {
        return;
    };
    let class = choice(&mut fields, "applyTo", &APPLY_TO);
    let apply_to = fields.optional("applyTo").map(written);
    let waypoint = match fields.optional("match") {
        Some(node) => check_match(node, apply_to, class.flatten(), fields.diagnostics),
        None => false,
    };
    if !waypoint && matches!(apply_to, None | Some("INVALID")) {
        let message = "a config patch says what it applies to";
        refuse(fields.diagnostics, &node.span, message, "no `applyTo`");
    }
    let patch = fields.optional("patch");
    if patch.is_none() && !waypoint {
        let message = "a config patch has a `patch`";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "`patch` is missing",
        );
    }
    if let Some(node) = patch
        && let Some(mut inner) = Fields::of(node, "a patch", fields.diagnostics)
    {
        let operation = choice(&mut inner, "operation", &OPERATIONS).unwrap_or_default();
        let value = inner.optional("value");
        if operation.is_empty() && !waypoint {
            let message = "a patch has an operation";
            refuse(inner.diagnostics, &node.span, message, "no `operation`");
        } else if operation != "REMOVE" && value.is_none() && !waypoint {
            let message = "a patch that does not remove has a value";
            refuse(inner.diagnostics, &node.span, message, "no `value`");
        }
        inner.ignore(&["filterClass"]);
        inner.finish();
    }
    fields.finish();
}

/// Whether it is for waypoints, of which Istio checks less.
fn check_match(
    node: &Node,
    apply_to: Option<&str>,
    class: Option<&str>,
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    let Some(mut fields) = Fields::of(node, "a match of a config patch", diagnostics) else {
        return false;
    };
    let waypoint = choice(&mut fields, "context", &CONTEXTS).unwrap_or(false);
    let stated: Vec<(&str, &Node)> = MATCHES
        .into_iter()
        .filter_map(|key| Some((key, fields.optional(key)?)))
        .collect();
    let about_waypoint = stated.iter().find(|(key, _)| *key == "waypoint");
    if waypoint != about_waypoint.is_some() {
        let message = "context WAYPOINT and the match `waypoint` go together";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "one without the other",
        );
    }
    if let [_, (key, second), ..] = stated[..] {
        let message = format!("a match is of one of {}", MATCHES.join(", "));
        refuse(
            fields.diagnostics,
            &second.span,
            message,
            format!("`{key}` as well"),
        );
    }
    if let Some((_, node)) = about_waypoint
        && let Some(mut inner) = Fields::of(node, "a match of waypoints", fields.diagnostics)
    {
        port(&mut inner, "portNumber");
    }
    if let (Some(class), [(key, node), ..], false) = (class, &stated[..], waypoint)
        && class != *key
    {
        let message = format!("{} goes with a match of `{class}`", apply_to.unwrap_or(""));
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            format!("found `{key}`"),
        );
    }
    if let Some(version) = fields
        .optional("proxy")
        .and_then(|node| node.at(&["proxyVersion"]))
    {
        match written(version).len() {
            0 => {}
            1..=1024 => drop(regex(version, fields.diagnostics)),
            _ => {
                let message = "`proxyVersion` has 1024 characters at most";
                fields
                    .diagnostics
                    .push(schema_warning(message).at(&version.span, "left out of account"));
            }
        }
    }
    if let (Some(listener), false) = (fields.optional("listener"), waypoint) {
        check_filter(listener, apply_to, fields.diagnostics);
    }
    fields.finish();
    waypoint
}

/// Checks the filter that a match of listeners names.
fn check_filter(listener: &Node, apply_to: Option<&str>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(filter) = listener.at(&["filterChain", "filter"]) else {
        return;
    };
    let name_of = |node: &Node| {
        let name = node.at(&["name"]).and_then(Node::as_scalar);
        name.unwrap_or_default().to_owned()
    };
    if let Some(whole @ ("LISTENER" | "FILTER_CHAIN")) = apply_to {
        let message = format!("a filter to match has no effect on {whole}");
        diagnostics.push(schema_warning(message).at(&filter.span, "a filter"));
    }
    let name = name_of(filter);
    if name.is_empty() {
        refuse(
            diagnostics,
            &filter.span,
            "a filter to match has a name",
            "no `name`",
        );
        return;
    }
    let Some(inner) = filter.at(&["subFilter"]) else {
        return;
    };
    let complaint = if apply_to != Some("HTTP_FILTER") {
        "`subFilter` goes with HTTP_FILTER only"
    } else if !CONNECTION_MANAGERS.contains(&name.as_str()) {
        "`subFilter` is within the filter `envoy.filters.network.http_connection_manager`"
    } else if name_of(inner).is_empty() {
        "a `subFilter` has a name"
    } else {
        return;
    };
    refuse(
        diagnostics,
        &inner.span,
        complaint,
        "a filter within a filter",
    );
}

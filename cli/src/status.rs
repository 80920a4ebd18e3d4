//! `meshsim check --status`: what Istio's controller would write into objects of the Gateway API.

use control_plane::{GatewayApiStatus, StatusCondition, StatusReference};
use std::fmt::Write;

pub(crate) fn text(statuses: &[GatewayApiStatus]) -> String {
    if statuses.is_empty() {
        return "no object of the Gateway API that Istio's controller looks after\n".to_owned();
    }
    let mut text = String::new();
    for object in statuses {
        let metadata = &object.metadata;
        let name = match metadata.namespace.is_empty() {
            true => metadata.name.to_string(),
            false => format!("{}/{}", metadata.namespace, metadata.name),
        };
        let status = &object.status;
        let addresses: Vec<&str> = status.addresses.iter().map(|a| &*a.value).collect();
        let at = match addresses.is_empty() {
            true => String::new(),
            false => format!(" at {}", addresses.join(", ")),
        };
        let _ = writeln!(text, "{} {name}{at}", object.kind);
        conditions(&mut text, "  ", &status.conditions);
        for listener in &status.listeners {
            let routes = match listener.attached_routes {
                1 => "1 route".to_owned(),
                many => format!("{many} routes"),
            };
            let _ = writeln!(text, "  listener {}: {routes}", listener.name);
            conditions(&mut text, "    ", &listener.conditions);
        }
        for parent in status.parents.iter().flatten() {
            let _ = writeln!(text, "  parent {}", reference(&parent.parent_ref));
            conditions(&mut text, "    ", &parent.conditions);
        }
        for ancestor in status.ancestors.iter().flatten() {
            let _ = writeln!(text, "  for {}", reference(&ancestor.ancestor_ref));
            conditions(&mut text, "    ", &ancestor.conditions);
        }
    }
    text
}

fn conditions(text: &mut String, indent: &str, conditions: &[StatusCondition]) {
    for condition in conditions {
        let StatusCondition {
            kind,
            status,
            reason,
            message,
        } = condition;
        let _ = writeln!(text, "{indent}{kind:<14} {status:<5} {reason}: {message}");
    }
}

/// As the object states it.
fn reference(reference: &StatusReference) -> String {
    let kind = reference.kind.as_deref().unwrap_or("Gateway");
    let namespace = reference.namespace.as_deref();
    let mut text = match namespace {
        Some(namespace) => format!("{kind} {namespace}/{}", reference.name),
        None => format!("{kind} {}", reference.name),
    };
    if let Some(section) = &reference.section_name {
        let _ = write!(text, ", section {section}");
    }
    if let Some(port) = reference.port {
        let _ = write!(text, ", port {port}");
    }
    text
}

//! Statuses that say that something does not hold (IST0171).

use super::input::{Input, Report};
use crate::codes::IST0171;
use crate::documents::{
    AUTHORIZATION_POLICY, Document, GRPC_ROUTE, HTTP_ROUTE, KUBERNETES_GATEWAY, Kind, SERVICE,
    SERVICE_ENTRY, WORKLOAD_ENTRY,
};
use crate::read::{items, text};
use source::Node;

pub(super) const KINDS: &[Kind] = &[
    SERVICE,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    AUTHORIZATION_POLICY,
    KUBERNETES_GATEWAY,
    HTTP_ROUTE,
    GRPC_ROUTE,
];

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    for kind in KINDS {
        for document in input.of(*kind) {
            for condition in conditions(document) {
                if is_negative(*kind, condition) {
                    say(document, condition, report);
                }
            }
        }
    }
}

fn conditions(document: &Document) -> Vec<&Node> {
    match document.kind {
        HTTP_ROUTE | GRPC_ROUTE => {
            let parents = items(&document.node, &["status", "parents"]).iter();
            let of_parents = parents.flat_map(|parent| items(parent, &["conditions"]));
            of_parents.collect()
        }
        _ => items(&document.node, &["status", "conditions"])
            .iter()
            .collect(),
    }
}

fn is_negative(kind: Kind, condition: &Node) -> bool {
    let types: &[&str] = match kind {
        SERVICE | SERVICE_ENTRY | WORKLOAD_ENTRY => &["istio.io/WaypointBound"],
        AUTHORIZATION_POLICY => &["ZtunnelAccepted", "WaypointAccepted"],
        _ => &["Accepted", "Programmed", "ResolvedRefs"],
    };
    let named = text(condition, &["type"]);
    // `False` in quotes, as an API server writes it, or not.
    let is_false = text(condition, &["status"]).eq_ignore_ascii_case("false");
    let partly = kind == AUTHORIZATION_POLICY
        && named == "WaypointAccepted"
        && text(condition, &["reason"]) == "PartiallyInvalid";
    types.contains(&named) && is_false || partly
}

fn say(document: &Document, condition: &Node, report: &mut Report<'_>) {
    let part = |key| text(condition, &[key]);
    let diagnostic = IST0171
        .says(format!(
            "its status says `{}` does not hold: {}",
            part("type"),
            part("reason")
        ))
        .at(&condition.span, part("message"));
    report.say(document, diagnostic);
}

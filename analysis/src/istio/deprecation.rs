//! Fields and kinds that Istio has given up (IST0002).

use super::input::{Input, Report};
use crate::codes::IST0002;
use crate::documents::{CUSTOM_RESOURCE_DEFINITION, SIDECAR, VIRTUAL_SERVICE};
use crate::read::{items, present, text};
use source::Value;

/// Kinds of `rbac.istio.io`.
const REMOVED: [&str; 4] = [
    "ClusterRbacConfig",
    "RbacConfig",
    "ServiceRole",
    "ServiceRoleBinding",
];

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    for document in input.of(VIRTUAL_SERVICE) {
        for rule in items(&document.node, &["spec", "http"]) {
            let Some(percent) = present(rule, &["fault", "delay", "percent"]) else {
                continue;
            };
            let set = match percent.value {
                Value::Int(percent) => percent > 0,
                Value::Float(percent) => percent > 0.0,
                _ => false,
            };
            if set {
                let diagnostic = IST0002
                    .says("`percent` of a delay is deprecated")
                    .at(&percent.span, "a whole number of percents")
                    .help("write `percentage: {value: N}`");
                report.say_once(document, diagnostic);
            }
        }
    }
    for document in input.of(SIDECAR) {
        let path = ["spec", "outboundTrafficPolicy", "egressProxy"];
        if let Some(proxy) = present(&document.node, &path) {
            let diagnostic = IST0002
                .says("`egressProxy` of a Sidecar is no longer")
                .at(&proxy.span, "has no effect");
            report.say_once(document, diagnostic);
        }
    }
    for document in input.of(CUSTOM_RESOURCE_DEFINITION) {
        let kind = text(&document.node, &["spec", "names", "kind"]);
        let group = text(&document.node, &["spec", "group"]);
        if group == "rbac.istio.io" && REMOVED.contains(&kind) {
            let diagnostic = IST0002
                .says(format!("Istio has no kind {kind} of {group} any more"))
                .at(document.place(), "its objects have no effect")
                .help("write AuthorizationPolicies");
            report.say_once(document, diagnostic);
        }
    }
}

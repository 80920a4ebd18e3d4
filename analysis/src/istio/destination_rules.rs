//! TLS to servers that nobody verifies (IST0128, IST0129).

use super::input::{Input, Report};
use crate::codes::{Code, IST0128, IST0129};
use crate::documents::{DESTINATION_RULE, Document};
use crate::read::{items, number, present, text};
use source::Node;

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    for document in input.of(DESTINATION_RULE) {
        let Some(policy) = document.node.at(&["spec", "trafficPolicy"]) else {
            continue;
        };
        check(document, policy, None, report);
        for settings in items(policy, &["portLevelSettings"]) {
            let port = number(settings, &["port", "number"]);
            check(document, settings, Some(port), report);
        }
    }
}

/// Of a traffic policy, of a port or of the whole host.
fn check(document: &Document, policy: &Node, port: Option<i64>, report: &mut Report<'_>) {
    let Some(tls) = present(policy, &["tls"]) else {
        return;
    };
    let mode = text(tls, &["mode"]);
    // A gateway's workload reads its credential, certificates included, from a Secret.
    let by_secret = !text(tls, &["credentialName"]).is_empty()
        && present(&document.node, &["spec", "workloadSelector"]).is_some();
    let verified = !text(tls, &["caCertificates"]).is_empty() || by_secret;
    if verified || !["SIMPLE", "MUTUAL"].contains(&mode) {
        return;
    }
    let host = text(&document.node, &["spec", "host"]);
    let (code, what): (Code, String) = match port {
        None => (IST0128, format!("`{host}`")),
        Some(port) => (IST0129, format!("port {port} of `{host}`")),
    };
    let place = present(tls, &["mode"]).unwrap_or(tls);
    let diagnostic = code
        .says(format!("TLS to {what} does not verify the server"))
        .at(
            &place.span,
            "without `caCertificates` any certificate will do",
        )
        .help("name the authority's certificates in `caCertificates`");
    report.say(document, diagnostic);
}

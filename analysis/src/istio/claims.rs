//! Routes that ask for claims of a token that no gateway verifies (IST0149).

use super::input::{ISTIO_NAMESPACE, Input, Report};
use crate::codes::IST0149;
use crate::documents::{Document, GATEWAY, POD, REQUEST_AUTHENTICATION, VIRTUAL_SERVICE};
use crate::hosts::named;
use crate::read::{entries, items, texts};
use crate::selector::Selector;
use source::node::Entry;
use std::collections::BTreeMap;

const PREFIX: &str = "@request.auth.claims";

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let mut authentications: BTreeMap<&str, Vec<Selector<'_>>> = BTreeMap::new();
    for document in input.of(REQUEST_AUTHENTICATION) {
        let labels = entries(&document.node, &["spec", "selector", "matchLabels"]);
        let of_namespace = authentications.entry(&document.namespace).or_default();
        of_namespace.push(Selector::of(labels));
    }
    for document in input.of(VIRTUAL_SERVICE) {
        let Some(claim) = claim(document) else {
            continue;
        };
        for written in texts(&document.node, &["spec", "gateways"]) {
            let (namespace, name) = named(written, &document.namespace);
            if written == "mesh" {
                continue;
            }
            let Some(gateway) = input.find(GATEWAY, namespace, name) else {
                continue;
            };
            let selector = Selector::of(entries(&gateway.node, &["spec", "selector"]));
            for pod in input.of(POD).filter(|pod| selector.matches(pod.labels())) {
                let mut applying = [ISTIO_NAMESPACE, &pod.namespace]
                    .into_iter()
                    .flat_map(|namespace| authentications.get(namespace))
                    .flatten();
                if applying.any(|selector| selector.matches(pod.labels())) {
                    continue;
                }
                let diagnostic = IST0149
                    .says(format!(
                        "a route asks for `{}`, and no RequestAuthentication applies to pod {} of \
                         gateway {namespace}/{name}",
                        claim.key, pod.name
                    ))
                    .at(
                        &claim.key_span,
                        "there are no claims without a verified token",
                    )
                    .help("add a RequestAuthentication that selects the pods of the gateway");
                report.say(document, diagnostic);
            }
        }
    }
}

/// The first match that asks for a claim.
fn claim(document: &Document) -> Option<&Entry> {
    let rules = items(&document.node, &["spec", "http"]).iter();
    let matches = rules.flat_map(|rule| items(rule, &["match"]));
    matches
        .flat_map(|one| ["headers", "withoutHeaders"].map(|key| entries(one, &[key])))
        .flatten()
        .find(|entry| is_claim(&entry.key))
}

/// `@request.auth.claims.NAME`, or `@request.auth.claims[NAME]`.
fn is_claim(header: &str) -> bool {
    let (Some(prefix), Some(name)) = (header.get(..PREFIX.len()), header.get(PREFIX.len()..))
    else {
        return false;
    };
    let dotted = name.starts_with('.') && name.len() > 1;
    let bracketed = name.starts_with('[') && name.ends_with(']') && name.len() > 2;
    prefix.eq_ignore_ascii_case(PREFIX) && (dotted || bracketed)
}

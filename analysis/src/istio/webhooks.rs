//! Webhooks that inject: several for one pod, or one that calls nobody (IST0139).

use super::input::{Input, Report};
use super::workloads::{INJECT, INJECTION, REVISION};
use crate::codes::IST0139;
use crate::documents::{Document, MUTATING_WEBHOOK, SERVICE};
use crate::read::{entries, items, present, text, texts, value_of};
use crate::selector::label_selector_matches;
use source::Node;
use std::collections::{BTreeMap, BTreeSet};

/// A webhook, and the configuration that has it.
type Hook<'n> = (&'n Document, &'n Node);

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let mut hooks: Vec<Hook<'_>> = Vec::new();
    let mut revisions = BTreeSet::new();
    for document in input.of(MUTATING_WEBHOOK) {
        let own = items(&document.node, &["webhooks"]);
        let named = own
            .iter()
            .any(|hook| text(hook, &["name"]).ends_with("istio.io"));
        let asked = asked_revisions(document, own);
        if named || !asked.is_empty() {
            hooks.extend(own.iter().map(|hook| (document, hook)));
            revisions.extend(asked);
        }
    }
    for namespace in combinations(INJECTION, ["enabled", "disabled"], &revisions) {
        for pod in combinations(INJECT, ["true", "false"], &revisions) {
            check_overlap(&hooks, &namespace, &pod, report);
        }
    }
    for (document, hook) in hooks.iter().filter(|_| input.knows(SERVICE)) {
        check_service(input, document, hook, report);
    }
}

/// The revisions that a configuration, or the selectors of its webhooks, ask for.
fn asked_revisions<'n>(document: &'n Document, hooks: &'n [Node]) -> BTreeSet<&'n str> {
    let mut revisions: BTreeSet<&str> = document.label(REVISION).into_iter().collect();
    let both = ["namespaceSelector", "objectSelector"];
    for selector in hooks
        .iter()
        .flat_map(|hook| both.map(|key| present(hook, &[key])))
    {
        let Some(selector) = selector else {
            continue;
        };
        revisions.extend(value_of(entries(selector, &["matchLabels"]), REVISION));
        for expression in items(selector, &["matchExpressions"]) {
            if text(expression, &["key"]) == REVISION {
                revisions.extend(texts(expression, &["values"]));
            }
        }
    }
    revisions
}

/// Labels that matter to injection: `key` with each value or without, each revision or none.
fn combinations<'n>(
    key: &'n str,
    values: [&'n str; 2],
    revisions: &BTreeSet<&'n str>,
) -> Vec<BTreeMap<&'n str, &'n str>> {
    let values = || std::iter::once(None).chain(values.into_iter().map(Some));
    let revisions = std::iter::once(None).chain(revisions.iter().copied().map(Some));
    revisions
        .flat_map(|revision| values().map(move |value| (revision, value)))
        .map(|(revision, value)| {
            let revision = revision.map(|revision| (REVISION, revision));
            revision
                .into_iter()
                .chain(value.map(|value| (key, value)))
                .collect()
        })
        .collect()
}

/// A pod is injected by one webhook at most.
fn check_overlap(
    hooks: &[Hook<'_>],
    namespace: &BTreeMap<&str, &str>,
    pod: &BTreeMap<&str, &str>,
    report: &mut Report<'_>,
) {
    let takes = |(_, hook): &&Hook<'_>| {
        label_selector_matches(present(hook, &["namespaceSelector"]), namespace)
            && label_selector_matches(present(hook, &["objectSelector"]), pod)
    };
    let taking: BTreeMap<String, &Hook<'_>> = hooks
        .iter()
        .filter(takes)
        .map(|one| (name(one), one))
        .collect();
    for (own, (document, hook)) in &taking {
        let others: Vec<&str> = taking
            .keys()
            .filter(|name| *name != own)
            .map(String::as_str)
            .collect();
        if others.is_empty() {
            continue;
        }
        let place = hook.at(&["name"]).unwrap_or(hook);
        let diagnostic = IST0139
            .says(format!(
                "pods are injected by other webhooks too: {}",
                others.join(", ")
            ))
            .at(&place.span, "a pod may get two sidecars")
            .help("make their selectors exclude each other, or remove the older installation");
        report.say_once(document, diagnostic);
    }
}

fn name((document, hook): &Hook<'_>) -> String {
    format!("{}/{}", document.name, text(hook, &["name"]))
}

fn check_service(input: &Input<'_>, document: &Document, hook: &Node, report: &mut Report<'_>) {
    let Some(service) = present(hook, &["clientConfig", "service"]) else {
        return;
    };
    let (namespace, name) = (text(service, &["namespace"]), text(service, &["name"]));
    if input.find(SERVICE, namespace, name).is_some() {
        return;
    }
    let names: Vec<&str> = input
        .of(SERVICE)
        .filter(|one| one.namespace == namespace)
        .map(|one| &*one.name)
        .collect();
    let diagnostic = IST0139
        .says(format!(
            "the webhook calls Service {namespace}/{name}, which is not there"
        ))
        .at(&service.span, "no pod can be made that it is asked about")
        .nearest(name, names);
    report.say_once(document, diagnostic);
}

//! AuthorizationPolicies that apply to no pod, or name namespaces that are not there (IST0101, IST0127).

use super::input::{Input, Pods, Report};
use super::workloads::{in_mesh, is_ambient};
use crate::codes::{IST0101, IST0127};
use crate::documents::{AUTHORIZATION_POLICY, Document, NAMESPACE};
use crate::read::{entries, items, present};
use crate::selector::Selector;
use std::collections::BTreeMap;

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let mut by_namespace: BTreeMap<&str, Vec<Pods<'_>>> = BTreeMap::new();
    for pods in input.pods() {
        if in_mesh(input, pods) || is_ambient(pods.node) {
            by_namespace.entry(pods.namespace).or_default().push(pods);
        }
    }
    let namespaces: Vec<&str> = input.of(NAMESPACE).map(|one| &*one.name).collect();
    for document in input.of(AUTHORIZATION_POLICY) {
        if input.knows_pods() {
            check_selector(input, document, &by_namespace, report);
        }
        if input.knows(NAMESPACE) {
            check_namespaces(document, &namespaces, report);
        }
    }
}

fn check_selector(
    input: &Input<'_>,
    document: &Document,
    by_namespace: &BTreeMap<&str, Vec<Pods<'_>>>,
    report: &mut Report<'_>,
) {
    let of_mesh = document.namespace == input.root_namespace();
    let written = present(&document.node, &["spec", "selector"]);
    let selector = match written {
        Some(node) => Selector::of(entries(node, &["matchLabels"])),
        // Of the mesh, and so of pods that these files may not have.
        None if of_mesh => return,
        None => Selector::default(),
    };
    let takes = |all: &Vec<Pods<'_>>| all.iter().any(|pods| selector.matches(pods.labels));
    let found = match of_mesh {
        true => by_namespace.values().any(takes),
        false => by_namespace.get(&*document.namespace).is_some_and(takes),
    };
    if found {
        return;
    }
    let namespace = &document.namespace;
    let diagnostic = match written {
        Some(node) => IST0127
            .says(format!("no pod in the mesh has the labels {selector}"))
            .at(&node.span, "selects nothing"),
        None => IST0127
            .says(format!("namespace {namespace} has no pod in the mesh"))
            .at(document.place(), "applies to nothing"),
    };
    report.say(
        document,
        diagnostic.help("only pods with a sidecar, or in ambient mode, are asked to authorize"),
    );
}

fn check_namespaces(document: &Document, namespaces: &[&str], report: &mut Report<'_>) {
    let rules = items(&document.node, &["spec", "rules"]).iter();
    let sources = rules.flat_map(|rule| items(rule, &["from"]));
    for source in sources.filter_map(|from| present(from, &["source"])) {
        let named = items(source, &["namespaces"]).iter();
        for node in named.chain(items(source, &["notNamespaces"])) {
            let written = node.as_scalar().unwrap_or_default();
            if namespaces.iter().any(|name| is_meant(name, written)) {
                continue;
            }
            let diagnostic = IST0101
                .says(format!("namespace `{written}` not found"))
                .at(&node.span, "no such namespace")
                .nearest(written, namespaces.iter().copied());
            report.say(document, diagnostic);
        }
    }
}

/// Whether a namespace is meant by what is written, which may begin or end with `*`.
fn is_meant(name: &str, written: &str) -> bool {
    match (written.strip_prefix('*'), written.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name.eq_ignore_ascii_case(written),
    }
}

//! Sidecars that select the same pods as others, or none (IST0101, IST0110, IST0111, IST0167).

use super::input::{Input, Report};
use super::workloads::{is_ambient, namespace_is_ambient};
use crate::codes::{IST0101, IST0110, IST0111, IST0167};
use crate::documents::{Document, Kind, NAMESPACE, POD, SIDECAR};
use crate::read::entries;
use crate::selector::Selector;
use std::collections::BTreeMap;

const LABELS: [&str; 3] = ["spec", "workloadSelector", "labels"];

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    for (pod, sidecars) in selecting(input, SIDECAR, &LABELS, report) {
        check_pod(pod, &sidecars, report);
    }
    let mut of_namespaces: BTreeMap<&str, Vec<&Document>> = BTreeMap::new();
    for sidecar in input.of(SIDECAR) {
        if Selector::of(entries(&sidecar.node, &LABELS)).is_empty() {
            let of_namespace = of_namespaces.entry(&sidecar.namespace).or_default();
            of_namespace.push(sidecar);
        }
    }
    for (namespace, sidecars) in &of_namespaces {
        let object = input.find(NAMESPACE, "", namespace);
        check_namespace(namespace, object, sidecars, report);
    }
}

/// The pods that objects of a kind select, each with those objects. Says of objects that select none.
/// `labels` is where the kind has its selector.
pub(super) fn selecting<'d>(
    input: &'d Input<'_>,
    kind: Kind,
    labels: &[&str],
    report: &mut Report<'_>,
) -> Vec<(&'d Document, Vec<&'d Document>)> {
    let mut pods: BTreeMap<&str, Vec<&Document>> = BTreeMap::new();
    for pod in input.of(POD) {
        pods.entry(&pod.namespace).or_default().push(pod);
    }
    let mut of_pods: BTreeMap<(&str, &str), (&Document, Vec<&Document>)> = BTreeMap::new();
    for document in input.of(kind) {
        let selector = Selector::of(entries(&document.node, labels));
        if selector.is_empty() {
            continue;
        }
        let own = pods.get(&*document.namespace).into_iter().flatten();
        let mut selected = own.filter(|pod| selector.matches(pod.labels())).peekable();
        if selected.peek().is_none() && !will_be_selected(input, document, &selector) {
            report.say(document, no_pods(document, labels, &selector));
        }
        for pod in selected {
            let key = (&*pod.namespace, &*pod.name);
            let (_, of_pod) = of_pods.entry(key).or_insert_with(|| (pod, Vec::new()));
            of_pod.push(document);
        }
    }
    of_pods.into_values().collect()
}

/// Whether a workload of its namespace makes pods that are selected, or the objects do not tell.
fn will_be_selected(input: &Input<'_>, document: &Document, selector: &Selector<'_>) -> bool {
    let mut own = input
        .pods()
        .filter(|pods| pods.namespace == document.namespace);
    !input.knows_pods() || own.any(|pods| selector.matches(pods.labels))
}

/// Says that no pod of its namespace is selected.
fn no_pods(document: &Document, path: &[&str], selector: &Selector<'_>) -> source::Diagnostic {
    let place = document.node.at(path);
    let place = place.map_or(document.place(), |place| &place.span);
    IST0101
        .says(format!("selector `{selector}` selects nothing"))
        .at(
            place,
            format!("no pod of {} has these labels", document.namespace),
        )
}

/// The names of objects of one namespace.
pub(super) fn names(documents: &[&Document]) -> String {
    let mut names: Vec<&str> = documents.iter().map(|one| &*one.name).collect();
    names.sort_unstable();
    names.join(", ")
}

fn check_pod(pod: &Document, sidecars: &[&Document], report: &mut Report<'_>) {
    for sidecar in sidecars {
        if is_ambient(&pod.node) {
            say_ambient(sidecar, report);
        } else if sidecars.len() > 1 {
            let diagnostic = IST0110
                .says(format!(
                    "Sidecars {} of {} select the same pod {}",
                    names(sidecars),
                    pod.namespace,
                    pod.name
                ))
                .at(sidecar.place(), "which of them counts is not sure")
                .help("let one Sidecar select a pod");
            report.say(sidecar, diagnostic);
        }
    }
}

fn check_namespace(
    namespace: &str,
    object: Option<&Document>,
    sidecars: &[&Document],
    report: &mut Report<'_>,
) {
    for sidecar in sidecars {
        if object.is_some_and(namespace_is_ambient) {
            say_ambient(sidecar, report);
        } else if sidecars.len() > 1 {
            let diagnostic = IST0111
                .says(format!(
                    "Sidecars {} of {namespace} have no workload selector",
                    names(sidecars)
                ))
                .at(sidecar.place(), "which of them counts is not sure")
                .help("one of them at most is for all pods of a namespace");
            report.say_once(sidecar, diagnostic);
        }
    }
}

fn say_ambient(sidecar: &Document, report: &mut Report<'_>) {
    let diagnostic = IST0167
        .says("the pods that it is for are in ambient mode")
        .at(sidecar.place(), "has no effect: they have no sidecar");
    report.say_once(sidecar, diagnostic);
}

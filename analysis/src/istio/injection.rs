//! Namespaces and pods that should have sidecars (IST0102, IST0103, IST0123, IST0146 to IST0148).

use super::input::{ISTIO_NAMESPACE, Input, Report};
use super::workloads::{
    DATAPLANE_MODE, INJECT, INJECTION, PROXY, REVISION, all_containers, proxy_image,
};
use crate::codes::{IST0102, IST0103, IST0123, IST0146, IST0147, IST0148};
use crate::documents::{CONFIG_MAP, DEPLOYMENT, Document, MUTATING_WEBHOOK, NAMESPACE, POD};
use crate::read::{entries, is_true, items, present, text, value_of};
use crate::selector::label_selector_matches;
use source::node::Entry;
use source::{Dialect, Node, SourceFile, parse};
use std::collections::{BTreeMap, BTreeSet};

/// The name of the ConfigMap that injection of a revision is configured by.
pub(super) fn injector(revision: &str) -> String {
    match revision {
        "" | "default" => "istio-sidecar-injector".to_owned(),
        revision => format!("istio-sidecar-injector-{revision}"),
    }
}

/// The values that Istio was installed with, as such a ConfigMap holds them.
pub(super) fn values(map: &Document) -> Option<Node> {
    let written = value_of(entries(&map.node, &["data"]), "values")?;
    let (documents, _) = parse(&SourceFile::new("values", written), Dialect::Kubernetes);
    documents.into_iter().next()
}

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let mut injected = BTreeSet::new();
    for namespace in input.of(NAMESPACE) {
        if namespace.name != ISTIO_NAMESPACE && check_namespace(input, namespace, report) {
            injected.insert(&*namespace.name);
        }
    }
    for pod in input.of(POD) {
        if injected.contains(&*pod.namespace) {
            check_pod(pod, report);
        }
    }
}

/// Whether its pods should have sidecars by the older of the two labels.
fn check_namespace(input: &Input<'_>, namespace: &Document, report: &mut Report<'_>) -> bool {
    let injection = namespace.label(INJECTION);
    let others = [REVISION, DATAPLANE_MODE].into_iter();
    let others = others.filter(|_| injection.is_none_or(|value| value == "enabled"));
    let labels: Vec<String> = std::iter::once(INJECTION)
        .chain(others)
        .filter_map(|key| Some(format!("{key}={}", namespace.label(key)?)))
        .collect();
    if labels.len() > 1 {
        let place = namespace.node.at(&["metadata", "labels"]);
        let place = place.map_or(namespace.place(), |place| &place.span);
        let diagnostic = IST0123
            .says(format!("the namespace has {}", labels.join(" and ")))
            .at(place, "which of them counts is not sure")
            .help("keep one of the labels");
        report.say_once(namespace, diagnostic);
    }
    if namespace.label(DATAPLANE_MODE) == Some("ambient") {
        return false;
    }
    if injection.unwrap_or_default().is_empty() && namespace.label(REVISION).is_none() {
        let place = namespace.place();
        let diagnostic = match is_everywhere(input) {
            true => IST0148
                .says("pods of the namespace get sidecars: Istio injects into all namespaces")
                .at(place, "no label says so"),
            false => IST0102
                .says("pods of the namespace get no sidecars")
                .at(place, "no label asks for them")
                .help(format!(
                    "label it `{INJECTION}: enabled`, or `disabled` if that is meant"
                )),
        };
        report.say_once(namespace, diagnostic);
        return false;
    }
    injection == Some("enabled")
}

/// Whether Istio was installed with `enableNamespacesByDefault`.
fn is_everywhere(input: &Input<'_>) -> bool {
    let map = input.of(CONFIG_MAP).find(|map| map.name == injector(""));
    let path = ["sidecarInjectorWebhook", "enableNamespacesByDefault"];
    map.and_then(values)
        .is_some_and(|values| is_true(&values, &path))
}

fn check_pod(pod: &Document, report: &mut Report<'_>) {
    let asked = pod.label(INJECT).or_else(|| pod.annotation(INJECT));
    let refused = asked.is_some_and(|asked| asked.eq_ignore_ascii_case("false"));
    let proxy = proxy_image(all_containers(&pod.node, &["spec"]));
    if refused || is_true(&pod.node, &["spec", "hostNetwork"]) || !proxy.is_empty() {
        return;
    }
    let diagnostic = IST0103
        .says(format!("pod {} has no sidecar", pod.full_name()))
        .at(pod.place(), "its namespace asks for one")
        .help("a sidecar is added when a pod is made: restart or redeploy the workload");
    report.say_once(pod, diagnostic);
}

/// `image: auto` stands for the image that injection puts there.
pub(super) fn analyze_automatic_images(input: &Input<'_>, report: &mut Report<'_>) {
    for pod in input.of(POD) {
        if let Some(image) = automatic_image(&pod.node, &["spec", "containers"]) {
            let diagnostic = IST0147
                .says("`image: auto` was not replaced by injection")
                .at(&image.span, "is no image")
                .help("the pod was made where no webhook of Istio's selects it");
            report.say_once(pod, diagnostic);
        }
    }
    let hooks = || {
        let hooks = input
            .of(MUTATING_WEBHOOK)
            .flat_map(|map| items(&map.node, &["webhooks"]));
        hooks.filter(|hook| text(hook, &["name"]).ends_with("istio.io"))
    };
    for deployment in input
        .of(DEPLOYMENT)
        .filter(|_| input.knows(MUTATING_WEBHOOK))
    {
        let template = ["spec", "template", "spec", "containers"];
        let Some(image) = automatic_image(&deployment.node, &template) else {
            continue;
        };
        let namespace = input.find(NAMESPACE, "", &deployment.namespace);
        let of_namespace = label_map(namespace.map_or(&[], |namespace| namespace.labels()));
        let labels = entries(
            &deployment.node,
            &["spec", "template", "metadata", "labels"],
        );
        let of_pod = label_map(labels);
        let selected = hooks().any(|hook| {
            let namespaces = present(hook, &["namespaceSelector"]);
            let objects = present(hook, &["objectSelector"]);
            label_selector_matches(namespaces, &of_namespace)
                && label_selector_matches(objects, &of_pod)
        });
        if !selected {
            let diagnostic = IST0146
                .says("`image: auto` will not be replaced: no webhook of Istio's selects the pods")
                .at(&image.span, "is no image")
                .help("label the namespace, or the pods, so that they are injected");
            report.say_once(deployment, diagnostic);
        }
    }
}

fn automatic_image<'n>(node: &'n Node, containers: &[&str]) -> Option<&'n Node> {
    let mut containers = items(node, containers).iter();
    let found = containers.find(|container| {
        text(container, &["name"]) == PROXY && text(container, &["image"]) == "auto"
    });
    found?.at(&["image"])
}

fn label_map(labels: &[Entry]) -> BTreeMap<&str, &str> {
    let value = |entry: &'_ Entry| entry.value.as_scalar().map(str::len);
    labels
        .iter()
        .filter(|entry| value(entry).is_some())
        .map(|entry| (&*entry.key, entry.value.as_scalar().unwrap_or_default()))
        .collect()
}

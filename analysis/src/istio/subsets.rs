//! DestinationRules for hosts that are not there, and subsets that select no pod (IST0173, IST0174).

use super::input::{Input, Pods, Report};
use super::pod_index::{Labels, PodIndex};
use super::service_hosts::Hosts;
use crate::codes::{IST0173, IST0174};
use crate::documents::{DESTINATION_RULE, Document, NODE, SERVICE};
use crate::read::{entries, items, text, texts};
use crate::selector::Selector;
use std::collections::BTreeMap;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    if !input.knows(SERVICE) {
        return;
    }
    let hosts = Hosts::new(input);
    let pods = PodIndex::with_more(input, |pod, labels| add_of_node(input, pod, labels));
    for document in input.of(DESTINATION_RULE) {
        let export_to = texts(&document.node, &["spec", "exportTo"]);
        let host = text(&document.node, &["spec", "host"]);
        let Some(found) = hosts.find(&document.namespace, &export_to, host) else {
            let place = document.node.at(&["spec", "host"]);
            let place = place.map_or(document.place(), |place| &place.span);
            let names = hosts.names(&document.namespace);
            let diagnostic = IST0174
                .says(format!("no service has the host `{host}`"))
                .at(place, "the rule applies to nothing")
                .nearest(host, names.iter().map(String::as_str));
            report.say_once(document, diagnostic);
            continue;
        };
        check_subsets(document, &found.selector(), &pods, report);
    }
}

/// Of subsets with one name the last.
fn check_subsets(
    document: &Document,
    of_host: &Selector<'_>,
    pods: &PodIndex<'_>,
    report: &mut Report<'_>,
) {
    let subsets = items(&document.node, &["spec", "subsets"]).iter();
    let named: BTreeMap<&str, _> = subsets.map(|one| (text(one, &["name"]), one)).collect();
    for (name, subset) in named {
        let labels = Selector::of(entries(subset, &["labels"]));
        let selector = of_host.clone().and(labels);
        if pods.selected(&selector).next().is_some() {
            continue;
        }
        let place = subset.at(&["labels"]).unwrap_or(subset);
        let diagnostic = IST0173
            .says(format!("subset `{name}` selects no pod"))
            .at(&place.span, format!("no pod of the service has {selector}"))
            .help("requests that are sent to it fail with 503 (UH)");
        report.say_once(document, diagnostic);
    }
}

/// Adds the labels that the node of a pod gives it.
fn add_of_node<'n>(input: &'n Input<'_>, pod: Pods<'n>, labels: &mut Labels<'n>) {
    let name = text(pod.node, &["spec", "nodeName"]);
    if let Some(node) = input.find(NODE, "", name) {
        add_locality(labels, node);
    }
    if !name.is_empty() {
        labels.insert(HOSTNAME, name);
    }
}

/// A subzone counts within a zone only.
fn add_locality<'n>(labels: &mut Labels<'n>, node: &'n Document) {
    let known = |key| Some(node.label(key)?).filter(|value| !value.is_empty());
    if let Some(region) = known(REGION) {
        labels.insert(REGION, region);
    }
    if let Some(zone) = known(ZONE) {
        labels.insert(ZONE, zone);
        if let Some(subzone) = known(SUBZONE) {
            labels.insert(SUBZONE, subzone);
        }
    }
}

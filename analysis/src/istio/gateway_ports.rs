//! Ports of Gateways that no Service leads to (IST0162), and Gateways without pods (IST0101).

use super::gateways::{say_no_pods, selector};
use super::input::{Input, Report};
use super::pod_index::PodIndex;
use crate::codes::IST0162;
use crate::documents::{Document, GATEWAY, SERVICE};
use crate::read::{entries, items, number, present, text};
use crate::selector::Selector;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let mut services: BTreeMap<&str, Vec<(Selector<'_>, BTreeSet<i64>)>> = BTreeMap::new();
    for service in input.of(SERVICE) {
        let selector = Selector::of(entries(&service.node, &["spec", "selector"]));
        let of_namespace = services.entry(&service.namespace).or_default();
        of_namespace.push((selector, ports(service)));
    }
    let index = PodIndex::new(input);
    for gateway in input.of(GATEWAY) {
        let selector = selector(gateway);
        let mut selected = index.selected(&selector).peekable();
        if selected.peek().is_none() {
            say_no_pods(input, gateway, &selector, report);
            continue;
        }
        let mut offered = BTreeSet::new();
        for pods in selected {
            let of_namespace = services.get(pods.namespace).into_iter().flatten();
            let selecting = of_namespace.filter(|(selector, _)| selector.matches(pods.labels));
            offered.extend(selecting.flat_map(|(_, ports)| ports));
        }
        for server in items(&gateway.node, &["spec", "servers"]) {
            let Some(port) = present(server, &["port"]) else {
                continue;
            };
            let number = number(port, &["number"]);
            if offered.contains(&number) {
                continue;
            }
            let listed: Vec<String> = offered.iter().map(i64::to_string).collect();
            let place = port.at(&["number"]).unwrap_or(port);
            let diagnostic = IST0162
                .says(format!(
                    "no Service of the pods with {selector} leads to port {number}"
                ))
                .at(
                    &place.span,
                    "is listened on, and not reached through a Service",
                );
            let diagnostic = match listed.is_empty() {
                true => diagnostic,
                false => diagnostic.help(format!("their Services lead to {}", listed.join(", "))),
            };
            report.say_once(gateway, diagnostic);
        }
    }
}

/// The ports that a Service leads to: its target ports, and its own, which Istio translates.
fn ports(service: &Document) -> BTreeSet<i64> {
    let ports = items(&service.node, &["spec", "ports"]).iter();
    let tcp = ports.filter(|port| ["", "TCP"].contains(&text(port, &["protocol"])));
    tcp.flat_map(|port| {
        let target = text(port, &["targetPort"]).parse().ok();
        [Some(number(port, &["port"])), target]
    })
    .flatten()
    .collect()
}

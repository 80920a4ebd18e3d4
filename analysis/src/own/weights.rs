//! Weights that send requests elsewhere than they seem to: to no one, or all to one.

use super::read::text;
use crate::codes::{MSH0013, MSH0014, MSH0015, MSH0016};
use crate::documents::{Documents, GRPC_ROUTE, HTTP_ROUTE, VIRTUAL_SERVICE};
use crate::read::items;
use source::{Diagnostic, Node};

pub(super) fn check(documents: &Documents, found: &mut Vec<Diagnostic>) {
    for document in documents.of(VIRTUAL_SERVICE) {
        let before = found.len();
        for kind in ["http", "tls", "tcp"] {
            for rule in items(&document.node, &["spec", kind]) {
                check_route(items(rule, &["route"]), found);
            }
        }
        for diagnostic in &mut found[before..] {
            diagnostic.resource = Some(document.resource());
        }
    }
    let routes = [HTTP_ROUTE, GRPC_ROUTE].into_iter();
    for document in routes.flat_map(|kind| documents.of(kind)) {
        let before = found.len();
        for rule in items(&document.node, &["spec", "rules"]) {
            check_backends(rule, found);
        }
        for diagnostic in &mut found[before..] {
            diagnostic.resource = Some(document.resource());
        }
    }
}

/// `None`: not stated, or no number.
fn weight(route: &Node) -> Option<u32> {
    text(route, &["weight"])?.parse().ok()
}

/// The destinations of a rule of a VirtualService, where no weight is a weight of 0.
fn check_route(route: &[Node], found: &mut Vec<Diagnostic>) {
    if let [only] = route {
        // 1 and 100 are ways to say "all".
        if let Some(node) = only.at(&["weight"])
            && let Some(stated @ (0 | 2..=99)) = weight(only)
        {
            let message = format!("a weight of {stated} changes nothing: there is one destination");
            let help = "leave `weight` out, or add the destination that the rest goes to";
            let label = "every request goes there";
            found.push(MSH0015.says(message).at(&node.span, label).help(help));
        }
        return;
    }
    let total: u64 = route.iter().filter_map(weight).map(u64::from).sum();
    if total == 0 {
        // Validation refuses it.
        return;
    }
    for to in route.iter().filter(|to| weight(to).unwrap_or(0) == 0) {
        let name = name_of(to.at(&["destination"]));
        match to.at(&["weight"]) {
            Some(node) => found.push(idle(&name, node)),
            None => found.push(
                MSH0013
                    .says(format!(
                        "{name} gets no request: it has no weight beside others that have one"
                    ))
                    .at(&to.span, "without a `weight`, it is 0")
                    .help("state the `weight` of each destination"),
            ),
        }
    }
}

/// Of the Gateway API, where no weight is a weight of 1.
fn check_backends(rule: &Node, found: &mut Vec<Diagnostic>) {
    let backends = items(rule, &["backendRefs"]);
    let idle_ones = backends.iter().filter(|to| weight(to) == Some(0));
    let idle_ones: Vec<&Node> = idle_ones.collect();
    if !backends.is_empty() && idle_ones.len() == backends.len() {
        if let Some(node) = rule.at(&["backendRefs"]) {
            found.push(
                MSH0016
                    .says("every request that this rule takes is answered 500: all weights are 0")
                    .at(&node.span, "no backend can be chosen")
                    .help("give at least one backend a `weight` above 0"),
            );
        }
        return;
    }
    for to in idle_ones {
        let name = text(to, &["name"]).unwrap_or("this backend");
        if let Some(node) = to.at(&["weight"]) {
            found.push(idle(&format!("`{name}`"), node));
        }
    }
}

fn idle(name: &str, weight: &Node) -> Diagnostic {
    MSH0014
        .says(format!("{name} gets no request"))
        .at(&weight.span, "of weight 0")
        .help("leave it out, unless its turn is still to come")
}

fn name_of(destination: Option<&Node>) -> String {
    let part = |key| destination.and_then(|node| text(node, &[key]));
    match (part("host"), part("subset")) {
        (Some(host), Some(subset)) => format!("subset `{subset}` of `{host}`"),
        (Some(host), None) => format!("`{host}`"),
        _ => "this destination".to_owned(),
    }
}

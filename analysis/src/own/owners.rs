//! DestinationRules for one host, of which only one can have its say.

use super::blocks::host_of;
use super::read::{list, text};
use crate::codes::MSH0018;
use crate::documents::{DESTINATION_RULE, Document, Documents};
use source::{Diagnostic, Node, Span};
use std::collections::BTreeMap;

pub(super) fn check(documents: &Documents, found: &mut Vec<Diagnostic>) {
    let mut of_host: BTreeMap<(&str, String), Vec<&Document>> = BTreeMap::new();
    for rule in documents.of(DESTINATION_RULE) {
        if let Some(host) = host_of(rule) {
            of_host
                .entry((&rule.namespace, host))
                .or_default()
                .push(rule);
        }
    }
    for ((_, host), rules) in &of_host {
        for (at, rule) in rules.iter().enumerate() {
            let clash = rules[..at]
                .iter()
                .find_map(|other| clash(host, other, rule));
            found.extend(clash.map(|mut diagnostic| {
                diagnostic.resource = Some(rule.resource());
                diagnostic
            }));
        }
    }
}

/// What two rules for `host` both say. Istio merges them if they are for the same clients: then
/// subsets of both count, and of what both state the older one's.
fn clash(host: &str, one: &Document, other: &Document) -> Option<Diagnostic> {
    let selector =
        |rule: &Document| pairs(rule.node.at(&["spec", "workloadSelector", "matchLabels"]));
    if selector(one) != selector(other) {
        return None;
    }
    let exports = [exports(one), exports(other)];
    if exports[0] != exports[1] {
        return shown_to_some(&exports).then(|| {
            let message = format!("two DestinationRules for {host} are not merged: they differ in `exportTo`");
            let label = format!("clients that see `{}` too get only the younger of the two", one.name);
            let help = "one rule, or the same `exportTo` in both, if their subsets and policies shall add up";
            MSH0018.says(message).at(place(other, "exportTo"), label).help(help)
        });
    }
    let policy = |rule: &'_ Document| rule.node.at(&["spec", "trafficPolicy"]).is_some();
    if policy(one) && policy(other) {
        let message = format!(
            "two DestinationRules state a `trafficPolicy` for {host}: one of them is ignored"
        );
        let label = format!(
            "Istio takes that of the older one; `{}` has one too",
            one.name
        );
        let help = "one DestinationRule for the host";
        return Some(
            MSH0018
                .says(message)
                .at(place(other, "trafficPolicy"), label)
                .help(help),
        );
    }
    let subsets = |rule: &'_ Document| list(&rule.node, &["spec", "subsets"]).to_vec();
    let known = subsets(one);
    let twice = subsets(other).into_iter().find_map(|subset| {
        let name = text(&subset, &["name"])?.to_owned();
        let other = known
            .iter()
            .find(|own| text(own, &["name"]) == Some(&name))?;
        let same = pairs(other.at(&["labels"])) == pairs(subset.at(&["labels"]))
            && other.at(&["trafficPolicy"]).is_none()
            && subset.at(&["trafficPolicy"]).is_none();
        (!same).then_some((name, subset.span))
    });
    twice.map(|(name, span)| {
        let message = format!(
            "two DestinationRules define subset `{name}` of {host}: one of them is ignored"
        );
        let label = format!(
            "Istio takes that of the older one; `{}` has one too",
            one.name
        );
        MSH0018
            .says(message)
            .at(&span, label)
            .help("one definition, or another name")
    })
}

fn pairs(map: Option<&Node>) -> Option<BTreeMap<String, String>> {
    let entries = &map?.as_map()?.entries;
    let pair = |entry: &source::node::Entry| {
        (
            entry.key.clone(),
            text(&entry.value, &[]).unwrap_or_default().to_owned(),
        )
    };
    Some(entries.iter().map(pair).collect())
}

/// Whom a rule is for; its own namespace is `.`, and without a list it is nobody in particular.
fn exports(rule: &Document) -> Vec<String> {
    let stated = list(&rule.node, &["spec", "exportTo"]).iter();
    let mut names: Vec<String> = stated
        .filter_map(|node| text(node, &[]))
        .map(|name| match name == rule.namespace {
            true => ".".to_owned(),
            false => name.to_owned(),
        })
        .collect();
    names.sort();
    names
}

/// Whether there may be clients that see both.
fn shown_to_some(exports: &[Vec<String>; 2]) -> bool {
    let everyone = |names: &Vec<String>| names.is_empty() || names.iter().any(|name| name == "*");
    let [one, other] = exports;
    everyone(one) || everyone(other) || one.iter().any(|name| other.contains(name))
}

fn place<'d>(rule: &'d Document, key: &str) -> &'d Span {
    rule.node
        .at(&["spec", key])
        .map_or(rule.place(), |node| &node.span)
}

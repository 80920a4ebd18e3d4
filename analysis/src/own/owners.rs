//! DestinationRules for one host, of which only one can have its say.

use super::blocks::{Rules, subset_of};
use super::read::text;
use crate::codes::MSH0018;
use crate::documents::Document;
use crate::read::items;
use source::{Diagnostic, Node, Span};
use std::collections::BTreeMap;

pub(super) fn check(rules: &Rules<'_>, found: &mut Vec<Diagnostic>) {
    for (host, rules) in rules.by_host() {
        for (at, rule) in rules.iter().enumerate() {
            let mut others = rules[..at].iter();
            found.extend(others.find_map(|other| clash(host, other, rule)));
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
    if are_apart(&exports) {
        return are_both_seen(&exports).then(|| differently_exported(host, one, other));
    }
    same_policy(host, one, other).or_else(|| same_subset(host, one, other))
}

fn differently_exported(host: &str, one: &Document, other: &Document) -> Diagnostic {
    let message =
        format!("two DestinationRules for {host} are not merged: they differ in `exportTo`");
    let label = format!(
        "clients that see `{}` too get only the younger of the two",
        one.name
    );
    let help =
        "one rule, or the same `exportTo` in both, if their subsets and policies shall add up";
    about(
        MSH0018
            .says(message)
            .at(place(other, "exportTo"), label)
            .help(help),
        other,
    )
}

fn same_policy(host: &str, one: &Document, other: &Document) -> Option<Diagnostic> {
    let (older, younger, known) = by_age(one, other);
    let policy = |rule: &Document| rule.node.at(&["spec", "trafficPolicy"]).is_some();
    if !policy(older) || !policy(younger) {
        return None;
    }
    let message =
        format!("two DestinationRules state a `trafficPolicy` for {host}: one of them is ignored");
    let label = taken(older, known);
    let help = "one DestinationRule for the host";
    let diagnostic = MSH0018
        .says(message)
        .at(place(younger, "trafficPolicy"), label)
        .help(help);
    Some(about(diagnostic, younger))
}

fn same_subset(host: &str, one: &Document, other: &Document) -> Option<Diagnostic> {
    let (older, younger, known) = by_age(one, other);
    let policy = |subset: &Node| subset.at(&["trafficPolicy"]).is_some();
    items(&younger.node, &["spec", "subsets"])
        .iter()
        .find_map(|subset| {
            let name = text(subset, &["name"])?;
            let first = subset_of(older, name)?;
            let alike = pairs(first.at(&["labels"])) == pairs(subset.at(&["labels"]));
            if alike && !policy(first) && !policy(subset) {
                return None;
            }
            let message = format!(
                "two DestinationRules define subset `{name}` of {host}: one of them is ignored"
            );
            let help = "one definition, or another name";
            let diagnostic = MSH0018
                .says(message)
                .at(&subset.span, taken(older, known))
                .help(help);
            Some(about(diagnostic, younger))
        })
}

fn taken(older: &Document, known: bool) -> String {
    match known {
        true => format!("`{}` is older, and Istio takes what it says", older.name),
        false => format!(
            "Istio takes what the older one says; the other is `{}`",
            older.name
        ),
    }
}

/// The older one first, and whether that is known: objects of one age go by name, but files do not
/// say when they will be applied.
fn by_age<'d>(one: &'d Document, other: &'d Document) -> (&'d Document, &'d Document, bool) {
    let created = |rule: &'d Document| text(&rule.node, &["metadata", "creationTimestamp"]);
    match (created(one), created(other)) {
        (Some(a), Some(b)) if a > b => (other, one, true),
        (Some(_), Some(_)) => (one, other, true),
        _ => (one, other, false),
    }
}

fn about(mut diagnostic: Diagnostic, rule: &Document) -> Diagnostic {
    diagnostic.resource = Some(rule.resource());
    diagnostic
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
    let stated = items(&rule.node, &["spec", "exportTo"]).iter();
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

/// Whether rules with these are not merged whichever is older: the younger one has to be for all that
/// the older one is for, and no list is none that names everybody.
fn are_apart([one, other]: &[Vec<String>; 2]) -> bool {
    let within = |a: &Vec<String>, b: &Vec<String>| a.iter().all(|name| b.contains(name));
    let stated = !one.is_empty() && !other.is_empty();
    one != other && !(stated && (within(one, other) || within(other, one)))
}

/// Whether there may be clients that see both.
fn are_both_seen([one, other]: &[Vec<String>; 2]) -> bool {
    let everyone = |names: &Vec<String>| names.is_empty() || names.iter().any(|name| name == "*");
    everyone(one) || everyone(other) || one.iter().any(|name| other.contains(name))
}

fn place<'d>(rule: &'d Document, key: &str) -> &'d Span {
    rule.node
        .at(&["spec", key])
        .map_or(rule.place(), |node| &node.span)
}

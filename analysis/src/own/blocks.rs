//! Where the setting that holds for a cluster was written.

use super::read::{count, text};
use super::views::Outbound;
use crate::documents::{DESTINATION_RULE, Document, Documents};
use crate::read::items;
use control_plane::full_name;
use proxy_core::xds::Cluster;
use source::Node;

/// A block of a traffic policy, such as `outlierDetection`, and the rule that it stands in.
#[derive(Clone, Copy)]
pub(super) struct Block<'d> {
    pub(super) rule: &'d Document,
    pub(super) node: &'d Node,
}

/// The block `key` that holds for `cluster`. `None` if no DestinationRule states it.
pub(super) fn block_of<'d>(
    documents: &'d Documents,
    cluster: &Cluster,
    key: &str,
) -> Option<Block<'d>> {
    let origin = cluster
        .origin
        .as_ref()
        .filter(|origin| &*origin.kind == "DestinationRule")?;
    let of = Outbound::of(&cluster.name)?;
    let shaping = documents.find(DESTINATION_RULE, &origin.namespace, &origin.name)?;
    let host = host_of(shaping)?;
    // Rules of one host and namespace are merged.
    let others = documents.of(DESTINATION_RULE).filter(|rule| {
        rule.namespace == shaping.namespace
            && rule.name != shaping.name
            && host_of(rule).as_ref() == Some(&host)
    });
    let rules: Vec<&Document> = std::iter::once(shaping).chain(others).collect();
    let of_subset = || {
        rules.iter().find_map(|rule| {
            let subset = subset_of(rule, of.subset)?;
            Some((*rule, subset.at(&["trafficPolicy"])?))
        })
    };
    let of_rule = || {
        let mut rules = rules.iter();
        rules.find_map(|rule| Some((*rule, rule.node.at(&["spec", "trafficPolicy"])?)))
    };
    let levels = [of_subset(), of_rule()];
    levels.into_iter().flatten().find_map(|(rule, policy)| {
        let at_port = items(policy, &["portLevelSettings"])
            .iter()
            .find(|entry| count(entry, &["port", "number"]) == Some(of.port.into()));
        // An entry for the port replaces everything at its level, and what it lacks is not inherited.
        match (at_port, policy.at(&[key])) {
            (Some(entry), _) => Some(entry.at(&[key])),
            (None, Some(node)) => Some(Some(node)),
            (None, None) => None,
        }
        .map(|node| node.map(|node| Block { rule, node }))
    })?
}

/// The subset of that name; there is none without a name.
pub(super) fn subset_of<'d>(rule: &'d Document, name: &str) -> Option<&'d Node> {
    let mut subsets = items(&rule.node, &["spec", "subsets"]).iter();
    subsets.find(|subset| text(subset, &["name"]) == Some(name))
}

/// The full name of the host that a DestinationRule is for.
pub(super) fn host_of(rule: &Document) -> Option<String> {
    let host = text(&rule.node, &["spec", "host"])?;
    Some(full_name(host, &rule.namespace).to_string())
}

/// Every traffic policy of a DestinationRule: its own, those of subsets, those of ports.
pub(super) fn policies(rule: &Document) -> impl Iterator<Item = &Node> {
    let subsets = items(&rule.node, &["spec", "subsets"]).iter();
    let whole = rule.node.at(&["spec", "trafficPolicy"]);
    let levels = whole
        .into_iter()
        .chain(subsets.filter_map(|one| one.at(&["trafficPolicy"])));
    levels.flat_map(|level| std::iter::once(level).chain(items(level, &["portLevelSettings"])))
}

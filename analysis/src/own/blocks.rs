//! Where the setting that holds for a cluster was written.

use super::read::{count, text};
use super::views::Outbound;
use crate::documents::{DESTINATION_RULE, Document, Documents};
use crate::read::items;
use control_plane::full_name;
use proxy_core::xds::Cluster;
use source::Node;
use std::collections::BTreeMap;

/// A block of a traffic policy, such as `outlierDetection`, and the rule that it stands in.
#[derive(Clone, Copy)]
pub(super) struct Block<'d> {
    pub(super) rule: &'d Document,
    pub(super) node: &'d Node,
}

/// DestinationRules by namespace and full host.
pub(super) struct Rules<'d> {
    documents: &'d Documents,
    by_host: BTreeMap<(&'d str, String), Vec<&'d Document>>,
}

impl<'d> Rules<'d> {
    pub(super) fn new(documents: &'d Documents) -> Rules<'d> {
        let mut by_host: BTreeMap<_, Vec<&Document>> = BTreeMap::new();
        for rule in documents.of(DESTINATION_RULE) {
            if let Some(host) = host_of(rule) {
                let key = (rule.namespace.as_str(), host);
                by_host.entry(key).or_default().push(rule);
            }
        }
        Rules { documents, by_host }
    }

    /// Each namespace and host with its rules, by name.
    pub(super) fn by_host(&self) -> impl Iterator<Item = (&str, &[&'d Document])> {
        let all = self.by_host.iter();
        all.map(|((_, host), rules)| (host.as_str(), rules.as_slice()))
    }

    /// Those that are merged into what holds for `cluster`, the one that shaped it first.
    fn shaping(&self, cluster: &Cluster) -> Vec<&'d Document> {
        let origin = cluster.origin.as_ref();
        let shaping = origin
            .filter(|origin| &*origin.kind == "DestinationRule")
            .and_then(|of| {
                self.documents
                    .find(DESTINATION_RULE, &of.namespace, &of.name)
            });
        let Some((shaping, host)) = shaping.and_then(|rule| Some((rule, host_of(rule)?))) else {
            return Vec::new();
        };
        let of_host = self.by_host.get(&(shaping.namespace.as_str(), host));
        let others = of_host.into_iter().flatten().copied();
        let others = others.filter(|rule| rule.name != shaping.name);
        std::iter::once(shaping).chain(others).collect()
    }

    /// Where the subset of that cluster is defined.
    pub(super) fn subset(&self, cluster: &Cluster, name: &str) -> Option<(&'d Document, &'d Node)> {
        let rules = self.shaping(cluster);
        let mut rules = rules.into_iter();
        rules.find_map(|rule| Some((rule, subset_of(rule, name)?)))
    }

    /// The block `key` that holds for `cluster`; `None` if no DestinationRule states it.
    pub(super) fn block(&self, cluster: &Cluster, key: &str) -> Option<Block<'d>> {
        let of = Outbound::of(&cluster.name)?;
        let rules = self.shaping(cluster);
        let of_subset = rules.iter().find_map(|rule| {
            let subset = subset_of(rule, of.subset)?;
            Some((*rule, subset.at(&["trafficPolicy"])?))
        });
        let mut own = rules.iter();
        let of_rule = own.find_map(|rule| Some((*rule, rule.node.at(&["spec", "trafficPolicy"])?)));
        let levels = [of_subset, of_rule].into_iter().flatten();
        for (rule, policy) in levels {
            let mut ports = items(policy, &["portLevelSettings"]).iter();
            let at_port = ports.find(|one| count(one, &["port", "number"]) == Some(of.port.into()));
            // An entry for the port replaces everything at its level, and what it lacks is not
            // inherited.
            if let Some(entry) = at_port {
                return Some(Block {
                    rule,
                    node: entry.at(&[key])?,
                });
            }
            if let Some(node) = policy.at(&[key]) {
                return Some(Block { rule, node });
            }
        }
        None
    }
}

/// The subset of that name; there is none without a name.
pub(super) fn subset_of<'d>(rule: &'d Document, name: &str) -> Option<&'d Node> {
    let mut subsets = items(&rule.node, &["spec", "subsets"]).iter();
    subsets.find(|subset| text(subset, &["name"]) == Some(name))
}

/// The full name of the host that a DestinationRule is for.
fn host_of(rule: &Document) -> Option<String> {
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

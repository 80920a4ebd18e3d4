//! Clusters that are used otherwise than before.

use crate::labels::pairs;
use crate::policy::{PodsByAddress, of_cluster};
use crate::report::{Kind, Treatment};
use crate::settings::{SettingChange, treatment};
use crate::side::Indexed;
use proxy_core::xds::{Cluster, LoadAssignment, Name};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A cluster that is used otherwise.
pub(crate) struct PolicyChange {
    pub(crate) settings: Vec<SettingChange>,
    pub(crate) old: Treatment,
    pub(crate) new: Treatment,
}

/// The clusters that both sides or one of them have, and that differ.
pub(crate) fn policies<'r>(
    old: &Indexed<'r>,
    new: &Indexed<'r>,
) -> BTreeMap<&'r Name, PolicyChange> {
    let names: BTreeSet<&Name> = old
        .clusters
        .keys()
        .chain(new.clusters.keys())
        .copied()
        .collect();
    let labels = [
        LazyCell::new(old.side.selected),
        LazyCell::new(new.side.selected),
    ];
    let mut changes = BTreeMap::new();
    for name in names {
        let (before, after) = (old.clusters.get(name), new.clusters.get(name));
        let (ends_before, ends_after) = (old.assignments.get(name), new.assignments.get(name));
        let settings = match (before, after) {
            (Some(before), Some(after)) => {
                let (before, after) = (before.as_ref(), after.as_ref());
                let same_ends = ends_before == ends_after
                    && ends_before.is_none_or(|of| same_pods(of, old.side.pods, new.side.pods));
                // Where no pods are known, what would find them has to do.
                let no_pods = [ends_before, ends_after]
                    .iter()
                    .all(|ends| ends.is_some_and(|of| of.localities.is_empty()));
                let found_by = |side: usize| match no_pods {
                    true => labels[side].get(name),
                    false => None,
                };
                let same_labels = found_by(0) == found_by(1);
                if same_cluster(before, after) && same_ends && same_labels {
                    continue;
                }
                let mut old = of_cluster(before, ends_before.map(|of| &***of), old.side.pods);
                let mut new = of_cluster(after, ends_after.map(|of| &***of), new.side.pods);
                if !same_labels {
                    for (settings, side) in [(&mut old, 0), (&mut new, 1)] {
                        let labels = found_by(side).map(|labels| pairs(labels));
                        settings.set_some(Kind::Policy, "labels of pods", labels);
                    }
                }
                old.changes(&new)
            }
            (before, _) => {
                let there = |is: bool| if is { "there" } else { "missing: 503" };
                vec![SettingChange {
                    kind: Kind::Destination,
                    setting: "cluster".to_owned(),
                    old: there(before.is_some()).to_owned(),
                    new: there(before.is_none()).to_owned(),
                }]
            }
        };
        if settings.is_empty() {
            continue;
        }
        let rules = |cluster: Option<&&Arc<Cluster>>| {
            let origin = cluster.and_then(|cluster| cluster.origin.clone());
            origin.into_iter().collect()
        };
        let change = PolicyChange {
            old: treatment("", &settings, |one| &one.old, rules(before)),
            new: treatment("", &settings, |one| &one.new, rules(after)),
            settings,
        };
        changes.insert(name, change);
    }
    changes
}

/// Whether the endpoints are of the same workloads.
fn same_pods(of: &LoadAssignment, old: &PodsByAddress, new: &PodsByAddress) -> bool {
    let mut endpoints = of.localities.iter().flat_map(|group| &group.endpoints);
    endpoints.all(|endpoint| {
        let ip = endpoint.address.ip();
        old.get(&ip) == new.get(&ip)
    })
}

/// Wherever they come from.
fn same_cluster(a: &Cluster, b: &Cluster) -> bool {
    if a.origin == b.origin {
        return a == b;
    }
    let bare = |cluster: &Cluster| Cluster {
        origin: None,
        ..cluster.clone()
    };
    bare(a) == bare(b)
}

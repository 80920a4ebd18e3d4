//! Which endpoints a proxy prefers, by locality and labels.

use super::ScopeKey;
use crate::config::{Labels, LocalitySetting, PriorityLabel, is_within_locality, label};
use crate::model::topology_labels;
use proxy_core::xds::{Endpoint, LocalityEndpoints, Name};
use std::collections::{BTreeMap, BTreeSet};

/// An endpoint with the labels of what is behind it.
pub(crate) type Labelled = (Endpoint, Labels);

/// Endpoints of one locality and priority.
struct Group {
    locality: Name,
    priority: u32,
    weight: u32,
    endpoints: Vec<Labelled>,
}

/// The groups that a proxy is told of. `fails_over`: the cluster detects outliers.
pub(crate) fn prefer(
    by_locality: BTreeMap<Name, Vec<Labelled>>,
    setting: Option<&LocalitySetting>,
    fails_over: bool,
    from: &ScopeKey,
) -> Vec<LocalityEndpoints> {
    let mut groups: Vec<Group> = by_locality
        .into_iter()
        .map(|(locality, endpoints)| Group::new(locality, 0, endpoints))
        .collect();
    match setting {
        Some(LocalitySetting {
            distribute: Some(rules),
            ..
        }) => {
            let mut rules = rules.iter();
            let rule = rules.find(|rule| is_within_locality(&from.locality, &rule.from));
            if let Some(rule) = rule {
                distribute(&mut groups, &rule.to);
            }
        }
        Some(setting) if fails_over => {
            let by_label = !setting.failover_priority.is_empty();
            if by_label && !from.labels.is_empty() {
                groups = split_by_labels(groups, &setting.failover_priority, from);
            }
            if (!by_label || !setting.failover.is_empty()) && !from.locality.is_empty() {
                order_by_distance(&mut groups, &setting.failover, &from.locality);
            }
        }
        _ => {}
    }
    groups
        .into_iter()
        .map(|group| LocalityEndpoints {
            locality: group.locality,
            priority: group.priority,
            weight: group.weight,
            endpoints: group.endpoints.into_iter().map(|(e, _)| e).collect(),
        })
        .collect()
}

impl Group {
    fn new(locality: Name, priority: u32, endpoints: Vec<Labelled>) -> Group {
        let weights = endpoints.iter().map(|(endpoint, _)| endpoint.weight);
        Group {
            locality,
            priority,
            weight: weights.fold(0, u32::saturating_add),
            endpoints,
        }
    }
}

/// Gives localities their shares; several that one pattern takes in share by their own weights, and
/// those that none does lose their endpoints.
fn distribute(groups: &mut [Group], to: &[(Name, u32)]) {
    let mut left: Vec<&mut Group> = groups.iter_mut().collect();
    for (pattern, share) in to {
        let (mut taken, others): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|group| is_within_locality(&group.locality, pattern));
        left = others;
        // Istio's arithmetic has 32 bits, and a share of nothing changes nothing.
        let weights = taken.iter().map(|group| group.weight);
        let total = weights.fold(0, u32::wrapping_add).max(1);
        for group in &mut taken {
            match group.weight.wrapping_mul(*share).div_ceil(total) {
                0 => {}
                weight => group.weight = weight,
            }
        }
    }
    for group in left {
        group.endpoints.clear();
    }
}

/// The network of an endpoint or proxy; as the first label it is told apart from the others.
const NETWORK: &str = "topology.istio.io/network";

/// Endpoints that share more of the labels with the proxy come first; those of another network, if it is
/// the first label, come after all of the own one, in the same order.
fn split_by_labels(groups: Vec<Group>, labels: &[PriorityLabel], from: &ScopeKey) -> Vec<Group> {
    let wanted = |one: &PriorityLabel| {
        let own = || label(&from.labels, &one.key).cloned();
        one.value.clone().or_else(own).unwrap_or_default()
    };
    let wanted: Vec<Name> = labels.iter().map(wanted).collect();
    let first = labels.first();
    let network_first = first.is_some_and(|one| &*one.key == NETWORK && one.value.is_none());
    let priority_of = |endpoint: &Labelled, locality: &str| {
        let topology = topology_labels(locality);
        let value = |key| {
            let found = label(&endpoint.1, key).or_else(|| label(&topology, key));
            found.cloned().unwrap_or_default()
        };
        let differs = |at: &usize| value(&labels[*at].key) != wanted[*at];
        let mut differing = (0..labels.len()).filter(differs).peekable();
        let elsewhere = network_first && differing.next_if_eq(&0).is_some();
        let rank = differing.next().map_or(0, |at| labels.len() - at);
        (rank + if elsewhere { labels.len() } else { 0 }) as u32
    };
    let mut split = Vec::new();
    for group in groups {
        let mut by_priority: BTreeMap<u32, Vec<Labelled>> = BTreeMap::new();
        for endpoint in group.endpoints {
            let priority = priority_of(&endpoint, &group.locality);
            by_priority.entry(priority).or_default().push(endpoint);
        }
        for (priority, endpoints) in by_priority {
            split.push(Group::new(group.locality.clone(), priority, endpoints));
        }
    }
    close_gaps(&mut split);
    split
}

/// Nearer localities come first, within what labels have decided already.
fn order_by_distance(groups: &mut [Group], failover: &[(Name, Name)], from: &str) {
    for group in groups.iter_mut() {
        group.priority = group.priority * 5 + distance(from, &group.locality, failover);
    }
    close_gaps(groups);
}

/// 0 in the same subzone, 1 zone, 2 region, 3 elsewhere; 4 where another region is to take over.
fn distance(from: &str, to: &str, failover: &[(Name, Name)]) -> u32 {
    let part = |locality: &str, at| locality.split('/').nth(at).unwrap_or("").to_owned();
    let (from_region, to_region) = (part(from, 0), part(to, 0));
    if from_region != to_region {
        let mut failover = failover.iter();
        let takes_over = failover.find(|(region, _)| **region == *from_region);
        return match takes_over {
            Some((_, region)) if **region != *to_region => 4,
            _ => 3,
        };
    }
    if part(from, 1) != part(to, 1) {
        return 2;
    }
    u32::from(part(from, 2) != part(to, 2))
}

/// Priorities have no gaps.
fn close_gaps(groups: &mut [Group]) {
    let used: BTreeSet<u32> = groups.iter().map(|group| group.priority).collect();
    for group in groups {
        group.priority = used.range(..group.priority).count() as u32;
    }
}

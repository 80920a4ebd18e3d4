//! The subset load balancer: hosts by their metadata, each subset with a balancer of its own (Envoy
//! `subset_lb.cc`).

use super::locality::{LocalHosts, Place};
use super::{Balancer, Choice, HostsView, Level, UpdateContext};
use crate::cluster::Host;
use crate::random::{Draws, hash_text, mix};
use crate::time::Nanos;
use crate::xds::{Name, SubsetFallback, Subsets};
use indexmap::{Equivalent, IndexMap};
use rustc_hash::FxBuildHasher;
use std::hash::{Hash, Hasher};

/// The metadata a request asks for: that of the route, and of the weighted cluster, which wins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Criteria<'a> {
    pub(crate) route: &'a [(Name, Name)],
    pub(crate) weighted_cluster: &'a [(Name, Name)],
}

/// Criteria, perhaps with some keys only.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    criteria: Criteria<'a>,
    only: Option<&'a [Name]>,
}

impl<'a> Wanted<'a> {
    fn get(&self, key: &str) -> Option<&'a Name> {
        if self
            .only
            .is_some_and(|only| !only.iter().any(|k| **k == *key))
        {
            return None;
        }
        let Criteria {
            route,
            weighted_cluster,
        } = self.criteria;
        weighted_cluster
            .iter()
            .chain(route)
            .find(|(k, _)| **k == *key)
            .map(|(_, value)| value)
    }

    fn len(&self) -> usize {
        let Criteria {
            route,
            weighted_cluster,
        } = self.criteria;
        let of_route = route
            .iter()
            .filter(|(key, _)| !weighted_cluster.iter().any(|(k, _)| k == key));
        weighted_cluster
            .iter()
            .chain(of_route)
            .filter(|(key, _)| self.only.is_none_or(|only| only.contains(key)))
            .count()
    }

    fn has_all(&self, keys: &[Name]) -> bool {
        keys.iter().all(|key| self.get(key).is_some())
    }
}

/// A subset: which selector made it, and the values of the selector's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SubsetKey {
    selector: usize,
    values: Vec<Name>,
}

impl Hash for SubsetKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.selector.hash(state);
        self.values.iter().for_each(|value| value.hash(state));
    }
}

/// The subset that a request wants by one selector.
struct Lookup<'a> {
    selector: usize,
    keys: &'a [Name],
    wanted: Wanted<'a>,
}

impl Hash for Lookup<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.selector.hash(state);
        for value in self.keys.iter().filter_map(|key| self.wanted.get(key)) {
            value.hash(state);
        }
    }
}

impl Equivalent<SubsetKey> for Lookup<'_> {
    fn equivalent(&self, subset: &SubsetKey) -> bool {
        let mut values = subset.values.iter().zip(self.keys);
        self.selector == subset.selector
            && values.all(|(value, key)| self.wanted.get(key) == Some(value))
    }
}

#[derive(Debug)]
struct Selector {
    /// In order.
    keys: Vec<Name>,
    fallback: Option<SubsetFallback>,
}

/// The balancers of a cluster with subsets.
#[derive(Debug)]
pub(crate) struct SubsetBalancers {
    subject: u64,
    selectors: Vec<Selector>,
    /// Selectors by falling number of keys.
    by_length: Vec<usize>,
    fallback: SubsetFallback,
    panic_mode_any: bool,
    allow_redundant_keys: bool,
    any: Option<Balancer>,
    default: Option<Balancer>,
    subsets: IndexMap<SubsetKey, Balancer, FxBuildHasher>,
    /// Numbers the balancers of a subset that went and came back.
    updates: u64,
}

impl SubsetBalancers {
    /// Without hosts; `n` as for [`Balancer::new`].
    pub(crate) fn new(
        config: &Subsets,
        subject: u64,
        n: u64,
        draws: &Draws,
        now: Nanos,
    ) -> SubsetBalancers {
        let selectors = selectors(config);
        let mut by_length: Vec<usize> = (0..selectors.len()).collect();
        by_length.sort_by_key(|&at| std::cmp::Reverse(selectors[at].keys.len()));
        let wants = |wanted: fn(&SubsetFallback) -> bool| {
            wanted(&config.fallback)
                || selectors
                    .iter()
                    .any(|s| s.fallback.as_ref().is_some_and(wanted))
        };
        let any = config.panic_mode_any || wants(|f| matches!(f, SubsetFallback::AnyEndpoint));
        let default = wants(|f| matches!(f, SubsetFallback::DefaultSubset(_)));
        let balancer = |name| Balancer::new(mix(subject ^ hash_text(name)), n, draws, now);
        SubsetBalancers {
            subject,
            by_length,
            fallback: config.fallback.clone(),
            panic_mode_any: config.panic_mode_any,
            allow_redundant_keys: config.allow_redundant_keys,
            any: any.then(|| balancer("any")),
            default: default.then(|| balancer("default")),
            subsets: IndexMap::default(),
            updates: n << 32,
            selectors,
        }
    }

    /// Takes over one priority: hosts are sorted anew into subsets, which come and go.
    pub(crate) fn update(&mut self, priority: usize, level: &Level, context: &UpdateContext<'_>) {
        self.updates += 1;
        let hosts = context.view.hosts;
        // Locality weights do not reach into subsets, as long as `locality_weight_aware` is off.
        let place = Place {
            weighted: false,
            ..context.place.clone()
        };
        let context = &UpdateContext {
            place: &place,
            ..*context
        };
        let localities = &level.localities;
        if let Some(any) = &mut self.any {
            any.update(priority, &level.hosts, localities, context);
        }
        let metadata = default_metadata(&self.fallback, &self.selectors);
        if let Some(default) = &mut self.default {
            let matching = |host: &&u32| {
                let host = &hosts[**host as usize];
                metadata
                    .iter()
                    .all(|(key, value)| host.metadata(key) == Some(value))
            };
            let matching: Vec<u32> = level.hosts.iter().filter(matching).copied().collect();
            default.update(priority, &matching, localities, context);
        }
        let mut members: IndexMap<SubsetKey, Vec<u32>, FxBuildHasher> = self
            .subsets
            .keys()
            .map(|key| (key.clone(), Vec::new()))
            .collect();
        for &host in &level.hosts {
            for (selector, Selector { keys, .. }) in self.selectors.iter().enumerate() {
                let values = values(&hosts[host as usize], keys);
                if let Some(values) = values {
                    let key = SubsetKey { selector, values };
                    members.entry(key).or_default().push(host);
                }
            }
        }
        for (key, members) in members {
            let (subject, n) = (self.subject, self.updates);
            let keys = &self.selectors[key.selector].keys;
            let named = keys.iter().zip(&key.values).fold(subject, |sum, (k, v)| {
                mix(mix(sum ^ hash_text(k)) ^ hash_text(v))
            });
            self.subsets
                .entry(key)
                .or_insert_with(|| Balancer::new(named, n, context.draws, context.view.now))
                .update(priority, &members, localities, context);
        }
        self.subsets.retain(|_, balancer| !balancer.is_empty());
    }

    pub(crate) fn route_zones(
        &mut self,
        local: &LocalHosts,
        place: &Place,
        config: &crate::xds::Cluster,
    ) {
        let fixed = self.any.iter_mut().chain(&mut self.default);
        for balancer in fixed.chain(self.subsets.values_mut()) {
            balancer.route_zones(local, place, config);
        }
    }

    /// One of the hosts that `criteria` ask for, or of those to fall back to.
    #[inline(never)]
    pub(crate) fn pick(
        &mut self,
        view: &HostsView<'_>,
        draws: &Draws,
        criteria: Criteria<'_>,
        choice: &mut Choice<'_>,
    ) -> Option<u32> {
        let SubsetBalancers {
            selectors,
            any,
            default,
            ..
        } = self;
        let mut wanted = Wanted {
            criteria,
            only: None,
        };
        // Ends, because each selector falls back to fewer keys.
        loop {
            let found = if self.allow_redundant_keys {
                let contained = |at: &&usize| wanted.has_all(&selectors[**at].keys);
                self.by_length.iter().find(contained).copied()
            } else {
                let len = wanted.len();
                let same = |s: &Selector| s.keys.len() == len && wanted.has_all(&s.keys);
                selectors.iter().position(same)
            };
            let Some(selector) = found else { break };
            let Selector { keys, fallback } = &selectors[selector];
            let lookup = Lookup {
                selector,
                keys,
                wanted,
            };
            if let Some(subset) = self.subsets.get_mut(&lookup) {
                return pick_in(subset, view, draws, choice);
            }
            match fallback {
                None => break,
                Some(SubsetFallback::NoFallback) => return None,
                Some(SubsetFallback::AnyEndpoint) => {
                    return pick_in(any.as_mut()?, view, draws, choice);
                }
                Some(SubsetFallback::DefaultSubset(_)) => {
                    return pick_in(default.as_mut()?, view, draws, choice);
                }
                Some(SubsetFallback::Keys(only)) if only.len() < keys.len() => {
                    wanted.only = Some(only);
                }
                Some(SubsetFallback::Keys(_)) => return None,
            }
        }
        let fallback = match self.fallback {
            SubsetFallback::NoFallback | SubsetFallback::Keys(_) => return None,
            SubsetFallback::AnyEndpoint => any.as_mut(),
            SubsetFallback::DefaultSubset(_) => default.as_mut(),
        };
        let chosen = pick_in(fallback?, view, draws, choice);
        if chosen.is_none() && self.panic_mode_any {
            return pick_in(any.as_mut()?, view, draws, choice);
        }
        chosen
    }
}

/// Keeps the usual path, a cluster without subsets, free of calls.
#[inline(never)]
fn pick_in(
    balancer: &mut Balancer,
    view: &HostsView<'_>,
    draws: &Draws,
    choice: &mut Choice<'_>,
) -> Option<u32> {
    balancer.pick(|| *view, draws, choice)
}

/// Selectors with their keys in order. A selector whose keys all begin an earlier one counts as seen
/// by then: what it says on fallback is not read.
fn selectors(config: &Subsets) -> Vec<Selector> {
    let mut selectors: Vec<Selector> = Vec::new();
    for selector in &config.selectors {
        let mut keys = selector.keys.clone();
        keys.sort();
        keys.dedup();
        if keys.is_empty() || selectors.iter().any(|earlier| earlier.keys == keys) {
            continue;
        }
        let seen = selectors
            .iter()
            .any(|earlier| earlier.keys.starts_with(&keys));
        let fallback = selector.fallback.clone().filter(|_| !seen);
        selectors.push(Selector { keys, fallback });
    }
    selectors
}

/// The metadata of the default subset, of which a cluster has one.
fn default_metadata<'a>(
    fallback: &'a SubsetFallback,
    selectors: &'a [Selector],
) -> &'a [(Name, Name)] {
    let fallbacks = selectors.iter().filter_map(|s| s.fallback.as_ref());
    std::iter::once(fallback)
        .chain(fallbacks)
        .find_map(|fallback| match fallback {
            SubsetFallback::DefaultSubset(metadata) => Some(&metadata[..]),
            _ => None,
        })
        .unwrap_or_default()
}

/// The values of `keys` in a host's metadata, if it has all of them.
fn values(host: &Host, keys: &[Name]) -> Option<Vec<Name>> {
    keys.iter().map(|key| host.metadata(key).cloned()).collect()
}

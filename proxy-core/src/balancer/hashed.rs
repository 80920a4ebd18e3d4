//! Consistent hashing: what ring hash and Maglev have in common (Envoy `thread_aware_lb_impl.cc`).

use super::HostsView;
use super::locality::Locality;
use super::maglev::Maglev;
use super::mersenne::Mt19937;
use super::ring_hash::Ring;
use crate::xds::{ConsistentHashing, LbPolicy};

/// A host with its hash key and its share of the whole.
#[derive(Clone, Debug)]
pub(crate) struct WeightedKey {
    pub(crate) host: u32,
    pub(crate) key: String,
    pub(crate) weight: f64,
}

#[derive(Clone, Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// A hash table over the hosts of one priority.
#[derive(Clone, Debug)]
pub(crate) struct Hashed {
    table: Table,
    bound: Option<Bound>,
}

/// Bounded load: a host over its share of the active requests is passed over (Mirrokni, Thorup,
/// Zadimoghaddam 2018; the random probing is Chen, Coleman, Shrivastava's).
#[derive(Clone, Debug)]
struct Bound {
    factor_percent: u32,
    /// In host-set order.
    weights: Vec<(u32, f64)>,
    /// The order of probing, kept to reuse its memory.
    order: Vec<u32>,
}

impl Hashed {
    /// A table over `hosts`. With `localities` the shares follow their weights as configured, however
    /// few of a locality's hosts are available.
    pub(crate) fn build(
        hosts: &[u32],
        localities: Option<&[Locality]>,
        view: &HostsView<'_>,
    ) -> Option<Hashed> {
        let (LbPolicy::RingHash { hashing, .. } | LbPolicy::Maglev { hashing, .. }) =
            view.config.lb_policy
        else {
            return None;
        };
        let shares = match localities {
            None => shares(hosts, 1.0, view),
            Some(localities) => locality_shares(hosts, localities, view),
        };
        let keyed: Vec<WeightedKey> = shares
            .iter()
            .map(|&(host, weight)| WeightedKey {
                host,
                key: hash_key(host, hashing, view),
                weight,
            })
            .collect();
        let table = match view.config.lb_policy {
            LbPolicy::RingHash {
                minimum_ring_size,
                maximum_ring_size,
                function,
                ..
            } => Table::Ring(Ring::build(
                &keyed,
                minimum_ring_size,
                maximum_ring_size,
                function,
            )),
            LbPolicy::Maglev { table_size, .. } => Table::Maglev(Maglev::build(&keyed, table_size)),
            _ => return None,
        };
        let bound = hashing
            .hash_balance_factor_percent
            .map(|factor_percent| Bound {
                factor_percent,
                weights: shares,
                order: Vec::new(),
            });
        Some(Hashed { table, bound })
    }

    pub(crate) fn pick(&mut self, view: &HostsView<'_>, hash: u64, walk: u32) -> Option<u32> {
        let first = match &self.table {
            Table::Ring(ring) => ring.pick(hash, walk),
            Table::Maglev(table) => table.pick(hash, walk),
        }?;
        Some(match &mut self.bound {
            None => first,
            Some(bound) => bound.apply(first, hash, view),
        })
    }
}

impl Bound {
    /// `first` unless it is overloaded: then the first host that is not, in an order that the hash
    /// decides, or the least overloaded.
    fn apply(&mut self, first: u32, hash: u64, view: &HostsView<'_>) -> u32 {
        let Some(&(_, weight)) = self.weights.iter().find(|(host, _)| *host == first) else {
            return first;
        };
        let mut least = (first, self.overload(first, weight, view));
        if least.1 <= 1.0 {
            return first;
        }
        let mut random = Mt19937::new(hash as u32);
        let len = self.weights.len() as u32;
        self.order.clear();
        self.order.extend(0..len);
        for i in 0..len {
            let j = i + random.below(len - i);
            self.order.swap(i as usize, j as usize);
            let (host, weight) = self.weights[self.order[i as usize] as usize];
            if host == first {
                continue;
            }
            let overload = self.overload(host, weight, view);
            if overload <= 1.0 {
                return host;
            }
            if overload < least.1 {
                least = (host, overload);
            }
        }
        least.0
    }

    /// Active requests as a share of the slots that the host may fill; Envoy reckons in 32 bits.
    fn overload(&self, host: u32, weight: f64, view: &HostsView<'_>) -> f64 {
        let total = view
            .cluster_active
            .wrapping_add(1)
            .wrapping_mul(self.factor_percent)
            .wrapping_add(99)
            / 100;
        let slots = (libm::ceil(f64::from(total) * weight) as u32).max(1);
        f64::from(view.active[host as usize]) / f64::from(slots)
    }
}

/// Each host's part of `whole`, by weight.
fn shares(hosts: &[u32], whole: f64, view: &HostsView<'_>) -> Vec<(u32, f64)> {
    let weight = |host: u32| view.weights[host as usize];
    let sum: u64 = hosts.iter().map(|&host| u64::from(weight(host))).sum();
    hosts
        .iter()
        .map(|&host| (host, f64::from(weight(host)) * whole / sum as f64))
        .collect()
}

fn locality_shares(
    hosts: &[u32],
    localities: &[Locality],
    view: &HostsView<'_>,
) -> Vec<(u32, f64)> {
    let sum: u64 = localities.iter().map(|l| u64::from(l.weight)).sum();
    let mut all = Vec::with_capacity(hosts.len());
    for locality in localities.iter().filter(|locality| locality.weight > 0) {
        let whole = f64::from(locality.weight) / sum as f64;
        let own: Vec<u32> = hosts
            .iter()
            .copied()
            .filter(|&host| view.hosts[host as usize].locality == locality.name)
            .collect();
        all.append(&mut shares(&own, whole, view));
    }
    all
}

/// `hash_key` of the endpoint's metadata; else its hostname, if asked for; else its address.
fn hash_key(host: u32, hashing: ConsistentHashing, view: &HostsView<'_>) -> String {
    let host = &view.hosts[host as usize];
    match host.metadata("hash_key").filter(|key| !key.is_empty()) {
        Some(key) => key.to_string(),
        None if hashing.use_hostname => host.hostname.as_deref().unwrap_or_default().to_string(),
        None => host.address.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `127.0.1.1:28080` and so on, as in the measurements on Envoy.
    pub(in super::super) fn weighted(weights: &[u32]) -> Vec<WeightedKey> {
        let sum: u32 = weights.iter().sum();
        weights
            .iter()
            .enumerate()
            .map(|(i, &weight)| WeightedKey {
                host: i as u32,
                key: format!("127.0.1.{}:28080", i + 1),
                weight: f64::from(weight) / f64::from(sum),
            })
            .collect()
    }
}

//! How load is spread over priorities, and when a priority panics (Envoy
//! `load_balancer_impl.cc`, `recalculatePerPriorityState` and its successors).

use super::{Health, PriorityPolicy};
use crate::cluster::Host;

/// The state of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriorityCounts {
    hosts: u32,
    healthy: u32,
    degraded: u32,
    /// Left out of the percentages.
    excluded: u32,
    /// Percent of the whole load that the healthy hosts can take, and the degraded ones.
    health: u32,
    degraded_health: u32,
}

/// Counts the hosts of a priority.
pub(crate) struct Availability {
    policy: PriorityPolicy,
    counts: PriorityCounts,
    /// What health is reckoned by: hosts or their weights.
    counted: u64,
    healthy: u64,
    degraded: u64,
}

impl Availability {
    pub(crate) fn new(policy: PriorityPolicy) -> Availability {
        Availability {
            policy,
            counts: PriorityCounts::default(),
            counted: 0,
            healthy: 0,
            degraded: 0,
        }
    }

    pub(crate) fn count(&mut self, host: &Host, weight: u32) {
        let part = if self.policy.weighted_health {
            u64::from(weight)
        } else {
            1
        };
        let counts = &mut self.counts;
        counts.hosts += 1;
        if host.is_excluded() {
            counts.excluded += 1;
        } else {
            self.counted += part;
        }
        if host.is_healthy() {
            counts.healthy += 1;
            self.healthy += part;
        } else if host.is_degraded() {
            counts.degraded += 1;
            self.degraded += part;
        }
    }

    pub(crate) fn finish(self) -> PriorityCounts {
        let share = |part: u64| {
            let factor = u64::from(self.policy.overprovisioning_percent);
            (factor * part)
                .checked_div(self.counted)
                .map_or(0, |percent| percent.min(100) as u32)
        };
        PriorityCounts {
            health: share(self.healthy),
            degraded_health: share(self.degraded),
            ..self.counts
        }
    }
}

impl PriorityCounts {
    /// Of the hosts that count, those that are healthy or degraded.
    pub(crate) fn available_percent(&self) -> f64 {
        match self.hosts - self.excluded {
            0 => 0.0,
            n => {
                let percent = |part: u32| 100.0 * f64::from(part) / f64::from(n);
                percent(self.healthy) + percent(self.degraded)
            }
        }
    }

    /// What healthy and degraded hosts can take.
    pub(crate) fn health(&self) -> [u32; 2] {
        [self.health, self.degraded_health]
    }
}

/// Percentages of the load by priority; they add up to 100.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loads {
    pub(crate) healthy: Vec<u32>,
    pub(crate) degraded: Vec<u32>,
}

impl Loads {
    /// Loads where health is the percentage that each priority can take.
    fn spread(counts: &[PriorityCounts], total: u32) -> Loads {
        let mut left = 100;
        let mut take = |available: u32| {
            let load = left.min(available * 100 / total);
            left -= load;
            load
        };
        let mut healthy: Vec<u32> = counts.iter().map(|c| take(c.health)).collect();
        let mut degraded: Vec<u32> = counts.iter().map(|c| take(c.degraded_health)).collect();
        if let Some(at) = counts.iter().position(|c| c.health > 0) {
            healthy[at] += left;
        } else if let Some(at) = counts.iter().position(|c| c.degraded_health > 0) {
            degraded[at] += left;
        }
        Loads { healthy, degraded }
    }

    /// Total panic: by the number of hosts, healthy or not.
    fn by_hosts(counts: &[PriorityCounts]) -> Loads {
        let total: u32 = counts.iter().map(|c| c.hosts).sum();
        let share = |c: &PriorityCounts| (100 * c.hosts).checked_div(total).unwrap_or(0);
        let mut healthy: Vec<u32> = counts.iter().map(share).collect();
        let first = counts.iter().position(|c| c.hosts > 0).unwrap_or(0);
        healthy[first] += 100 - healthy.iter().sum::<u32>();
        Loads {
            healthy,
            degraded: vec![0; counts.len()],
        }
    }

    fn all_to_first(priorities: usize) -> Loads {
        let mut healthy = vec![0; priorities];
        healthy[0] = 100;
        Loads {
            healthy,
            degraded: vec![0; priorities],
        }
    }

    /// The priority that `hash` falls to, and which of its hosts.
    #[inline]
    pub(crate) fn choose(&self, hash: u64) -> Option<(usize, Health)> {
        let target = (hash % 100 + 1) as u32;
        let mut sum = 0;
        let sources = [
            (&self.healthy, Health::Healthy),
            (&self.degraded, Health::Degraded),
        ];
        for (loads, source) in sources {
            for (priority, load) in loads.iter().enumerate() {
                sum += load;
                if sum >= target {
                    return Some((priority, source));
                }
            }
        }
        None
    }
}

/// Loads, and panic flags, by priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriorityLoads {
    loads: Loads,
    panics: Vec<bool>,
}

impl PriorityLoads {
    /// `counts` has at least one priority.
    pub(crate) fn compute(
        counts: &[PriorityCounts],
        panic_threshold_percent: u32,
    ) -> PriorityLoads {
        let threshold = f64::from(panic_threshold_percent.min(100));
        let total = counts
            .iter()
            .flat_map(PriorityCounts::health)
            .sum::<u32>()
            .min(100);
        let panics: Vec<bool> = counts
            .iter()
            .map(|c| total < 100 && c.available_percent() < threshold)
            .collect();
        let loads = if panics.iter().all(|&panics| panics) {
            Loads::by_hosts(counts)
        } else if total == 0 {
            // Panic is off, and no host is there for anyone.
            Loads::all_to_first(counts.len())
        } else {
            Loads::spread(counts, total)
        };
        PriorityLoads { loads, panics }
    }

    /// The priority that `hash` falls to, and which of its hosts.
    #[inline]
    pub(crate) fn choose(&self, hash: u64) -> Option<(usize, Health)> {
        self.loads.choose(hash)
    }

    /// Every hash falls to the healthy hosts of the first priority.
    #[inline]
    pub(crate) fn first_takes_all(&self) -> bool {
        self.loads.healthy[0] == 100
    }

    /// All hosts of the priority are used, whatever their health.
    #[inline]
    pub(crate) fn panics(&self, priority: usize) -> bool {
        self.panics[priority]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Host;
    use crate::xds::{Endpoint, EndpointHealth};
    use proptest::prelude::*;

    const POLICY: PriorityPolicy = PriorityPolicy {
        overprovisioning_percent: 140,
        weighted_health: false,
    };

    /// A priority of so many healthy, degraded, unhealthy and draining hosts.
    fn counts(policy: PriorityPolicy, hosts: [u32; 4]) -> PriorityCounts {
        let mut availability = Availability::new(policy);
        for (health, n) in [
            EndpointHealth::Healthy,
            EndpointHealth::Degraded,
            EndpointHealth::Unhealthy,
            EndpointHealth::Draining,
        ]
        .into_iter()
        .zip(hosts)
        {
            let endpoint = Endpoint {
                health,
                ..Endpoint::new(([10, 0, 0, 1], 80).into())
            };
            let host = Host::of("", 0, &endpoint);
            (0..n).for_each(|_| availability.count(&host, 1));
        }
        availability.finish()
    }

    /// Of 100 hosts in each priority, so many healthy.
    fn percent(healthy: &[u32], threshold: u32) -> PriorityLoads {
        let counts: Vec<PriorityCounts> = healthy
            .iter()
            .map(|&healthy| counts(POLICY, [healthy, 0, 100 - healthy, 0]))
            .collect();
        PriorityLoads::compute(&counts, threshold)
    }

    /// The tables of Envoy's documentation, corrected where Envoy itself answers otherwise.
    #[test]
    fn known_spreads() {
        for (healthy, threshold, want) in [
            (&[100, 100][..], 50, &[100, 0][..]),
            (&[72, 100], 50, &[100, 0]),
            (&[71, 100], 50, &[99, 1]),
            (&[50, 100], 50, &[70, 30]),
            (&[25, 100], 50, &[35, 65]),
            (&[0, 100], 50, &[0, 100]),
            (&[72, 72], 50, &[100, 0]),
            (&[71, 71], 50, &[99, 1]),
            (&[50, 50], 50, &[70, 30]),
            (&[50, 60], 50, &[70, 30]),
            (&[25, 25], 50, &[50, 50]),
            (&[25, 25], 0, &[50, 50]),
            (&[5, 65], 50, &[8, 92]),
            (&[100, 100, 100], 50, &[100, 0, 0]),
            (&[72, 72, 100], 50, &[100, 0, 0]),
            (&[71, 71, 100], 50, &[99, 1, 0]),
            (&[50, 50, 100], 50, &[70, 30, 0]),
            (&[25, 100, 100], 50, &[35, 65, 0]),
            (&[25, 25, 100], 50, &[35, 35, 30]),
            (&[25, 25, 20], 50, &[34, 33, 33]),
            (&[25, 25, 20], 0, &[37, 35, 28]),
        ] {
            assert_eq!(
                percent(healthy, threshold).loads.healthy,
                want,
                "{healthy:?} T={threshold}"
            );
        }
    }

    /// Each of the hundred residues of a hash falls where the loads say.
    #[test]
    fn every_residue_falls_to_its_priority() {
        for (healthy, want) in [
            (&[5, 65][..], &[8, 92][..]),
            (&[25, 25, 20], &[34, 33, 33]),
            (&[50, 60], &[70, 30]),
            (&[25, 100], &[35, 65]),
        ] {
            let loads = percent(healthy, 50);
            let mut got = vec![0; healthy.len()];
            let mut last = 0;
            for residue in 0..100 {
                let (priority, _) = loads.choose(residue + 7_000).unwrap();
                assert!(priority >= last, "residues are taken in order");
                last = priority;
                got[priority] += 1;
            }
            assert_eq!(got, want);
        }
    }

    #[test]
    fn panics_only_when_something_is_missing() {
        for (healthy, want) in [
            (&[72, 72][..], &[false, false][..]),
            (&[71, 71], &[false, false]),
            (&[50, 60], &[false, false]),
            (&[25, 100], &[false, false]),
            (&[25, 25], &[true, true]),
            (&[5, 65], &[true, false]),
            (&[0, 100], &[false, false]),
        ] {
            assert_eq!(percent(healthy, 50).panics, want, "{healthy:?}");
        }
        let nobody = percent(&[0, 0], 0);
        assert_eq!(nobody.loads.healthy, [100, 0]);
        assert_eq!(nobody.panics, [false, false]);
    }

    /// Small clusters, and another overprovisioning factor.
    #[test]
    fn known_small_clusters() {
        let exact = PriorityPolicy {
            overprovisioning_percent: 100,
            ..POLICY
        };
        for (policy, hosts, want, panics) in [
            (POLICY, [(2, 4), (2, 4)], [70, 30], false),
            (exact, [(2, 4), (2, 4)], [50, 50], false),
            (POLICY, [(1, 4), (2, 2)], [35, 65], false),
            (POLICY, [(1, 4), (1, 4)], [50, 50], true),
        ] {
            let counts = hosts.map(|(healthy, all)| counts(policy, [healthy, 0, all - healthy, 0]));
            let loads = PriorityLoads::compute(&counts, 50);
            assert_eq!(loads.loads.healthy, want, "{hosts:?}");
            assert_eq!(loads.panics, [panics; 2], "{hosts:?}");
        }
    }

    #[test]
    fn degraded_hosts_take_what_healthy_ones_leave() {
        for (hosts, want) in [
            ([100, 0, 0, 0], (100, 0)),
            ([71, 0, 29, 0], (100, 0)),
            ([71, 29, 0, 0], (99, 1)),
            ([25, 65, 10, 0], (35, 65)),
            ([5, 0, 95, 0], (100, 0)),
            ([0, 50, 50, 0], (0, 100)),
        ] {
            let loads = PriorityLoads::compute(&[counts(POLICY, hosts)], 0).loads;
            assert_eq!((loads.healthy[0], loads.degraded[0]), want, "{hosts:?}");
        }
    }

    #[test]
    fn draining_hosts_do_not_count() {
        let draining = counts(POLICY, [2, 0, 0, 8]);
        assert_eq!(draining.health(), [100, 0]);
        let loads = PriorityLoads::compute(&[draining], 50);
        assert_eq!(loads.panics, [false]);
        let only = PriorityLoads::compute(&[counts(POLICY, [0, 0, 0, 3])], 50);
        assert_eq!(
            (&only.loads.healthy[..], &only.panics[..]),
            (&[100][..], &[true][..])
        );
    }

    #[test]
    fn health_by_weight() {
        let policy = PriorityPolicy {
            weighted_health: true,
            ..POLICY
        };
        let mut availability = Availability::new(policy);
        for (health, weight) in [
            (EndpointHealth::Healthy, 1),
            (EndpointHealth::Unhealthy, 3),
            (EndpointHealth::Draining, 100),
        ] {
            let endpoint = Endpoint {
                health,
                ..Endpoint::new(([10, 0, 0, 1], 80).into())
            };
            availability.count(&Host::of("", 0, &endpoint), weight);
        }
        let counts = availability.finish();
        assert_eq!(counts.health(), [35, 0]);
        assert_eq!(counts.available_percent(), 50.0, "panic goes by numbers");
    }

    proptest! {
        #[test]
        fn loads_add_up(
            hosts in proptest::collection::vec(proptest::array::uniform4(0u32..6), 1..5),
            overprovisioning_percent in 1u32..300,
            threshold in 0u32..=100,
        ) {
            let policy = PriorityPolicy { overprovisioning_percent, weighted_health: false };
            let counts: Vec<PriorityCounts> = hosts.iter().map(|&h| counts(policy, h)).collect();
            let loads = PriorityLoads::compute(&counts, threshold);
            let sum: u32 = loads.loads.healthy.iter().chain(&loads.loads.degraded).sum();
            prop_assert_eq!(sum, 100);
            for (priority, c) in counts.iter().enumerate() {
                let load = [loads.loads.healthy[priority], loads.loads.degraded[priority]];
                if !loads.panics(priority) && priority > 0 {
                    for (load, health) in load.into_iter().zip(c.health()) {
                        prop_assert!(load == 0 || health > 0, "load without a host");
                    }
                }
            }
        }
    }
}

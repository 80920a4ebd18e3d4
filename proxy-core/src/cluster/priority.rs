//! How load is spread over priorities, and when a priority panics (Envoy
//! `load_balancer_impl.cc`, `recalculatePerPriorityState` and its successors).

/// Host counts of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriorityCounts {
    pub(crate) hosts: u32,
    pub(crate) healthy: u32,
    pub(crate) degraded: u32,
    /// Draining: left out of the percentages.
    pub(crate) excluded: u32,
}

/// Percentages of the load, and panic flags, by priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriorityLoads {
    healthy: Vec<u32>,
    degraded: Vec<u32>,
    panics: Vec<bool>,
}

/// Which of a priority's hosts to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostSource {
    Healthy,
    Degraded,
    All,
}

impl PriorityLoads {
    /// `previous` is kept where no host counts as available and nothing panics.
    pub(crate) fn compute(
        counts: &[PriorityCounts],
        overprovisioning_percent: u32,
        panic_threshold_percent: u32,
        previous: &PriorityLoads,
    ) -> PriorityLoads {
        let availability = |part: u32, c: &PriorityCounts| match c.hosts - c.excluded {
            0 => 0,
            n => (u64::from(overprovisioning_percent) * u64::from(part) / u64::from(n)).min(100)
                as u32,
        };
        let health: Vec<u32> = counts.iter().map(|c| availability(c.healthy, c)).collect();
        let degraded: Vec<u32> = counts.iter().map(|c| availability(c.degraded, c)).collect();
        let total = health.iter().chain(&degraded).sum::<u32>().min(100);

        let mut loads = match total {
            0 if previous.healthy.len() == counts.len() => PriorityLoads {
                panics: Vec::new(),
                ..previous.clone()
            },
            0 => PriorityLoads::all_to_first(counts.len()),
            total => PriorityLoads::spread(&health, &degraded, total),
        };
        let panics = |c: &PriorityCounts| {
            let n = f64::from(c.hosts - c.excluded);
            let available = if n > 0.0 {
                100.0 * f64::from(c.healthy + c.degraded) / n
            } else {
                0.0
            };
            total < 100 && available < f64::from(panic_threshold_percent)
        };
        loads.panics = counts.iter().map(panics).collect();
        if !counts.is_empty() && loads.panics.iter().all(|&panics| panics) {
            loads.spread_by_hosts(counts);
        }
        loads
    }

    fn all_to_first(priorities: usize) -> PriorityLoads {
        let mut healthy = vec![0; priorities];
        if let Some(first) = healthy.first_mut() {
            *first = 100;
        }
        PriorityLoads {
            healthy,
            degraded: vec![0; priorities],
            panics: Vec::new(),
        }
    }

    fn spread(health: &[u32], degraded: &[u32], total: u32) -> PriorityLoads {
        let mut left = 100;
        let mut take = |available: &u32| {
            let load = left.min(available * 100 / total);
            left -= load;
            load
        };
        let mut healthy_load: Vec<u32> = health.iter().map(&mut take).collect();
        let mut degraded_load: Vec<u32> = degraded.iter().map(&mut take).collect();
        if let Some(at) = health.iter().position(|&h| h > 0) {
            healthy_load[at] += left;
        } else if let Some(at) = degraded.iter().position(|&d| d > 0) {
            degraded_load[at] += left;
        }
        PriorityLoads {
            healthy: healthy_load,
            degraded: degraded_load,
            panics: Vec::new(),
        }
    }

    /// Total panic: by the number of hosts, healthy or not.
    fn spread_by_hosts(&mut self, counts: &[PriorityCounts]) {
        let total: u32 = counts.iter().map(|c| c.hosts).sum();
        self.degraded.fill(0);
        if total == 0 {
            return;
        }
        for (load, c) in self.healthy.iter_mut().zip(counts) {
            *load = 100 * c.hosts / total;
        }
        let left = 100 - self.healthy.iter().sum::<u32>();
        if let Some(at) = counts.iter().position(|c| c.hosts > 0) {
            self.healthy[at] += left;
        }
    }

    /// The priority that `hash` falls to, and which of its hosts.
    #[inline]
    pub(crate) fn choose(&self, hash: u64) -> Option<(usize, HostSource)> {
        let target = (hash % 100 + 1) as u32;
        let mut sum = 0;
        let sources = [
            (&self.healthy, HostSource::Healthy),
            (&self.degraded, HostSource::Degraded),
        ];
        for (loads, source) in sources {
            for (priority, load) in loads.iter().enumerate() {
                sum += load;
                if sum >= target {
                    let source = if self.panics[priority] {
                        HostSource::All
                    } else {
                        source
                    };
                    return Some((priority, source));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(percent_healthy: &[u32], threshold: u32) -> PriorityLoads {
        let counts: Vec<PriorityCounts> = percent_healthy
            .iter()
            .map(|&healthy| PriorityCounts {
                hosts: 100,
                healthy,
                degraded: 0,
                excluded: 0,
            })
            .collect();
        PriorityLoads::compute(&counts, 140, threshold, &PriorityLoads::default())
    }

    /// Envoy's documentation tables, corrected where Envoy itself answers otherwise.
    #[test]
    fn known_spreads() {
        for (healthy, threshold, want) in [
            (&[100, 100][..], 50, &[100, 0][..]),
            (&[72, 72], 50, &[100, 0]),
            (&[71, 71], 50, &[99, 1]),
            (&[50, 50], 50, &[70, 30]),
            (&[50, 60], 50, &[70, 30]),
            (&[25, 100], 50, &[35, 65]),
            (&[25, 25], 50, &[50, 50]),
            (&[5, 65], 50, &[8, 92]),
            (&[0, 100], 50, &[0, 100]),
            (&[25, 25, 100], 50, &[35, 35, 30]),
            (&[25, 25, 20], 50, &[34, 33, 33]),
            (&[25, 25, 20], 0, &[37, 35, 28]),
        ] {
            assert_eq!(
                loads(healthy, threshold).healthy,
                want,
                "{healthy:?} T={threshold}"
            );
        }
    }

    #[test]
    fn panics_only_when_something_is_missing() {
        assert_eq!(loads(&[5, 65], 50).panics, [true, false]);
        assert_eq!(loads(&[25, 25], 50).panics, [true, true]);
        assert_eq!(loads(&[25, 100], 50).panics, [false, false]);
        assert_eq!(
            loads(&[0, 0], 0),
            PriorityLoads {
                healthy: vec![100, 0],
                degraded: vec![0, 0],
                panics: vec![false, false]
            }
        );
    }

    #[test]
    fn degraded_hosts_take_what_healthy_ones_leave() {
        for ((healthy, degraded), want) in [
            ((100, 0), (100, 0)),
            ((71, 29), (99, 1)),
            ((25, 65), (35, 65)),
            ((5, 0), (100, 0)),
            ((0, 50), (0, 100)),
        ] {
            let counts = [PriorityCounts {
                hosts: 100,
                healthy,
                degraded,
                excluded: 0,
            }];
            let loads = PriorityLoads::compute(&counts, 140, 0, &PriorityLoads::default());
            assert_eq!((loads.healthy[0], loads.degraded[0]), want);
        }
    }
}

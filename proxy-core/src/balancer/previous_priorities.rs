//! The `previous_priorities` retry priority: retries leave the priorities that were tried before
//! (Envoy `retry/priority/previous_priorities`).

use super::Health;
use super::priority::{Loads, PriorityCounts, PriorityLoads};
use crate::cluster::{Host, HostId};

/// What one exchange remembers of the priorities it tried.
#[derive(Clone, Debug)]
pub(crate) struct PreviousPriorities {
    update_frequency: u32,
    /// Tries before this one do not count any more.
    since: usize,
    excluded: Vec<bool>,
    loads: Loads,
}

impl PreviousPriorities {
    /// Loads are worked out anew every `update_frequency` tries.
    pub(crate) fn new(update_frequency: u32) -> PreviousPriorities {
        PreviousPriorities {
            update_frequency: update_frequency.max(1),
            since: 0,
            excluded: Vec::new(),
            loads: Loads::default(),
        }
    }

    /// The priority of a retry; `original` is what a first try goes by.
    pub(super) fn choose(
        &mut self,
        hash: u64,
        tried: &[HostId],
        original: &PriorityLoads,
        counts: impl Iterator<Item = PriorityCounts>,
        hosts: &[Host],
    ) -> Option<(usize, Health)> {
        let recent = &tried[self.since.min(tried.len())..];
        let frequency = self.update_frequency as usize;
        if recent.len() < frequency {
            return original.choose(hash);
        }
        if recent.len().is_multiple_of(frequency) {
            let health: Vec<[u32; 2]> = counts.map(|counts| counts.health()).collect();
            let len = self.excluded.len().max(health.len());
            self.excluded.resize(len, false);
            for id in recent {
                if let Some(host) = hosts.get(id.slot as usize).filter(|host| host.id == *id) {
                    let at = host.priority as usize;
                    if let Some(excluded) = self.excluded.get_mut(at) {
                        *excluded = true;
                    }
                }
            }
            if self.total(&health) == 0 {
                self.excluded.fill(false);
                self.since = tried.len();
            }
            match self.total(&health) {
                0 => return original.choose(hash),
                total => self.spread(&health, total),
            }
        }
        self.loads.choose(hash)
    }

    fn total(&self, health: &[[u32; 2]]) -> u32 {
        let left = health.iter().zip(&self.excluded);
        let left = left.filter(|(_, excluded)| !**excluded);
        left.flat_map(|(health, _)| health).sum::<u32>().min(100)
    }

    /// Passes over the priorities left until all of the load is given away.
    fn spread(&mut self, health: &[[u32; 2]], total: u32) {
        let mut loads = [vec![0; health.len()], vec![0; health.len()]];
        let mut left = 100;
        while left > 0 {
            for (kind, loads) in loads.iter_mut().enumerate() {
                for (at, load) in loads.iter_mut().enumerate() {
                    if !self.excluded[at] {
                        let part = left.min(health[at][kind] * 100 / total);
                        *load += part;
                        left -= part;
                    }
                }
            }
        }
        let [healthy, degraded] = loads;
        self.loads = Loads { healthy, degraded };
    }
}

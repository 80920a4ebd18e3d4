//! Latencies between places.

use crate::distribution::Distribution;
use crate::plan::Plan;
use crate::random::{Purpose, WorldDraws};
use proxy_core::time::Nanos;

/// Where something is: an index into the localities of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Locality(u16);

/// The latencies of a plan, by localities.
#[derive(Debug)]
pub(super) struct Links {
    draws: WorldDraws,
    names: Vec<String>,
    /// By from and to.
    latencies: Vec<Distribution>,
}

impl Links {
    pub(super) fn new(plan: &Plan, seed: u64) -> Links {
        // The first is that of clients outside.
        let mut names = vec![String::new()];
        for pod in &plan.pods {
            let name = pod.pod.locality.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let pairs = names.iter().flat_map(|a| names.iter().map(move |b| (a, b)));
        let latencies = pairs
            .map(|(a, b)| plan.network.between(a, b).clone())
            .collect();
        Links {
            draws: WorldDraws::new(seed, "network"),
            names,
            latencies,
        }
    }

    /// The locality of clients and services outside.
    pub(super) const OUTSIDE: Locality = Locality(0);

    pub(super) fn locality(&self, name: &str) -> Locality {
        Locality(
            self.names
                .iter()
                .position(|known| known == name)
                .unwrap_or(0) as u16,
        )
    }

    /// One way. `key` and `n` name the message; a constant latency draws nothing, and is told apart
    /// by `true`.
    #[inline]
    pub(super) fn latency(&self, from: Locality, to: Locality, key: u64, n: u64) -> (Nanos, bool) {
        match &self.latencies[from.0 as usize * self.names.len() + to.0 as usize] {
            Distribution::Constant(latency) => (*latency, true),
            random => {
                let key = proxy_core::random::mix(key ^ proxy_core::random::mix(n));
                (random.sample(self.draws, key, Purpose::Latency), false)
            }
        }
    }
}

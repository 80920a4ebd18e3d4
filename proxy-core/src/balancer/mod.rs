//! Load balancing: from a set of hosts to one of them.
//!
//! To add a policy: a file here, a variant of [`crate::xds::LbPolicy`], and an arm in
//! [`Picker::build`] and [`Picker::pick`].

mod edf;
mod maglev;
pub(crate) mod peak_ewma;
mod ring_hash;

use crate::random::{Draws, Purpose};
use crate::time::Nanos;
use crate::xds::LbPolicy;
use edf::Edf;
use maglev::Maglev;
use peak_ewma::PeakEwma;
use ring_hash::Ring;

/// What a policy may know of the hosts it chooses from; all are indexed by host.
#[derive(Clone, Copy)]
pub(crate) struct HostsView<'a> {
    /// Requests in flight, over all workers.
    pub(crate) active: &'a [u32],
    pub(crate) weights: &'a [u32],
    pub(crate) latencies: &'a [PeakEwma],
}

/// One choice to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) now: Nanos,
    /// Key of the exchange.
    pub(crate) key: u64,
    /// Numbers the choices of one exchange.
    pub(crate) round: u64,
    /// The request's hash, or the value that stands in for it.
    pub(crate) hash: u64,
    /// Counts the re-picks of one selection, for policies that walk.
    pub(crate) walk: u32,
}

/// The state of a policy over one set of hosts of one priority.
#[derive(Clone, Debug)]
pub(crate) enum Picker {
    RoundRobin {
        next: u64,
        edf: Option<Edf>,
    },
    LeastRequest {
        choice_count: u64,
        bias: f64,
        edf: Option<Edf>,
    },
    Random,
    Ring(Ring),
    Maglev(Maglev),
    PeakEwma {
        decay: Nanos,
    },
    /// The discovery type names the endpoint.
    Provided,
}

/// The hash key of a host: its address.
pub(crate) type HostKey<'a> = &'a dyn Fn(u32) -> String;

impl Picker {
    /// State for `hosts` afresh. `seed` is the balancer's, kept for life.
    pub(crate) fn build(
        policy: &LbPolicy,
        hosts: &[u32],
        view: HostsView<'_>,
        key: HostKey<'_>,
        seed: u64,
    ) -> Picker {
        let weighted = hosts
            .iter()
            .any(|&h| view.weights[h as usize] != view.weights[hosts[0] as usize]);
        let keyed = || -> Vec<(u32, String, u32)> {
            hosts
                .iter()
                .map(|&h| (h, key(h), view.weights[h as usize]))
                .collect()
        };
        match *policy {
            LbPolicy::RoundRobin => {
                let edf = weighted
                    .then(|| Edf::new(hosts, seed, |h| f64::from(view.weights[h as usize])));
                Picker::RoundRobin { next: seed, edf }
            }
            LbPolicy::LeastRequest {
                choice_count,
                active_request_bias,
                ..
            } => {
                let bias = if active_request_bias >= 0.0 {
                    active_request_bias
                } else {
                    1.0
                };
                let edf = weighted.then(|| Edf::new(hosts, seed, |h| biased_weight(view, h, bias)));
                Picker::LeastRequest {
                    choice_count: u64::from(choice_count.max(2)),
                    bias,
                    edf,
                }
            }
            LbPolicy::Random => Picker::Random,
            LbPolicy::RingHash {
                minimum_ring_size,
                maximum_ring_size,
                ..
            } => Picker::Ring(Ring::build(&keyed(), minimum_ring_size, maximum_ring_size)),
            LbPolicy::Maglev { table_size, .. } => {
                Picker::Maglev(Maglev::build(&keyed(), table_size))
            }
            LbPolicy::PeakEwma { decay, .. } => Picker::PeakEwma { decay },
            LbPolicy::ClusterProvided => Picker::Provided,
        }
    }

    /// Takes over what outlives a change of hosts: the place in an unweighted rotation.
    pub(crate) fn inherit(&mut self, before: &Picker) {
        if let (Picker::RoundRobin { next, .. }, Picker::RoundRobin { next: old, .. }) =
            (self, before)
        {
            *next = *old;
        }
    }

    /// One of `hosts`.
    #[inline]
    pub(crate) fn pick(
        &mut self,
        hosts: &[u32],
        view: HostsView<'_>,
        draws: &Draws,
        choice: Choice,
    ) -> Option<u32> {
        let len = hosts.len() as u64;
        if len == 0 {
            return None;
        }
        let draw = |n: u64| draws.draw(choice.key, Purpose::Host, choice.round << 16 | n);
        match self {
            Picker::RoundRobin { edf: Some(edf), .. } => {
                edf.pick(|h| f64::from(view.weights[h as usize]))
            }
            Picker::RoundRobin { next, edf: None } => {
                let host = hosts[(*next % len) as usize];
                *next = next.wrapping_add(1);
                Some(host)
            }
            Picker::LeastRequest {
                edf: Some(edf),
                bias,
                ..
            } => edf.pick(|h| biased_weight(view, h, *bias)),
            Picker::LeastRequest {
                choice_count,
                edf: None,
                ..
            } => {
                let mut best = hosts[(draw(0) % len) as usize];
                for n in 1..*choice_count {
                    let other = hosts[(draw(n) % len) as usize];
                    if view.active[other as usize] < view.active[best as usize] {
                        best = other;
                    }
                }
                Some(best)
            }
            // The priority's own draw picks the host as well.
            Picker::Random => Some(hosts[(choice.hash % len) as usize]),
            Picker::Ring(ring) => ring.pick(choice.hash, choice.walk),
            Picker::Maglev(table) => table.pick(choice.hash, choice.walk),
            Picker::PeakEwma { decay } => {
                Some(lighter_of_two(hosts, view, choice.now, *decay, draw))
            }
            Picker::Provided => None,
        }
    }
}

/// Two distinct hosts at random; the one with less load, the first on a tie (tower's `p2c`).
fn lighter_of_two(
    hosts: &[u32],
    view: HostsView<'_>,
    now: Nanos,
    decay: Nanos,
    draw: impl Fn(u64) -> u64,
) -> u32 {
    let len = hosts.len() as u64;
    let first = draw(0) % len;
    if len == 1 {
        return hosts[0];
    }
    let second = draw(1) % (len - 1);
    let second = second + u64::from(second >= first);
    let load = |at: u64| {
        let host = hosts[at as usize] as usize;
        view.latencies[host].load(now, view.active[host], decay)
    };
    hosts[if load(second) < load(first) {
        second
    } else {
        first
    } as usize]
}

fn biased_weight(view: HostsView<'_>, host: u32, bias: f64) -> f64 {
    let weight = f64::from(view.weights[host as usize]);
    let active = f64::from(view.active[host as usize]) + 1.0;
    match bias {
        0.0 => weight,
        1.0 => weight / active,
        bias => weight / libm::pow(active, bias),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(policy: &LbPolicy, active: &[u32], picks: u64) -> Vec<u32> {
        let n = active.len();
        let hosts: Vec<u32> = (0..n as u32).collect();
        let weights = vec![1; n];
        let latencies: Vec<PeakEwma> = (0..n)
            .map(|_| PeakEwma::new(Nanos::from_millis(1), Nanos::ZERO))
            .collect();
        let view = HostsView {
            active,
            weights: &weights,
            latencies: &latencies,
        };
        let draws = Draws::new(1, "test");
        let mut picker = Picker::build(policy, &hosts, view, &|h| h.to_string(), 5);
        let mut counts = vec![0; n];
        for key in 0..picks {
            let hash = draws.draw(key, Purpose::Priority, 0);
            let choice = Choice {
                now: Nanos::ZERO,
                key,
                round: 0,
                hash,
                walk: 0,
            };
            counts[picker.pick(&hosts, view, &draws, choice).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_is_exact() {
        assert_eq!(counts(&LbPolicy::RoundRobin, &[0; 5], 5000), [1000; 5]);
    }

    #[test]
    fn least_request_draws_with_replacement() {
        let policy = LbPolicy::LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            full_scan: false,
        };
        // The busiest of n is picked only if drawn twice: 1/16 of the time, the idlest unless
        // missed twice: 7/16. Bounds are 5 standard deviations.
        let got = counts(&policy, &[0, 1, 2, 3], 16_000);
        for (got, want) in got.iter().zip([7000.0, 5000.0, 3000.0, 1000.0f64]) {
            assert!(
                (f64::from(*got) - want).abs() < 5.0 * want.sqrt(),
                "{got} for {want}"
            );
        }
    }

    #[test]
    fn peak_ewma_draws_distinct_hosts() {
        let policy = LbPolicy::PeakEwma {
            decay: Nanos::from_secs(10),
            default_rtt: Nanos::from_millis(1),
        };
        let got = counts(&policy, &[0, 1, 2, 3], 12_000);
        assert_eq!(got[3], 0, "the busiest loses against every other");
    }
}

//! A set of hosts that are alike in priority, health and perhaps locality, and who of them is next.

use super::edf::Edf;
use super::locality::Locality;
use super::{Hashed, HostsView};
use crate::random::{Draws, Purpose};
use crate::time::Nanos;
use crate::xds::LbPolicy;

/// Hosts with the policy's state over them.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) hosts: Vec<u32>,
    /// The place of an unweighted rotation; outlives every change of hosts.
    next: u64,
    known: bool,
    /// Built on the first pick, or with the update where the time matters.
    picker: Option<Picker>,
}

/// How a policy picks from a source.
#[derive(Debug)]
pub(crate) enum Picker {
    Rotation,
    /// By weights that are not all the same, or not yet whole.
    Schedule(Edf),
    LeastOfSome(u64),
    LeastOfAll,
    Random,
    Hashed(Box<Hashed>),
    PeakEwma(Nanos),
    /// The discovery type names the endpoint.
    Provided,
}

impl Source {
    /// Takes over other hosts.
    pub(crate) fn update(&mut self, hosts: Vec<u32>, seed: u64) {
        if !std::mem::replace(&mut self.known, true) {
            self.next = seed;
        }
        self.hosts = hosts;
        self.picker = None;
    }

    /// `slow`: some host of the balancer may be in slow start.
    pub(crate) fn build(&mut self, view: &HostsView<'_>, seed: u64, slow: bool) {
        let hosts = &self.hosts;
        let weight = |host: &u32| view.weights[*host as usize];
        let weighted =
            hosts.len() > 1 && (slow || hosts.iter().any(|host| weight(host) != weight(&hosts[0])));
        let schedule = || Picker::Schedule(Edf::new(hosts, seed, |host| view.live_weight(host)));
        self.picker = Some(match view.config.lb_policy {
            LbPolicy::RoundRobin | LbPolicy::LeastRequest { .. } if weighted => schedule(),
            LbPolicy::RoundRobin => Picker::Rotation,
            LbPolicy::LeastRequest {
                full_scan: true, ..
            } => Picker::LeastOfAll,
            LbPolicy::LeastRequest { choice_count, .. } => {
                Picker::LeastOfSome(u64::from(choice_count.max(2)))
            }
            LbPolicy::Random => Picker::Random,
            LbPolicy::PeakEwma { decay, .. } => Picker::PeakEwma(decay),
            LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } | LbPolicy::ClusterProvided => {
                Picker::Provided
            }
        });
    }

    /// The host next in turn, by the policy.
    #[inline(always)]
    pub(crate) fn pick<'a>(
        &mut self,
        view: impl Fn() -> HostsView<'a>,
        draws: &Draws,
        (key, round): (u64, u64),
        seed: u64,
    ) -> Option<u32> {
        if self.picker.is_none() {
            self.build(&view(), seed, false);
        }
        let hosts = &self.hosts[..];
        let len = hosts.len() as u64;
        if len == 0 {
            return None;
        }
        let draw = move |n: u64| draws.draw(key, Purpose::Host, round << 16 | n);
        match self.picker.as_mut()? {
            Picker::Rotation => {
                let host = hosts[(self.next % len) as usize];
                self.next = self.next.wrapping_add(1);
                Some(host)
            }
            Picker::LeastOfSome(choice_count) => {
                let active = view().active;
                let mut best = hosts[(draw(0) % len) as usize];
                for n in 1..*choice_count {
                    let other = hosts[(draw(n) % len) as usize];
                    if active[other as usize] < active[best as usize] {
                        best = other;
                    }
                }
                Some(best)
            }
            Picker::Schedule(edf) => {
                let view = view();
                edf.pick(|host| view.live_weight(host))
            }
            Picker::LeastOfAll => Some(least_of_all(hosts, view().active, draw)),
            // The priority's own draw picks the host as well.
            Picker::Random => {
                let drawn = draws.draw(key, Purpose::Priority, round);
                Some(hosts[(drawn % len) as usize])
            }
            Picker::PeakEwma(decay) => Some(lighter_of_two(hosts, &view(), *decay, draw)),
            Picker::Hashed(_) | Picker::Provided => None,
        }
    }

    /// The host that the hash falls to.
    pub(crate) fn pick_hashed(
        &mut self,
        localities: Option<&[Locality]>,
        view: &HostsView<'_>,
        (hash, walk): (u64, u32),
    ) -> Option<u32> {
        if self.picker.is_none() {
            let table = Hashed::build(&self.hosts, localities, view)?;
            self.picker = Some(Picker::Hashed(Box::new(table)));
        }
        match &mut self.picker {
            Some(Picker::Hashed(table)) => table.pick(view, hash, walk),
            _ => None,
        }
    }
}

/// The host with the fewest active requests; among equals each with the same probability.
fn least_of_all(hosts: &[u32], active: &[u32], draw: impl Fn(u64) -> u64) -> u32 {
    let mut best = hosts[0];
    let (mut tied, mut draws) = (1, 0);
    for &host in &hosts[1..] {
        let (least, other) = (active[best as usize], active[host as usize]);
        if other < least {
            best = host;
            tied = 1;
        } else if other == least {
            tied += 1;
            if draw(draws).is_multiple_of(tied) {
                best = host;
            }
            draws += 1;
        }
    }
    best
}

/// Two distinct hosts at random; the one with less load, the first on a tie (tower's `p2c`).
fn lighter_of_two(
    hosts: &[u32],
    view: &HostsView<'_>,
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
        view.latencies[host].load(view.now, view.active[host], decay)
    };
    hosts[if load(second) < load(first) {
        second
    } else {
        first
    } as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::peak_ewma::PeakEwma;
    use crate::cluster::Host;
    use crate::xds::{Cluster, Discovery, Endpoint};

    /// How often each host is picked while their active requests stay as they are.
    fn counts(lb_policy: LbPolicy, active: &[u32], picks: u64) -> Vec<u32> {
        let config = Cluster {
            lb_policy,
            ..Cluster::new("c".into(), Discovery::Eds)
        };
        let n = active.len();
        let endpoint = Endpoint::new(([10, 0, 0, 1], 80).into());
        let hosts: Vec<Host> = (0..n).map(|_| Host::of("", 0, &endpoint)).collect();
        let latencies = vec![PeakEwma::new(Nanos::from_millis(1), Nanos::ZERO); n];
        let view = HostsView {
            now: Nanos::ZERO,
            config: &config,
            hosts: &hosts,
            active,
            weights: &vec![1; n],
            latencies: &latencies,
            cluster_active: 0,
        };
        let draws = Draws::new(1, "test");
        let mut source = Source::default();
        source.update((0..n as u32).collect(), 5);
        let mut counts = vec![0; n];
        for key in 0..picks {
            let picked = source.pick(|| view, &draws, (key, 0), 5).unwrap();
            counts[picked as usize] += 1;
        }
        counts
    }

    fn least_request(full_scan: bool) -> LbPolicy {
        LbPolicy::LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            full_scan,
        }
    }

    /// Within 5 standard deviations of a Poisson count.
    fn assert_close(got: &[u32], want: &[f64]) {
        for (&got, want) in got.iter().zip(want) {
            let off = (f64::from(got) - want).abs();
            assert!(off <= 5.0 * want.sqrt(), "{got} for {want}");
        }
    }

    #[test]
    fn round_robin_is_exact() {
        assert_eq!(counts(LbPolicy::RoundRobin, &[0; 5], 5000), [1000; 5]);
    }

    #[test]
    fn least_request_draws_with_replacement() {
        // The busiest of four is picked only if drawn twice, the idlest unless missed twice.
        let got = counts(least_request(false), &[0, 1, 2, 3], 16_000);
        assert_close(&got, &[7000.0, 5000.0, 3000.0, 1000.0]);
    }

    #[test]
    fn a_full_scan_is_fair_among_the_idlest() {
        let got = counts(least_request(true), &[3, 1, 1, 2, 1], 9_000);
        assert_close(&got, &[0.0, 3000.0, 3000.0, 0.0, 3000.0]);
    }

    #[test]
    fn peak_ewma_draws_distinct_hosts() {
        let policy = LbPolicy::PeakEwma {
            decay: Nanos::from_secs(10),
            default_rtt: Nanos::from_millis(1),
        };
        let got = counts(policy, &[0, 1, 2, 3], 12_000);
        assert_eq!(got[3], 0, "the busiest loses against every other");
    }
}

//! Outlier detection on the main machine: who is ejected, and for how long (Envoy
//! `outlier_detection_impl.cc`).

use crate::contract::{EjectionReason, StateChange};
use crate::ids::ClusterId;
use crate::messages::{HostStatistics, Successes};
use crate::random::{Draws, Purpose, hash_text, mix};
use crate::time::Nanos;
use crate::xds::OutlierDetection;
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use std::net::SocketAddr;

/// What happens to one host.
#[derive(Debug, Default)]
struct HostState {
    ejected_at: Option<Nanos>,
    unejected_at: Option<Nanos>,
    /// Added to the present ejection.
    jitter: Nanos,
    degraded_at: Option<Nanos>,
    /// Multiplies the base ejection time.
    backoff: u64,
    ejections: u64,
    external: Successes,
    local_origin: Successes,
}

/// The detector of one cluster.
#[derive(Debug)]
pub(crate) struct Detector {
    id: ClusterId,
    subject: u64,
    config: OutlierDetection,
    hosts: IndexMap<SocketAddr, HostState, FxBuildHasher>,
    /// Ejections not ended yet. A host that two statistical detectors eject in one sweep counts
    /// twice, and its return takes back one: so does Envoy.
    ejected: u32,
    sweep_at: Nanos,
}

/// What becomes of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ejected,
    Unejected,
    Degraded,
    Undegraded,
}

/// What the detector decided, for the main machine to pass on.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) hosts: Vec<(SocketAddr, Standing)>,
    pub(crate) reset: Vec<(SocketAddr, Option<EjectionReason>)>,
    pub(crate) changes: Vec<StateChange>,
}

impl Detector {
    pub(crate) fn new(id: ClusterId, name: &str, config: OutlierDetection, now: Nanos) -> Detector {
        let sweep_at = now + config.interval;
        Detector {
            id,
            subject: hash_text(name),
            config,
            hosts: IndexMap::default(),
            ejected: 0,
            sweep_at,
        }
    }

    pub(crate) fn add(&mut self, address: SocketAddr) {
        self.hosts.insert(address, HostState::default());
    }

    pub(crate) fn remove(&mut self, address: SocketAddr) {
        let gone = self.hosts.shift_remove(&address);
        if gone.is_some_and(|host| host.ejected_at.is_some()) {
            self.ejected -= 1;
        }
    }

    pub(crate) fn deadline(&self) -> Nanos {
        self.sweep_at
    }

    /// A statistical detector can decide something, so that workers count for it.
    pub(crate) fn counts(&self) -> bool {
        self.config.counts()
    }

    pub(crate) fn takes_passing_checks(&self) -> bool {
        self.config.successful_active_health_check_uneject_host
    }

    /// A worker's counter for `address` reached its threshold.
    pub(crate) fn detected(
        &mut self,
        now: Nanos,
        address: SocketAddr,
        reason: EjectionReason,
        draws: &Draws,
        verdicts: &mut Verdicts,
    ) {
        let Some(host) = self.hosts.get(&address) else {
            return;
        };
        if host.ejected_at.is_some() {
            return;
        }
        verdicts.reset.push((address, Some(reason)));
        self.eject(now, address, reason, draws, verdicts);
    }

    fn eject(
        &mut self,
        now: Nanos,
        address: SocketAddr,
        reason: EjectionReason,
        draws: &Draws,
        verdicts: &mut Verdicts,
    ) {
        let share = 100.0 * f64::from(self.ejected + 1) / self.hosts.len() as f64;
        let allowed = share <= f64::from(self.config.max_ejection_percent.min(100))
            || (self.config.always_eject_one_host && self.ejected == 0);
        if !allowed {
            verdicts.changes.push(StateChange::EjectionOverflow {
                cluster: self.id,
                address,
            });
            return;
        }
        let subject = mix(self.subject ^ hash_text(&address.to_string()));
        // Apart for each detector: two may roll for one host in one sweep.
        let roll = subject ^ mix(reason as u64) * u64::from(reason.is_statistical());
        let enforcing = self.config.enforcing(reason);
        if !draws.percent(enforcing, roll, Purpose::EjectionEnforced, now.0) {
            return;
        }
        let Some(host) = self.hosts.get_mut(&address) else {
            return;
        };
        host.ejected_at = Some(now);
        host.ejections += 1;
        let steps = self.config.max_ejection_time_jitter.as_millis() + 1;
        let drawn = draws.draw(subject, Purpose::EjectionJitter, host.ejections) % steps;
        host.jitter = Nanos::from_millis(drawn);
        host.backoff = self.config.longer(host.backoff);
        self.ejected += 1;
        verdicts.hosts.push((address, Standing::Ejected));
        verdicts.changes.push(StateChange::Ejected {
            cluster: self.id,
            address,
            reason,
            until_at_least: now + self.config.time_out(host.backoff) + host.jitter,
        });
    }

    /// A host said that it is degraded: so it is for as long as an ejection takes. What it says
    /// meanwhile changes nothing.
    pub(crate) fn degraded(&mut self, now: Nanos, address: SocketAddr, verdicts: &mut Verdicts) {
        let Some(host) = self.hosts.get_mut(&address) else {
            return;
        };
        if host.ejected_at.is_some() || host.degraded_at.is_some() {
            return;
        }
        host.degraded_at = Some(now);
        host.backoff = self.config.longer(host.backoff);
        verdicts.hosts.push((address, Standing::Degraded));
        verdicts.changes.push(StateChange::Degraded {
            cluster: self.id,
            address,
            degraded: true,
        });
    }

    /// An active health check passed: an ejection ends with it.
    pub(crate) fn passed_check(
        &mut self,
        now: Nanos,
        address: SocketAddr,
        verdicts: &mut Verdicts,
    ) {
        let ejected = self.hosts.get(&address).and_then(|host| host.ejected_at);
        if ejected.is_some() {
            self.uneject(now, address, verdicts);
        }
    }

    fn uneject(&mut self, now: Nanos, address: SocketAddr, verdicts: &mut Verdicts) {
        if let Some(host) = self.hosts.get_mut(&address) {
            host.ejected_at = None;
            host.unejected_at = Some(now);
        }
        self.ejected -= 1;
        verdicts.hosts.push((address, Standing::Unejected));
        verdicts.reset.push((address, None));
        verdicts.changes.push(StateChange::Unejected {
            cluster: self.id,
            address,
        });
    }

    /// The first half of a sweep: who has been out for long enough comes back. The other half needs
    /// what the workers counted.
    pub(crate) fn begin_sweep(&mut self, now: Nanos, verdicts: &mut Verdicts) {
        self.sweep_at = now + self.config.interval;
        let mut back = Vec::new();
        for (address, host) in &mut self.hosts {
            let time_out = self.config.time_out(host.backoff);
            if host
                .ejected_at
                .is_some_and(|at| time_out + host.jitter <= now - at)
            {
                back.push(*address);
            }
            if host.degraded_at.is_some_and(|at| time_out <= now - at) {
                host.degraded_at = None;
                host.unejected_at = Some(now);
                verdicts.hosts.push((*address, Standing::Undegraded));
                verdicts.changes.push(StateChange::Degraded {
                    cluster: self.id,
                    address: *address,
                    degraded: false,
                });
            }
            (host.external, host.local_origin) = Default::default();
        }
        for address in back {
            self.uneject(now, address, verdicts);
        }
    }

    /// What one worker counted since the last sweep.
    pub(crate) fn counted(&mut self, hosts: &[HostStatistics]) {
        for counted in hosts {
            if let Some(host) = self.hosts.get_mut(&counted.address) {
                host.external.add(counted.external);
                host.local_origin.add(counted.local_origin);
            }
        }
    }

    /// The second half of a sweep.
    pub(crate) fn end_sweep(&mut self, now: Nanos, draws: &Draws, verdicts: &mut Verdicts) {
        use EjectionReason::{
            FailurePercentage, LocalOriginFailurePercentage, LocalOriginSuccessRate, SuccessRate,
        };
        if self.counts() {
            let rates = self.rates(|host| host.external);
            self.judge(now, &rates, SuccessRate, FailurePercentage, draws, verdicts);
            let rates = self.rates(|host| host.local_origin);
            let (slow, failing) = (LocalOriginSuccessRate, LocalOriginFailurePercentage);
            self.judge(now, &rates, slow, failing, draws, verdicts);
        }
        for host in self.hosts.values_mut() {
            let back = host.ejected_at.is_none() && host.degraded_at.is_none();
            let since = host.unejected_at.filter(|_| back);
            if since.is_some_and(|at| now - at >= self.config.interval) {
                host.backoff = host.backoff.saturating_sub(1);
            }
        }
    }

    /// Success rates in percent, and the requests behind them, of the hosts that are not ejected.
    fn rates(&self, of: impl Fn(&HostState) -> Successes) -> Vec<(SocketAddr, f64, u64)> {
        self.hosts
            .iter()
            .filter(|(_, host)| host.ejected_at.is_none() && of(host).total > 0)
            .map(|(&address, host)| {
                let Successes { succeeded, total } = of(host);
                (address, 100.0 * succeeded as f64 / total as f64, total)
            })
            .collect()
    }

    /// Both lists are made before either ejects.
    fn judge(
        &mut self,
        now: Nanos,
        rates: &[(SocketAddr, f64, u64)],
        below_average: EjectionReason,
        failing: EjectionReason,
        draws: &Draws,
        verdicts: &mut Verdicts,
    ) {
        let (average, share) = (self.config.success_rate, self.config.failure_percentage);
        let hosts = self.hosts.len() as u64;
        if hosts < u64::from(average.minimum_hosts) && hosts < u64::from(share.minimum_hosts) {
            return;
        }
        let with = |volume: u32, minimum: u32| -> Vec<(SocketAddr, f64)> {
            let enough = rates.iter().filter(|rate| rate.2 >= u64::from(volume));
            let hosts: Vec<_> = enough.map(|&(address, rate, _)| (address, rate)).collect();
            if (hosts.len() as u64) < u64::from(minimum) {
                return Vec::new();
            }
            hosts
        };
        let judged = with(average.request_volume, average.minimum_hosts);
        let least = ejection_threshold(&judged, average.stdev_factor);
        for (address, _) in judged.into_iter().filter(|&(_, rate)| rate < least) {
            self.eject(now, address, below_average, draws, verdicts);
        }
        let judged = with(share.request_volume, share.minimum_hosts);
        let most = f64::from(share.threshold);
        for (address, _) in judged.into_iter().filter(|&(_, rate)| 100.0 - rate >= most) {
            self.eject(now, address, failing, draws, verdicts);
        }
    }
}

/// The success rate below which a host is ejected: so many thousandths of a standard deviation below
/// the mean.
fn ejection_threshold(rates: &[(SocketAddr, f64)], stdev_factor: u32) -> f64 {
    let n = rates.len() as f64;
    let mean = rates.iter().map(|rate| rate.1).sum::<f64>() / n;
    let variance = rates.iter().map(|rate| (rate.1 - mean) * (rate.1 - mean));
    let deviation = libm::sqrt(variance.sum::<f64>() / n);
    mean - f64::from(stdev_factor) / 1000.0 * deviation
}

impl EjectionReason {
    fn is_statistical(self) -> bool {
        match self {
            EjectionReason::Consecutive5xx
            | EjectionReason::ConsecutiveGatewayFailure
            | EjectionReason::ConsecutiveLocalOriginFailure => false,
            EjectionReason::SuccessRate
            | EjectionReason::FailurePercentage
            | EjectionReason::LocalOriginSuccessRate
            | EjectionReason::LocalOriginFailurePercentage => true,
        }
    }
}

impl OutlierDetection {
    /// A statistical detector can decide something.
    pub(crate) fn counts(&self) -> bool {
        let local = self.enforcing_local_origin_success_rate > 0
            || self.enforcing_failure_percentage_local_origin > 0;
        self.success_rate.enforcing > 0
            || self.failure_percentage.enforcing > 0
            || (self.split_external_local_origin_errors && local)
    }

    /// The percentage of detections that are acted on.
    fn enforcing(&self, reason: EjectionReason) -> u32 {
        match reason {
            EjectionReason::Consecutive5xx => self.enforcing_consecutive_5xx,
            EjectionReason::ConsecutiveGatewayFailure => self.enforcing_consecutive_gateway_failure,
            EjectionReason::ConsecutiveLocalOriginFailure => {
                self.enforcing_consecutive_local_origin_failure
            }
            EjectionReason::SuccessRate => self.success_rate.enforcing,
            EjectionReason::FailurePercentage => self.failure_percentage.enforcing,
            EjectionReason::LocalOriginSuccessRate => self.enforcing_local_origin_success_rate,
            EjectionReason::LocalOriginFailurePercentage => {
                self.enforcing_failure_percentage_local_origin
            }
        }
    }

    /// Envoy: the larger of `max_ejection_time` and the base.
    fn max_time(&self) -> Nanos {
        self.max_ejection_time.max(self.base_ejection_time)
    }

    /// How long an ejection lasts at least, without jitter.
    fn time_out(&self, backoff: u64) -> Nanos {
        (self.base_ejection_time * backoff).min(self.max_time())
    }

    /// The multiplier of the next ejection.
    fn longer(&self, backoff: u64) -> u64 {
        let base = self.base_ejection_time;
        backoff + u64::from(base * backoff < self.max_time() + base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    fn detector(hosts: u16, config: OutlierDetection) -> Detector {
        let mut detector = Detector::new(ClusterId(0), "c", config, Nanos::ZERO);
        for n in 0..hosts {
            detector.add(address(n));
        }
        detector
    }

    fn draws() -> Draws {
        Draws::new(1, "p")
    }

    fn detect(detector: &mut Detector, at_ms: u64, host: u16) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let reason = EjectionReason::Consecutive5xx;
        let now = Nanos::from_millis(at_ms);
        detector.detected(now, address(host), reason, &draws(), &mut verdicts);
        verdicts
    }

    /// A sweep with what one worker counted: succeeded and total, by host.
    fn sweep(detector: &mut Detector, at_ms: u64, counted: &[(u64, u64)]) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let now = Nanos::from_millis(at_ms);
        detector.begin_sweep(now, &mut verdicts);
        let hosts = (0..)
            .zip(counted)
            .map(|(n, &(succeeded, total))| HostStatistics {
                address: address(n),
                external: Successes { succeeded, total },
                local_origin: Successes::default(),
            });
        detector.counted(&hosts.collect::<Vec<_>>());
        detector.end_sweep(now, &draws(), &mut verdicts);
        verdicts
    }

    fn ejected(verdicts: &Verdicts) -> Vec<u16> {
        let out = verdicts
            .hosts
            .iter()
            .filter(|host| host.1 == Standing::Ejected);
        out.map(|host| host.0.port()).collect()
    }

    /// K7: mean 90, deviation 20, threshold 52.
    #[test]
    fn success_rate_threshold() {
        let rates = [50.0, 100.0, 100.0, 100.0, 100.0].map(|rate| (address(0), rate));
        assert_eq!(ejection_threshold(&rates, 1900), 52.0);
        let statistical = |change: fn(&mut OutlierDetection)| {
            let mut config = OutlierDetection {
                max_ejection_percent: 100,
                ..OutlierDetection::default()
            };
            config.success_rate.enforcing = 100;
            change(&mut config);
            config
        };
        let good = (100, 100);
        type Change = fn(&mut OutlierDetection);
        let cases: [(&str, Change, Vec<(u64, u64)>, &[u16]); 8] = [
            (
                "below",
                |_| (),
                vec![(50, 100), good, good, good, good],
                &[0],
            ),
            (
                "equal is not below",
                |c| c.success_rate.stdev_factor = 2000,
                vec![(50, 100), good, good, good, good],
                &[],
            ),
            ("four hosts", |_| (), vec![(0, 100), good, good, good], &[]),
            (
                "too few requests",
                |_| (),
                vec![(0, 99), good, good, good, good],
                &[],
            ),
            (
                "not enforced",
                |c| c.success_rate.enforcing = 0,
                vec![(50, 100), good, good, good, good],
                &[],
            ),
            (
                "failure percentage",
                |c| {
                    c.success_rate.enforcing = 0;
                    c.failure_percentage.enforcing = 100;
                },
                vec![(15, 100), (16, 100), good, good, good],
                &[0],
            ),
            (
                "both at once",
                |c| c.failure_percentage.enforcing = 100,
                vec![(0, 100), good, good, good, good],
                &[0, 0],
            ),
            (
                "one host whatever the percentage",
                |c| {
                    c.max_ejection_percent = 0;
                    c.always_eject_one_host = true;
                    c.success_rate.stdev_factor = 500;
                },
                vec![(0, 100), (0, 100), good, good, good],
                &[0],
            ),
        ];
        for (what, change, counted, want) in cases {
            let mut all = detector(counted.len() as u16, statistical(change));
            assert_eq!(ejected(&sweep(&mut all, 10_000, &counted)), want, "{what}");
        }
    }

    /// Ejected by both statistical detectors in one sweep, a host counts twice, comes back once, and
    /// is out for two base times; what it counted too much eats into the maximum percentage.
    #[test]
    fn twice_ejected_comes_back_once() {
        let mut config = OutlierDetection {
            max_ejection_percent: 40,
            base_ejection_time: Nanos::from_secs(10),
            ..OutlierDetection::default()
        };
        config.success_rate.enforcing = 100;
        config.failure_percentage.enforcing = 100;
        let mut five = detector(5, config);
        let good = (100, 100);
        let counted = [(0, 100), good, good, good, good];
        assert_eq!(ejected(&sweep(&mut five, 10_000, &counted)), [0, 0]);
        assert_eq!(sweep(&mut five, 20_000, &[]).hosts, []);
        let back = sweep(&mut five, 30_000, &[]);
        assert_eq!(back.hosts, [(address(0), Standing::Unejected)]);
        assert_eq!(ejected(&detect(&mut five, 31_000, 1)), [1]);
        let refused = detect(&mut five, 31_000, 2).changes;
        assert!(matches!(
            refused[..],
            [StateChange::EjectionOverflow { .. }]
        ));
    }

    #[test]
    fn never_more_than_the_maximum_percentage() {
        // The default 10 % never ejects one of fewer than ten.
        for (hosts, percent, want) in [(9, 10, 0), (10, 10, 1), (3, 67, 2), (3, 66, 1), (2, 200, 2)]
        {
            let config = OutlierDetection {
                max_ejection_percent: percent,
                ..OutlierDetection::default()
            };
            let mut all = detector(hosts, config);
            let out: usize = (0..hosts)
                .map(|n| ejected(&detect(&mut all, 0, n)).len())
                .sum();
            assert_eq!(out, want, "{percent} % of {hosts}");
        }
    }

    #[test]
    fn ejection_lasts_longer_each_time_and_ends_at_a_sweep() {
        let config = OutlierDetection {
            max_ejection_percent: 100,
            base_ejection_time: Nanos::from_secs(1),
            interval: Nanos::from_millis(500),
            ..OutlierDetection::default()
        };
        let mut one = detector(1, config);
        let back_at = |one: &mut Detector, from_ms: u64| {
            (from_ms / 500 + 1..)
                .map(|n| n * 500)
                .find(|&at| !sweep(one, at, &[]).hosts.is_empty())
                .unwrap()
        };
        detect(&mut one, 100, 0);
        assert_eq!(back_at(&mut one, 100), 1500);
        detect(&mut one, 1600, 0);
        assert_eq!(
            back_at(&mut one, 1600),
            4000,
            "two base times, then the sweep"
        );
    }

    /// As measured on Envoy with a base of 1 s and sweeps every 0.5 s.
    #[test]
    fn a_degraded_host_recovers_like_an_ejected_one() {
        let config = OutlierDetection {
            base_ejection_time: Nanos::from_secs(1),
            interval: Nanos::from_millis(500),
            detect_degraded_hosts: true,
            ..OutlierDetection::default()
        };
        let mut two = detector(2, config);
        let mut spans = Vec::new();
        let mut degraded_at = None;
        for at in (50..8000).step_by(50) {
            let mut verdicts = Verdicts::default();
            if at % 500 == 0 {
                verdicts = sweep(&mut two, at, &[]);
            }
            // It says so with every answer.
            two.degraded(Nanos::from_millis(at), address(0), &mut verdicts);
            for (_, standing) in verdicts.hosts {
                match standing {
                    Standing::Degraded => degraded_at = Some(at),
                    Standing::Undegraded => spans.extend(degraded_at.map(|from| (from, at))),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(spans, [(50, 1500), (1500, 3500), (3500, 6500)]);
    }

    #[test]
    fn jitter_lengthens_an_ejection() {
        let config = OutlierDetection {
            max_ejection_percent: 100,
            max_ejection_time_jitter: Nanos::from_secs(20),
            ..OutlierDetection::default()
        };
        let mut all = detector(50, config);
        let mut jitters = Vec::new();
        for n in 0..50 {
            match detect(&mut all, 0, n).changes[..] {
                [StateChange::Ejected { until_at_least, .. }] => {
                    jitters.push(until_at_least.as_millis() - 30_000)
                }
                ref other => panic!("{other:?}"),
            }
        }
        assert!(jitters.iter().all(|&jitter| jitter <= 20_000));
        jitters.sort_unstable();
        jitters.dedup();
        assert!(jitters.len() > 40);
    }
}

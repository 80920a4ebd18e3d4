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
        let roll = match reason.is_statistical() {
            true => subject ^ mix(reason as u64),
            false => subject,
        };
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
mod tests;

//! Outlier detection on the main machine: who is ejected, for how long, and when the workers hear
//! of it (Envoy `outlier_detection_impl.cc`, `cluster_manager_impl.cc`).

use crate::contract::{EjectionReason, StateChange};
use crate::ids::ClusterId;
use crate::random::{Draws, Purpose, hash_text, mix};
use crate::time::Nanos;
use crate::xds::{LoadAssignment, OutlierDetection};
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use std::net::SocketAddr;

/// A health-only update is delivered at once only this long after the previous one.
const UPDATE_MERGE_WINDOW: Nanos = Nanos::from_secs(1);

/// What happens to one host.
#[derive(Debug, Default)]
struct HostState {
    priority: u32,
    ejected_at: Option<Nanos>,
    unejected_at: Option<Nanos>,
    /// Multiplies the base ejection time.
    backoff: u64,
    ejections: u64,
}

/// Health updates of one priority on their way to the workers.
#[derive(Debug, Default)]
struct MergeWindow {
    delivered_at: Nanos,
    deliver_at: Option<Nanos>,
    waiting: Vec<(SocketAddr, bool)>,
}

/// The detector of one cluster.
#[derive(Debug)]
pub(crate) struct Detector {
    id: ClusterId,
    subject: u64,
    config: OutlierDetection,
    hosts: IndexMap<SocketAddr, HostState, FxBuildHasher>,
    ejected: u32,
    sweep_at: Nanos,
    windows: Vec<MergeWindow>,
}

/// What the detector decided, for the main machine to pass on.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// To be told to the workers now: address, and whether it is out.
    pub(crate) deliver: Vec<(SocketAddr, bool)>,
    pub(crate) drain: Vec<SocketAddr>,
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
            windows: Vec::new(),
        }
    }

    /// Takes over the membership; hosts that stay keep their state. Adding or removing hosts
    /// delivers what the merge window held back.
    pub(crate) fn assign(
        &mut self,
        now: Nanos,
        assignment: &LoadAssignment,
        verdicts: &mut Verdicts,
    ) {
        let mut old = std::mem::take(&mut self.hosts);
        for locality in &assignment.localities {
            for endpoint in &locality.endpoints {
                let mut state = old.swap_remove(&endpoint.address).unwrap_or_default();
                state.priority = locality.priority;
                self.hosts.insert(endpoint.address, state);
            }
        }
        self.ejected = self
            .hosts
            .values()
            .filter(|host| host.ejected_at.is_some())
            .count() as u32;
        let levels = self
            .hosts
            .values()
            .map(|host| host.priority + 1)
            .max()
            .unwrap_or(0) as usize;
        self.windows
            .resize_with(levels.max(self.windows.len()), MergeWindow::default);
        for window in &mut self.windows {
            verdicts.deliver.append(&mut window.waiting);
            window.deliver_at = None;
            window.delivered_at = now;
        }
    }

    pub(crate) fn deadline(&self) -> Nanos {
        self.windows
            .iter()
            .filter_map(|window| window.deliver_at)
            .fold(self.sweep_at, Nanos::min)
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
        let total = self.hosts.len() as u32;
        let Some(host) = self.hosts.get_mut(&address) else {
            return;
        };
        if host.ejected_at.is_some() {
            return;
        }
        verdicts.reset.push((address, Some(reason)));
        let share = 100.0 * f64::from(self.ejected + 1) / f64::from(total);
        if share > f64::from(self.config.max_ejection_percent) {
            verdicts.changes.push(StateChange::EjectionOverflow {
                cluster: self.id,
                address,
            });
            return;
        }
        let enforcing = match reason {
            EjectionReason::Consecutive5xx => self.config.enforcing_consecutive_5xx,
            EjectionReason::ConsecutiveGatewayFailure => {
                self.config.enforcing_consecutive_gateway_failure
            }
            EjectionReason::ConsecutiveLocalOriginFailure => {
                self.config.enforcing_consecutive_local_origin_failure
            }
        };
        let subject = mix(self.subject ^ hash_text(&address.to_string()));
        if !draws.percent(enforcing, subject, Purpose::EjectionEnforced, now.0) {
            return;
        }
        host.ejected_at = Some(now);
        host.ejections += 1;
        let (base, max) = (self.config.base_ejection_time, self.config.max_time());
        if base * host.backoff < max + base {
            host.backoff += 1;
        }
        let until_at_least = now + (base * host.backoff).min(max);
        self.ejected += 1;
        verdicts.drain.push(address);
        verdicts.changes.push(StateChange::Ejected {
            cluster: self.id,
            address,
            reason,
            until_at_least,
        });
        self.queue(now, address, true, verdicts);
    }

    /// Sweeps and delivers what is due.
    pub(crate) fn tick(&mut self, now: Nanos, verdicts: &mut Verdicts) {
        for window in &mut self.windows {
            if window.deliver_at.is_some_and(|at| at <= now) {
                verdicts.deliver.append(&mut window.waiting);
                window.deliver_at = None;
                window.delivered_at = now;
            }
        }
        if self.sweep_at <= now {
            self.sweep(now, verdicts);
            self.sweep_at = now + self.config.interval;
        }
    }

    fn sweep(&mut self, now: Nanos, verdicts: &mut Verdicts) {
        let (base, max) = (self.config.base_ejection_time, self.config.max_time());
        let mut back = Vec::new();
        for (address, host) in &mut self.hosts {
            match host.ejected_at {
                Some(at) if (base * host.backoff).min(max) <= now - at => {
                    host.ejected_at = None;
                    host.unejected_at = Some(now);
                    back.push(*address);
                }
                None if host
                    .unejected_at
                    .is_some_and(|at| now - at >= self.config.interval) =>
                {
                    host.backoff = host.backoff.saturating_sub(1);
                }
                _ => {}
            }
        }
        for address in back {
            self.ejected -= 1;
            verdicts.reset.push((address, None));
            verdicts.changes.push(StateChange::Unejected {
                cluster: self.id,
                address,
            });
            self.queue(now, address, false, verdicts);
        }
    }

    /// Through the merge window: at once, or together with what else happens in it.
    fn queue(&mut self, now: Nanos, address: SocketAddr, ejected: bool, verdicts: &mut Verdicts) {
        let priority = self.hosts.get(&address).map_or(0, |host| host.priority) as usize;
        let Some(window) = self.windows.get_mut(priority) else {
            return;
        };
        window.waiting.push((address, ejected));
        // Whole milliseconds, as Envoy compares them.
        if (now - window.delivered_at).as_millis() > UPDATE_MERGE_WINDOW.as_millis() {
            verdicts.deliver.append(&mut window.waiting);
            window.deliver_at = None;
            window.delivered_at = now;
        } else {
            window.deliver_at.get_or_insert(now + UPDATE_MERGE_WINDOW);
        }
    }
}

impl OutlierDetection {
    /// Envoy: the larger of `max_ejection_time` and the base.
    fn max_time(&self) -> Nanos {
        self.max_ejection_time.max(self.base_ejection_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::{Endpoint, LocalityEndpoints};

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    fn detector(hosts: u16, config: OutlierDetection) -> Detector {
        let mut detector = Detector::new(ClusterId(0), "c", config, Nanos::ZERO);
        let endpoints = (0..hosts).map(|n| Endpoint::new(address(n))).collect();
        let locality = LocalityEndpoints {
            locality: "".into(),
            priority: 0,
            weight: 1,
            endpoints,
        };
        detector.assign(
            Nanos::ZERO,
            &LoadAssignment::new("c".into(), vec![locality]),
            &mut Verdicts::default(),
        );
        detector
    }

    fn detect(detector: &mut Detector, at_ms: u64, host: u16) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let reason = EjectionReason::Consecutive5xx;
        detector.detected(
            Nanos::from_millis(at_ms),
            address(host),
            reason,
            &Draws::new(1, "p"),
            &mut verdicts,
        );
        verdicts
    }

    fn tick(detector: &mut Detector, at_ms: u64) -> Verdicts {
        let mut verdicts = Verdicts::default();
        detector.tick(Nanos::from_millis(at_ms), &mut verdicts);
        verdicts
    }

    #[test]
    fn never_more_than_the_maximum_percentage() {
        // The default 10 % never ejects one of fewer than ten.
        let overflow =
            |v: &Verdicts| matches!(v.changes[..], [StateChange::EjectionOverflow { .. }]);
        let ejected = |v: &Verdicts| matches!(v.changes[..], [StateChange::Ejected { .. }]);
        assert!(overflow(&detect(
            &mut detector(9, OutlierDetection::default()),
            0,
            0
        )));
        assert!(ejected(&detect(
            &mut detector(10, OutlierDetection::default()),
            0,
            0
        )));
        // 67 % of three hosts is two.
        let mut three = detector(
            3,
            OutlierDetection {
                max_ejection_percent: 67,
                ..OutlierDetection::default()
            },
        );
        assert!(ejected(&detect(&mut three, 0, 0)));
        assert!(ejected(&detect(&mut three, 0, 1)));
        assert!(overflow(&detect(&mut three, 0, 2)));
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
                .find(|&at| !tick(one, at).reset.is_empty())
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

    /// Measured on Envoy: ejections at 0 and 0.3 s leave the second host in until 1.3 s, at 0 and
    /// 0.7 s until 1.7 s.
    #[test]
    fn second_ejection_inside_a_second_acts_late() {
        let config = OutlierDetection {
            max_ejection_percent: 100,
            ..OutlierDetection::default()
        };
        let mut three = detector(3, config);
        assert_eq!(detect(&mut three, 2000, 0).deliver, [(address(0), true)]);
        let second = detect(&mut three, 2300, 1);
        assert_eq!((second.deliver.len(), second.drain), (0, vec![address(1)]));
        assert!(tick(&mut three, 3299).deliver.is_empty());
        assert_eq!(three.deadline(), Nanos::from_millis(3300));
        assert_eq!(tick(&mut three, 3300).deliver, [(address(1), true)]);
        assert_eq!(detect(&mut three, 5000, 0).deliver, [], "it is out already");
        let mut later = detector(
            3,
            OutlierDetection {
                max_ejection_percent: 100,
                ..OutlierDetection::default()
            },
        );
        detect(&mut later, 2000, 0);
        detect(&mut later, 2700, 1);
        assert_eq!(later.deadline(), Nanos::from_millis(3700));
    }

    /// A second of quiet delivers at once whatever is held back, even with a timer running.
    #[test]
    fn quiet_beats_a_running_window() {
        let config = OutlierDetection {
            max_ejection_percent: 100,
            ..OutlierDetection::default()
        };
        let mut three = detector(3, config);
        assert_eq!(detect(&mut three, 2000, 0).deliver, [(address(0), true)]);
        assert!(detect(&mut three, 2900, 1).deliver.is_empty());
        let third = detect(&mut three, 3100, 2).deliver;
        assert_eq!(third, [(address(1), true), (address(2), true)]);
        assert_eq!(
            three.deadline(),
            Nanos::from_secs(10),
            "only the sweep is left"
        );
    }
}

//! Active health checks on the main machine (Envoy `health_checker_base_impl.cc`).

use crate::contract::{Action, ConnTransport, Out, ProbeOutcome};
use crate::ids::{ClusterId, ProbeId};
use crate::random::{Draws, Purpose, hash_text, mix};
use crate::time::Nanos;
use crate::xds::{Cluster, HealthCheck, Probe};
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Debug)]
struct Host {
    /// Its connections are mutual TLS.
    mutual_tls: bool,
    /// One for each check of the cluster.
    sessions: Vec<Session>,
}

/// One check of one host.
#[derive(Debug)]
struct Session {
    phase: Phase,
    failed: bool,
    /// No result yet.
    first: bool,
    passes: u32,
    failures: u32,
    /// Intervals begun.
    rounds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Nanos },
    Probing { number: u64, until: Nanos },
}

/// How a check went, as far as it matters to thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// Counts towards the threshold.
    Failed,
    /// Enough on its own.
    Unfit,
}

/// What a result did to the check that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transition {
    Unchanged,
    /// The opposite threshold is being counted.
    Pending,
    Changed,
}

/// A result, for the main machine to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) address: SocketAddr,
    pub(crate) passed: bool,
    /// All checks of the host agree that it is healthy.
    pub(crate) healthy: bool,
}

/// The health checks of one cluster.
#[derive(Debug)]
pub(crate) struct Checker {
    id: ClusterId,
    subject: u64,
    config: Arc<Cluster>,
    hosts: IndexMap<SocketAddr, Host, FxBuildHasher>,
    /// The cluster has had a connection of its own.
    pub(crate) used: bool,
}

impl Checker {
    pub(crate) fn new(id: ClusterId, config: Arc<Cluster>) -> Checker {
        Checker {
            id,
            subject: hash_text(&config.name),
            config,
            hosts: IndexMap::default(),
            used: false,
        }
    }

    /// Starts checking a host.
    pub(crate) fn add(&mut self, now: Nanos, address: SocketAddr, mutual_tls: bool, draws: &Draws) {
        let config = Arc::clone(&self.config);
        let sessions = (0u64..).zip(&config.health_checks).map(|(number, check)| {
            let subject = subject_of(self.subject, address, number);
            let jitter = check.initial_jitter.as_millis();
            let wait = match jitter {
                0 => 0,
                jitter => draws.draw(subject, Purpose::HealthCheckInitialJitter, 0) % jitter,
            };
            Session {
                phase: Phase::Waiting {
                    until: now + Nanos::from_millis(wait),
                },
                failed: true,
                first: true,
                passes: 0,
                failures: 0,
                rounds: 0,
            }
        });
        let sessions = sessions.collect();
        let host = Host {
            mutual_tls,
            sessions,
        };
        self.hosts.insert(address, host);
    }

    pub(crate) fn remove(&mut self, address: SocketAddr) {
        self.hosts.shift_remove(&address);
    }

    pub(crate) fn deadline(&self) -> Option<Nanos> {
        let sessions = self.hosts.values().flat_map(|host| &host.sessions);
        sessions.map(|session| session.phase.until()).min()
    }

    /// Sends the probes that are due, and gives up those without an answer.
    pub(crate) fn tick(
        &mut self,
        now: Nanos,
        draws: &Draws,
        next_number: &mut u64,
        out: &mut Out,
    ) -> Vec<Checked> {
        let mut results = Vec::new();
        for at in 0..self.hosts.len() {
            for check in 0..self.config.health_checks.len() {
                match self.hosts[at].sessions[check].phase {
                    Phase::Waiting { until } if until <= now => {
                        self.probe(now, at, check, next_number, out);
                    }
                    Phase::Probing { until, .. } if until <= now => {
                        results.extend(self.judge(now, at, check, Verdict::Failed, draws));
                    }
                    _ => {}
                }
            }
        }
        results
    }

    fn probe(&mut self, now: Nanos, at: usize, check: usize, next_number: &mut u64, out: &mut Out) {
        let config = &self.config.health_checks[check];
        let Some((&address, host)) = self.hosts.get_index_mut(at) else {
            return;
        };
        let number = *next_number;
        *next_number += 1;
        host.sessions[check].phase = Phase::Probing {
            number,
            until: now + config.timeout,
        };
        out.actions.push(Action::Probe {
            probe: ProbeId {
                cluster: self.id,
                address,
                check: check as u32,
                number,
            },
            transport: ConnTransport::of(&self.config.transport, host.mutual_tls),
            request: config.probe.clone(),
        });
    }

    /// An answer; `None` if it is too late, or to nobody's question.
    pub(crate) fn answered(
        &mut self,
        now: Nanos,
        probe: ProbeId,
        outcome: ProbeOutcome,
        draws: &Draws,
    ) -> Option<Checked> {
        let at = self.hosts.get_index_of(&probe.address)?;
        let check = probe.check as usize;
        let session = self.hosts[at].sessions.get(check)?;
        if !matches!(session.phase, Phase::Probing { number, .. } if number == probe.number) {
            return None;
        }
        let verdict = verdict(&self.config.health_checks[check].probe, outcome);
        self.judge(now, at, check, verdict, draws)
    }

    fn judge(
        &mut self,
        now: Nanos,
        at: usize,
        check: usize,
        verdict: Verdict,
        draws: &Draws,
    ) -> Option<Checked> {
        let config = &self.config.health_checks[check];
        let (&address, host) = self.hosts.get_index_mut(at)?;
        let session = &mut host.sessions[check];
        let transition = session.take(verdict, config);
        let passed = verdict == Verdict::Passed;
        let base = interval(config, self.used, passed, transition);
        session.rounds += 1;
        let subject = subject_of(self.subject, address, check as u64);
        let wait = jittered(config, base, draws, subject, session.rounds);
        session.phase = Phase::Waiting { until: now + wait };
        Some(Checked {
            address,
            passed,
            healthy: host.sessions.iter().all(|session| !session.failed),
        })
    }
}

/// What draws about one check of one host are keyed by.
fn subject_of(cluster: u64, address: SocketAddr, check: u64) -> u64 {
    mix(cluster ^ hash_text(&address.to_string()) ^ mix(check))
}

impl Phase {
    fn until(self) -> Nanos {
        let (Phase::Waiting { until } | Phase::Probing { until, .. }) = self;
        until
    }
}

impl Session {
    /// A host starts out as failed. Its very first result decides at once if it is good; after that
    /// it takes as many in a row as the threshold says to turn it round.
    fn take(&mut self, verdict: Verdict, config: &HealthCheck) -> Transition {
        let first = std::mem::replace(&mut self.first, false);
        let turned = if verdict == Verdict::Passed {
            self.failures = 0;
            if !self.failed {
                return Transition::Unchanged;
            }
            // The count runs on through a first result that decides without it.
            first || {
                self.passes += 1;
                self.passes == config.healthy_threshold
            }
        } else {
            self.passes = 0;
            if self.failed {
                return Transition::Unchanged;
            }
            verdict == Verdict::Unfit || {
                self.failures += 1;
                self.failures == config.unhealthy_threshold
            }
        };
        if turned {
            self.failed = !self.failed;
            Transition::Changed
        } else {
            Transition::Pending
        }
    }
}

fn verdict(probe: &Probe, outcome: ProbeOutcome) -> Verdict {
    let within = |ranges: &[(u16, u16)], status: u16| {
        ranges
            .iter()
            .any(|&(from, to)| (from..to).contains(&status))
    };
    match (probe, outcome) {
        (_, ProbeOutcome::Failed) => Verdict::Failed,
        (Probe::Tcp, _) => Verdict::Passed,
        (Probe::Http { .. }, ProbeOutcome::Connected) => Verdict::Failed,
        (
            Probe::Http {
                expected_statuses,
                retriable_statuses,
                ..
            },
            ProbeOutcome::Status(status),
        ) => {
            let expected = match expected_statuses.is_empty() {
                true => status == 200,
                false => within(expected_statuses, status),
            };
            if expected {
                Verdict::Passed
            } else if within(retriable_statuses, status) {
                Verdict::Failed
            } else {
                Verdict::Unfit
            }
        }
    }
}

/// From a result to the next check.
fn interval(check: &HealthCheck, used: bool, passed: bool, transition: Transition) -> Nanos {
    let pending = transition == Transition::Pending;
    let unhealthy = check.unhealthy_interval.unwrap_or(check.interval);
    match (used, passed, pending) {
        (false, true, false) => check
            .no_traffic_healthy_interval
            .unwrap_or(check.no_traffic_interval),
        (false, _, _) => check.no_traffic_interval,
        (true, true, false) => check.interval,
        (true, true, true) => check.healthy_edge_interval.unwrap_or(check.interval),
        (true, false, false) => unhealthy,
        (true, false, true) => check.unhealthy_edge_interval.unwrap_or(unhealthy),
    }
}

fn jittered(check: &HealthCheck, base: Nanos, draws: &Draws, subject: u64, n: u64) -> Nanos {
    let base = base.as_millis();
    let draw = |purpose, below: u64| match below {
        0 => 0,
        below => draws.draw(subject, purpose, n) % below,
    };
    let percent = u64::from(check.interval_jitter_percent) * base / 100;
    let wait = base
        + draw(Purpose::HealthCheckPercentJitter, percent)
        + draw(
            Purpose::HealthCheckJitter,
            check.interval_jitter.as_millis(),
        );
    Nanos::from_millis(wait.max(1))
}
